"""Symbols: a vocabulary of lines that are cut already, such as labels, tags and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

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
    damaged_state,
    narrowest_dtype,
    pack_vocabulary,
    unpack_vocabulary,
)
from charlm.tokenizer.text import normalized

SEPARATOR = "\t"
MOST_COUNTED = 4_000_000


class Symbols(Vocabulary):
    """A set of symbols, in the order of the alphabet. A TAB separates the symbols of a line.

    A symbol that is not in the set is encoded as UNK. Symbols are in the normal form NFC; those of
    a model of an earlier version may be in another one, and are found as they are.

    folded:  upper and lower case are the same

    >>> symbols = Symbols.train(lambda: ["good\\nbad\\tgood\\n"])
    >>> symbols.names, symbols.encode_ids("good\\tbad\\nugly\\n").tolist()
    (['bad', 'good'], [4, 3, 1, 2, 1])
    """

    level = "label"

    def __init__(self, names: Sequence[str], folded: bool = False) -> None:
        self.names, self.folded = list(names), folded
        self._ids = {name: id for id, name in enumerate(self.names, len(SPECIALS))}
        self._ids["\n"] = EOS

    @classmethod
    def train(cls, blocks: Blocks, most: int | None = None, folded: bool = False) -> Self:
        """The symbols that occur in blocks of whole lines.

        most:  only so many, the most frequent ones
        """
        counts: Counter[str] = Counter()
        for block in blocks():
            block = normalized(block, "nfc")
            counts.update(_symbols(block.lower() if folded else block))
            if len(counts) > MOST_COUNTED:
                counts = Counter(dict(counts.most_common(MOST_COUNTED // 2)))
        del counts["\n"]
        ordered = sorted(counts, key=lambda name: (-counts[name], name))
        return cls(sorted(ordered[:most]), folded)

    @property
    def size(self) -> int:
        return len(SPECIALS) + len(self.names)

    def encode_ids(self, text: str) -> IntArray:
        symbols = _symbols(text.lower() if self.folded else text)
        ids = [self._ids.get(symbol, UNK) for symbol in symbols]
        if UNK in ids and not text.isascii():
            pairs = zip(ids, symbols, strict=True)
            ids = [self._ids.get(normalized(s, "nfc"), UNK) if id == UNK else id for id, s in pairs]
        return np.array(ids, narrowest_dtype(self.size))

    def token(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else self.names[id - len(SPECIALS)]

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        arrays = {"vocabulary": pack_vocabulary(self.names)}
        return {"level": self.level, "size": self.size, "folded": self.folded}, arrays

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        folded = settings.get("folded", False)
        if not isinstance(folded, bool):
            raise damaged_state()
        return cls(unpack_vocabulary(settings, arrays), folded)


def _symbols(text: str) -> list[str]:
    """The symbols of whole lines, and "\\n" after each line."""
    pieces = text.replace("\n", f"{SEPARATOR}\n{SEPARATOR}").split(SEPARATOR)
    return [piece for piece in pieces if piece]
