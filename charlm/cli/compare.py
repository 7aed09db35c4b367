"""`charlm compare`: which sentence is more probable, and which words decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    InputOptions,
    ModelOptions,
    load_model,
    note,
    read_lines,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.page import check_page, page_option, source_of
from charlm.cli.records import FormatOptions, write, write_json, write_table, write_tsv
from charlm.cli.scored import STRONGEST, write_sentence
from charlm.engines.scoring import SentenceOptions
from charlm.errors import InputError
from charlm.options import option
from charlm.pages.differences import NOTHING

if TYPE_CHECKING:
    from charlm.uses.comparison import Comparison

BAR, FOR, AGAINST = 24, "▇", "░"  # the longest bar; bars for the first sentence and the other


@dataclass(frozen=True)
class CompareSource:
    """Where the sentences come from, and a page of them. The fields describe themselves."""

    file: str | None = option(
        None, "Compare the lines of a file; - is standard input.", metavar="FILE"
    )
    html: str | None = page_option("the sentences in the colours of their words, and a chart")


@with_options
def compare(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT TEXT...", help="Two sentences, or more.", show_default=False),
    ] = None,
    *,
    options: SentenceOptions,
    models: ModelOptions,
    source: CompareSource,
    input: Annotated[InputOptions, "encoding"],
    output: FormatOptions,
) -> None:
    """Compare sentences: which is more probable, where they first differ, which words decide."""
    if texts and source.file:
        raise InputError("give sentences or `file`, not both")
    check_page(source.html)
    origin = source_of(None if texts else source.file or "-")
    if not texts:
        encoding = input.encoding
        texts = list(filter(str.strip, read_lines(source.file or "-", encoding)))
    if len(texts) < 2:
        count = "one sentence" if texts else "no sentence"
        raise InputError(f"{count}; give two or more, each in quotes, or one a line of `file`")
    from charlm.engines.unknown_words import UnknownWords
    from charlm.tasks.language_model import LanguageModel
    from charlm.uses.comparison import compare as compared

    loaded = load_model(LanguageModel, models)
    unknown = [piece for text in texts for piece in loaded.unknown_in(text)]
    warn_unknown(unknown, UnknownWords.of(options, loaded.lexicon).read_as)
    comparisons = compared(loaded, texts, **vars(options))
    if source.html:
        from charlm.cli.compare_page import write_compare_page

        write_compare_page(Path(source.html), comparisons, loaded, origin, options, models)
        note(f"page: {source.html}")
    elif output.chosen_format == "json":
        for comparison in comparisons:
            write_json(comparison.to_json())
    elif output.chosen_format == "tsv":
        write_tsv(
            {"comparison": number, **step.to_json()}
            for number, comparison in enumerate(comparisons, 1)
            for step in comparison.steps
        )
    else:
        _write_text(comparisons)


def _write_text(comparisons: Sequence[Comparison]) -> None:
    from charlm.uses.comparison import scores_of

    for score in scores_of(comparisons):
        write_sentence(score, [word.to_json() for word in score.words()], STRONGEST["word"])
    for comparison in comparisons:
        write("")
        _table(comparison)


def _table(comparison: Comparison) -> None:
    for line in comparison.summary:
        write(line)
    if comparison.first.text == comparison.second.text:
        return
    write("A difference above 0 is bits for the first sentence, one below 0 is for the second.")
    write("")
    longest = max(abs(step.difference) for step in comparison.steps) or 1.0
    columns = [("first", "left"), ("bits", "right"), ("second", "left"), ("bits", "right")]
    rows = []
    for step in comparison.steps:
        (a, b), (bits_a, bits_b), difference = step.texts, step.bits, step.difference
        figure = f"{difference:+.2f}" if abs(difference) >= NOTHING else ""
        bar = (FOR if difference > 0 else AGAINST) * round(BAR * abs(difference) / longest)
        rows.append((a, f"{bits_a:.2f}", b, f"{bits_b:.2f}", figure, bar if figure else ""))
    write_table([*columns, ("difference", "right"), ("", "left")], rows)
