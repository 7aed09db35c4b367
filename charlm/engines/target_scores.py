"""How well targets are written: probability, exact matches, and errors of their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from charlm.engines.label_scores import wilson_interval


@dataclass(frozen=True)
class TargetScore:
    """How well the targets of sources are found. The scores of several texts add up.

    pairs:      sources with a target
    tokens:     of the targets, their ends counted
    nats:       Σ −log p(target | source)
    sources:    different ones
    exact:      those whose most probable target is one of the right ones
    errors:     tokens to insert, delete or replace in the most probable targets, to make them right
    reference:  tokens of the right targets, of several the one that needs the fewest
    unknown:    pairs whose source has a token that training has not seen
    """

    pairs: int = 0
    tokens: int = 0
    nats: float = 0.0
    sources: int = 0
    exact: int = 0
    errors: int = 0
    reference: int = 0
    unknown: int = 0

    columns: ClassVar = {
        "pairs": ",", "exact_match": ".4f", "exact_match_interval": ".3f",
        "token_error_rate": ".4f", "nats_per_token": ".4f", "perplexity": ".2f",
    }  # fmt: skip

    @property
    def predicted(self) -> int:
        """The number of tokens."""
        return self.tokens

    def figures(self) -> dict[str, Any]:
        """The measures under their names in JSON output. The interval holds 95 %."""
        nats = self.nats / max(self.tokens, 1)
        return {
            "pairs": self.pairs,
            "tokens": self.tokens,
            "sources": self.sources,
            "exact_match": self.exact / max(self.sources, 1),
            "exact_match_interval": wilson_interval(self.exact, self.sources),
            "token_error_rate": self.errors / max(self.reference, 1),
            "nats_per_token": nats,
            "perplexity": math.exp(min(nats, 700)),
        }

    def __add__(self, other: TargetScore) -> TargetScore:
        return TargetScore(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def errors_of(found: Sequence[int], targets: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The errors of a target beside the right one that needs the fewest, and the tokens of that.

    >>> errors_of([1, 2, 3], [[1, 3], [5, 6, 7, 8]])
    (1, 2)
    """
    return min((edit_distance(found, target), len(target)) for target in targets)


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The tokens to insert, delete or replace in a, to make it b (Levenshtein 1966).

    >>> edit_distance([1, 2, 3, 4], [2, 3, 5])
    2
    """
    distances = list(range(len(b) + 1))
    for i, token in enumerate(a, 1):
        before, distances[0] = distances[0], i
        for j, other in enumerate(b, 1):
            best = min(distances[j] + 1, distances[j - 1] + 1, before + (token != other))
            before, distances[j] = distances[j], best
    return distances[-1]
