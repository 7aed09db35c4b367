"""`charlm evaluate`: how well a model predicts a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    DeviceOption,
    EncodingOption,
    ModelOption,
    NetworkOnlyOption,
    ThreadsOption,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.options import with_options
from charlm.cli.records import choose_format, format_option, write_json, write_table, write_tsv
from charlm.cli.scored import write_srilm_totals
from charlm.engines.evaluation import EvaluateOptions
from charlm.errors import InputError
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import TextScore

TOTAL = "total"


@with_options(EvaluateOptions)
def evaluate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Texts; - is standard input.")
    ],
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    format: Annotated[str | None, format_option("srilm")] = None,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    **options: Any,
) -> None:
    """Measure the perplexity and the bits per character of whole texts."""
    chosen = choose_format(format, "srilm")
    from charlm.corpus.reading import Corpus
    from charlm.engines.unknown_words import UnknownWords
    from charlm.tasks.lm import LanguageModel

    chosen_options = EvaluateOptions(**options)
    loaded = load_model(model, LanguageModel, device, threads, network_only)
    read_as = UnknownWords.of(chosen_options, loaded.lexicon).read_as
    encoding = text_encoding([loaded], encoding)
    scores: list[tuple[str, TextScore]] = []
    try:
        for file in files:
            text = Corpus([file], loaded.card.unit, encoding, once=True).blocks()
            with show_progress() as progress:
                score = loaded.evaluate(text, progress=progress, **options)
            if not score.tokens and options.get("shard"):
                raise InputError(f"{file}: there is no line in this `shard`; use fewer shards")
            if not score.tokens:
                raise InputError(f"{file}: the file is empty; there is nothing to measure")
            scores.append((file, score))
            if score.unknown:
                note(
                    f"warning: {file}: {score.unknown:,} tokens of {score.tokens:,} are unknown "
                    f"to the model; {read_as}"
                )
        if len(scores) > 1:
            scores.append((TOTAL, reduce(add, (score for _, score in scores))))
    finally:  # after an error, what has been measured before
        _write(chosen, scores)


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
