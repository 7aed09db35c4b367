"""Text to ids and back, by characters, bytes, words or subwords.

>>> tokenizer = train_tokenizer("char", lambda: ["abba\\n"])
>>> tokenizer.encode_ids("ab\\n").tolist()
[3, 4, 1]
>>> tokenizer.decode([4, 3])
'ba'
"""

from __future__ import annotations

from charlm.tokenizer.base import (
    EOS,
    JSON,
    SPECIALS,
    START,
    UNK,
    Arrays,
    Blocks,
    Decoder,
    Encoding,
    IntArray,
    Primed,
    Settings,
    Tokenizer,
    as_inputs,
    choice,
    setting,
)
from charlm.tokenizer.bytes import Bytes
from charlm.tokenizer.characters import Characters
from charlm.tokenizer.subwords import Subwords
from charlm.tokenizer.words import Words

__all__ = [
    "EOS",
    "JSON",
    "LEVELS",
    "SPECIALS",
    "START",
    "UNK",
    "Arrays",
    "Blocks",
    "Bytes",
    "Characters",
    "Decoder",
    "Encoding",
    "IntArray",
    "Primed",
    "Settings",
    "Subwords",
    "Tokenizer",
    "Words",
    "as_inputs",
    "load_tokenizer",
    "train_tokenizer",
]

_TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.level: tokenizer for tokenizer in (Characters, Words, Subwords, Bytes)
}
LEVELS = tuple(_TOKENIZERS)


def train_tokenizer(
    level: str,
    blocks: Blocks,
    vocab_size: int | None = None,
    split: str = "lossless",
    normalize: str = "nfc",
) -> Tokenizer:
    """Learn the vocabulary of a text; each option is for the levels that know it.

    level:       "char", "word", "subword" or "byte"
    blocks:      gives the text, in blocks of whole lines, each time it is called
    vocab_size:  the most ids, specials included; None for all characters, 20,000 words, or up
                 to 4,000 subwords, as the text allows
    split:       of words: "lossless" or "whitespace"
    normalize:   of characters and words: "nfc" or "none"

    Raises OptionError for a value that is not one of these, InputError for a text from which
    nothing can be learnt.
    """
    match choice("level", level, LEVELS):
        case "char":
            return Characters.train(blocks, vocab_size, normalize)
        case "word":
            return Words.train(blocks, vocab_size, split, normalize)
        case "subword":
            return Subwords.train(blocks, vocab_size)
        case _:
            return Bytes()


def load_tokenizer(settings: Settings, arrays: Arrays) -> Tokenizer:
    """The tokenizer with this `state`; InputError when it is damaged or foreign."""
    return _TOKENIZERS[setting(settings, "level", LEVELS)].from_state(settings, arrays)
