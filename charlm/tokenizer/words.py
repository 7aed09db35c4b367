"""Word level: one token for each word and punctuation mark. Usual spacing costs no token.

The decoder puts one space between two tokens of a line, except after an opening mark such as "("
and before a closing mark such as ",". Other spacing is written as tokens: JOIN for a missing
space, and the whitespace characters themselves for any other gap. A straight double quote is both
an opening and a closing mark.

    well-known (in 1,000 towns), it's    well-known ( in 1,000 towns ) , it's
    and/or... a  b,c                     and / or . . . a SPACE SPACE b , JOIN c

With split="whitespace" the text is split at whitespace, and the decoder puts one space between
any two tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIAL_TEXTS,
    SPECIALS,
    START,
    UNK,
    Arrays,
    Blocks,
    Encoding,
    IntArray,
    Settings,
    Tokenizer,
    VocabularyOptions,
    check_choice,
    check_vocab_size,
    narrowest_dtype,
    pack_vocabulary,
    read_setting,
    unpack_vocabulary,
)
from charlm.tokenizer.text import NORMAL_FORMS, SURROGATE, normalized, normalized_with_spans

SPLITS = ("lossless", "whitespace")
DEFAULT_SIZE = 20_000
MAX_COUNTED = 4_000_000
# The entry for a missing space is empty, so that no text contains it.
JOIN, SPACE = "", " "
GLUE = '"/—'
OPENS = GLUE + "([{“\u2018«¿¡$£€#@"
CLOSES = GLUE + ")]}”\u2019»,.;:!?…%'"


class _Ids(dict[str, int]):
    """Entry to id, UNK for a word that is not an entry."""

    def __missing__(self, entry: str) -> int:
        return UNK


class Words(Tokenizer):
    """Words, NFC unless `normalize` is "none". A word outside the vocabulary is UNK."""

    level = "word"
    options = ("vocab_size", "split", "normalize")
    large_vocabulary = True
    tokens_are_words = True

    def __init__(
        self, vocabulary: Sequence[str], split: str = "lossless", normalize: str = "nfc"
    ) -> None:
        """vocabulary: the entries from id 3 on. A lossless split begins with JOIN and SPACE."""
        super().__init__(entry.encode() for entry in vocabulary)
        self._vocabulary = vocabulary
        self._split = check_choice("split", split, SPLITS)
        self._normalize = check_choice("normalize", normalize, NORMAL_FORMS)
        self._pattern = _pattern(split)
        self._ids = _Ids({entry: id for id, entry in enumerate(vocabulary, len(SPECIALS))})
        self._ids["\n"] = EOS
        opens, closes = (OPENS, CLOSES) if split == "lossless" else ("", "")
        entries = [*SPECIAL_TEXTS, *vocabulary]
        gaps = [not entry or entry.isspace() for entry in entries]
        self._joins_next = [
            gap or entry[-1] in opens for gap, entry in zip(gaps, entries, strict=True)
        ]
        self._joins_previous = [
            gap or entry[0] in closes for gap, entry in zip(gaps, entries, strict=True)
        ]

    @classmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions) -> Self:
        """Whitespace, then the most frequent words of the text, ties in alphabetical order."""
        split, size = options.split, options.vocab_size
        size = check_vocab_size(DEFAULT_SIZE if size is None else size)
        pattern = _pattern(check_choice("split", split, SPLITS))
        counts = _count_words(blocks, pattern, options.normalize)
        ranked = sorted(counts, key=lambda entry: (-counts[entry], entry))
        ranked = [entry for entry in ranked if not SURROGATE.search(entry)]
        gaps = [JOIN, SPACE] if split == "lossless" else []
        gaps += [entry for entry in ranked if entry.isspace() and entry not in " \n"]
        words = [entry for entry in ranked if entry and not entry.isspace()]
        return cls((gaps + words)[: size - len(SPECIALS)], split, options.normalize)

    def encode(self, text: str) -> Encoding:
        clean, raw_spans = normalized_with_spans(text, self._normalize)
        clean_spans = [match.span(1) for match in self._pattern.finditer(clean)]
        ids = [self._ids[clean[begin:end]] for begin, end in clean_spans]
        begins, ends = np.array(clean_spans, np.int64).reshape(-1, 2).T
        spans = np.stack([raw_spans[begins, 0], raw_spans[ends - 1, 1]], axis=1)
        return Encoding(np.array(ids, np.int64), spans)

    def encode_ids(self, text: str) -> IntArray:
        entries = self._pattern.findall(normalized(text, self._normalize))
        ids = map(self._ids.__getitem__, entries)
        return np.fromiter(ids, narrowest_dtype(self.size), len(entries))

    def appended(self, id: int, previous: int) -> bytes:
        return self._gap(id, previous) + self._pieces[id]

    @property
    def spacings(self) -> IntArray:
        return np.array(self._joins_next, np.int64)

    def token(self, id: int) -> str:
        return super().token(id) or "<JOIN>"

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        settings: dict[str, JSON] = {
            "level": self.level,
            "size": self.size,
            "split": self._split,
            "normalize": self._normalize,
        }
        return settings, {"vocabulary": pack_vocabulary(self._vocabulary)}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        vocabulary = unpack_vocabulary(settings, arrays)
        split = read_setting(settings, "split", SPLITS)
        return cls(vocabulary, split, read_setting(settings, "normalize", NORMAL_FORMS))

    def _gap(self, id: int, previous: int) -> bytes:
        """The implied space between two tokens, or nothing."""
        return b"" if self._joins_next[previous] or self._joins_previous[id] else b" "

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """Require the space at the end of `text`, or its last word if an entry begins with it."""
        ids, spans = encoding
        previous, last = [START, START, *ids.tolist()][-2:]
        if last in (START, EOS):
            return len(ids), b""
        begin, end = spans[-1]
        if end < len(text):
            return len(ids), b" "
        word = normalized(text[begin:end], self._normalize).encode("utf-8", "replace")
        required = self._gap(last, previous) + word
        if self.continuations(required, previous).any():
            return len(ids) - 1, required
        return len(ids), b""


def count_words(blocks: Iterable[str], tokenizer: Tokenizer) -> Counter[str]:
    """How often each word and each mark of a text occurs.

    The text is split as the tokenizer splits it, if its tokens are words; otherwise as this level
    does by default.
    """
    pattern, normalize = _pattern("lossless"), "nfc"
    if isinstance(tokenizer, Words):
        pattern, normalize = tokenizer._pattern, tokenizer._normalize
    counts = _count_words(lambda: blocks, pattern, normalize)
    return Counter({word: n for word, n in counts.items() if word and not word.isspace()})


def _count_words(blocks: Blocks, pattern: re.Pattern[str], normalize: str) -> Counter[str]:
    """Counts of the entries in a text. The rarest are dropped when there are too many."""
    counts: Counter[str] = Counter()
    for block in blocks():
        counts.update(pattern.findall(normalized(block, normalize)))
        if len(counts) > MAX_COUNTED:
            counts = Counter(dict(counts.most_common(MAX_COUNTED // 2)))
    return counts


@cache
def _pattern(split: str) -> re.Pattern[str]:
    """A pattern that matches one token. Group 1 is the entry, and empty for JOIN."""
    if split == "whitespace":
        return re.compile(r"(\n|\S+)")
    before = rf"[^\s{re.escape(OPENS)}]"
    following = rf"(?=[^\s{re.escape(CLOSES)}])"
    implied_space = rf"(?: (?<={before} ){following}|)"
    join = rf"(?<={before}){following}"
    # Python's \w does not include the marks that complete a letter in many scripts. The lookahead
    # for a range is fast: it avoids the search in the long list of marks for most words.
    run = rf"\w++(?:(?=[\u0300-\U0010ffff])[{_marks()}]\w*+)*+"
    word = rf"{run}(?:['\u2019-]{run})*+"
    number = r"\d++(?:[.,]\d++)++"
    return re.compile(rf"{implied_space}({join}|{number}|{word}|[^\w\s]|\s)")


def _marks() -> str:
    """The combining marks of Unicode, and the joiners that occur inside words."""
    marks = (chr(point) for point in range(0x300, 0x1F000))
    return "\u200c\u200d" + "".join(char for char in marks if unicodedata.category(char)[0] == "M")


@cache
def _splitter() -> re.Pattern[str]:
    return _pattern("lossless")


def split_words(text: str) -> list[str]:
    """The words and punctuation marks of a text, as a lossless split has them, without spaces.

    >>> split_words("Don't (in 1,000 towns).")
    ["Don't", '(', 'in', '1,000', 'towns', ')', '.']
    """
    matches = (match[1] for match in _splitter().finditer(text))
    return [entry for entry in matches if entry.strip()]
