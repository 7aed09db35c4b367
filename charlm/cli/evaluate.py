"""`charlm evaluate`: how well a model predicts a text."""

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
from charlm.errors import InputError
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import TextScore
    from charlm.tasks.lm import LanguageModel

TOTAL = "total"


@dataclass(frozen=True)
class EvaluateOutput(FormatOptions):
    """The format of the figures. The field describes itself."""

    format: str | None = format_option("srilm")


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
    from charlm.tasks.lm import LanguageModel

    loaded = load_model(LanguageModel, models, machine)
    encoding = text_encoding([loaded], input.encoding)
    scores: list[tuple[str, TextScore]] = []
    try:
        for score in _measure(loaded, files, encoding, options):
            scores.append(score)
        if len(scores) > 1:
            scores.append((TOTAL, reduce(add, (score for _, score in scores))))
    finally:  # after an error, what has been measured before
        _write(output.chosen_format, scores)


def _measure(
    model: LanguageModel, files: Sequence[str], encoding: str, options: EvaluateOptions
) -> Iterator[tuple[str, TextScore]]:
    """The name and the score of each file, with a warning about unknown tokens."""
    from charlm.corpus.reading import Corpus
    from charlm.engines.unknown_words import UnknownWords

    read_as = UnknownWords.of(options, model.lexicon).read_as
    for file in files:
        text = Corpus([file], model.card.unit, encoding, once=True).blocks()
        with show_progress() as progress:
            score = model.evaluate(text, progress=progress, **vars(options))
        if not score.tokens and options.shard:
            raise InputError(f"{file}: there is no line in this `shard`; use fewer shards")
        if not score.tokens:
            raise InputError(f"{file}: the file is empty; there is nothing to measure")
        if score.unknown:
            note(
                f"warning: {file}: {score.unknown:,} tokens of {score.tokens:,} are unknown to the "
                f"model; {read_as}"
            )
        yield file, score


def _write(format: str, scores: Sequence[tuple[str, TextScore]]) -> None:
    records = [_record(name, score) for name, score in scores]
    if format == "srilm":
        for name, score in scores:
            write_srilm_totals(score, f"file {name}: ")
    elif format == "json":
        for record in records:
            write_json(record)
    elif format == "tsv":
        write_tsv(records)
    elif records:
        _table(records)


def _record(name: str, score: TextScore) -> dict[str, Any]:
    record = {"file": name, **score.to_json(), "nats_per_token": score.nats_per_token}
    del record["text"]
    return record


def _table(records: Iterable[Mapping[str, Any]]) -> None:
    columns = [
        ("file", "left"),
        ("tokens", "right"),
        ("unknown", "right"),
        ("perplexity", "right"),
        ("nats/token", "right"),
        ("bits/char", "right"),
        ("bits/byte", "right"),
    ]
    formats = ("s", ",", ",", ".2f", ".4f", ".4f", ".4f")
    names = [heading.replace("/", "_per_") for heading, _ in columns]
    write_table(
        columns,
        ([f"{r[name]:{form}}" for name, form in zip(names, formats, strict=True)] for r in records),
    )
