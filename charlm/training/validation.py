"""How well a network predicts the part of a text that is held out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import pieces
from charlm.model.likelihood import Backend, pseudo_logprobs, sequence_logprobs, text_logprob


@dataclass(frozen=True)
class Validation:
    """A validation text.

    ids:     (n,) tokens; every line ends with an `<EOS>`
    bounds:  (lines + 1,) where the lines start
    lines:   they are independent of each other: each is read from the zero state
    pseudo:  tokens are predicted from both sides, by a bidirectional model; no line's end is, and
             long lines are cut as they are for training
    """

    ids: NDArray[np.integer[Any]]
    bounds: NDArray[np.int64]
    lines: bool = False
    pseudo: bool = False

    def first(self, tokens: int) -> Validation:
        """The first so many tokens; no part of a line, after a whole one, where they are read one
        by one."""
        if self.lines:
            whole = np.searchsorted(self.bounds, tokens, side="right") - 1
            tokens = int(self.bounds[whole]) or tokens
        return replace(self, ids=np.asarray(self.ids[:tokens]))

    @property
    def predicted(self) -> int:
        """How many tokens are predicted."""
        return sum(map(len, self._pieces())) if self.pseudo else len(self.ids)

    def loss(self, backend: Backend) -> float:
        """Nats per token, as this text is to be read; of a bidirectional model, of every token
        given all others of its line."""
        if self.pseudo:
            return _mean(pseudo_logprobs(backend, self._pieces()))
        by_line = self.loss_by_line(backend) if self.lines else None
        return self.loss_carried(backend) if by_line is None else by_line

    def loss_carried(self, backend: Backend) -> float:
        """Nats per token, the state carried from line to line."""
        return -text_logprob(backend, self.ids) / len(self.ids)

    def loss_by_line(self, backend: Backend) -> float | None:
        """Nats per token, each line from the zero state; None if there is no whole line."""
        lines = self._lines()
        return _mean(sequence_logprobs(backend, lines)) if lines else None

    def _pieces(self) -> list[NDArray[np.integer[Any]]]:
        starts, lengths = pieces(self.bounds)
        ends = starts + lengths
        return [
            np.asarray(self.ids[a:b]) for a, b in zip(starts, ends, strict=True)
            if b <= len(self.ids)
        ]  # fmt: skip

    def _lines(self) -> list[NDArray[np.integer[Any]]]:
        bounds = np.asarray(self.bounds[: len(self.ids) + 1])
        bounds = bounds[bounds <= len(self.ids)]
        return [np.asarray(self.ids[a:b]) for a, b in pairwise(bounds)]


def _mean(logprobs: list[NDArray[np.float32]]) -> float:
    tokens = sum(map(len, logprobs))
    return -sum(float(row.sum(dtype=np.float64)) for row in logprobs) / max(tokens, 1)
