"""The contract of every vocabulary, and of every tokenizer: text to ids, and ids to text.

Text is a stream of lines. A newline ends a line, and only a newline is encoded as EOS. No text is
encoded as START: the characters "<START>" or "<EOS>" in a text are ordinary text.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError, OptionError

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
Settings: TypeAlias = Mapping[str, JSON]
Arrays: TypeAlias = Mapping[str, NDArray[np.uint8]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
# Each call is one pass over the text, in blocks of whole lines with their newlines.
Blocks: TypeAlias = Callable[[], Iterable[str]]

START, EOS, UNK = 0, 1, 2
SPECIALS = ("<START>", "<EOS>", "<UNK>")
SPECIAL_TEXTS = ("", "\n", "\ufffd")
SMALLEST_VOCABULARY = 6
MASKS_KEPT = 32
JOINERS = "\u200c\u200d"  # zero-width, in words of many scripts and in emoji


@dataclass(frozen=True)
class VocabularyOptions:
    """Options for training a vocabulary. Each level knows some of them, see `Tokenizer.options`.

    vocab_size:  maximum number of ids, the specials included. None for the default of the level:
                 all characters, 20,000 words, or up to 4,000 subwords
    split:       how the word level splits a text: "lossless" or "whitespace"
    normalize:   Unicode normal form at character and word level: "nfc" or "none"
    """

    vocab_size: int | None = None
    split: str = "lossless"
    normalize: str = "nfc"


class Encoding(NamedTuple):
    """The tokens of a text.

    ids:    (n,) int64
    spans:  (n, 2) int64, the characters [begin, end) of the raw text behind each token
    """

    ids: NDArray[np.int64]
    spans: NDArray[np.int64]


class Primed(NamedTuple):
    """A prime that is ready to be continued, see `Tokenizer.prime`.

    ids:      (n,) int64, the tokens to feed before the first draw
    decoder:  turns the ids drawn after them into the text that follows the prime
    """

    ids: NDArray[np.int64]
    decoder: Decoder


class Vocabulary(ABC):
    """The ids of a field of examples. Ids 0, 1 and 2 are START, EOS and UNK.

    Token files and model files need no more than this. `Tokenizer` is a vocabulary of text;
    `charlm.tokenizer.symbols.Symbols` is one of lines that are cut already.

    level:  name of the kind of vocabulary, such as "char"
    """

    level: ClassVar[str]

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids, the three specials included."""

    @abstractmethod
    def encode_ids(self, text: str) -> IntArray:
        """The ids of whole lines, (n,) in the narrowest type that holds `size`."""

    @abstractmethod
    def token(self, id: int) -> str:
        """One id for display."""

    @abstractmethod
    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        """The input of `from_state`: small settings, and the vocabulary as bytes."""

    @classmethod
    @abstractmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        """Restore a vocabulary from its `state`. Raises InputError for a damaged state."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its state, which is smaller than its tables."""
        return type(self).from_state, self.state()


class Tokenizer(Vocabulary):
    """Converts text to ids and back.

    Each level is a subclass. Class attributes hold the differences that other code needs:

    options:            the fields of `VocabularyOptions` that it knows
    reads_bytes:        a text is read as raw bytes, whatever its encoding
    has_unknown:        some text is encoded as UNK, so training has to teach UNK
    large_vocabulary:   the vocabulary has thousands of tokens
    tokens_are_words:   a token is a whole word or a punctuation mark
    space_starts_word:  a token that begins a word includes the space before the word
    escapes_joiners:    `Letters` spell a word with zero-width joiners in bytes
    """

    options: ClassVar[tuple[str, ...]] = ()
    reads_bytes: ClassVar[bool] = False
    has_unknown: ClassVar[bool] = True
    large_vocabulary: ClassVar[bool] = False
    tokens_are_words: ClassVar[bool] = False
    space_starts_word: ClassVar[bool] = False
    escapes_joiners: bool = False

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """pieces: UTF-8 text of each token, from id 3 on."""
        self._pieces = [*(text.encode() for text in SPECIAL_TEXTS), *pieces]
        # Samples of the same prime ask for the same masks.
        self._masks: dict[tuple[bytes, int], BoolArray] = {}

    @classmethod
    @abstractmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions) -> Self:
        """Learn the vocabulary of a text.

        Raises OptionError for an invalid option, InputError for a text without content.
        """

    def grown(self, blocks: Blocks, size: int | None = None) -> Self:
        """The vocabulary, and after it what a text has that it does not, if the level can grow.

        size:  the largest number of ids; None for the limit of `train`
        """
        return self

    @property
    def size(self) -> int:
        """Number of ids, the three specials included."""
        return len(self._pieces)

    def letters(self) -> BoolArray:
        """Which tokens are letters, or a byte of one that UTF-8 writes with several, (V,)."""
        texts = [piece.decode(errors="ignore") for piece in self._pieces]
        letters = np.array([not text or text.isalpha() for text in texts])
        letters[: len(SPECIALS)] = False
        return letters

    @abstractmethod
    def encode(self, text: str) -> Encoding:
        """The ids of `text`, and the span of raw text behind each id."""

    @abstractmethod
    def encode_ids(self, text: str) -> IntArray:
        """The ids of `encode` without spans, fast: (n,) in the narrowest type that holds `size`."""

    def normalized(self, text: str) -> str:
        """The text in the normal form that the model reads and writes."""
        return text

    def appended(self, id: int, previous: int) -> bytes:
        """The UTF-8 text that token `id` adds to a text whose last token is `previous`."""
        return self._pieces[id]

    @property
    def spacings(self) -> IntArray:
        """(size,) classes of tokens, from 0 on, such that `appended` needs only the class of the
        previous token, within a line."""
        return np.zeros(self.size, np.int64)

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of `ids`. Bytes that are not UTF-8 become U+FFFD."""
        tokens = np.asarray(ids, np.int64).tolist()
        pieces = map(self.appended, tokens, [START, *tokens])
        return b"".join(pieces).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A `Decoder`, which decodes one id at a time."""
        return Decoder(self)

    def token(self, id: int) -> str:
        """One token for display: a space as "▁", an unprintable token as "<0x0D>"."""
        if id < len(SPECIALS):
            return SPECIALS[id]
        return printable(self._pieces[id], JOINERS)

    def prime(self, text: str) -> Primed:
        """Prepare to continue `text`, which may end in the middle of a token.

        The word and subword levels remove the last token, and the decoder allows only tokens that
        spell it again, so that "the app" can become "the apple". `Decoder.mask` gives the allowed
        tokens, and `Decoder.push` returns only the text after the prime:

            ids, decoder = words.prime("the app")     # ids of "the"
            decoder.mask()                            # true at "app", "apple", "application"
            decoder.push(apple)                       # "le"
            decoder.mask()                            # None: every token is allowed
        """
        encoding = self.encode(text)
        count, required = self._back_up(text, encoding)
        ids = encoding.ids[:count]
        return Primed(ids, Decoder(self, int(ids[-1]) if count else START, required))

    def continuations(self, required: bytes, previous: int) -> BoolArray:
        """Mask (size,) of the tokens that may follow `previous` to spell `required`."""
        if (mask := self._masks.get((required, previous))) is not None:
            return mask
        allowed = (self._spells(self.appended(id, previous), required) for id in range(self.size))
        mask = np.fromiter(allowed, np.bool_, self.size)
        mask[: len(SPECIALS)] = False
        mask.flags.writeable = False
        if len(self._masks) == MASKS_KEPT:
            del self._masks[next(iter(self._masks))]
        self._masks[required, previous] = mask
        return mask

    def _spells(self, piece: bytes, required: bytes) -> bool:
        """Whether a token with text `piece` spells `required`. By default it must spell all."""
        return piece.startswith(required)

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """Number of tokens of a prime to keep, and the UTF-8 text that must follow them."""
        return len(encoding.ids), b""


class Decoder:
    """Decodes a stream of ids. All pushes and the final flush together equal `decode`.

    required:  UTF-8 text that the stream must spell first, see `Tokenizer.prime`. It is not part
               of the output. Until it is spelled, only tokens of `mask` may be pushed.
    """

    def __init__(self, tokenizer: Tokenizer, previous: int = START, required: bytes = b"") -> None:
        self._tokenizer = tokenizer
        self._previous = previous
        self._required = required
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that `id` completes. An incomplete character waits for the next push."""
        piece = self._tokenizer.appended(id, self._previous)
        self._previous = id
        new = piece[len(self._required) :]
        self._required = self._required[len(piece) :]
        return self._utf8.decode(new)

    def copy(self) -> Decoder:
        """An independent decoder in the same state."""
        other = Decoder(self._tokenizer, self._previous, self._required)
        other._utf8.setstate(self._utf8.getstate())
        return other

    @property
    def is_whole(self) -> bool:
        """Whether nothing is pending: no incomplete character, no required text."""
        return not self._required and not self._utf8.getstate()[0]

    def flush(self) -> str:
        """The pending text at the end of the stream: U+FFFD for an incomplete character."""
        return self._utf8.decode(b"", final=True)

    def mask(self) -> BoolArray | None:
        """(size,) read-only, true for each token that may be pushed. None if all may."""
        if not self._required:
            return None
        return self._tokenizer.continuations(self._required, self._previous)


def printable(piece: bytes, joiners: str = "") -> str:
    """A piece of text for display: a space as "▁", an unprintable piece as its bytes.

    joiners:  characters that are printable after others
    """
    text = piece.decode("utf-8", "surrogateescape")
    seen = text[:1] + text[1:].translate(dict.fromkeys(map(ord, joiners)))
    if seen.isprintable():
        return text.replace(" ", "▁")
    return "".join(f"<0x{byte:02X}>" for byte in piece)


def as_inputs(ids: IntArray) -> NDArray[np.int64]:
    """Target ids as network inputs: EOS, the end of a line, becomes START of the next line."""
    return np.where(ids == EOS, START, ids).astype(np.int64)


def narrowest_dtype(size: int) -> np.dtype[np.integer[Any]]:
    """The smallest integer type that holds the ids of a vocabulary of `size`."""
    types = (np.uint8, np.uint16, np.int32)
    return np.dtype(next(type for type in types if size - 1 <= np.iinfo(type).max))


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return `value`. Raises OptionError unless it is one of `choices`."""
    if value not in choices:
        *first, last = choices
        raise OptionError(f"`{name}={value}`: choose {', '.join(first)} or {last}")
    return value


def check_vocab_size(vocab_size: int, smallest: int = SMALLEST_VOCABULARY) -> int:
    """Return `vocab_size`. Raises OptionError if it is less than `smallest`."""
    if vocab_size < smallest:
        raise OptionError(f"`vocab_size={vocab_size}`: must be {smallest} or more")
    return vocab_size


def pack_vocabulary(entries: Iterable[str]) -> NDArray[np.uint8]:
    """Store entries as UTF-8, each followed by a newline: (bytes,). Entries have no newlines."""
    text = "".join(entry + "\n" for entry in entries)
    return np.frombuffer(text.encode(), np.uint8)


def unpack_vocabulary(
    settings: Settings, arrays: Arrays, first_id: int = len(SPECIALS)
) -> list[str]:
    """The entries in `arrays["vocabulary"]`, whose ids start at `first_id`.

    Raises InputError for damaged data: not UTF-8, duplicates, or not as many as `size` says.
    """
    try:
        *entries, rest = arrays["vocabulary"].tobytes().decode().split("\n")
    except (KeyError, AttributeError, UnicodeDecodeError) as error:
        raise damaged_state() from error
    has_duplicates = len(set(entries)) != len(entries)
    if rest or has_duplicates or first_id + len(entries) != settings.get("size"):
        raise damaged_state()
    return entries


def read_setting(settings: Settings, name: str, choices: Collection[str]) -> str:
    """The setting `name`. Raises InputError unless it is one of `choices`."""
    value = settings.get(name)
    if not isinstance(value, str) or value not in choices:
        raise damaged_state()
    return value


def damaged_state() -> InputError:
    """The error for a damaged tokenizer state."""
    return InputError(
        "the model's vocabulary is damaged, or charlm did not write it; train the model again"
    )
