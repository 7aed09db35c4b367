"""Words that are not in the vocabulary: what their probability is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.engines.scores import SentenceScore, byte_length
from charlm.errors import OptionError
from charlm.model.lexicon import Lexicon
from charlm.options import Choices, Range, check_options, option
from charlm.tokenizer import UNK

INCLUDE, EXCLUDE, SHARE, SPELL = TREATMENTS = ("include", "exclude", "share", "spell")
UNSEEN = 1_000_000
PANEL = "Words that are not in the vocabulary"

Score = TypeVar("Score", bound=SentenceScore)


@dataclass(frozen=True)
class UnknownOptions:
    """What the probability of an unknown word is. The fields describe themselves.

    Raises OptionError, naming the option and the value.
    """

    unknown: str | None = option(
        None,
        "include: they are one token, <UNK>. exclude: they do not count. share: they share the "
        "probability of <UNK>. spell: their letters are predicted.",
        Choices(TREATMENTS),
        panel=PANEL,
        auto="spell, if the model has learnt to; else include",
    )
    unseen: int | None = option(
        None,
        "How many words share the probability of <UNK>.",
        Range(1),
        panel=PANEL,
        metavar="N",
        auto=f"{UNSEEN:,}",
        goes_with=f"unknown={SHARE}",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class UnknownWords:
    """What the probability of the pieces of a text that are not in the vocabulary is.

    read_as:   in words, for messages
    count:     they are tokens of the text; otherwise they are left out
    logprobs:  pieces -> log P(piece | it is unknown) of each, nats, (n,)
    """

    read_as: str
    count: bool
    logprobs: Callable[[Sequence[str]], NDArray[np.float64]]

    @classmethod
    def of(cls, options: UnknownOptions, lexicon: Lexicon | None) -> UnknownWords:
        """The treatment that the options say. Raises OptionError if the model cannot spell."""
        spelling = lexicon.spelling if lexicon else None
        treatment = options.unknown or (SPELL if spelling else INCLUDE)
        if treatment == SHARE:
            unseen = options.unseen or UNSEEN
            about = f"read as one of {unseen:,} unseen words"
            return cls(about, True, lambda pieces: np.full(len(pieces), -math.log(unseen)))
        if treatment == SPELL:
            if not spelling:
                raise OptionError(
                    f"`unknown={SPELL}`: the model has not learnt how words are spelt; train one "
                    "with `level=word`"
                )
            return cls("read letter by letter", True, spelling.logprobs)
        count = treatment == INCLUDE
        about = "read as <UNK>" if count else "left out"
        return cls(about, count, lambda pieces: np.zeros(len(pieces)))

    def counted(self, pieces: Sequence[str]) -> NDArray[np.float64]:
        """What each piece adds to the characters, bytes and log P of its text, (n, 3).

        The log P of `<UNK>` comes to that, if the pieces count.
        """
        if self.count:
            logprobs = self.logprobs(pieces)
            return np.stack([0 * logprobs, 0 * logprobs, logprobs], axis=1)
        return np.array([(-len(piece), -byte_length(piece), 0.0) for piece in pieces])

    def treated(self, scores: Iterable[Score]) -> Iterator[Score]:
        """The scores with what counts of their unknown pieces."""
        scores = list(scores)
        pieces = [piece for score in scores if score.unknown for piece in score.unknown_pieces]
        rows = self.counted(pieces) if pieces else np.zeros((0, 3))
        for score in scores:
            if not score.unknown:
                yield score
                continue
            own, rows = rows[: score.unknown], rows[score.unknown :]
            unknown, logprobs = score.ids == UNK, score.logprobs.copy()
            logprobs[unknown] = logprobs[unknown] * self.count + own[:, 2]
            chars, size, _ = own.sum(axis=0).astype(int).tolist()
            yield replace(
                score,
                logprob=float(logprobs.sum(dtype=np.float64)),
                logprobs=logprobs,
                unknown_logprob=float(logprobs[unknown].sum(dtype=np.float64)),
                tokens=score.tokens - (0 if self.count else score.unknown),
                chars=score.chars + chars,
                bytes=score.bytes + size,
            )
