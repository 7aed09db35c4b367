"""`charlm evaluate`: how well a model predicts a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from charlm.cli.common import (
    EncodingOption,
    ModelOption,
    choose_format,
    load_named,
    note,
    text_encoding,
    tsv_row,
    waiting,
    write,
    write_table,
)
from charlm.errors import InputError, OptionError

Asked = TypeVar("Asked")
FORMATS = ("table", "tsv", "json")


def evaluate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Texts; - is standard input.")
    ],
    model: ModelOption = None,
    reset_lines: Annotated[
        bool, typer.Option("--reset-lines", help="Start every line from the zero state.")
    ] = False,
    cache: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Mix in a neural cache of the last N tokens; it changes what the figures mean.",
            show_default=False,
        ),
    ] = None,
    cache_flatness: Annotated[
        float | None,
        typer.Option(
            metavar="θ",
            help="How similar the states are to be, from 0; else 3.",
            show_default=False,
        ),
    ] = None,
    cache_weight: Annotated[
        float | None,
        typer.Option(
            metavar="λ",
            help="The cache's part of the prediction, 0 to 1; else 0.07.",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Go on learning from the text as it is read; it changes what the figures mean.",
        ),
    ] = False,
    adapt_rate: Annotated[
        float | None,
        typer.Option(metavar="η", help="How fast it learns; else 0.0004.", show_default=False),
    ] = None,
    ngram: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Mix in an N-gram model of the training text; it changes what the figures mean.",
            show_default=False,
        ),
    ] = None,
    ngram_weight: Annotated[
        float | None,
        typer.Option(
            metavar="λ",
            help="The n-gram model's part of the prediction, 0 to 1; else 0.15.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="table|tsv|json", help="Else a table on a terminal, TSV in a pipe."),
    ] = None,
    encoding: EncodingOption = "utf-8",
) -> None:
    """Measure perplexity and bits per character and byte of whole texts."""
    chosen = choose_format(format, FORMATS)
    from charlm.corpus.reading import Corpus
    from charlm.model.cache import CacheOptions
    from charlm.model.ngram import NgramOptions

    memory = _asked(CacheOptions, "cache", cache, flatness=cache_flatness, weight=cache_weight)
    counted = _asked(NgramOptions, "ngram", ngram, weight=ngram_weight)
    learning = None
    if adapt:
        from charlm.model.adapting import AdaptOptions

        learning = AdaptOptions() if adapt_rate is None else AdaptOptions(adapt_rate)
    elif adapt_rate is not None:
        raise OptionError(f"--adapt-rate {adapt_rate:g}: goes with --adapt")
    loaded = load_named(model)
    encoding = text_encoding(loaded, encoding)
    rows = []
    for file in files:
        text = Corpus([file], loaded.card.unit, encoding).blocks()
        with waiting() as progress:
            score = loaded.evaluate(
                text, reset_lines=reset_lines or None, cache=memory, adapt=learning, ngram=counted,
                progress=progress,
            )  # fmt: skip
        if not score.tokens:
            raise InputError(f"{file}: the file is empty; there is nothing to measure")
        values = {"file": file, **score.to_json()}
        values["nats_per_token"] = -score.logprob / max(score.tokens, 1)
        del values["text"]
        rows.append(values)
        if score.unknown:
            known_to = f"of {score.tokens:,} tokens are unknown to the model"
            note(f"warning: {file}: {score.unknown:,} {known_to}")
    if chosen == "json":
        for values in rows:
            write(json.dumps(values, ensure_ascii=False))
    elif chosen == "tsv":
        write(tsv_row(rows[0]))
        for values in rows:
            write(tsv_row(values.values()))
    else:
        _table(rows)


def _asked(
    options: Callable[..., Asked], name: str, first: int | None, **settings: float | None
) -> Asked | None:
    """What is asked for by an option and others that go with it, which are None for the default."""
    given = {setting: value for setting, value in settings.items() if value is not None}
    if first is not None:
        return options(first, **given)
    if given:
        raise OptionError(f"--{name}-{next(iter(given))}: goes with --{name} N")
    return None


def _table(rows: list[dict[str, float]]) -> None:
    columns = [("file", "left"), ("tokens", "right"), ("unknown", "right"), ("perplexity", "right"),
               ("nats/token", "right"), ("bits/char", "right"), ("bits/byte", "right")]  # fmt: skip
    write_table(
        columns,
        (
            (str(v["file"]), f"{v['tokens']:,}", f"{v['unknown']:,}", f"{v['perplexity']:.2f}",
             f"{v['nats_per_token']:.4f}", f"{v['bits_per_char']:.4f}", f"{v['bits_per_byte']:.4f}")
            for v in rows
        ),
    )  # fmt: skip
