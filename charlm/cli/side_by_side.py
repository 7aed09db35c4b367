"""Sentences scored by several models, side by side: which language, which author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from charlm.cli.records import write_json, write_table, write_tsv
from charlm.cli.scored import Groups, Row, beside
from charlm.errors import OptionError
from charlm.model.file import MODEL_FILE

if TYPE_CHECKING:
    from charlm.tasks.trained import TrainedModel


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
                columns = [(name, "right" if name in names else "left") for name in first]
                write_table(columns, map(_cells, chain([first], records)), not headed)
                headed = True


def _nested(row: Row, names: Sequence[str]) -> dict[str, Any]:
    measures = [score.to_json() for score in row.scores]
    for record in measures:
        del record["text"]
    record = {"text": row.score.text, "best": _best(row, names)}
    return beside(row.columns, record | {"models": dict(zip(names, measures, strict=True))})


def _flat(row: Row, names: Sequence[str]) -> dict[str, Any]:
    bits = {name: score.bits for name, score in zip(names, row.scores, strict=True)}
    return beside(row.columns, {"best": _best(row, names), **bits, "text": row.score.text})


def _best(row: Row, names: Sequence[str]) -> str:
    logprobs = [score.logprob for score in row.scores]
    return names[logprobs.index(max(logprobs))]


def _cells(record: Mapping[str, Any]) -> list[str]:
    return [f"{v:.1f}" if isinstance(v, float) else str(v) for v in record.values()]


def names_of(models: Sequence[TrainedModel]) -> list[str]:
    """The names of the models: of their folders or files, or whole paths where two are the same."""
    names = [
        model.path.parent.resolve().name if model.path.name == MODEL_FILE else model.path.stem
        for model in models
    ]
    if len(set(names)) < len(names):
        names = [str(model.path) for model in models]
    if len(set(names)) < len(names):
        raise OptionError("`model`: the same model twice")
    return names
