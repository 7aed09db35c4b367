"""What stands before a token beside the last tokens themselves: words, gaps, the column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Ids
from charlm.tokenizer import EOS

Registers = NDArray[np.uint64]
Keys = NDArray[np.uint32]

# What is remembered of a text, a register each: the last four tokens, the last one first; the
# letters of the word so far; the word before and the one before that; the tokens of the line.
LAST, WORD, WORD_BEFORE, SKIPPED_WORD, COLUMN = 0, 4, 5, 6, 7
REGISTERS = 8
LONGEST_LINE = 255  # tokens of a line that are counted
# The contexts, and the registers that each consists of. Between words the last token counts, too.
CONTEXTS = {
    "word": (LAST, WORD),
    "tokens 2 to 4": (LAST + 1, LAST + 2, LAST + 3),
    "tokens 2 and 3": (LAST + 1, LAST + 2),
    "column": (LAST, COLUMN),
    "two words": (LAST, WORD, WORD_BEFORE),
    "skipped word": (LAST, WORD, SKIPPED_WORD),
}
# Hashing by multiplication with odd numbers, modulo 2⁶⁴ (Dietzfelbinger et al. 1997).
GOLDEN, MIXER, WORDS = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
BITS = (1 << 64) - 1


def _multipliers() -> Registers:
    """(REGISTERS, contexts): what the registers are multiplied with; 0 for the others."""
    result = np.zeros((REGISTERS, len(CONTEXTS)), np.uint64)
    for column, registers in enumerate(CONTEXTS.values()):
        for register in registers:
            result[register, column] = pow(GOLDEN, register + 1, 1 << 64)
    return result


MULTIPLIERS = _multipliers()
_FACTORS = [
    [(register, int(MULTIPLIERS[register, column])) for register in registers]
    for column, registers in enumerate(CONTEXTS.values())
]


def start(batch: int) -> Registers:
    """The registers before anything is read, (B, REGISTERS)."""
    return np.zeros((batch, REGISTERS), np.uint64)


def after(registers: Registers, ids: Ids, letters: NDArray[np.bool_]) -> Registers:
    """The registers after one more token of each text.

    registers:  (B, REGISTERS)
    ids:        (B,), a line end as `<EOS>`
    letters:    (V,), which tokens are letters of words
    """
    tokens, is_letter = ids.astype(np.uint64) + np.uint64(1), letters[ids]
    result = np.empty_like(registers)
    result[:, LAST] = tokens
    result[:, LAST + 1 : WORD] = registers[:, LAST : WORD - 1]
    word = registers[:, WORD]
    ended = ~is_letter & (word != 0)
    result[:, WORD] = (word + tokens) * np.uint64(WORDS) * is_letter
    result[:, WORD_BEFORE] = np.where(ended, word, registers[:, WORD_BEFORE])
    result[:, SKIPPED_WORD] = np.where(ended, registers[:, WORD_BEFORE], registers[:, SKIPPED_WORD])
    result[:, COLUMN] = np.minimum(registers[:, COLUMN] + np.uint64(1), np.uint64(LONGEST_LINE))
    result[:, COLUMN] *= ids != EOS
    return result


def after_one(registers: list[int], id: int, is_letter: bool) -> list[int]:
    """`after`, for one text: integers are faster than arrays of one row."""
    a, b, c, _, word, before, skipped, column = registers
    if not is_letter and word:
        before, skipped = word, before
    word = (word + id + 1) * WORDS & BITS if is_letter else 0
    column = 0 if id == EOS else min(column + 1, LONGEST_LINE)
    return [id + 1, a, b, c, word, before, skipped, column]


def keys(registers: Registers) -> Keys:
    """A number for each context, (…, REGISTERS) -> (…, contexts)."""
    hashes = registers @ MULTIPLIERS
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(MIXER)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def keys_of_one(registers: list[int]) -> list[int]:
    """`keys`, for one text."""
    hashes = [sum([registers[r] * factor for r, factor in row]) & BITS for row in _FACTORS]
    return [((h ^ h >> 29) * MIXER & BITS) >> 32 for h in hashes]


def of_text(ids: Ids, letters: NDArray[np.bool_], streams: int, independent_lines: bool) -> Keys:
    """The contexts of each token of a text, (N,) -> (N, contexts).

    streams:            the text is read in so many parts side by side, each of them from its start
    independent_lines:  each line is read from its start
    """
    length = -(-len(ids) // streams)
    padded = np.resize(np.append(EOS, ids[:-1]), streams * length).reshape(streams, length)
    result = np.empty((streams, length, len(CONTEXTS)), np.uint32)
    registers = start(streams)
    for t, column in enumerate(padded.T):
        if independent_lines:
            registers *= (column != EOS)[:, None]
        registers = after(registers, column, letters)
        result[:, t] = keys(registers)
    return result.reshape(-1, len(CONTEXTS))[: len(ids)]
