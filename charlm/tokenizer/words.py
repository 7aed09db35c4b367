"""Word level: one token for each word and punctuation mark. Usual spacing costs no token.

The decoder puts one space between two tokens of a line, except after an opening mark such as "("
and before a closing mark such as ",". Other spacing is written as tokens: JOIN for a missing
space, and the whitespace characters themselves for any other gap. A straight double quote is both
an opening and a closing mark.

    well-known (in 1,000 towns), it's    well-known ( in 1,000 towns ) , it's
    and/or... a  b,c                     and / or . . . a SPACE SPACE b , JOIN c

In scripts that put no spaces between words, the decoder puts none either: there a space is a token.
Words are those of Unicode, see `charlm.tokenizer.segmentation`. With split="elision" an elided word
such as the French "l'" or "qu'" is a word by itself before a vowel or h. With split="whitespace"
the text is split at whitespace, and the decoder puts one space between any two tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self

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
from charlm.tokenizer.segmentation import SINGLE, WHITE_SPACE, WORD, bare_word, compiled, words_of
from charlm.tokenizer.text import NORMAL_FORMS, SURROGATE, normalized, normalized_with_spans

if TYPE_CHECKING:
    import regex

    Pattern = re.Pattern[str] | regex.Pattern[str]

# How words are separated, and the name of this in model files. A file of an earlier version names
# "lossless", whose words are not those of Unicode.
SPLITS = {"lossless": "unicode", "elision": "unicode-elision", "whitespace": "whitespace"}
EARLIER_SPLIT = "lossless"
DEFAULT_SIZE = 20_000
MAX_COUNTED = 4_000_000
# The entry for a missing space is empty, so that no text contains it.
JOIN, SPACE = "", " "
GLUE = '"/—'
OPENS = GLUE + "([{“\u2018«¿¡$£€#@"
CLOSES = GLUE + ")]}”\u2019»,.;:!?…%'"
# Of scripts without spaces: the letters, and the punctuation that goes with them.
SPACELESS = rf"{SINGLE}\p{{Katakana}}\p{{Tibetan}}\u30fc\u3001-\u303f\uff01-\uff65"
VOWELS = "aeiouyhœæàáâäãèéêëìíîïòóôöõùúûüýÿ"  # before which French, Italian and Catalan elide
NOT_ELIDED = "aujourd|prud"


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
        self, vocabulary: Sequence[str], split: str = "unicode", normalize: str = "nfc"
    ) -> None:
        """
        vocabulary:  the entries from id 3 on. Unless words are separated by white space alone, it
                     begins with JOIN and SPACE
        split:       a value of `SPLITS`, or `EARLIER_SPLIT`
        """
        super().__init__(entry.encode() for entry in vocabulary)
        self._vocabulary = vocabulary
        self._split, self._rules = split, _rules(split)
        # As earlier versions did, and models of theirs have learnt it.
        self.escapes_joiners = split in (EARLIER_SPLIT, SPLITS["whitespace"])
        self._normalize = check_choice("normalize", normalize, NORMAL_FORMS)
        self._ids = _Ids({entry: id for id, entry in enumerate(vocabulary, len(SPECIALS))})
        self._ids["\n"] = EOS
        entries = [*SPECIAL_TEXTS, *vocabulary]
        gaps = [not entry or entry.isspace() for entry in entries]
        _, opens, closes = self._rules
        self._joins_next = [
            gap or bool(opens.search(entry)) for gap, entry in zip(gaps, entries, strict=True)
        ]
        self._joins_previous = [
            gap or bool(closes.match(entry)) for gap, entry in zip(gaps, entries, strict=True)
        ]

    @classmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions) -> Self:
        """Whitespace, then the most frequent words of the text, ties in alphabetical order."""
        split = SPLITS[check_choice("split", options.split, SPLITS)]
        size = DEFAULT_SIZE if options.vocab_size is None else options.vocab_size
        size = check_vocab_size(size)
        ranked = _ranked_entries(blocks(), split, options.normalize)
        gaps = [] if split == "whitespace" else [JOIN, SPACE]
        gaps += [entry for entry in ranked if entry.isspace() and entry not in " \n"]
        words = [entry for entry in ranked if entry and not entry.isspace()]
        return cls((gaps + words)[: size - len(SPECIALS)], split, options.normalize)

    def grown(self, blocks: Blocks, size: int | None = None) -> Self:
        new = _ranked_entries(blocks(), self._split, self._normalize)
        new = [entry for entry in new if entry.strip() and entry not in self._ids]
        new = new[: max((DEFAULT_SIZE if size is None else size) - self.size, 0)]
        if not new:
            return self
        return type(self)([*self._vocabulary, *new], self._split, self._normalize)

    def normalized(self, text: str) -> str:
        return normalized(text, self._normalize)

    def encode(self, text: str) -> Encoding:
        clean, raw_spans = normalized_with_spans(text, self._normalize)
        clean_spans = [match.span(1) for match in self._rules.pattern.finditer(clean)]
        ids = [self._ids[clean[begin:end]] for begin, end in clean_spans]
        begins, ends = np.array(clean_spans, np.int64).reshape(-1, 2).T
        spans = np.stack([raw_spans[begins, 0], raw_spans[ends - 1, 1]], axis=1)
        return Encoding(np.array(ids, np.int64), spans)

    def encode_ids(self, text: str) -> IntArray:
        entries = self._rules.pattern.findall(normalized(text, self._normalize))
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
        split = read_setting(settings, "split", (*SPLITS.values(), EARLIER_SPLIT))
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


class WordCounts(NamedTuple):
    """How often words occur in a text.

    separate:  words, and punctuation marks by themselves
    joined:    what stands between white space, without marks at its edges, if that is not one word
    """

    separate: Counter[str]
    joined: Counter[str]


def count_words(blocks: Iterable[str], tokenizer: Tokenizer) -> WordCounts:
    """Count the words of a text: those of the tokenizer if its tokens are words."""
    pieces: Counter[str] = Counter()
    separate: Counter[str] = Counter()
    for block in blocks:
        text = tokenizer.normalized(block)
        pieces.update(text.split())
        if isinstance(tokenizer, Words):
            separate.update(filter(str.strip, tokenizer._rules.pattern.findall(text)))
    if not isinstance(tokenizer, Words):
        for piece, count in pieces.items():
            for word in words_of(piece):
                separate[word] += count
    joined: Counter[str] = Counter()
    for piece, count in pieces.items():
        joined[bare_word(piece)] += count
    return WordCounts(separate, Counter({w: n for w, n in joined.items() if w not in separate}))


def _ranked_entries(blocks: Iterable[str], split: str, normalize: str) -> list[str]:
    """The entries of a text that can be tokens, the most frequent first, then by the alphabet."""
    counts = _count_entries(blocks, _rules(split).pattern, normalize)
    ranked = sorted(counts, key=lambda entry: (-counts[entry], entry))
    return [entry for entry in ranked if not SURROGATE.search(entry)]


def _count_entries(blocks: Iterable[str], pattern: Pattern, normalize: str) -> Counter[str]:
    """Counts of the entries in a text. The rarest are dropped when there are too many."""
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(pattern.findall(normalized(block, normalize)))
        if len(counts) > MAX_COUNTED:
            counts = Counter(dict(counts.most_common(MAX_COUNTED // 2)))
    return counts


class _Rules(NamedTuple):
    """How a text is split into words, and joined again.

    pattern:  matches one token. Group 1 is the entry, and empty for JOIN
    opens:    found in an entry that has no space after it
    closes:   matches an entry that has no space before it
    """

    pattern: Pattern
    opens: Pattern
    closes: Pattern


@cache
def _rules(split: str) -> _Rules:
    if split == "whitespace":
        nothing = re.compile(r"(?!)")
        return _Rules(re.compile(r"(\n|\S+)"), nothing, nothing)
    opens, closes = re.escape(OPENS), re.escape(CLOSES)
    if split == EARLIER_SPLIT:
        pattern = _pattern(_earlier_word(), opens, closes)
        return _Rules(re.compile(pattern), re.compile(rf"[{opens}]\Z"), re.compile(rf"[{closes}]"))
    opens, closes = opens + SPACELESS, closes + SPACELESS
    if split == "unicode":
        pattern = _pattern(WORD, opens, closes)
        return _Rules(compiled(pattern), compiled(rf"[{opens}]\Z"), compiled(rf"[{closes}]"))
    letter, apostrophe, vowel = r"[\p{L}\p{M}]", "['\u2019]", rf"(?=(?i:[{VOWELS}]))"
    elided = rf"(?!(?i:{NOT_ELIDED})){letter}++{apostrophe}{vowel}"
    not_elided = rf"(?<!{letter}{apostrophe}{vowel})"
    pattern = _pattern(rf"{elided}|{WORD}", opens, closes, not_elided)
    ends = rf"(?:[{opens}]|{letter}{apostrophe})\Z"
    return _Rules(compiled(pattern), compiled(ends), compiled(rf"[{closes}]"))


def _pattern(word: str, opens: str, closes: str, not_elided: str = "") -> str:
    """A pattern that matches one token. Group 1 is the entry, and empty for JOIN.

    opens, closes:  the characters after and before which no space is implied
    not_elided:     matches where JOIN may be
    """
    before, following = rf"[^{WHITE_SPACE}{opens}]", rf"(?=[^{WHITE_SPACE}{closes}])"
    implied_space = rf"(?: (?<={before} ){following}|)"
    return rf"{implied_space}((?<={before}){not_elided}{following}|{word}|[{WHITE_SPACE}])"


def _earlier_word() -> str:
    r"""A word, a number or a mark, as earlier versions had it.

    Python's \w does not include the marks that complete a letter in many scripts. The lookahead for
    a range is fast: it avoids the search in the long list of marks for most words.
    """
    points = (chr(point) for point in range(0x300, 0x1F000))
    marks = "\u200c\u200d" + "".join(c for c in points if unicodedata.category(c)[0] == "M")
    run = rf"\w++(?:(?=[\u0300-\U0010ffff])[{marks}]\w*+)*+"
    return rf"\d++(?:[.,]\d++)++|{run}(?:['\u2019-]{run})*+|[^\w\s]"
