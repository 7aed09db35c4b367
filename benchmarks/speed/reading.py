"""The speed of encoding a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.project import TALES
from benchmarks.speed.harness import Row, in_turns
from charlm.tokenizer import Tokenizer, train_tokenizer

LEVELS = ("char", "byte", "word", "subword")
COPIES = 40
BLOCK = 1 << 20  # characters


def reading() -> Iterator[Row]:
    text = TALES.read_text(encoding="utf-8") * COPIES
    blocks = [text[start : start + BLOCK] for start in range(0, len(text), BLOCK)]
    tokenizers = {level: train_tokenizer(level, lambda: blocks[:1]) for level in LEVELS}
    for level, tokenizer in tokenizers.items():
        seconds = in_turns({level: partial(encode, tokenizer, blocks)}, rounds=3)
        yield Row(f"encoding, {level} level", "MB/s", len(text.encode()) / 1e6 / seconds[level])


def encode(tokenizer: Tokenizer, blocks: Sequence[str]) -> None:
    for block in blocks:
        tokenizer.encode_ids(block)
