"""Sampling: how the next token is drawn from its distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.options import SEED, Range, check_options, option

DEFAULT_LENGTH = 500
DEFAULT_TEMPERATURE = 0.8
LIMITS = ("top_k", "top_p", "min_p", "typical_p")  # options that restrict what may be drawn


@dataclass(frozen=True)
class SampleOptions:
    """How text is drawn. The fields describe themselves.

    top-p is by Holtzman et al. (2020), typical-p by Meister et al. (2023), the penalty for
    repetition by Keskar et al. (2019).

    Raises OptionError, naming the option and the value.
    """

    length: int | None = option(
        None,
        "Characters after the prime.",
        Range(0),
        metavar="N",
        auto=f"{DEFAULT_LENGTH}; for independent lines to the end of the line",
    )
    min_length: int = option(
        0,
        "Characters after the prime before a line end or a stop text ends it.",
        Range(0),
        metavar="N",
    )
    max_lines: int | None = option(
        None, "Stop after N lines.", Range(1), metavar="N", auto="no limit; 1 for independent lines"
    )
    temperature: float = option(
        DEFAULT_TEMPERATURE,
        "Divides the logits: below 1 safer, above 1 wilder; 0 always takes the most probable "
        "token.",
        Range(0),
        short="-t",
        metavar="T",
    )
    top_k: int | None = option(
        None, "Draw from the K most probable tokens only.", Range(1), metavar="K"
    )
    top_p: float | None = option(
        None,
        "Draw from the most probable tokens that together have probability P.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    min_p: float | None = option(
        None,
        "Draw from tokens at least P times as probable as the most probable one.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    typical_p: float | None = option(
        None,
        "Draw from the tokens of typical surprisal that together have probability P.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    repetition_penalty: float = option(
        1.0,
        "Multiplies log p of tokens that were used before: above 1 fewer of them.",
        Range(0, exclude_low=True),
        metavar="R",
    )
    beam: int | None = option(
        None,
        "Draw nothing: the most probable text that a search with K candidates finds.",
        Range(1),
        metavar="K",
        excludes=dict.fromkeys(
            LIMITS,
            "draws nothing, so it does not go with `top_k`, `top_p`, `min_p` or `typical_p`",
        ),
    )
    seed: int | None = option(
        None, "The same seed gives the same text.", SEED, metavar="N", auto="drawn and printed"
    )
    stop: str | Sequence[str] | None = option(
        None, "End before the first occurrence of this text; may be repeated.", metavar="TEXT"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if "" in self.stops:
            raise OptionError("`stop`: give the text to stop at")
        if self.length is not None and self.min_length > self.length:
            raise OptionError(
                f"`min_length={self.min_length}`: must be at most `length`, {self.length}"
            )

    @cached_property
    def is_limited(self) -> bool:
        """Whether not every token may be drawn."""
        return any(getattr(self, name) is not None for name in LIMITS)

    @property
    def stops(self) -> Sequence[str]:
        """The texts to stop at."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def random_stream(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample, independent of all other samples.

    Philox (Salmon et al. 2011), a counter-based generator; its key is (seed, sample).
    """
    return np.random.Generator(np.random.Philox(key=[seed, sample]))


def distribution(logits: Floats, options: SampleOptions) -> Floats:
    """The probabilities to draw from: logits (K,) -> (K,), which sum to 1.

    A token with logit −inf is never drawn. A repetition penalty has already changed the logits, see
    `charlm.engines.generation`. Temperature comes first here, then top-k, top-p, min-p and
    typical-p, each applied to the renormalised result of the one before. Of equal tokens the first
    are kept.
    """
    scaled = logits - logits.max()
    _temper(scaled, options)
    p = np.exp(scaled)
    p /= p.sum()
    if not options.is_limited:
        return p
    order = np.argsort(-p, kind="stable")
    kept = p[order]
    if options.top_k is not None:
        kept[options.top_k :] = 0
        kept /= kept.sum()
    if options.top_p is not None:
        kept[1:][np.cumsum(kept[:-1]) >= options.top_p] = 0
    if options.min_p is not None:
        kept[kept < options.min_p * kept[0]] = 0
    p[order] = kept / kept.sum()
    return p if options.typical_p is None else _typical(p, options.typical_p)


def _typical(p: Floats, share: float) -> Floats:
    """The tokens whose surprisal is closest to the entropy, until they have this probability."""
    with np.errstate(divide="ignore"):
        surprisal = -np.log(p)
    entropy = np.dot(p, np.where(p > 0, surprisal, 0))
    order = np.argsort(np.abs(surprisal - entropy), kind="stable")
    kept = p[order]
    kept[1:][np.cumsum(kept[:-1]) >= share] = 0
    p[order] = kept / kept.sum()
    return p


def _temper(logits: Floats, options: SampleOptions) -> None:
    """Divide logits (K,) by the temperature, in place. The largest of them is 0."""
    if options.temperature == 0:
        logits[logits < 0] = -np.inf
    else:
        logits *= np.float32(min(max(1 / options.temperature, 1e-30), 1e30))  # within float32


def draw(p: NDArray[np.floating], random: np.random.Generator) -> int:
    """Draw an index with these probabilities, using one uniform number."""
    cumulative = p.cumsum(dtype=np.float64)
    index = int(cumulative.searchsorted(random.random() * cumulative[-1], side="right"))
    return index if index < len(p) else int(np.flatnonzero(p)[-1])  # by rounding


def draw_each(
    logits: Floats, options: Sequence[SampleOptions], generators: Sequence[np.random.Generator]
) -> list[int]:
    """Draw an index for each row of logits (B, K), as `distribution` and `draw` do for one."""
    if len(logits) == 1 or any(of_row.is_limited for of_row in options):
        distributions = map(distribution, logits, options)
        return [draw(p, random) for p, random in zip(distributions, generators, strict=True)]
    p = logits - logits.max(axis=-1, keepdims=True)
    for row, of_row in zip(p, options, strict=True):
        _temper(row, of_row)
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    cumulative = p.cumsum(axis=-1, dtype=np.float64)
    drawn = np.array([random.random() for random in generators]) * cumulative[:, -1]
    indices = np.count_nonzero(cumulative <= drawn[:, None], axis=-1).tolist()
    for row in np.flatnonzero(np.array(indices) == p.shape[1]).tolist():  # by rounding
        indices[row] = int(np.flatnonzero(p[row])[-1])
    return indices
