"""From a corpus to its two parts, and to a token file of each in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from charlm.corpus.encoding import TokenFile, encode_to_file, split_off_validation
from charlm.corpus.reading import RAW, Corpus, CorpusStats
from charlm.files import write_text
from charlm.tokenizer import TOKENIZERS, Blocks, Tokenizer, count_words
from charlm.training.options import TrainOptions

SMALLEST_SPLIT = 100  # characters; a smaller text is not split
MOST_COUNTED = 1 << 24  # characters whose words are counted
WORDS = "words.json"


class Split(NamedTuple):
    """A corpus in two parts.

    held_out:  False if both parts are the whole corpus
    """

    training: Blocks
    validation: Blocks
    held_out: bool


@dataclass(frozen=True)
class Text:
    """A corpus that can be used, and how it is split."""

    corpus: Corpus
    stats: CorpusStats
    parts: Split


@dataclass(frozen=True)
class CorpusInfo:
    """What is known about an encoded corpus.

    name, sha256:  of the corpus
    chars:         characters of both parts
    valid_chars:   characters of the validation part
    held_out:      False if the validation part is the training part itself
    longest_line:  in characters; None if unknown
    """

    name: str
    sha256: str
    chars: int
    valid_chars: int
    held_out: bool
    longest_line: int | None = None


@dataclass(frozen=True)
class Data:
    """An encoded corpus.

    words:  how often each word of the training part occurs
    """

    tokenizer: Tokenizer
    training: TokenFile
    validation: TokenFile
    corpus: CorpusInfo
    words: Mapping[str, int]

    def digest(self) -> str:
        """A hash of the tokens of both parts."""
        return f"{self.training.digest()} {self.validation.digest()}"


def as_options_say(corpus: Corpus, options: TrainOptions) -> Corpus:
    """The same corpus, read as the options say."""
    raw = TOKENIZERS[options.level].reads_bytes
    return replace(corpus, unit=options.unit, encoding=RAW if raw else options.encoding)


def read_text(
    corpus: Corpus,
    options: TrainOptions,
    note: Callable[[str], None],
    warn: Callable[[str], None],
) -> Text:
    """Read a corpus once, and split it. Raises InputError for a text that cannot be used.

    note, warn:  called with notes and warnings about the text
    """
    corpus = as_options_say(corpus, options)
    stats = corpus.stats()
    for advice in _advice(stats, options):
        note(advice)
    return Text(corpus, stats, _split(corpus, stats, options, warn))


def _advice(stats: CorpusStats, options: TrainOptions) -> Iterator[str]:
    """Notes on options that do not seem to suit the text."""
    if stats.looks_hard_wrapped:
        yield (
            "note: the lines look broken at a fixed width; `unit=paragraph` joins them up to a "
            "blank line"
        )
    if stats.has_hardly_any_lines and options.unit == "line":
        yield (
            f"note: {stats.lines} line ends in {stats.chars:,} characters: the model learns "
            "little of how a text begins and ends; a line for each sentence or paragraph is best"
        )


def _split(
    corpus: Corpus, stats: CorpusStats, options: TrainOptions, warn: Callable[[str], None]
) -> Split:
    """The training and the validation part. A text that is too small is used whole for both."""
    training, validation = _parts(corpus, stats, options)
    if _is_empty(training) or _is_empty(validation):
        warn("the corpus is too small to hold a part out: validation is on the training text")
        return Split(corpus.blocks, corpus.blocks, held_out=False)
    return Split(training, validation, held_out=True)


def encode(text: Text, tokenizer: Tokenizer, folder: Path) -> Data:
    """Encode both parts of a text into files in the folder, and count the words there."""
    parts, stats, counter = text.parts, text.stats, _Counter()
    training = encode_to_file(parts.training(), tokenizer, folder / "train")
    validation = encode_to_file(counter.counted(parts.validation()), tokenizer, folder / "valid")
    words = count_words(_beginning(parts.training(), MOST_COUNTED), tokenizer)
    write_text(folder / WORDS, json.dumps(words))
    info = CorpusInfo(
        text.corpus.name,
        stats.sha256,
        stats.chars,
        counter.chars,
        parts.held_out,
        stats.longest_line,
    )
    return Data(tokenizer, training, validation, info, words)


def reopen(folder: Path, tokenizer: Tokenizer, corpus: CorpusInfo) -> Data:
    """The files that `encode` wrote into the folder."""
    training = TokenFile.open(folder / "train", tokenizer.size)
    validation = TokenFile.open(folder / "valid", tokenizer.size)
    words = {}  # a run of an earlier version has not counted them
    with suppress(FileNotFoundError):
        words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
    return Data(tokenizer, training, validation, corpus, words)


def _parts(corpus: Corpus, stats: CorpusStats, options: TrainOptions) -> tuple[Blocks, Blocks]:
    if options.valid is not None:
        validation = as_options_say(Corpus([options.valid]), options)
        validation.stats()  # raises for a text that cannot be used
        return corpus.blocks, validation.blocks
    if stats.chars < SMALLEST_SPLIT:
        return corpus.blocks, lambda: iter(())
    return split_off_validation(corpus, stats, options.valid_fraction, options.lines)


def _beginning(blocks: Iterable[str], chars: int) -> Iterator[str]:
    """The first blocks of a text, with about this many characters."""
    for block in blocks:
        yield block
        chars -= len(block)
        if chars < 0:
            break


def _is_empty(blocks: Blocks) -> bool:
    return not any(block.strip() for block in blocks())


class _Counter:
    """Counts the characters of the blocks that it passes on."""

    def __init__(self) -> None:
        self.chars = 0

    def counted(self, blocks: Iterable[str]) -> Iterator[str]:
        for block in blocks:
            self.chars += len(block)
            yield block
