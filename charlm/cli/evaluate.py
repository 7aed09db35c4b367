"""`charlm evaluate`: how well a model predicts a text, or its labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.log10 import write_srilm_totals
from charlm.cli.options import with_options
from charlm.cli.records import FormatOptions, format_option, write_json, write_table, write_tsv
from charlm.engines.evaluation import EvaluateOptions
from charlm.errors import InputError, ModelError
from charlm.options import overrides_of
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.tasks.trained import Measure

TOTAL, SRILM = "total", "srilm"


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
    models: ModelOptions,
    output: EvaluateOutput,
    input: Annotated[InputOptions, "encoding"],
    machine: MachineOptions,
) -> None:
    """Measure the perplexity and the bits per character of whole texts."""
    from charlm.tasks.language_model import LanguageModel
    from charlm.tasks.trained import Measurable, TrainedModel

    # The format of SRILM is that of a language model.
    kind = LanguageModel if output.format == SRILM else TrainedModel
    loaded = load_model(kind, models, machine)
    if not isinstance(loaded, Measurable):
        raise ModelError(
            f"{loaded.path} was trained with `task={loaded.task}`: it {loaded.purpose}; a text is "
            "measured by a model of `task=lm`"
        )
    encoding = text_encoding([loaded], input.encoding)
    scores: list[tuple[str, Measure]] = []
    try:
        for score in _measure(loaded, files, encoding, options):
            scores.append(score)
        if len(scores) > 1:
            scores.append((TOTAL, reduce(add, (score for _, score in scores))))
    finally:  # after an error, what has been measured before
        _write(output.chosen_format, scores)


def _measure(
    model: Any, files: Sequence[str], encoding: str, options: EvaluateOptions
) -> Iterator[tuple[str, Measure]]:
    """The name and the measure of each file, with warnings. model: a `Measurable`"""
    from charlm.corpus.examples import ExampleError
    from charlm.corpus.reading import Corpus

    overrides = overrides_of(options)
    for file in files:
        text = Corpus([file], model.card.unit, encoding, once=True).blocks()
        try:
            with show_progress() as progress:
                score = model.evaluate(text, progress=progress, **overrides)
        except ExampleError as error:
            raise InputError(f"{file}, {error}") from None
        if not score.predicted and options.shard:
            raise InputError(f"{file}: there is no line in this `shard`; use fewer shards")
        if not score.predicted:
            raise InputError(f"{file}: the file is empty; there is nothing to measure")
        if warning := model.warning(score, **overrides):
            note(f"warning: {file}: {warning}")
        yield file, score


def _write(format: str, scores: Sequence[tuple[str, Any]]) -> None:
    """Write the measures of files. scores: names, and a `Measure` of each"""
    records = [{"file": name, **score.figures()} for name, score in scores]
    if format == SRILM:
        for name, score in scores:
            write_srilm_totals(score, f"file {name}: ")
    elif format == "json":
        for record in records:
            write_json(record)
    elif format == "tsv":
        write_tsv(records)
    elif scores:
        _table(records, scores[0][1].columns)


def _table(records: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """The records, with the columns in these formats."""
    headings = [name.replace("_per_", "/") for name in columns]
    write_table(
        [("file", "left"), *((heading, "right") for heading in headings)],
        (
            [record["file"], *(f"{record[name]:{form}}" for name, form in columns.items())]
            for record in records
        ),
    )
