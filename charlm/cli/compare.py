"""`charlm compare`: which sentence is more probable, and which words decide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    ModelOption,
    NetworkOnlyOption,
    load_model,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.records import (
    choose_format,
    format_option,
    write,
    write_json,
    write_table,
    write_tsv,
)
from charlm.cli.scored import STRONGEST, write_sentence
from charlm.engines.scoring import SentenceOptions
from charlm.errors import InputError

if TYPE_CHECKING:
    from charlm.uses.comparison import Comparison

BAR, FOR, AGAINST = 24, "▇", "░"  # the longest bar; bars for the first sentence and the other
NOTHING = 0.005  # bits that are shown as no difference


@with_options(SentenceOptions)
def compare(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT TEXT...", help="Two sentences, or more.")
    ],
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    format: Annotated[str | None, format_option()] = None,
    **options: Any,
) -> None:
    """Say which sentence is more probable, where they part, and what decides it."""
    chosen = choose_format(format)
    if len(texts) < 2:
        raise InputError("one sentence; give two or more, each in quotes")
    from charlm.engines.unknown_words import UnknownWords
    from charlm.tasks.lm import LanguageModel
    from charlm.uses.comparison import Comparison

    loaded = load_model(model, LanguageModel, network_only=network_only)
    unknown = [piece for text in texts for piece in loaded.unknown_in(text)]
    warn_unknown(unknown, UnknownWords.of(SentenceOptions(**options), loaded.lexicon).read_as)
    scores = loaded.score(texts, details=True, **options)
    best, *others = sorted(scores, key=lambda score: -score.logprob)
    comparisons = [Comparison(best, other) for other in others]
    if chosen == "json":
        for comparison in comparisons:
            write_json(comparison.to_json())
    elif chosen == "tsv":
        write_tsv(
            {"comparison": number, **step.to_json()}
            for number, comparison in enumerate(comparisons, 1)
            for step in comparison.steps
        )
    else:
        for score in (best, *others):
            parts = [word.to_json() for word in score.words()]
            write_sentence(score, parts, STRONGEST["word"])
        for comparison in comparisons:
            write("")
            _table(comparison)


def _table(comparison: Comparison) -> None:
    first, second = comparison.first.text, comparison.second.text
    if first == second:
        write("The sentences are the same.")
        return
    write(f"{first!r} is {comparison.ratio} times as probable as {second!r}.")
    if comparison.parting:
        after, *tokens = comparison.parting
        pieces = (
            text[token.start : token.end] if token.is_unknown else token.token
            for text, token in zip((first, second), tokens, strict=True)
        )
        a, b = (
            f"{piece!r} has probability {2**-token.bits:.2g}"
            for piece, token in zip(pieces, tokens, strict=True)
        )
        write(f"{f'After {after!r}' if after else 'At the start'}, {a}, and {b}.")
    write("")
    longest = max(abs(step.difference) for step in comparison.steps) or 1.0
    columns = [("first", "left"), ("bits", "right"), ("second", "left"), ("bits", "right")]
    rows = []
    for step in comparison.steps:
        (a, b), (bits_a, bits_b), difference = step.texts, step.bits, step.difference
        shown = f"{difference:+.2f}" if abs(difference) >= NOTHING else ""
        bar = (FOR if difference > 0 else AGAINST) * round(BAR * abs(difference) / longest)
        rows.append((a, f"{bits_a:.2f}", b, f"{bits_b:.2f}", shown, bar if shown else ""))
    write_table([*columns, ("difference", "right"), ("", "left")], rows)
