"""Subword level: the pieces of a SentencePiece model, with bytes for what they cannot spell.

The model is trained and used with neither normalisation nor its own dummy prefix: a space is
put before each line that is not empty, so that a word is spelled alike at a line's start and
after a space, and decoding takes it away. SentencePiece writes a space as U+2581, so this
character, where a text has it, goes around the model and is spelled by its three bytes.
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
    choice,
    damaged,
    narrowest,
    packed,
    room,
    setting,
    unpacked,
)
from charlm.tokenizer.bytes import FIRST_BYTE, VALUES
from charlm.tokenizer.text import SURROGATE, spans_of_bytes

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL_TYPES = ("unigram", "bpe")
FIRST_PIECE = FIRST_BYTE + VALUES
SPACE_MARK = "\u2581"
MARK_IDS = [FIRST_BYTE + byte for byte in SPACE_MARK.encode()]
SMALLEST, LARGEST_DEFAULT = 300, 4000
CHARACTERS_PER_PIECE = 100
COVERAGE = 0.9995
# SentencePiece drops lines of more than 4192 bytes; a character has at most four.
LONGEST_LINE = 1000
TRAINED_ON = 20_000_000
MOST_BACKED_UP = 8


class Subwords(Tokenizer):
    """Ids 3 to 258 are bytes, the pieces follow. `sentencepiece` is only imported to encode."""

    level = "subword"

    def __init__(self, vocabulary: Sequence[str], model: bytes, model_type: str) -> None:
        """vocabulary: the pieces from id 259 on; model: the SentencePiece model they are of."""
        pieces = (piece.replace(SPACE_MARK, " ").encode() for piece in vocabulary)
        super().__init__(chain((bytes([value]) for value in range(VALUES)), pieces))
        self._vocabulary = vocabulary
        self._model = model
        self._model_type = model_type

    @classmethod
    def train(
        cls, blocks: Blocks, vocab_size: int | None = None, model_type: str = "unigram"
    ) -> Self:
        """Learn a model; its vocabulary is smaller than asked for when the text has no more.

        At most some 20 million characters are learnt from, lines drawn by chance from all of
        the text; the same text always gives the same model.
        """
        choice("model_type", model_type, MODEL_TYPES)
        lines = _drawn_lines(blocks)
        if not lines:
            raise InputError("the text is empty; subwords need some text to be learnt from")
        if vocab_size is None:
            pieces = sum(map(len, lines)) // CHARACTERS_PER_PIECE
            vocab_size = min(SMALLEST + pieces, LARGEST_DEFAULT)
        room(vocab_size, SMALLEST)
        model = _learn(lines, vocab_size, model_type)
        processor = _processor(model)
        pieces_found = range(FIRST_PIECE, processor.get_piece_size())
        return cls([processor.id_to_piece(id) for id in pieces_found], model, model_type)

    def encode(self, text: str) -> Encoding:
        ids = self.encode_ids(text).astype(np.int64)
        drawn = ids.tolist()
        lengths = [len(self.appended(id, after)) for after, id in pairwise([START, *drawn])]
        return Encoding(ids, spans_of_bytes(_clean(text), np.array(lengths, np.int64)))

    def encode_ids(self, text: str) -> IntArray:
        lines = [" " + line if line else "" for line in _clean(text).split("\n")]
        encoded = self._model_processor.encode(lines, num_threads=-1)
        for ids, line in zip(encoded, lines, strict=True):
            if SPACE_MARK in line:
                ids[:] = self._around_marks(line)
            ids.append(EOS)
        joined = chain.from_iterable(encoded)
        return np.fromiter(joined, narrowest(self.size), sum(map(len, encoded)))[:-1]

    def appended(self, id: int, after: int) -> bytes:
        piece = self._pieces[id]
        if after in (START, EOS) and id >= FIRST_PIECE:
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
        return settings, {"vocabulary": packed(self._vocabulary), "sentencepiece": model}

    @classmethod
    def from_state(cls, settings: Settings, arrays: Arrays) -> Self:
        vocabulary = unpacked(settings, arrays, FIRST_PIECE)
        model = arrays.get("sentencepiece")
        if model is None or model.nbytes != settings.get("model_bytes"):
            raise damaged()
        return cls(vocabulary, model.tobytes(), setting(settings, "model_type", MODEL_TYPES))

    @cached_property
    def _model_processor(self) -> SentencePieceProcessor:
        processor = _processor(self._model)
        if processor.get_piece_size() != self.size:
            raise damaged()
        return processor

    def _around_marks(self, line: str) -> list[int]:
        """The ids of a line with U+2581 in it."""
        first, *others = self._model_processor.encode(line.split(SPACE_MARK))
        return [*first, *chain.from_iterable([*MARK_IDS, *part] for part in others)]

    def _fits(self, piece: bytes, held: bytes) -> bool:
        """A piece may also spell the first part of `held`: the bytes can always spell the rest."""
        return piece.startswith(held) or held.startswith(piece)

    def _back_up(self, text: str, encoding: Encoding) -> tuple[int, bytes]:
        """Hold the last word, or the last pieces of it where words are long."""
        ids = encoding.ids.tolist()
        keep, held = len(ids), b""
        while 0 < keep and ids[keep - 1] != EOS and len(ids) - keep < MOST_BACKED_UP:
            keep -= 1
            held = self.appended(ids[keep], ids[keep - 1] if keep else START) + held
            if self._pieces[ids[keep]].startswith(b" "):
                break
        return keep, held


def _clean(text: str) -> str:
    """`text` without surrogates, which have no UTF-8."""
    return SURROGATE.sub("\ufffd", text)


def _processor(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise damaged() from error


def _learn(lines: list[str], vocab_size: int, model_type: str) -> bytes:
    """Train SentencePiece on `lines`; the model as bytes."""
    from sentencepiece import SentencePieceTrainer

    frequent = _frequent(lines, (vocab_size - FIRST_PIECE) // 2)
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


def _frequent(lines: list[str], most: int) -> str:
    """The characters, at most `most`, that get pieces; the others are left to the bytes."""
    counts = Counter(chain.from_iterable(lines))
    wanted, frequent = COVERAGE * counts.total(), ""
    for char, count in counts.most_common(most):
        if wanted > 0:
            frequent += char
        wanted -= count
    return SURROGATE.sub("", frequent).replace(SPACE_MARK, "").replace("\0", "")


def _drawn_lines(blocks: Blocks) -> list[str]:
    """Lines to learn from: all, or when they are too many each with the same chance."""
    random_source = random.Random(0)
    lines: list[str] = []
    length, chance = 0, 1.0
    for line in _short_lines(blocks):
        if random_source.random() < chance:
            lines.append(line)
            length += len(line)
        if length > TRAINED_ON:
            lines = [line for line in lines if random_source.random() < 0.5]
            length, chance = sum(map(len, lines)), chance / 2
    return lines


def _short_lines(blocks: Blocks) -> Iterator[str]:
    """Lines as the model sees them, long ones cut, at spaces where there are any."""
    cut = re.compile(rf".{{1,{LONGEST_LINE}}}(?= |$)|.{{1,{LONGEST_LINE}}}")
    for block in blocks():
        for line in block.split("\n"):
            if line:
                yield from cut.findall(" " + line)
