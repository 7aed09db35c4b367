"""`charlm score`: the probability of sentences."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
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
    warn_unknown,
)
from charlm.cli.inputs import Item, StrictOption, of_lines, of_table, of_texts, show_items
from charlm.cli.options import with_options
from charlm.cli.page import write_page
from charlm.cli.plots import check_plot, plot_option, plot_surprisal, remember
from charlm.cli.records import choose_format, format_option
from charlm.cli.scored import MEASURES, Row, Selection, View, write_rows
from charlm.errors import InputError, OptionError
from charlm.parts import WHOLE, of_part, parse_shard
from charlm.progress import show_progress
from charlm.scoring import ScoreOptions

if TYPE_CHECKING:
    from charlm.scores import SentenceScore
    from charlm.tasks.base import TrainedModel

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
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token's surprisal.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Show every word's surprisal.")] = False,
    punctuation: Annotated[
        bool,
        typer.Option("--punctuation", help="With --words: a mark is a word by itself."),
    ] = False,
    format: Annotated[str | None, format_option("kenlm", "srilm")] = None,
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
    chosen, view = choose_format(format, "kenlm", "srilm"), View(tokens, words, punctuation)
    if html and not Path(html).parent.is_dir():
        raise InputError(f"{Path(html).parent}: no such folder; make it first")
    if plot is not None:
        check_plot(Path(plot))
    selection = Selection(sort, top, best_by)
    if texts and file:
        raise InputError("give sentences or `file`, not both")
    if shard and texts:
        raise OptionError(f"`shard={shard}`: goes with `file`, or with standard input")
    if text_column and texts:
        raise OptionError(f"`text_column={text_column}`: goes with `file`, or with standard input")
    if (columns or best_by) and not text_column:
        raise OptionError("`columns` and `best_by`: go with `text_column`")
    if pseudo and (options or chosen in ("kenlm", "srilm") or words or html):
        raise OptionError(
            "`pseudo`: goes with none of `context`, `eos=False`, `words`, `html` and the formats "
            "kenlm and srilm"
        )
    from charlm.tasks.fill import FillModel
    from charlm.tasks.lm import LanguageModel

    loaded: TrainedModel
    score_group: Callable[..., Iterator[SentenceScore]]
    if pseudo:
        loaded = fill_model = load_model(model, FillModel, device, threads)
        score_group = fill_model.iter_pseudo_scores
    else:
        loaded = language_model = load_model(model, LanguageModel, device, threads, network_only)
        details = view.details or html is not None
        score_group = partial(language_model.iter_scores, details=details)
    unknown = dict.fromkeys(loaded.unknown_in(options.get("context", "")))
    part, path = parse_shard(shard) if shard else WHOLE, file or "-"
    names = text_encoding(loaded, encoding)
    items: Iterable[Sequence[Item]]
    if texts:
        items = [of_texts(texts)]
    elif text_column:
        kept = None if columns is None else [*filter(None, [best_by]), *columns.split(",")]
        items = of_table(path, names, text_column, kept, strict)
    else:
        items = of_lines(path, names)

    def groups() -> Iterator[Iterator[Row]]:
        """The scores of what is there to be scored, so that each is written before the next."""
        numbers = count(part.number + 1, part.of)
        for group in of_part(items, part):
            scores = score_group((item.text for item in group), **options)
            yield _rows(group, numbers, scores)
            sys.stdout.flush()

    def _rows(
        group: Sequence[Item], numbers: Iterator[int], scores: Iterator[SentenceScore]
    ) -> Iterator[Row]:
        for item, number, score in zip(group, numbers, scores, strict=False):
            if score.unknown:
                pieces = [score.text[t.start : t.end] for t in score.token_scores if t.is_unknown]
                unknown.update(dict.fromkeys(pieces))
            if not sys.stdout.isatty():
                show(item)
            yield Row(number, item.columns, score)

    plotted: list[SentenceScore] = []
    with show_progress() as progress:
        show = show_items(progress, path, part)
        try:
            rows = selection.of(groups())
            if plot is not None:
                rows = remember(plotted, rows)
            if html:
                scores = (row.score for row in chain.from_iterable(rows))
                write_page(Path(html), file or "charlm", scores)
            else:
                write_rows(chosen, rows, view)
        finally:
            sys.stdout.flush()
    if plot is not None:
        plot_surprisal(Path(plot), plotted, view)
    warn_unknown(unknown)
    for text in texts or ():
        if text == "-" or (os.path.exists(text) and not os.path.isdir(text)):  # noqa: PTH110, PTH112  # a long name is no error here
            name = shlex.quote(text)
            note(f"warning: {text!r} was scored as a sentence; for the lines: --file {name}")
