"""The contract of every tokenizer: ids and spans out of text, text out of ids.

Text is a stream of lines. A newline is the line end and the only thing that gives EOS; nothing
in a text can give START, and text that happens to contain "<EOS>" is ordinary text.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError, OptionError

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"
Settings: TypeAlias = Mapping[str, JSON]
Arrays: TypeAlias = Mapping[str, NDArray[np.uint8]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
# Called once for each pass over a text; gives blocks of whole lines, each line with its newline.
Blocks: TypeAlias = Callable[[], Iterable[str]]

START, EOS, UNK = 0, 1, 2
SPECIALS = ("<START>", "<EOS>", "<UNK>")
SPECIAL_TEXTS = ("", "\n", "\ufffd")


class Encoding(NamedTuple):
    """A text as tokens.

    ids:    (n,) int64
    spans:  (n, 2) int64, the characters [begin, end) of the raw text behind each token
    """

    ids: NDArray[np.int64]
    spans: NDArray[np.int64]


class Primed(NamedTuple):
    """The start of a text that is to be continued, see `Tokenizer.prime`.

    ids:      (n,) int64, the tokens to feed before the first draw
    decoder:  takes the ids drawn after them and gives the text that follows the prime
    """

    ids: NDArray[np.int64]
    decoder: Decoder


class Tokenizer(ABC):
    """Text to ids and back. Ids 0, 1, 2 are START, EOS, UNK; the vocabulary starts at 3."""

    level: ClassVar[str]

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """pieces: the UTF-8 text of each token from id 3 on."""
        self._pieces = [*(text.encode() for text in SPECIAL_TEXTS), *pieces]
        # Samples of the same prime ask for the same masks.
        self.continuations = lru_cache(maxsize=32)(self._continuations)

    @property
    def size(self) -> int:
        """Number of ids, the three specials included."""
        return len(self._pieces)

    @abstractmethod
    def encode(self, text: str) -> Encoding:
        """The ids of `text` and the raw text behind each."""

    @abstractmethod
    def encode_ids(self, text: str) -> IntArray:
        """The same ids as `encode`, fast: (n,) in the narrowest type that holds `size`."""

    @abstractmethod
    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        """All that `from_state` needs: small settings and the vocabulary as bytes."""

    @classmethod
    @abstractmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        """The tokenizer whose `state` this is; InputError when it is not a whole one."""

    def appended(self, id: int, after: int) -> bytes:
        """The UTF-8 text that token `id` adds to a text whose last token is `after`."""
        return self._pieces[id]

    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of `ids`; what is not UTF-8 reads as U+FFFD."""
        drawn = np.asarray(ids, np.int64).tolist()
        pieces = map(self.appended, drawn, [START, *drawn])
        return b"".join(pieces).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A `decode` that takes one id at a time."""
        return Decoder(self)

    def token(self, id: int) -> str:
        """One token for a table: a space as "▁", what cannot be printed as "<0x0D>"."""
        if id < len(SPECIALS):
            return SPECIALS[id]
        text = self._pieces[id].decode("utf-8", "surrogateescape")
        if text.isprintable():
            return text.replace(" ", "▁")
        return "".join(f"<0x{byte:02X}>" for byte in self._pieces[id])

    def prime(self, text: str) -> Primed:
        """Prepare to continue `text`, which may end in the middle of a token.

        At word and subword level the last token is backed up, and the decoder holds the first
        draws to its spelling, so that "the app" can become "the apple". Its mask says which
        tokens may be drawn, and its text begins where the prime ends:

            ids, decoder = words.prime("the app")     # ids of "the"
            decoder.mask()                            # true at "app", "apple", "application"
            decoder.push(apple)                       # "le"
            decoder.mask()                            # None: from here on anything may follow
        """
        encoding = self.encode(text)
        keep, held = self._back_up(text, encoding)
        ids = encoding.ids[:keep]
        return Primed(ids, Decoder(self, int(ids[-1]) if keep else START, held))

    def _continuations(self, held: bytes, after: int) -> BoolArray:
        """Mask (size,) of the tokens that, appended to `after`, agree with the text `held`."""
        fits = (self._fits(self.appended(id, after), held) for id in range(self.size))
        mask = np.fromiter(fits, np.bool_, self.size)
        mask[: len(SPECIALS)] = False
        mask.flags.writeable = False
        return mask

    def _fits(self, piece: bytes, held: bytes) -> bool:
        """Whether `piece` is a way to go on spelling `held`: here, whether it holds all of it."""
        return piece.startswith(held)

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """How many tokens of a prime stand, and the text (UTF-8) to be spelled after them."""
        return len(encoding.ids), b""


class Decoder:
    """The text of a stream of ids, as it comes: all pushes and the flush together are `decode`.

    `held` is text (UTF-8) that the stream spells first and that is not given out, see
    `Tokenizer.prime`; while some is left, only the tokens of `mask` may be pushed.
    """

    def __init__(self, tokenizer: Tokenizer, after: int = START, held: bytes = b"") -> None:
        self._tokenizer = tokenizer
        self._after = after
        self._held = held
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is certain once `id` has come; an unfinished character waits."""
        piece = self._tokenizer.appended(id, self._after)
        self._after = id
        held, self._held = self._held, self._held[len(piece) :]
        return self._utf8.decode(piece[len(held) :])

    def copy(self) -> Decoder:
        """Another one at the same place."""
        other = Decoder(self._tokenizer, self._after, self._held)
        other._utf8.setstate(self._utf8.getstate())
        return other

    @property
    def is_whole(self) -> bool:
        """Whether what has come is all given out: no unfinished character, no text held."""
        return not self._held and not self._utf8.getstate()[0]

    def flush(self) -> str:
        """The rest, at the end of the stream."""
        return self._utf8.decode(b"", final=True)

    def mask(self) -> BoolArray | None:
        """(size,), read-only: the tokens that agree with the text held; None when any may come."""
        return self._tokenizer.continuations(self._held, self._after) if self._held else None


def narrowest(size: int) -> np.dtype[np.integer[Any]]:
    """The smallest integer type for ids below `size`."""
    types = (np.uint8, np.uint16, np.int32)
    return np.dtype(next(type for type in types if size - 1 <= np.iinfo(type).max))


def choice(name: str, value: str, known: Collection[str]) -> str:
    """`value`, if it is one of `known`, else OptionError."""
    if value not in known:
        raise OptionError(f"{name} {value!r} is unknown; choose from: {', '.join(known)}")
    return value


def room(vocab_size: int, smallest: int = 6) -> int:
    """Vocabulary entries beside the specials in a vocabulary of `vocab_size`, else OptionError."""
    if vocab_size < smallest:
        raise OptionError(f"a vocabulary of {vocab_size} is too small; give {smallest} or more")
    return vocab_size - len(SPECIALS)


def packed(vocabulary: Iterable[str]) -> NDArray[np.uint8]:
    """Entries without newlines as UTF-8, a newline behind each: (bytes,)."""
    text = "".join(entry + "\n" for entry in vocabulary)
    return np.frombuffer(text.encode(), np.uint8)


def unpacked(settings: Settings, arrays: Arrays, fixed: int = len(SPECIALS)) -> list[str]:
    """What was `packed`, checked against the settings' `size`, of which `fixed` are not stored."""
    try:
        *entries, rest = arrays["vocabulary"].tobytes().decode().split("\n")
    except (KeyError, AttributeError, UnicodeDecodeError) as error:
        raise damaged() from error
    if rest or len(set(entries)) != len(entries) or len(entries) + fixed != settings.get("size"):
        raise damaged()
    return entries


def setting(settings: Settings, name: str, known: Collection[str]) -> str:
    """The setting `name`, which must be one of `known`."""
    value = settings.get(name)
    if not isinstance(value, str) or value not in known:
        raise damaged()
    return value


def damaged() -> InputError:
    """The error for a tokenizer's state that is not whole."""
    return InputError("the model's vocabulary is damaged or not of this program; train it again")


def as_inputs(ids: IntArray) -> NDArray[np.int64]:
    """The ids as the network reads them: the end of a line is the start of the next."""
    return np.where(ids == EOS, START, ids).astype(np.int64)
