"""The search for the fillers of a blank: words spelled token by token, from one side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.engines.beam import beam_search
from charlm.model.backend import Floats
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Predictor, Reader
from charlm.tokenizer import Decoder, IntArray

Mask = NDArray[np.bool_]
BEAM = 32  # partial fillers that are kept at each length
LONGEST = 24  # tokens of a filler
PROPOSED = 64  # fillers that one search returns


@dataclass(frozen=True)
class PartialFiller(ABC):
    """The beginning, or the end, of a filler: a candidate of `beam_search`.

    allowed:  (V,) the tokens that fillers are made of
    end:      (V,) the tokens that may follow the filler; no token for no condition

    Its logits are log-probabilities, see `_LogprobReader`.
    """

    allowed: Mask
    end: Mask

    # A filler ends where a word may end. That has a probability, but no token.
    is_finished: ClassVar[bool] = False

    @property
    @abstractmethod
    def filler(self) -> str | None:
        """The filler, if it may be complete here."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether more tokens may be added."""

    @abstractmethod
    def extended(self, id: int) -> Self:
        """With one more token."""

    def mask(self) -> Mask:
        """The tokens (V,) that may be added to an open filler."""
        return self.allowed

    def next_logprobs(self, logits: Floats) -> Floats:
        """See `Candidate.next_logprobs`."""
        if not self.is_open:
            return np.full_like(logits, -np.inf)
        return np.where(self.mask()[1:], logits, np.float32(-np.inf))

    def end_logprob(self, logits: Floats) -> float | None:
        """See `Candidate.end_logprob`."""
        if self.filler is None:
            return None
        if not self.end.any():
            return 0.0
        return float(np.logaddexp.reduce(logits[self.end[1:]]))


@dataclass(frozen=True)
class FromLeft(PartialFiller):
    """A filler that is spelled from its start.

    decoder:  of the text up to here
    start:    (V,) the tokens that it may begin with, unless the decoder restricts them
    """

    decoder: Decoder
    start: Mask
    text: str = ""

    def mask(self) -> Mask:
        held = self.decoder.mask()
        if held is not None:
            return held
        return self.allowed if self.text else self.start

    def extended(self, id: int) -> Self:
        decoder = self.decoder.copy()
        return replace(self, text=self.text + decoder.push(id), decoder=decoder)

    @property
    def filler(self) -> str | None:
        return self.text if self.decoder.is_whole and is_word(self.text) else None

    @property
    def is_open(self) -> bool:
        return has_no_space(self.text)


@dataclass(frozen=True)
class FromRight(PartialFiller):
    """A filler that is spelled from its end.

    token_texts:  the UTF-8 text of every token
    spaced:       it is complete only when it begins with a space
    """

    token_texts: Sequence[bytes]
    spaced: bool
    spelled: bytes = b""

    def extended(self, id: int) -> Self:
        return replace(self, spelled=self.token_texts[id] + self.spelled)

    @property
    def filler(self) -> str | None:
        if self.spaced and self.is_open:
            return None
        try:
            text = self.spelled.decode().removeprefix(" ")
        except UnicodeDecodeError:
            return None
        return text if is_word(text) else None

    @property
    def is_open(self) -> bool:
        return not self.spelled.startswith(b" ")


class _LogprobReader(Reader):
    """A reader whose logits are log-probabilities."""

    def logits(self) -> Floats:
        return log_softmax(super().logits())


def search(predictor: Predictor, ids: IntArray, first: PartialFiller) -> set[str]:
    """The most probable fillers.

    predictor:  reads in the direction in which fillers are spelled
    ids:        read first: the line from its start, or from its end
    first:      the empty filler
    """
    fillers: set[str] = set()
    for _, partial in beam_search(_LogprobReader(predictor, ids), first, BEAM, longest=LONGEST):
        if len(fillers) == PROPOSED:
            break
        if filler := partial.filler:
            fillers.add(filler)
    return fillers


def is_word(text: str) -> bool:
    """Whether the text is not empty and has no white space."""
    return bool(text) and has_no_space(text)


def has_no_space(text: str) -> bool:
    """Whether the text has no white space."""
    return not any(char.isspace() for char in text)
