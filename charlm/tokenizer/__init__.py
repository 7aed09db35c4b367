"""Text to ids and back, by characters, words, subwords or bytes.

>>> tokenizer = train_tokenizer("char", lambda: ["abba\\n"])
>>> tokenizer.encode_ids("ab\\n").tolist()
[3, 4, 1]
>>> tokenizer.decode([4, 3])
'ba'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from charlm.errors import OptionError
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
    Vocabulary,
    VocabularyOptions,
    as_inputs,
    check_choice,
    read_setting,
)
from charlm.tokenizer.bytes import Bytes
from charlm.tokenizer.characters import Characters
from charlm.tokenizer.features import SpanFeatures, TextFeatures, WindowFeatures
from charlm.tokenizer.segmentation import bare_word
from charlm.tokenizer.subwords import Subwords
from charlm.tokenizer.symbols import Symbols
from charlm.tokenizer.words import WordCounts, Words, count_words

__all__ = [
    "EOS",
    "JSON",
    "LEVELS",
    "SPECIALS",
    "START",
    "TOKENIZERS",
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
    "SpanFeatures",
    "Subwords",
    "Symbols",
    "TextFeatures",
    "Tokenizer",
    "Vocabularies",
    "Vocabulary",
    "VocabularyOptions",
    "WindowFeatures",
    "WordCounts",
    "Words",
    "as_inputs",
    "bare_word",
    "check_vocabulary_options",
    "count_words",
    "load_tokenizer",
    "load_vocabulary",
    "train_tokenizer",
]

TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.level: tokenizer for tokenizer in (Characters, Words, Subwords, Bytes)
}
LEVELS = tuple(TOKENIZERS)
VOCABULARIES: dict[str, type[Vocabulary]] = {
    **TOKENIZERS,
    **{kind.level: kind for kind in (Symbols, SpanFeatures, TextFeatures, WindowFeatures)},
}
Vocabularies: TypeAlias = Mapping[str, Vocabulary]  # by the name of the field


def train_tokenizer(
    level: str,
    blocks: Blocks,
    vocab_size: int | None = None,
    split: str = "lossless",
    normalize: str = "nfc",
) -> Tokenizer:
    """Learn the vocabulary of a text.

    level:   "char", "word", "subword" or "byte"
    blocks:  returns the text in blocks of whole lines; called once for each pass

    The other arguments are those of `VocabularyOptions`. Raises OptionError for an invalid
    option, InputError for a text without content.
    """
    options = VocabularyOptions(vocab_size, split, normalize)
    tokenizer = TOKENIZERS[check_choice("level", level, TOKENIZERS)]
    check_vocabulary_options(tokenizer, options)
    return tokenizer.train(blocks, options)


def check_vocabulary_options(tokenizer: type[Tokenizer], options: VocabularyOptions) -> None:
    """Raise OptionError for an option that the level does not know."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default and field.name not in tokenizer.options:
            levels = [level for level, other in TOKENIZERS.items() if field.name in other.options]
            raise OptionError(
                f"`{field.name}={value}`: is not for `level={tokenizer.level}`, but for "
                + " or ".join(f"`level={level}`" for level in levels)
            )


def load_tokenizer(settings: Settings, arrays: Arrays) -> Tokenizer:
    """Restore a tokenizer from its `state`. Raises InputError for a damaged state."""
    return TOKENIZERS[read_setting(settings, "level", TOKENIZERS)].from_state(settings, arrays)


def load_vocabulary(settings: Settings, arrays: Arrays) -> Vocabulary:
    """Restore a vocabulary of any kind. Raises InputError for a damaged state."""
    return VOCABULARIES[read_setting(settings, "level", VOCABULARIES)].from_state(settings, arrays)
