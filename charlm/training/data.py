"""From a corpus to its two parts, and to a token file of each in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from charlm.corpus.encoding import TokenFile, encode_to_file, split_off_validation
from charlm.corpus.reading import RAW, Corpus, Survey
from charlm.tokenizer import Blocks, Tokenizer
from charlm.training.recipe import TrainOptions

# Of fewer characters than this nothing is held out.
SMALLEST_SPLIT = 100


class Parts(NamedTuple):
    """A corpus, split.

    held_out:  false when both parts are all of it
    """

    training: Blocks
    validation: Blocks
    held_out: bool


@dataclass(frozen=True)
class Facts:
    """What is known of a corpus once it is encoded.

    name, sha256:  of the corpus
    chars:         of both parts
    valid_chars:   of the validation part
    held_out:      false when the validation part is the training part itself
    """

    name: str
    sha256: str
    chars: int
    valid_chars: int
    held_out: bool


@dataclass(frozen=True)
class Data:
    """A corpus, encoded: what training reads."""

    tokenizer: Tokenizer
    training: TokenFile
    validation: TokenFile
    facts: Facts


def open_corpus(paths: Sequence[str | Path], options: TrainOptions) -> Corpus:
    """The corpus as the options say it is to be read; bytes need no encoding."""
    return Corpus(paths, options.unit, RAW if options.level == "byte" else options.encoding)


def split(
    corpus: Corpus, survey: Survey, options: TrainOptions, warn: Callable[[str], None]
) -> Parts:
    """What is trained on and what is validated on: the same, of a text too small to be split."""
    training, validation = _parts(corpus, survey, options)
    if _is_empty(training) or _is_empty(validation):
        warn("the corpus is too small to hold a part out: validation is on the training text")
        return Parts(corpus.blocks, corpus.blocks, held_out=False)
    return Parts(training, validation, held_out=True)


def encode(
    parts: Parts, tokenizer: Tokenizer, folder: Path, corpus: Corpus, survey: Survey
) -> Data:
    """Encode both parts into files in the folder."""
    train_file = encode_to_file(parts.training(), tokenizer, folder / "train")
    counter = _Counter()
    valid_file = encode_to_file(counter.counted(parts.validation()), tokenizer, folder / "valid")
    facts = Facts(corpus.name, survey.sha256, survey.chars, counter.chars, parts.held_out)
    return Data(tokenizer, train_file, valid_file, facts)


def reopen(folder: Path, tokenizer: Tokenizer, facts: Facts) -> Data:
    """What `encode` left in the folder."""
    training = TokenFile.open(folder / "train", tokenizer.size)
    validation = TokenFile.open(folder / "valid", tokenizer.size)
    return Data(tokenizer, training, validation, facts)


def _parts(corpus: Corpus, survey: Survey, options: TrainOptions) -> tuple[Blocks, Blocks]:
    if options.valid is not None:
        validation = open_corpus([options.valid], options)
        validation.survey()
        return corpus.blocks, validation.blocks
    if survey.chars < SMALLEST_SPLIT:
        return corpus.blocks, lambda: iter(())
    return split_off_validation(corpus, survey, options.valid_fraction, options.lines)


def _is_empty(blocks: Blocks) -> bool:
    return not any(block.strip() for block in blocks())


class _Counter:
    """Counts the characters of blocks that pass by."""

    def __init__(self) -> None:
        self.chars = 0

    def counted(self, blocks: Iterable[str]) -> Iterator[str]:
        for block in blocks:
            self.chars += len(block)
            yield block
