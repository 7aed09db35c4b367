"""The page of `charlm compare`: sentences in the colours of their words, and charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.cli.page import score_facts
from charlm.cli.side_by_side import names_of
from charlm.engines.drawn_scores import draw
from charlm.engines.scores import NOTHING
from charlm.pages import differences, sentence
from charlm.pages.frame import write_page
from charlm.uses.comparison import draw_difference, scores_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from charlm.engines.scoring import SentenceOptions
    from charlm.tasks.tokens import TokenModel
    from charlm.uses.comparison import Comparison


def write_compare_page(
    path: Path,
    comparisons: Sequence[Comparison],
    model: TokenModel,
    source: str,
    options: SentenceOptions,
    *more: DataclassInstance,
) -> None:
    """Write a page of compared sentences; see `score_facts`."""
    scores = scores_of(comparisons)
    (name,) = names_of([model])
    total = sum(scores, NOTHING)
    facts = score_facts(source, len(scores), {name: (model, total)}, options, *more)
    body = [
        sentence.scale("word", sentence.WORD_BITS),
        *(draw(score, words=True, name=f"{n}") for n, score in enumerate(scores, 1)),
        *(_section(number, comparison) for number, comparison in enumerate(comparisons, 2)),
        sentence.script(),
    ]
    title = f"{len(scores):,} sentences compared by {name}"
    write_page(path, title, facts, body, sentence.style() + differences.style())


def _section(number: int, comparison: Comparison) -> str:
    """number: of the second sentence"""
    return f"<section>\n<h2>1 and {number:,}</h2>\n{draw_difference(comparison)}</section>\n"
