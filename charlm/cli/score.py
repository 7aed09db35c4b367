"""`charlm score`: the probability of sentences."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    DeviceOption,
    EncodingOption,
    ModelsOption,
    NetworkOnlyOption,
    ThreadsOption,
    load_model,
    note,
    refuse,
    text_encoding,
    warn_unknown,
)
from charlm.cli.inputs import Item, StrictOption, of_lines, of_table, of_texts, show_read
from charlm.cli.options import with_options
from charlm.cli.page import write_page
from charlm.cli.plots import check_plot, plot_option, plot_surprisal, remember
from charlm.cli.records import choose_format, format_option
from charlm.cli.scored import LOG10, MEASURES, Score, Scored, Selection, View, write_rows
from charlm.cli.side_by_side import write_side_by_side
from charlm.engines.scoring import ScoreOptions
from charlm.errors import InputError
from charlm.parts import WHOLE, parse_shard
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore

TABLE, ORDER = "Tables", "Selection"


@with_options(ScoreOptions)
def score(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Sentences; without any, lines from standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Score the lines of a file; - is standard input."),
    ] = None,
    model: ModelsOption = None,
    network_only: NetworkOnlyOption = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token's surprisal.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Show every word's surprisal.")] = False,
    punctuation: Annotated[
        bool,
        typer.Option("--punctuation", help="With --words: a mark is a word by itself."),
    ] = False,
    format: Annotated[str | None, format_option(*LOG10)] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a page with every token's figures, coloured."),
    ] = None,
    plot: Annotated[
        str | None, plot_option("the surprisal of every token, or with --words of every word")
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The file is a table (TSV, CSV or JSON lines) with the sentences in this column. "
            "The other columns come out beside the scores.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Only these of the other columns.", rich_help_panel=TABLE
        ),
    ] = None,
    strict: StrictOption = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="[-]MEASURE",
            help="Sort by a measure such as bits_per_char, the highest first; with - the lowest.",
            rich_help_panel=ORDER,
            autocompletion=lambda: MEASURES,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the first N sorted ones.", rich_help_panel=ORDER),
    ] = None,
    best_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Only the most probable one of those with the same value in this column.",
            rich_help_panel=ORDER,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I of N of the file: lines I, I+N, …"),
    ] = None,
    pseudo: Annotated[
        bool,
        typer.Option("--pseudo", help="Pseudo-log-likelihood, by a model of --task fill."),
    ] = False,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    **options: Any,
) -> None:
    """Give the probability of sentences, or the surprisal of every token or word."""
    chosen, several = choose_format(format, *LOG10), model is not None and len(model) > 1
    selection, chosen_options = Selection(sort, top, best_by), ScoreOptions(**options)
    in_log10 = chosen if chosen in LOG10 else None
    refuse(not text_column, "goes with `text_column`", columns=columns, best_by=best_by)
    refuse(not words, "goes with `words`", punctuation=punctuation)
    refuse(words, "does not go with `words`", tokens=tokens, format=in_log10)
    refuse(tokens, "does not go with `tokens`", format=in_log10)
    refuse(chosen_options.document, "does not go with `document`", shard=shard)
    parts = {"words": words, "html": html, "format": in_log10}
    given = {name: str(value) for name, value in options.items()}
    refuse(pseudo, "does not go with `pseudo`", **parts, **given)
    parts |= {"tokens": tokens, "plot": plot, "sort": sort, "best_by": best_by, "pseudo": pseudo}
    refuse(several, "goes with one model, not with several", **parts)
    if texts and file:
        raise InputError("give sentences or `file`, not both")
    elsewhere = "goes with `file`, or with standard input"
    refuse(bool(texts), elsewhere, shard=shard, text_column=text_column)
    if html and not Path(html).parent.is_dir():
        raise InputError(f"{Path(html).parent}: no such folder; make it first")
    if plot is not None:
        check_plot(Path(plot))
    from charlm.engines.unknown_words import UnknownWords
    from charlm.tasks.fill import FillModel
    from charlm.tasks.lm import LanguageModel

    names: Sequence[str | None] = model or [None]
    loaded: list[FillModel] | list[LanguageModel]
    score: list[Score]
    if pseudo:
        loaded = [load_model(name, FillModel, device, threads) for name in names]
        score = [m.iter_pseudo_scores for m in loaded]
    else:
        loaded = [load_model(n, LanguageModel, device, threads, network_only) for n in names]
        details = tokens or words or html is not None
        score = [partial(m.iter_scores, details=details, **options) for m in loaded]
    part, path = parse_shard(shard) if shard else WHOLE, file or "-"
    encoding = text_encoding(loaded, encoding)
    items: Iterable[Sequence[Item]]
    if texts:
        items = [of_texts(texts)]
    elif text_column:
        kept = None if columns is None else [*filter(None, [best_by]), *columns.split(",")]
        items = of_table(path, encoding, text_column, kept, strict)
    else:
        items = of_lines(path, encoding)
    if chosen_options.document:
        items = [list(chain.from_iterable(items))]
    view = View(tokens, words, punctuation, loaded[0].lexicon, path)
    plotted: list[SentenceScore] = []
    with show_progress() as progress:
        scored = Scored(score, part, show_read(progress, [path], part.of))
        rows = selection.of(scored.groups(items))
        if plot is not None:
            rows = remember(plotted, rows)
        try:
            if several:
                write_side_by_side(chosen, loaded, rows)
            elif html:
                page_of = (row.score for row in chain.from_iterable(rows))
                write_page(Path(html), file or "charlm", page_of)
            else:
                write_rows(chosen, rows, view)
        finally:
            sys.stdout.flush()
    if html:
        note(f"page: {html}")
    if plot is not None:
        plot_surprisal(Path(plot), plotted, view)
    in_context = loaded[0].unknown_in(options.get("context", ""))
    ways = [UnknownWords.of(chosen_options, m.lexicon).read_as for m in loaded]
    warn_unknown([*in_context, *scored.unknown], " or ".join(dict.fromkeys(ways)))
    for text in texts or ():
        if text == "-" or (os.path.exists(text) and not os.path.isdir(text)):  # noqa: PTH110, PTH112  # a long name is no error here
            name = shlex.quote(text)
            note(f"warning: {text!r} was scored as a sentence; for the lines: --file {name}")
