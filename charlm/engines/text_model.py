"""What the engines need of a language model."""

from __future__ import annotations

from dataclasses import dataclass

from charlm.model.lexicon import Lexicon
from charlm.model.mixture import Predictors
from charlm.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextModel:
    """A language model, with what turns text into its tokens.

    predictors:         of the next token
    tokenizer:          text to ids and back
    lexicon:            of the training text, for words that are not in the vocabulary
    independent_lines:  every line starts from the zero state
    """

    predictors: Predictors
    tokenizer: Tokenizer
    lexicon: Lexicon | None = None
    independent_lines: bool = False
