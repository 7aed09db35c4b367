r"""What a word is: the word boundaries of Unicode (UAX #29), by the `regex` library.

A word is a run of letters with their marks and joiners, a number with its separators, or one emoji.
Every other character is a word by itself. A hyphen between two words joins them, as UAX #29
allows (section 4.1.1). Scripts that put no spaces between words (Chinese, Japanese, Thai, …) have
no word boundaries without a dictionary: there each character with its marks is a word, and a
run of Katakana is one.

>>> words_of("Don't (in 3.5 U.S. towns)")
["Don't", '(', 'in', '3.5', 'U.S', '.', 'towns', ')']
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import regex

# Extends the character before it.
EXTENDS = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"
HYPHENS = r"\-\u058a\u2010\u2011"
# White space as Python has it, which is more than Unicode has.
WHITE_SPACE = r"\s\x1c-\x1f"
# Letters of scripts without spaces between words, whose words are single characters.
SINGLE = r"\p{Han}\p{Hiragana}\p{LB=SA}\p{Yi}"
# A word that begins here. `regex` finds its end with the boundaries of UAX #29 (flag w).
WORD = rf"[^{WHITE_SPACE}].*?\b(?:(?<=\w)[{HYPHENS}]\b\w.*?\b)*+"
OPENING = r"\p{Ps}\p{Pi}"


def compiled(pattern: str) -> regex.Pattern[str]:
    """The compiled pattern, in which `\\b` is a word boundary of Unicode."""
    import regex

    return regex.compile(pattern, regex.WORD | regex.VERSION1)


@cache
def separate_words() -> regex.Pattern[str]:
    """The words of a text. A punctuation mark is a word by itself, and so is a line end."""
    return compiled(rf"\n|{WORD}")


@cache
def joined_words() -> regex.Pattern[str]:
    """The words of a text with the marks that touch them: what stands between white space.

    In scripts without spaces a word is a character with the marks around it. A line end is a word.
    """
    single = rf"[{OPENING}]*+[{SINGLE}]{EXTENDS}*+[^\w{WHITE_SPACE}{OPENING}]*+"
    return compiled(rf"\n|{single}|[^{WHITE_SPACE}{SINGLE}]++")


def words_of(text: str) -> list[str]:
    """The words and punctuation marks of a text, without white space."""
    return [word for word in separate_words().findall(text) if word != "\n"]


def bare_word(word: str) -> str:
    """A word without the marks at its edges; all of it if it has nothing else."""
    inner = [k for k, char in enumerate(word) if unicodedata.category(char)[0] in "LMN"]
    return word[inner[0] : inner[-1] + 1] if inner else word


def word_spans(text: str, punctuation: bool) -> NDArray[np.int64]:
    """(n, 2) the characters [begin, end) of each word, line ends counted.

    punctuation:  marks are words by themselves, see `separate_words` and `joined_words`
    """
    pattern = separate_words() if punctuation else joined_words()
    spans = [match.span() for match in pattern.finditer(text)]
    return np.array(spans, np.int64).reshape(-1, 2)


def is_spaceless(text: str) -> bool:
    """Whether most letters of a text are of scripts without spaces between words."""
    letters = compiled(r"\p{L}").findall(text)
    single = compiled(rf"[{SINGLE}\p{{Katakana}}]").findall("".join(letters))
    return 2 * len(single) > len(letters)
