"""Subword level: the pieces of a SentencePiece model, and bytes for all other text.

The model uses neither the normalisation nor the dummy prefix of SentencePiece. Instead, encoding
adds a space before each line that is not empty, and decoding removes it. So a word has the same
pieces at the start of a line as after a space.

SentencePiece writes a space as U+2581. This character in a text is therefore never passed to the
model: it is encoded as its three bytes.
"""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError
from charlm.tokenizer.base import (
    EOS,
    JSON,
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
    damaged_state,
    narrowest_dtype,
    pack_vocabulary,
    read_setting,
    unpack_vocabulary,
)
from charlm.tokenizer.bytes import BYTE_VALUES, FIRST_BYTE
from charlm.tokenizer.text import SURROGATE, spans_of_bytes

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL_TYPES = ("unigram", "bpe")
FIRST_PIECE = FIRST_BYTE + BYTE_VALUES
SPACE_MARK = "\u2581"
# Characters that SentencePiece does not learn. It drops a line with U+2585 from its training.
RESERVED = f"[{SPACE_MARK}\u2585\0]"
MARK_IDS = [FIRST_BYTE + byte for byte in SPACE_MARK.encode()]
SMALLEST, LARGEST_DEFAULT = 300, 4000
CHARACTERS_PER_PIECE = 100
# Fraction of the text whose characters may get pieces of their own.
COVERAGE = 0.9995
# SentencePiece drops lines of more than 4192 bytes. A character has at most four.
MAX_LINE_CHARS = 1000
MAX_TRAINING_CHARS = 20_000_000
MAX_BACKED_UP = 8


class Subwords(Tokenizer):
    """Ids 3 to 258 are bytes, then come pieces. Only training and encoding import sentencepiece."""

    level = "subword"
    options = ("vocab_size",)
    has_unknown = False
    large_vocabulary = True
    space_starts_word = True

    def __init__(self, vocabulary: Sequence[str], model: bytes, model_type: str) -> None:
        """
        vocabulary:  the pieces from id 259 on
        model:       the serialized SentencePiece model
        model_type:  its algorithm, "unigram" or "bpe"
        """
        pieces = (piece.replace(SPACE_MARK, " ").encode() for piece in vocabulary)
        super().__init__(chain((bytes([value]) for value in range(BYTE_VALUES)), pieces))
        self._vocabulary = vocabulary
        self._model = model
        self._model_type = model_type

    @classmethod
    def train(cls, blocks: Blocks, options: VocabularyOptions, model_type: str = "unigram") -> Self:
        """Train a SentencePiece model, "unigram" or "bpe", on a sample of the lines.

        The vocabulary is smaller than `vocab_size` if the text does not have enough pieces. The
        sample has at most 20 million characters. The same text always gives the same model.
        Raises InputError for an empty text.
        """
        check_choice("model_type", model_type, MODEL_TYPES)
        lines = _sample_lines(blocks)
        if not lines:
            raise InputError("the text is empty; a subword vocabulary needs text to learn from")
        size = _default_size(lines) if options.vocab_size is None else options.vocab_size
        model = _train_model(lines, check_vocab_size(size, SMALLEST), model_type)
        processor = _load_model(model)
        piece_ids = range(FIRST_PIECE, processor.get_piece_size())
        return cls([processor.id_to_piece(id) for id in piece_ids], model, model_type)

    def encode(self, text: str) -> Encoding:
        ids = self.encode_ids(text).astype(np.int64)
        pairs = pairwise([START, *ids.tolist()])
        lengths = [len(self.appended(id, previous)) for previous, id in pairs]
        return Encoding(ids, spans_of_bytes(_without_surrogates(text), np.array(lengths, np.int64)))

    def encode_ids(self, text: str) -> IntArray:
        lines = [" " + line if line else "" for line in _without_surrogates(text).split("\n")]
        encoded = self._processor.encode(lines, num_threads=-1)
        for ids, line in zip(encoded, lines, strict=True):
            if SPACE_MARK in line:
                ids[:] = self._encode_with_marks(line)
            ids.append(EOS)
        joined = chain.from_iterable(encoded)
        return np.fromiter(joined, narrowest_dtype(self.size), sum(map(len, encoded)))[:-1]

    def appended(self, id: int, previous: int) -> bytes:
        piece = self._pieces[id]
        if previous in (START, EOS) and id >= FIRST_PIECE:
            return piece.removeprefix(b" ")
        return piece

    def state(self) -> tuple[dict[str, JSON], dict[str, NDArray[np.uint8]]]:
        settings: dict[str, JSON] = {
            "level": self.level,
            "size": self.size,
            "model_type": self._model_type,
            "model_bytes": len(self._model),
        }
        model = np.frombuffer(self._model, np.uint8)
        return settings, {"vocabulary": pack_vocabulary(self._vocabulary), "sentencepiece": model}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        vocabulary = unpack_vocabulary(settings, arrays, FIRST_PIECE)
        model = arrays.get("sentencepiece")
        if model is None or model.nbytes != settings.get("model_bytes"):
            raise damaged_state()
        return cls(vocabulary, model.tobytes(), read_setting(settings, "model_type", MODEL_TYPES))

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        processor = _load_model(self._model)
        if processor.get_piece_size() != self.size:
            raise damaged_state()
        return processor

    def _encode_with_marks(self, line: str) -> list[int]:
        """The ids of a line that contains U+2581."""
        first, *rest = self._processor.encode(line.split(SPACE_MARK))
        return [*first, *chain.from_iterable([*MARK_IDS, *ids] for ids in rest)]

    def _spells(self, piece: bytes, required: bytes) -> bool:
        """A piece may spell only the beginning of `required`: bytes can always spell the rest."""
        return piece.startswith(required) or required.startswith(piece)

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """Require the last word, or the last `MAX_BACKED_UP` pieces of a long word."""
        ids = encoding.ids.tolist()
        count, required = len(ids), b""
        while 0 < count and ids[count - 1] != EOS and len(ids) - count < MAX_BACKED_UP:
            count -= 1
            required = self.appended(ids[count], ids[count - 1] if count else START) + required
            if self._pieces[ids[count]].startswith(b" "):
                break
        return count, required


def _without_surrogates(text: str) -> str:
    """`text` with U+FFFD for surrogates, which UTF-8 cannot encode."""
    return SURROGATE.sub("\ufffd", text)


def _load_model(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise damaged_state() from error


def _default_size(lines: list[str]) -> int:
    pieces = sum(map(len, lines)) // CHARACTERS_PER_PIECE
    return min(SMALLEST + pieces, LARGEST_DEFAULT)


def _train_model(lines: list[str], vocab_size: int, model_type: str) -> bytes:
    """Train SentencePiece on `lines`. Returns the serialized model."""
    from sentencepiece import SentencePieceTrainer

    frequent = _frequent_characters(lines, (vocab_size - FIRST_PIECE) // 2)
    rare = re.compile(f"[^{re.escape(frequent)}]")
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=(rare.sub(" ", line) for line in lines),
        model_writer=model,
        model_type=model_type,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        bos_id=START,
        eos_id=EOS,
        unk_id=UNK,
        pad_id=-1,
        bos_piece=SPECIALS[START],
        eos_piece=SPECIALS[EOS],
        unk_piece=SPECIALS[UNK],
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _frequent_characters(lines: list[str], limit: int) -> str:
    """At most `limit` characters that get pieces. Bytes encode all other characters."""
    counts = Counter(chain.from_iterable(lines))
    uncovered, frequent = COVERAGE * counts.total(), ""
    for char, count in counts.most_common(limit):
        if uncovered > 0:
            frequent += char
        uncovered -= count
    return re.sub(RESERVED, "", SURROGATE.sub("", frequent))


def _sample_lines(blocks: Blocks) -> list[str]:
    """All lines, or a random sample with at most `MAX_TRAINING_CHARS` characters.

    The probability of a line is the same everywhere in the text: it is halved for all lines, read
    and unread, whenever the sample is full.
    """
    rng = random.Random(0)
    lines: list[str] = []
    length, probability = 0, 1.0
    for line in _short_lines(blocks):
        if rng.random() < probability:
            lines.append(line)
            length += len(line)
        if length > MAX_TRAINING_CHARS:
            lines = [line for line in lines if rng.random() < 0.5]
            length, probability = sum(map(len, lines)), probability / 2
    return lines


def _short_lines(blocks: Blocks) -> Iterator[str]:
    """The lines as the model reads them. A long line is cut, at a space if possible."""
    cut = re.compile(rf".{{1,{MAX_LINE_CHARS}}}(?= |$)|.{{1,{MAX_LINE_CHARS}}}")
    for block in blocks():
        for line in block.split("\n"):
            if line:
                yield from cut.findall(" " + line)
