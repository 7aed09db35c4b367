"""Labels: a vocabulary of whole lines, such as the classes of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError
from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIALS,
    UNK,
    Arrays,
    Blocks,
    IntArray,
    Settings,
    Vocabulary,
    narrowest_dtype,
    pack_vocabulary,
    unpack_vocabulary,
)

MOST_LABELS = 10_000  # more different ones are no labels, but text


class Labels(Vocabulary):
    """A closed set of labels, in the order of the alphabet. A line holds one label.

    A label that is not in the set is encoded as UNK.

    >>> labels = Labels.train(lambda: ["good\\nbad\\ngood\\n"])
    >>> labels.names, labels.encode_ids("good\\nugly\\n").tolist()
    (['bad', 'good'], [4, 1, 2, 1])
    """

    level = "label"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._ids = {name: id for id, name in enumerate(self.names, len(SPECIALS))}

    @classmethod
    def train(cls, blocks: Blocks) -> Self:
        """The labels that occur, each at least once, in blocks of whole lines.

        Raises InputError for a single label, which cannot be learnt, and for over `MOST_LABELS`.
        """
        names: set[str] = set()
        for block in blocks():
            names.update(block.removesuffix("\n").split("\n"))
            if len(names) > MOST_LABELS:
                raise InputError(
                    f"over {MOST_LABELS:,} different labels: does each line end with a label?"
                )
        if len(names) < 2:
            raise InputError(
                f"all examples have the label {next(iter(names), '')!r}: there is nothing to learn"
            )
        return cls(sorted(names))

    @property
    def size(self) -> int:
        return len(SPECIALS) + len(self.names)

    def encode_ids(self, text: str) -> IntArray:
        lines = text.removesuffix("\n").split("\n") if text else []
        ids = np.full((len(lines), 2), EOS, narrowest_dtype(self.size))
        ids[:, 0] = [self._ids.get(line, UNK) for line in lines]
        return ids.ravel()

    def token(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else self.names[id - len(SPECIALS)]

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        arrays = {"vocabulary": pack_vocabulary(self.names)}
        return {"level": self.level, "size": self.size}, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        return cls(unpack_vocabulary(settings, arrays))
