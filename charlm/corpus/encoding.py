"""From text to token files, and what part of a text trains and what part validates."""

from __future__ import annotations

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
        """The token file that `encode_to_file` wrote at `path` for a vocabulary of this size."""
        tokens, lines = _paths(path)
        return cls(
            np.memmap(tokens, narrowest_dtype(vocab), mode="r"),
            np.memmap(lines, np.int64, mode="r"),
        )

    def counts(self, vocab: int) -> NDArray[np.int64]:
        """How often each id occurs, (vocab,)."""
        total = np.zeros(vocab, np.int64)
        for start in range(0, len(self.ids), COUNTED_AT_ONCE):
            total += np.bincount(self.ids[start : start + COUNTED_AT_ONCE], minlength=vocab)
        return total


def encode_to_file(blocks: Iterable[str], tokenizer: Tokenizer, path: Path) -> TokenFile:
    """Encode a text block by block, in bounded memory, to two files beside `path`."""
    dtype = narrowest_dtype(tokenizer.size)
    with (
        replacing(_paths(path)[0]) as tokens,
        replacing(_paths(path)[1]) as lines,
        tokens.open("wb") as token_file,
        lines.open("wb") as line_file,
    ):
        position = ended = 0
        line_file.write(np.int64(0).tobytes())
        for block in blocks:
            ids = tokenizer.encode_ids(block).astype(dtype, copy=False)
            ends = np.flatnonzero(ids == EOS) + position + 1
            token_file.write(ids.tobytes())
            line_file.write(ends.astype(np.int64).tobytes())
            position += len(ids)
            ended = int(ends[-1]) if len(ends) else ended
        if ended < position:  # the text was cut within a line
            token_file.write(np.array(EOS, dtype).tobytes())
            line_file.write(np.int64(position + 1).tobytes())
    return TokenFile.open(path, tokenizer.size)


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".tokens"), path.with_suffix(".lines")


def split_off_validation(
    corpus: Corpus, survey: CorpusStats, fraction: float, lines: bool
) -> tuple[Blocks, Blocks]:
    """The training and the validation part of a corpus, each to be read as often as need be.

    A document's validation part is its end, from the first line start after the cut; of
    independent lines it is a part drawn line by line, always the same.
    """

    def parts() -> Iterator[tuple[str, str]]:
        if lines:
            return _drawn(corpus.blocks(), fraction)
        cut = int(survey.chars * (1 - fraction))
        return _cut(corpus.blocks(), cut, anywhere=survey.has_hardly_any_lines)

    return (
        lambda: (train for train, _ in parts() if train),
        lambda: (valid for _, valid in parts() if valid),
    )


def _drawn(blocks: Iterable[str], fraction: float) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(0)
    for block in blocks:
        lines = [line + "\n" for line in block.removesuffix("\n").split("\n")]
        held_out = rng.random(len(lines)) < fraction
        yield (
            "".join(line for line, out in zip(lines, held_out, strict=True) if not out),
            "".join(line for line, out in zip(lines, held_out, strict=True) if out),
        )


def _cut(blocks: Iterable[str], cut: int, anywhere: bool) -> Iterator[tuple[str, str]]:
    """Cut at the first line start at or after position `cut`, or just there."""
    before, position, training = "\n", 0, True
    for block in blocks:
        here = len(block) if training else 0
        wanted = max(cut - position, 0)
        if training and wanted <= len(block):
            found = wanted if anywhere else (before + block).find("\n", wanted)
            if found >= 0:
                here, training = found, False
        yield block[:here], block[here:]
        before, position = block[-1:], position + len(block)
