"""Beam search for the fillers of a blank: words spelled token by token, from one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Floats
from charlm.model.equations import State
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Predictor
from charlm.tokenizer import Decoder

Mask = NDArray[np.bool_]
BEAM = 32  # partial fillers that are kept at each length
LONGEST = 24  # tokens of a filler
PROPOSED = 64  # fillers that one search returns


class Reader:
    """A model that reads from one side of a blank, for several partial fillers at once.

    predictor:  reads in this direction
    ids:        read first: the line from its start, or from its end
    """

    def __init__(self, predictor: Predictor, ids: Sequence[int]) -> None:
        self.predictor = predictor
        self.state: list[State] = predictor.initial_state(1)
        self._read(np.array([ids]))

    def extend(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """Read one more token after each of these rows, which become the new rows."""
        self.state = [tuple(s[list(rows)] for s in layer) for layer in self.state]
        self._read(np.array(ids)[:, None])

    def logprobs(self) -> Floats:
        """log p of every token as the next one, (rows, V)."""
        logprobs = log_softmax(self.prediction.logits()[:, 0])
        return np.pad(logprobs, ((0, 0), (1, 0)), constant_values=-np.inf)  # <START>

    def _read(self, ids: NDArray[np.int64]) -> None:
        prediction, self.state = self.predictor.read(ids, self.state)
        self.prediction = prediction.last()


class Partial(Protocol):
    """The beginning, or the end, of a filler."""

    @property
    def filler(self) -> str | None:
        """The filler, if it may be complete here."""

    @property
    def is_open(self) -> bool:
        """Whether more tokens may be added."""

    def mask(self) -> Mask | None:
        """The tokens (V,) that may be added; None for all that fillers are made of."""

    def extended(self, id: int) -> Self:
        """With one more token."""


@dataclass(frozen=True)
class FromLeft:
    """A filler that is spelled from its start.

    start:  (V,) the tokens that it may begin with, unless the decoder restricts them
    """

    text: str
    decoder: Decoder
    start: Mask

    def mask(self) -> Mask | None:
        held = self.decoder.mask()
        return self.start if held is None and not self.text else held

    def extended(self, id: int) -> FromLeft:
        decoder = self.decoder.copy()
        return replace(self, text=self.text + decoder.push(id), decoder=decoder)

    @property
    def filler(self) -> str | None:
        return self.text if self.decoder.is_whole and is_word(self.text) else None

    @property
    def is_open(self) -> bool:
        return has_no_space(self.text)


@dataclass(frozen=True)
class FromRight:
    """A filler that is spelled from its end.

    pieces:  the UTF-8 text of every token
    spaced:  it is complete only when it begins with a space
    """

    spelled: bytes
    pieces: Sequence[bytes]
    spaced: bool

    def mask(self) -> Mask | None:
        return None

    def extended(self, id: int) -> FromRight:
        return replace(self, spelled=self.pieces[id] + self.spelled)

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


def search(reader: Reader, first: Partial, allowed: Mask, end: Mask) -> set[str]:
    """The most probable fillers.

    first:    the empty filler
    allowed:  (V,) the tokens that fillers are made of
    end:      (V,) the tokens that may follow the filler; no token for no condition
    """
    best: dict[str, float] = {}
    beam: list[tuple[float, Partial]] = [(0.0, first)]
    for length in range(LONGEST + 1):
        logprobs = reader.logprobs()
        for (logprob, partial), row in zip(beam, logprobs, strict=True):
            if (filler := partial.filler) is not None:
                ending = float(np.logaddexp.reduce(row[end])) if end.any() else 0.0
                best[filler] = max(logprob + ending, best.get(filler, -np.inf))
        if length == LONGEST:
            break
        rows, ids, scores = _best_extensions(beam, logprobs, allowed)
        if not len(rows):
            break
        beam = [
            (score, beam[row][1].extended(id))
            for row, id, score in zip(rows, ids, scores, strict=True)
        ]
        reader.extend(rows, ids)
    return set(sorted(best, key=lambda filler: -best[filler])[:PROPOSED])


def _best_extensions(
    beam: Sequence[tuple[float, Partial]], logprobs: Floats, allowed: Mask
) -> tuple[list[int], list[int], list[float]]:
    """The rows, tokens and scores of the `BEAM` most probable longer fillers."""
    scores = np.full(logprobs.shape, -np.inf)
    for k, (logprob, partial) in enumerate(beam):
        if partial.is_open:
            mask = partial.mask()
            fits = allowed if mask is None else mask
            scores[k, fits] = logprob + logprobs[k, fits]
    flat = scores.ravel()
    best = np.argsort(-scores, axis=None)[:BEAM]
    best = best[np.isfinite(flat[best])]
    rows, ids = np.unravel_index(best, scores.shape)
    return rows.tolist(), ids.tolist(), flat[best].tolist()


def is_word(text: str) -> bool:
    """Whether the text is not empty and has no white space."""
    return bool(text) and has_no_space(text)


def has_no_space(text: str) -> bool:
    """Whether the text has no white space."""
    return not any(char.isspace() for char in text)
