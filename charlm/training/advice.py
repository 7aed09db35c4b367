"""Notes on options that do not seem to suit the text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from charlm.corpus.stats import CorpusStats
from charlm.tokenizer import TOKENIZERS
from charlm.tokenizer.segmentation import is_spaceless
from charlm.training.options import TrainOptions

MANY_BLANK_LINES = 0.1  # share of all lines


def advice(beginning: str, stats: CorpusStats, options: TrainOptions) -> Iterator[str]:
    """Notes for the user about a text and its options.

    beginning:  of the text
    """
    returns, line_ends = beginning.count("\r"), beginning.count("\n")
    if returns > 10 * line_ends:
        yield (
            f"note: {returns:,} carriage returns and {line_ends:,} line feeds: only a line feed "
            "ends a line; convert a file of old Macintosh computers: tr '\\r' '\\n' < FILE"
        )
    elif stats.has_hardly_any_lines and options.unit == "line":
        yield (
            f"note: {stats.lines} line ends in {stats.chars:,} characters: the model learns "
            "little of how a text begins and ends; a line for each sentence or paragraph is best"
        )
    if options.unit == "line" and looks_hard_wrapped(beginning):
        yield (
            "note: the lines look broken at a fixed width; `unit=paragraph` joins them up to a "
            "blank line"
        )
    lines = beginning.split("\n")[:-1]
    blank = sum(not line.strip() for line in lines)
    if options.lines and blank > MANY_BLANK_LINES * len(lines):
        yield (
            f"note: {blank / len(lines):.0%} of the lines are blank, and as many samples will be; "
            "delete them: grep . FILE"
        )
    if TOKENIZERS[options.level].tokens_are_words and is_spaceless(beginning):
        yield (
            "note: this script puts no spaces between words, so a word is a single character; "
            "`level=char` or `level=subword` predicts such text better"
        )


def looks_hard_wrapped(text: str) -> bool:
    """Whether lines look broken at a fixed width, as in e-mail and in books of Project Gutenberg.

    This is so if most lines before another line are nearly as long as the longest ones and end
    within a sentence. A blank line, and the line before it, do not count.
    """
    lines = text.split("\n")[:5_000]
    inner = [line for line, next_line in pairwise(lines) if line and next_line]
    if len(inner) < 20:
        return False
    lengths = np.array([len(line.rstrip()) for line in inner])
    width = np.quantile(lengths, 0.98)
    in_sentence = np.mean(
        [line.rstrip()[-1:].isalnum() or line.rstrip()[-1:] in ",;-" for line in inner]
    )
    return bool(40 <= width <= 120 and np.mean(lengths > 0.8 * width) > 0.7 and in_sentence > 0.6)
