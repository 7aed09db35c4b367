"""The page of `charlm score`: sentences in the colours of their tokens or words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.cli.page import score_facts
from charlm.cli.scored import Groups, Row, View
from charlm.cli.side_by_side import names_of
from charlm.engines.drawn_scores import draw
from charlm.engines.scores import NOTHING
from charlm.pages.frame import write_page
from charlm.pages.sentence import TOKEN_BITS, WORD_BITS, scale, script, style

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from charlm.engines.scoring import SentenceOptions
    from charlm.tasks.tokens import TokenModel


def write_score_page(
    path: Path,
    groups: Groups,
    view: View,
    models: Sequence[TokenModel],
    source: str,
    options: SentenceOptions,
    *more: DataclassInstance,
) -> None:
    """Write a page of sentences, which were scored with `details`; see `score_facts`."""
    names = names_of(models)
    body: list[str] = []
    totals = [NOTHING for _ in names]
    for row in chain.from_iterable(groups):
        totals = [total + score for total, score in zip(totals, row.scores, strict=True)]
        body.append(_drawn(row, view, names))
    kind, strongest = ("word", WORD_BITS) if view.words else ("token", TOKEN_BITS)
    by_name = dict(zip(names, zip(models, totals, strict=True), strict=True))
    facts = score_facts(source, len(body), by_name, options, *more)
    title = f"Surprisal of {kind}s by {', '.join(names)}"
    write_page(path, title, facts, [scale(kind, strongest), *body, script()], style())


def _drawn(row: Row, view: View, names: Sequence[str]) -> str:
    """The sentence of a row, as each model scores it."""
    columns = (f"{name} {value}" for name, value in row.columns.items())
    label = " · ".join([f"{row.number:,}", *columns])
    return "".join(
        draw(
            score,
            words=view.words,
            punctuation=view.punctuation,
            name=f"{label} · {name}" if len(names) > 1 else label,
        )
        for score, name in zip(row.scores, names, strict=True)
    )
