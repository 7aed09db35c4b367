"""`charlm fill`: what may stand in a blank."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from charlm.cli.common import (
    ModelOption,
    choose_format,
    load_named,
    note,
    read_lines,
    text_encoding,
    tsv_row,
    warn_unknown,
    write,
    write_table,
)

FORMATS = ("table", "tsv", "json")


def fill(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Lines with ___ where a word is missing; without any, from standard input.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = None,
    k: Annotated[int, typer.Option("-k", "--number", help="Fillers of each blank.")] = 5,
    blank: Annotated[str, typer.Option(help="What marks a blank.")] = "___",
    format: Annotated[
        str | None,
        typer.Option(metavar="table|tsv|json", help="Else a table on a terminal, TSV in a pipe."),
    ] = None,
) -> None:
    """Fill blanks: the likeliest words for each, by what stands before and after it."""
    chosen = choose_format(format, FORMATS)
    loaded = load_named(model)
    for number, text in enumerate(texts or read_lines("-", text_encoding(loaded, "utf-8")), 1):
        found = loaded.fill(text, k=k, blank=blank)
        filled = text
        for fillers in found:
            filled = filled.replace(blank, fillers[0].text if fillers else " ", 1)
        warn_unknown(loaded.unknown_in(filled))
        for place, fillers in enumerate(found, start=1):
            if not fillers:
                note(f"nothing fits in blank {place} of {text!r}; is there a space missing by it?")
        rows = [
            (place, rank, filler)
            for place, fillers in enumerate(found, start=1)
            for rank, filler in enumerate(fillers, start=1)
        ]
        if chosen == "json":
            blanks = [[{"filler": f.text, "probability": f.probability} for f in b] for b in found]
            write(json.dumps({"text": text, "blanks": blanks}, ensure_ascii=False))
        elif chosen == "tsv":
            if number == 1:
                write(tsv_row(["sentence", "blank", "rank", "filler", "probability"]))
            for place, rank, filler in rows:
                write(tsv_row([number, place, rank, filler.text, filler.probability]))
        else:
            write(text)
            columns = [("blank", "right"), ("filler", "left"), ("probability", "right")]
            shown = ((str(place), f.text, f"{f.probability:.4f}") for place, _, f in rows)
            write_table(columns, shown)
