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

# What a piece of text adds to the characters, bytes and log P (nats) of a text.
CONTRIBUTION = np.dtype([("chars", np.int64), ("bytes", np.int64), ("logprob", np.float64)])

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
    """The probability of the pieces of a text that are not in the vocabulary.

    read_as:   what they are read as, in words, for messages
    count:     they are tokens of the text; otherwise they are left out
    logprobs:  pieces -> log P(piece | it is unknown) of each, nats, (n,)
    """

    read_as: str
    count: bool
    logprobs: Callable[[Sequence[str]], NDArray[np.float64]]

    @classmethod
    def of(cls, options: UnknownOptions, lexicon: Lexicon | None) -> UnknownWords:
        """What options ask for. Raises OptionError if the model cannot spell."""
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

    def contributions(self, pieces: Sequence[str]) -> NDArray[np.void]:
        """What each piece adds to its text, (n,) of `CONTRIBUTION`.

        The log P of `<UNK>` is added to that, if the pieces count.
        """
        added = np.zeros(len(pieces), CONTRIBUTION)
        if self.count:
            added["logprob"] = self.logprobs(pieces)
        else:
            added["chars"] = [-len(piece) for piece in pieces]
            added["bytes"] = [-byte_length(piece) for piece in pieces]
        return added

    def applied(self, scores: Iterable[Score]) -> Iterator[Score]:
        """The scores, with unknown words scored as the options ask."""
        scores = list(scores)
        pieces = [piece for score in scores if score.unknown for piece in score.unknown_pieces]
        added = self.contributions(pieces) if pieces else np.zeros(0, CONTRIBUTION)
        for score in scores:
            if score.unknown:
                yield self._with(score, added[: score.unknown])
                added = added[score.unknown :]
            else:
                yield score

    def _with(self, score: Score, added: NDArray[np.void]) -> Score:
        """A score with the contributions of its unknown pieces."""
        is_unknown, logprobs = score.ids == UNK, score.logprobs.copy()
        logprobs[is_unknown] = (logprobs[is_unknown] if self.count else 0.0) + added["logprob"]
        return replace(
            score,
            logprob=float(logprobs.sum(dtype=np.float64)),
            logprobs=logprobs,
            unknown_logprob=float(logprobs[is_unknown].sum(dtype=np.float64)),
            tokens=score.tokens - (0 if self.count else score.unknown),
            chars=score.chars + int(added["chars"].sum()),
            bytes=score.bytes + int(added["bytes"].sum()),
        )
