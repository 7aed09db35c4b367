"""What all batches of tokens share: the contract, the cursor and the handling of rare tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.parts import WHOLE, Part
from charlm.tokenizer import SPECIALS, UNK

# Probability that a rare token is replaced by <UNK>. This teaches the network a useful <UNK>.
UNKNOWN_RATE = 0.1


@dataclass
class Cursor:
    """A position in the sequence of batches. Training resumes exactly from it.

    epoch:      number of complete epochs
    step:       number of batches that are done in this epoch
    positions:  offset of each stream in tokens; None at the start of an epoch, and for lines
    """

    epoch: int = 0
    step: int = 0
    positions: list[int] | None = None


class BatchShape(NamedTuple):
    """How a token file is cut into batches.

    batch:   columns B: streams, or lines
    length:  tokens T of a chunk; batches of lines have about B·T tokens
    independent_lines:  they are shuffled each epoch
    seed:    of all random numbers
    part:    the columns of each batch that this process has
    """

    batch: int
    length: int
    independent_lines: bool
    seed: int
    part: Part = WHOLE


class Batch(Protocol):
    """Training examples. Only their task knows more about them."""

    @property
    def predicted(self) -> int:
        """Number of tokens that the network predicts, in all processes."""


class Batches(Protocol):
    """An endless sequence of batches.

    All random numbers depend only on (seed, epoch, step), so that a `Cursor` is the whole state.
    Each process draws those of the whole batch, and reads the tokens of its own columns.
    """

    steps_per_epoch: int

    def iterate(self, cursor: Cursor) -> Iterator[Batch]:
        """The batches from `cursor` on. Advances `cursor` with each batch."""


def find_rare(tokens: TokenFile, vocab: int, unknowns: bool) -> NDArray[np.bool_]:
    """(vocab,) true for each id that occurs once in the token file. Nothing if not `unknowns`."""
    rare = (tokens.counts(vocab) == 1) & unknowns
    rare[: len(SPECIALS)] = False
    return rare


def replace_rare(
    ids: NDArray[np.int64], rare: NDArray[np.bool_], drawn: NDArray[np.float64]
) -> None:
    """Replace rare tokens by `<UNK>`, in place, each with probability `UNKNOWN_RATE`.

    drawn:  a random number from [0, 1) for each of the ids
    """
    ids[rare[ids] & (drawn < UNKNOWN_RATE)] = UNK
