"""`charlm evaluate`: how well models predict a text, or its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    PrecisionOptions,
    SeveralModels,
    load_model,
    note,
    refuse,
    text_encoding,
)
from charlm.cli.log10 import write_srilm_totals
from charlm.cli.options import with_options
from charlm.cli.records import (
    FormatOptions,
    format_option,
    write,
    write_json,
    write_table,
    write_tsv,
)
from charlm.cli.side_by_side import names_of
from charlm.corpus.labelled import ColumnOptions
from charlm.engines.evaluation import EvaluateOptions
from charlm.errors import InputError, ModelError
from charlm.options import overrides_of
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.tasks.trained import Measure, TrainedModel

TOTAL, SRILM = "total", "srilm"
MOST_SHOWN = 20  # labels of a table of answers
MOST_COLUMNS = 7  # of figures


@dataclass(frozen=True)
class EvaluateOutput(FormatOptions):
    """The format of the figures. The field describes itself."""

    format: str | None = format_option(SRILM)


@with_options
def evaluate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Texts; - is standard input.")
    ],
    options: EvaluateOptions,
    columns: ColumnOptions,
    models: SeveralModels,
    shared: Annotated[ModelOptions, "network_only", "ngram_only"],
    output: EvaluateOutput,
    input: Annotated[InputOptions, "encoding"],
    machine: MachineOptions,
    precision: PrecisionOptions,
) -> None:
    """Measure how well models predict whole texts, or the labels in them.

    Of a text: perplexity and bits per character. Of labels: accuracy, F1 and more.
    """
    from charlm.tasks.language_model import LanguageModel
    from charlm.tasks.trained import TrainedModel

    # The format of SRILM is that of a language model.
    kind = LanguageModel if output.format == SRILM else TrainedModel
    names: Sequence[str | None] = models.model or [None]
    several = [load_model(kind, replace(shared, model=name), machine, precision) for name in names]
    overrides = overrides_of(options) | overrides_of(columns)
    for loaded in several:
        _check(loaded, columns)
    encoding = text_encoding(several, input.encoding)
    rows: list[tuple[dict[str, str], Measure]] = []
    titles = names_of(several) if len(several) > 1 else [""]
    try:
        for loaded, title in zip(several, titles, strict=True):
            model = {"model": title} if title else {}
            scores = []
            for file, score in _measure(loaded, files, encoding, overrides):
                scores.append(score)
                rows.append(({"file": file, **model}, score))
            if len(scores) > 1:
                rows.append(({"file": TOTAL, **model}, reduce(add, scores)))
    finally:  # after an error, what has been measured before
        _write(output.chosen_format, rows)


def _differences(rows: Sequence[tuple[Mapping[str, str], Any]]) -> list[dict[str, Any]]:
    """How much worse each model is than the first one on the same text, in bits per character.

    The interval is of the same parts of the text. {} for measures that are not of texts.
    """
    from charlm.engines.scores import TextScore, difference

    first: dict[str, TextScore] = {}
    found: list[dict[str, Any]] = []
    for names, score in rows:
        if not isinstance(score, TextScore):
            return [{} for _ in rows]
        value, interval = difference(score, first.setdefault(names["file"], score))
        found.append({"difference": value, "difference_interval": interval})
    return found


def _note_differences(
    rows: Sequence[tuple[Mapping[str, str], Any]], differences: Sequence[Mapping[str, Any]]
) -> None:
    first = rows[0][0].get("model")
    for (names, _), found in zip(rows, differences, strict=True):
        if found and names["model"] != first:
            text = f"{found['difference']:+.4f} bits/char"
            if found["difference_interval"]:
                text += " (95 %: {:+.4f} to {:+.4f})".format(*found["difference_interval"])
            note(f"{names['file']}: {names['model']} against {first}: {text}")


def _check(model: TrainedModel, columns: ColumnOptions) -> None:
    """Raise ModelError or OptionError if this model cannot measure such a file."""
    from charlm.tasks.trained import Measurable

    if not isinstance(model, Measurable):
        raise ModelError(
            f"{model.path} was trained with `task={model.task}`: it {model.purpose}; a text is "
            "measured by a model of `task=lm`"
        )
    if not model.reads_columns:
        refuse(overrides_of(columns), f"is not for `task={model.task}`", columns)


def _measure(
    model: Any, files: Sequence[str], encoding: str, overrides: Mapping[str, Any]
) -> Iterator[tuple[str, Measure]]:
    """The name and the measure of each file, with warnings. model: a `Measurable`"""
    from charlm.corpus.examples import ExampleError
    from charlm.corpus.reading import Corpus

    for file in files:
        text = Corpus([file], model.card.unit, encoding, once=True).blocks()
        try:
            with show_progress() as progress:
                score = model.evaluate(text, progress=progress, **overrides)
        except ExampleError as error:
            raise InputError(f"{file}, {error}") from None
        if not score.predicted and overrides.get("shard"):
            raise InputError(f"{file}: there is no line in this `shard`; use fewer shards")
        if not score.predicted:
            raise InputError(f"{file}: the file is empty; there is nothing to measure")
        if warning := model.warning(score, **overrides):
            note(f"warning: {file}: {warning}")
        yield file, score


def _write(format: str, rows: Sequence[tuple[Mapping[str, str], Any]]) -> None:
    """Write the measures of files. rows: names, and a `Measure` of each"""
    if format == SRILM:
        for names, score in rows:
            write_srilm_totals(score, f"file {names['file']}: ")
        return
    several = len({names.get("model") for names, _ in rows}) > 1
    differences = _differences(rows) if several else [{} for _ in rows]
    records = [
        {**names, **score.figures(), **more}
        for (names, score), more in zip(rows, differences, strict=True)
    ]
    if format == "json":
        for record in records:
            write_json(record)
    elif format == "tsv":
        write_tsv(map(_flat, records))
    elif rows:
        _table(rows)
        _note_differences(rows, differences)
        if len(rows) == 1:
            _confusion(rows[0][1].figures().get("confusion") or {})


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures without tables; an interval as two of them."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        if name.endswith("_interval") and value is None:
            flat |= {f"{name}_low": None, f"{name}_high": None}
        elif isinstance(value, tuple):
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif not isinstance(value, dict):
            flat[name] = value
    return flat


def _table(rows: Sequence[tuple[Mapping[str, str], Any]]) -> None:
    """The names and the figures, in the formats of the measure."""
    formats = rows[0][1].columns
    headings = [name.replace("_per_", "/").replace("_interval", " 95 %") for name in formats]
    cells = []
    for _, score in rows:
        figures = score.figures()
        cells.append([_cell(figures[name], form) for name, form in formats.items()])
    names = [list(names.values()) for names, _ in rows]
    if len(formats) > MOST_COLUMNS:  # a line for each figure, a column for each file
        columns = [(" ".join(name), "right") for name in names]
        turned = zip(headings, *cells, strict=True)
        return write_table([("", "left"), *columns], map(list, turned))
    lefts = [(name, "left") for name in rows[0][0]]
    beside = ([*name, *figures] for name, figures in zip(names, cells, strict=True))
    write_table([*lefts, *((heading, "right") for heading in headings)], beside)


def _cell(value: Any, form: str) -> str:
    if isinstance(value, tuple):
        return "–".join(f"{edge:{form}}" for edge in value)
    return "" if value is None else f"{value:{form}}"


def _confusion(table: Mapping[str, Mapping[str, int]]) -> None:
    """How often each label was answered in place of each."""
    if not 0 < len(table) <= MOST_SHOWN:
        return
    write("")
    columns = [("label ↓ answer →", "left"), *((label, "right") for label in table)]
    write_table(columns, ([label, *map(str, row.values())] for label, row in table.items()))
