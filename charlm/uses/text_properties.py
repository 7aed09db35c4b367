"""Properties of the characters of a text that a hidden unit may follow.

A property is computed from the text alone. It describes what a reader knows after the character,
but for the two that look ahead: the line's end and the word's end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
FARTHEST = 99  # characters that are counted
SOON = 10  # characters before a line's end
DEEPEST = 9
TAB = 8  # columns
OPENING, CLOSING = "([{（［｛【", ")]}）］｝】"
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # an apostrophe
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
SENTENCE_END = re.compile(r"""[.!?…]["'”“’»›)]*(?=\s)|[。！？]["”’」』）]*|\n\s*\n""")
TRIPLE = '"""'
QUOTE = re.compile(r"""'"+'|"{3}|(?<!\\)"|[“”„«»‹›「」『』]|\n\n""")
CLOSED_BY = {
    TRIPLE: TRIPLE, '"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "‹": "›", "›": "‹",
    "「": "」", "『": "』",
}  # fmt: skip
# A string in quotes is skipped, so that a "#" in it begins no comment.
COMMENT = re.compile(
    r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(/\*.*?\*/|(?<![:\S])//[^\n]*|(?<!\S)#[^\n]*)""",
    re.DOTALL,
)


class Property(NamedTuple):
    """A property of characters.

    about:    what it is, in words
    measure:  text -> (characters,) float32
    is_yes:   it is true, 1, or false, 0; otherwise a number
    of_line:  it is about the place in the line
    """

    name: str
    about: str
    measure: Callable[[str], Numbers]
    is_yes: bool = True
    of_line: bool = False


def position_in_line(text: str) -> Numbers:
    return _since(text, [k + 1 for k, char in enumerate(text) if char == "\n"])


def line_ends_soon(text: str) -> Numbers:
    reversed_text = text[::-1]
    ends = [k + 1 for k, char in enumerate(reversed_text) if char == "\n"]
    return (_since(reversed_text, ends)[::-1] < SOON).astype(np.float32)


def position_in_sentence(text: str) -> Numbers:
    return _since(text, [match.end() for match in SENTENCE_END.finditer(text)])


def position_in_word(text: str) -> Numbers:
    positions = np.zeros(len(text), np.float32)
    for match in WORD.finditer(text):
        count = np.arange(1, match.end() - match.start() + 1)
        positions[match.start() : match.end()] = np.minimum(count, FARTHEST)
    return positions


def word_begins(text: str) -> Numbers:
    return _marked(text, ((m.start(), m.start() + 1) for m in WORD.finditer(text)))


def word_ends(text: str) -> Numbers:
    return _marked(text, ((m.end() - 1, m.end()) for m in WORD.finditer(text)))


def in_capitalised_word(text: str) -> Numbers:
    return _words(text, lambda word: word[0].isupper())


def in_upper_case_word(text: str) -> Numbers:
    return _words(text, lambda word: len(word) > 1 and word.isupper())


def capital_letter(text: str) -> Numbers:
    return np.fromiter((char.isupper() for char in text), np.float32, len(text))


def in_number(text: str) -> Numbers:
    return _marked(text, (match.span() for match in NUMBER.finditer(text)))


def in_quotes(text: str) -> Numbers:
    """Within double quotes, the opening one included.

    A blank line ends a quotation, but not one in three double quotes. A double quote after a
    backslash or between single quotes is a character like others, and so are other kinds of quotes
    within a quotation.
    """
    values, done, opened = np.zeros(len(text), np.float32), 0, ""
    for match in QUOTE.finditer(text):
        values[done : match.start()] = bool(opened)
        done, mark = match.start(), match[0]
        if opened == TRIPLE or mark == TRIPLE:
            opened = "" if opened == mark else TRIPLE
        elif mark == "\n\n" or (opened and mark in CLOSED_BY[opened]):
            opened = ""
        elif not opened and mark in CLOSED_BY:
            opened = mark
    values[done:] = bool(opened)
    return values


def bracket_depth(text: str) -> Numbers:
    """How many brackets are open. A blank line closes all."""
    depth, values = 0, np.zeros(len(text), np.float32)
    for k, char in enumerate(text):
        if char in OPENING:
            depth += 1
        elif char in CLOSING:
            depth = max(depth - 1, 0)
        elif text[k : k + 2] == "\n\n":
            depth = 0
        values[k] = min(depth, DEEPEST)
    return values


def in_brackets(text: str) -> Numbers:
    return (bracket_depth(text) > 0).astype(np.float32)


def indentation(text: str) -> Numbers:
    """Columns of the white space before the line. A blank line keeps that of the line before."""
    values, start, columns = np.zeros(len(text), np.float32), 0, 0
    for line in text.split("\n"):
        bare = line.expandtabs(TAB)
        if bare.strip():
            columns = min(len(bare) - len(bare.lstrip()), FARTHEST)
        values[start : start + len(line) + 1] = columns
        start += len(line) + 1
    return values


def in_comment(text: str) -> Numbers:
    """Within a comment of program code: after # or //, or between /* and */."""
    return _marked(text, (match.span(1) for match in COMMENT.finditer(text) if match[1]))


PROPERTIES = (
    Property("position in the line", "characters since its start", position_in_line, False, True),
    Property("end of the line", f"it comes within {SOON} characters", line_ends_soon, True, True),
    Property("position in the sentence", "characters since its start", position_in_sentence, False),
    Property("position in the word", "letters since its start", position_in_word, False),
    Property("start of a word", "its first letter", word_begins),
    Property("end of a word", "its last letter", word_ends),
    Property("capital letter", "the character is one", capital_letter),
    Property("capitalised word", "the word began with a capital", in_capitalised_word),
    Property("upper-case word", "all its letters are capitals", in_upper_case_word),
    Property("number", "a digit, or a mark between digits", in_number),
    Property("in quotes", "a double quote is open", in_quotes),
    Property("in brackets", "a bracket is open", in_brackets),
    Property("depth of brackets", "how many are open", bracket_depth, False),
    Property("indentation", "white space before the line", indentation, False),
    Property("in a comment", "of program code: # or // or /* */", in_comment),
)


def _since(text: str, starts: list[int]) -> Numbers:
    """Characters since the last start, the character itself not counted."""
    positions = np.arange(len(text))
    first = np.zeros(len(text), np.int64)
    inside = [start for start in starts if start < len(text)]
    first[inside] = inside
    return np.minimum(positions - np.maximum.accumulate(first), FARTHEST).astype(np.float32)


def _marked(text: str, spans: Iterator[tuple[int, int]]) -> Numbers:
    """1 within the spans, 0 elsewhere."""
    values = np.zeros(len(text), np.float32)
    for start, end in spans:
        values[start:end] = 1.0
    return values


def _words(text: str, test: Callable[[str], bool]) -> Numbers:
    """1 within the words that pass a test."""
    return _marked(text, (match.span() for match in WORD.finditer(text) if test(match[0])))
