"""Token files: an encoded text in memory-mapped files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlm.files import replacing
from charlm.tokenizer import EOS, Vocabulary
from charlm.tokenizer.base import narrowest_dtype

COUNTED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class TokenFile:
    """An encoded text in two memory-mapped files.

    ids:     (n,) in the narrowest integer type; every line is followed by one EOS
    bounds:  (lines + 1,) int64; line k is ids[bounds[k] : bounds[k + 1]], its EOS included
    """

    ids: NDArray[np.integer]
    bounds: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path, vocab: int) -> TokenFile:
        """The token file that `encode_to_file` wrote at `path` with a vocabulary of `vocab`."""
        ids_path, bounds_path = _paths(path)
        return cls(
            np.memmap(ids_path, narrowest_dtype(vocab), mode="r"),
            np.memmap(bounds_path, np.int64, mode="r"),
        )

    @classmethod
    def of(cls, ids: NDArray[np.integer]) -> TokenFile:
        """The same in memory, from the tokens of whole lines."""
        return cls(ids, np.append(0, np.flatnonzero(ids == EOS) + 1))

    def lines(self, which: NDArray[np.int64]) -> TokenFile:
        """Some of the lines, in memory."""
        starts, ends = self.bounds[which], self.bounds[which + 1]
        pieces = [self.ids[start:end] for start, end in zip(starts, ends, strict=True)]
        return TokenFile(np.concatenate(pieces), np.append(0, (ends - starts).cumsum()))

    def digest(self) -> str:
        """A hash of the tokens."""
        return hashlib.sha256(self.ids.data).hexdigest()

    def counts(self, vocab: int) -> NDArray[np.int64]:
        """(vocab,) number of occurrences of each id."""
        total = np.zeros(vocab, np.int64)
        for start in range(0, len(self.ids), COUNTED_AT_ONCE):
            total += np.bincount(self.ids[start : start + COUNTED_AT_ONCE], minlength=vocab)
        return total


def encode_to_file(blocks: Iterable[str], vocabulary: Vocabulary, path: Path) -> TokenFile:
    """Encode a text to `path` with the suffixes .tokens and .lines.

    Only one block is in memory at a time. A last line without newline gets its EOS.
    """
    dtype = narrowest_dtype(vocabulary.size)
    ids_path, bounds_path = _paths(path)
    with (
        replacing(ids_path) as ids_part,
        replacing(bounds_path) as bounds_part,
        ids_part.open("wb") as ids_file,
        bounds_part.open("wb") as bounds_file,
    ):
        position = line_start = 0
        bounds_file.write(np.int64(0).tobytes())
        for block in blocks:
            ids = vocabulary.encode_ids(block).astype(dtype, copy=False)
            ends = np.flatnonzero(ids == EOS) + position + 1
            ids_file.write(ids.tobytes())
            bounds_file.write(ends.astype(np.int64).tobytes())
            position += len(ids)
            line_start = int(ends[-1]) if len(ends) else line_start
        if line_start < position:
            ids_file.write(np.array(EOS, dtype).tobytes())
            bounds_file.write(np.int64(position + 1).tobytes())
    return TokenFile.open(path, vocabulary.size)


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".tokens"), path.with_suffix(".lines")
