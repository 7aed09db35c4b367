"""Batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.tokenizer import SPECIALS, UNK

UNKNOWN_RATE = 0.1
Batch_co = TypeVar("Batch_co", covariant=True)


@dataclass
class Cursor:
    """Where in the data training is: enough to go on exactly there."""

    epoch: int = 0
    step: int = 0  # within the epoch
    positions: list[int] | None = None  # of each stream


class Batches(Protocol[Batch_co]):
    steps_per_epoch: int

    def iterate(self, cursor: Cursor) -> Iterator[Batch_co]: ...


def rare_tokens(tokens: TokenFile, vocab: int, unknowns: bool) -> NDArray[np.bool_]:
    """The ids that occur once, if the vocabulary has an `<UNK>` to learn."""
    rare = (tokens.counts(vocab) == 1) & unknowns
    rare[: len(SPECIALS)] = False
    return rare


def replace_rare(
    chunk: NDArray[np.int64], rare: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """At times read rare tokens as `<UNK>`."""
    chunk[rare[chunk] & (rng.random(chunk.shape) < UNKNOWN_RATE)] = UNK
