"""Sentences scored by several models, side by side: which language, which author.

The best model is the one with the fewest bits. The margin is how many bits more the next one has. A
sentence that no model knows has a best one all the same: then all have many bits per character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from charlm.cli.records import beside, write_json, write_table, write_tsv
from charlm.cli.scored import Groups, Row
from charlm.errors import OptionError
from charlm.model.file import MODEL_FILE

if TYPE_CHECKING:
    from charlm.tasks.trained import TrainedModel


PER_CHAR = "_bits_per_char"  # the end of the name of a column


def write_side_by_side(format: str, models: Sequence[TrainedModel], groups: Groups) -> None:
    """Write the surprisal of each sentence by each model, in bits, and the model with the least."""
    names = names_of(models)
    if format == "json":
        for row in chain.from_iterable(groups):
            write_json(_nested(row, names))
    elif format == "tsv":
        write_tsv(_flat(row, names) for row in chain.from_iterable(groups))
    else:
        headed = False
        for rows in groups:
            records = (_flat(row, names) for row in rows)
            for first in islice(records, 1):
                columns = [
                    (name, "right" if isinstance(v, float) else "left") for name, v in first.items()
                ]
                write_table(columns, map(_cells, chain([first], records)), not headed)
                headed = True


def _nested(row: Row, names: Sequence[str]) -> dict[str, Any]:
    measures = [score.to_json() for score in row.scores]
    for record in measures:
        del record["text"]
    best = {"text": row.score.text, "best": _best(row, names), "margin_bits": _margin(row)}
    return beside(row.columns, best | {"models": dict(zip(names, measures, strict=True))})


def _flat(row: Row, names: Sequence[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {"best": _best(row, names), "margin_bits": _margin(row)}
    pairs = list(zip(names, row.scores, strict=True))
    figures |= {name: score.bits for name, score in pairs}
    figures |= {f"{name}{PER_CHAR}": score.bits_per_char for name, score in pairs}
    return beside(row.columns, {**figures, "text": row.score.text})


def _margin(row: Row) -> float:
    """The bits of the second best model less those of the best one."""
    best, second, *_ = sorted(score.bits for score in row.scores)
    return second - best


def _best(row: Row, names: Sequence[str]) -> str:
    logprobs = [score.logprob for score in row.scores]
    return names[logprobs.index(max(logprobs))]


def _cells(record: Mapping[str, Any]) -> list[str]:
    return [
        f"{v:.{2 if name.endswith(PER_CHAR) else 1}f}" if isinstance(v, float) else str(v)
        for name, v in record.items()
    ]


def names_of(models: Sequence[TrainedModel]) -> list[str]:
    """The names of the models: of their folders or files; whole paths for those of one name."""
    names = [
        model.path.parent.resolve().name if model.path.name == MODEL_FILE else model.path.stem
        for model in models
    ]
    names = [
        name if names.count(name) == 1 else str(model.path).removesuffix(f"/{MODEL_FILE}")
        for name, model in zip(names, models, strict=True)
    ]
    if len(set(names)) < len(names):
        raise OptionError("`model`: the same model twice")
    return names
