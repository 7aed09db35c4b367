"""Token files, and the split of a corpus into training and validation text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.reading import Corpus, CorpusStats
from charlm.files import replacing
from charlm.tokenizer import EOS, Blocks, Tokenizer
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

    def digest(self) -> str:
        """A hash of the tokens."""
        return hashlib.sha256(self.ids.data).hexdigest()

    def counts(self, vocab: int) -> NDArray[np.int64]:
        """(vocab,) number of occurrences of each id."""
        total = np.zeros(vocab, np.int64)
        for start in range(0, len(self.ids), COUNTED_AT_ONCE):
            total += np.bincount(self.ids[start : start + COUNTED_AT_ONCE], minlength=vocab)
        return total


def encode_to_file(blocks: Iterable[str], tokenizer: Tokenizer, path: Path) -> TokenFile:
    """Encode a text to `path` with the suffixes .tokens and .lines.

    Only one block is in memory at a time. A last line without newline gets its EOS.
    """
    dtype = narrowest_dtype(tokenizer.size)
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
            ids = tokenizer.encode_ids(block).astype(dtype, copy=False)
            ends = np.flatnonzero(ids == EOS) + position + 1
            ids_file.write(ids.tobytes())
            bounds_file.write(ends.astype(np.int64).tobytes())
            position += len(ids)
            line_start = int(ends[-1]) if len(ends) else line_start
        if line_start < position:
            ids_file.write(np.array(EOS, dtype).tobytes())
            bounds_file.write(np.int64(position + 1).tobytes())
    return TokenFile.open(path, tokenizer.size)


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".tokens"), path.with_suffix(".lines")


def split_off_validation(
    corpus: Corpus, stats: CorpusStats, fraction: float, lines: bool
) -> tuple[Blocks, Blocks]:
    """Split a corpus into training text and validation text.

    fraction:  part of the characters, or of the lines, that becomes validation text
    lines:     whether the lines are independent. Then the validation lines are drawn at random,
               always the same; otherwise the validation text is the end of the corpus. It begins
               at a line start, or within a line if the corpus has hardly any lines
    """

    def parts() -> Iterator[tuple[str, str]]:
        if lines:
            return _split_at_random(corpus.blocks(), fraction)
        cut = int(stats.chars * (1 - fraction))
        return _split_at(corpus.blocks(), cut, within_line=stats.has_hardly_any_lines)

    return (
        lambda: (training for training, _ in parts() if training),
        lambda: (validation for _, validation in parts() if validation),
    )


def _split_at_random(blocks: Iterable[str], fraction: float) -> Iterator[tuple[str, str]]:
    """The training lines and the validation lines of each block."""
    rng = np.random.default_rng(0)
    for block in blocks:
        lines = [line + "\n" for line in block.removesuffix("\n").split("\n")]
        is_validation = rng.random(len(lines)) < fraction
        yield (
            "".join(line for line, valid in zip(lines, is_validation, strict=True) if not valid),
            "".join(line for line, valid in zip(lines, is_validation, strict=True) if valid),
        )


def _split_at(blocks: Iterable[str], cut: int, within_line: bool) -> Iterator[tuple[str, str]]:
    """The text of each block before and after the split.

    The split is the first line start at or after character `cut`, or `cut` itself.
    """
    last_char, position, is_training = "\n", 0, True
    for block in blocks:
        split = len(block) if is_training else 0
        offset = max(cut - position, 0)
        if is_training and offset <= len(block):
            start = offset if within_line else (last_char + block).find("\n", offset)
            if start >= 0:
                split, is_training = start, False
        yield block[:split], block[split:]
        last_char, position = block[-1:], position + len(block)
