"""Examples: line k of each of several parallel token files belongs to example k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile, encode_to_file
from charlm.errors import InputError
from charlm.tokenizer import START, Blocks, Vocabularies

# Sequences are padded to multiples of this length: a fused kernel is built for each new shape.
LENGTH_MULTIPLE = 16
TEXT = "text"  # the field of the tasks that have no other
FEATURES = "features"  # a field of the tasks that have a linear half


class ExampleError(InputError):
    """An example that a task cannot read.

    line:     of the text, from 1
    problem:  in words
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line:,}: {problem}")
        self.line, self.problem = line, problem


@dataclass(frozen=True)
class Examples:
    """Parallel token files, one for each field, and the vocabulary of each.

    >>> from charlm.tokenizer import Symbols
    >>> ids, bounds = np.array([3, 1, 4, 1]), np.array([0, 2, 4])
    >>> data = Examples({"label": TokenFile(ids, bounds)}, {"label": Symbols(["bad", "good"])})
    >>> len(data), data.tokens, data.single("label", np.array([1, 0])).tolist()
    (2, 4, [4, 3])
    """

    fields: Mapping[str, TokenFile]
    vocabularies: Vocabularies

    @classmethod
    def encode(
        cls, blocks: Mapping[str, Blocks], vocabularies: Vocabularies, folder: Path, part: str
    ) -> Self:
        """Encode the blocks of every field into files in the folder.

        part:  "train" or "valid", with which the names of the files begin
        """
        for field, of_field in blocks.items():
            encode_to_file(of_field(), vocabularies[field], _path(folder, part, field))
        return cls.open(tuple(blocks), vocabularies, folder, part)

    @classmethod
    def open(
        cls, fields: Iterable[str], vocabularies: Vocabularies, folder: Path, part: str
    ) -> Self:
        """The files that `encode` wrote."""
        files = {f: TokenFile.open(_path(folder, part, f), vocabularies[f].size) for f in fields}
        return cls(files, vocabularies)

    def __len__(self) -> int:
        return len(self._first.bounds) - 1

    @property
    def tokens(self) -> int:
        """Tokens of the first field, each line end counted."""
        return len(self._first.ids)

    @property
    def _first(self) -> TokenFile:
        return next(iter(self.fields.values()))

    def sample(self, tokens: int) -> Self:
        """Random examples, always the same, with about this many tokens in their first field.

        The examples of a corpus may be sorted, such as by their labels.
        """
        order = np.random.default_rng(0).permutation(len(self))
        sizes = np.diff(self._first.bounds)[order]
        count = int(np.searchsorted(sizes.cumsum(), tokens, side="right"))
        which = np.sort(order[: max(count, 1)])
        return type(self)(
            {name: file.lines(which) for name, file in self.fields.items()}, self.vocabularies
        )

    def lengths(self, field: str) -> NDArray[np.int64]:
        """(examples,) the tokens of each, without its line end."""
        return np.diff(self.fields[field].bounds) - 1

    def padded(
        self, field: str, which: NDArray[np.int64], multiple: int = LENGTH_MULTIPLE
    ) -> NDArray[np.int64]:
        """(T, B) the tokens of these examples, filled up with `<START>`, which no text has.

        multiple:  T is a multiple of it
        """
        file = self.fields[field]
        starts, ends = file.bounds[which], file.bounds[which + 1]
        lengths = ends - starts - 1
        steps = -(-int(lengths.max(initial=1)) // multiple) * multiple
        offsets = np.arange(steps)[:, None]
        positions = np.minimum(starts + offsets, len(file.ids) - 1)
        return np.where(offsets < lengths, file.ids[positions].astype(np.int64), START)

    def single(self, field: str, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) the only token of each of these examples."""
        file = self.fields[field]
        return file.ids[file.bounds[which]].astype(np.int64)

    def flat(self, field: str) -> NDArray[np.integer]:
        """(n,) the tokens of all examples, one after the other, without line ends."""
        file = self.fields[field]
        return np.delete(file.ids, np.asarray(file.bounds[1:]) - 1)

    def digest(self) -> str:
        """A hash of the tokens of all fields."""
        return " ".join(file.digest() for file in self.fields.values())


def _path(folder: Path, part: str, field: str) -> Path:
    return folder / (part if field == TEXT else f"{part}-{field}")


def whole_lines(blocks: Iterable[str]) -> Iterator[str]:
    """The blocks, each with whole lines. A long line comes in several blocks: see `Corpus.blocks`.

    >>> list(whole_lines(["a\\nb\\n", "c", "d\\n"]))
    ['a\\nb\\n', 'cd\\n']
    """
    pieces: list[str] = []
    for block in blocks:
        pieces.append(block)
        if block.endswith("\n"):
            yield "".join(pieces)
            pieces = []
    if pieces:
        yield "".join(pieces)
