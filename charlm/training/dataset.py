"""From a corpus to its examples: read, split, encoded to token files, and opened again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from charlm.corpus.examples import ExampleError, Examples
from charlm.corpus.reading import RAW, Corpus
from charlm.corpus.stats import CorpusInfo, CorpusStats
from charlm.errors import InputError
from charlm.tasks import load_task
from charlm.tasks.base import Task
from charlm.tokenizer import TOKENIZERS, Blocks, Vocabularies
from charlm.training.distributed import Ranks
from charlm.training.options import TrainOptions
from charlm.training.plan import Plan

SMALLEST_SPLIT = 100  # characters; a smaller text is not split
TRAINING, VALIDATION = "train", "valid"  # how the names of token files begin
# Blocks of all fields at a time; a pass over the examples for each call.
Passes = Callable[[], Iterator[tuple[str, ...]]]
Notify = Callable[[str], None]


class Split(NamedTuple):
    """The examples of a corpus in two parts.

    held_out:  False if both parts are the whole corpus
    """

    training: Passes
    validation: Passes
    held_out: bool


@dataclass(frozen=True)
class Dataset:
    """An encoded corpus."""

    training: Examples
    validation: Examples
    info: CorpusInfo

    def digest(self) -> str:
        """A hash of all tokens."""
        return f"{self.training.digest()} {self.validation.digest()}"


def with_options(corpus: Corpus, options: TrainOptions) -> Corpus:
    """The corpus with the unit and the encoding of the options, and the targets beside it."""
    raw = TOKENIZERS[options.level].reads_bytes
    encoding = RAW if raw else options.encoding
    return dataclasses.replace(corpus, unit=options.unit, encoding=encoding, beside=options.target)


def is_of(corpus: Corpus, options: TrainOptions, sha256: str) -> bool:
    """Whether the text has this hash, read with these options."""
    return with_options(corpus, options).stats().sha256 == sha256


# --- the split ---


def split(corpus: Corpus, stats: CorpusStats, options: TrainOptions, task: Task[Any, Any]) -> Split:
    """The training and the validation part. A text that is too small is used whole for both.

    Raises InputError for a corpus that cannot be used.
    """
    whole: Passes = partial(parsed, corpus, options, task)
    training: Passes
    validation: Passes
    if options.valid is not None:
        targets = dataclasses.replace(options, target=options.valid_target)
        other = with_options(Corpus([options.valid]), targets)
        other.stats()  # raises for a text that cannot be used
        training, validation = whole, partial(parsed, other, options, task)
    elif stats.chars < SMALLEST_SPLIT:
        return Split(whole, whole, held_out=False)
    elif task.independent_lines(options):
        training, validation = _halves(partial(_split_at_random, whole, options.valid_fraction))
    else:
        cut = int(stats.chars * (1 - options.valid_fraction))
        at_line, within_line = (
            _halves(partial(_split_at, whole, cut, within_line=within)) for within in (False, True)
        )
        may_be_empty = stats.longest_line >= stats.chars - cut
        cut_line = stats.has_hardly_any_lines or (may_be_empty and any(map(_is_empty, at_line)))
        training, validation = within_line if cut_line else at_line
    if _is_empty(training) or _is_empty(validation):
        return Split(whole, whole, held_out=False)
    return Split(training, validation, held_out=True)


def training_text(
    corpus: Corpus, info: CorpusInfo, options: TrainOptions, task: Task[Any, Any]
) -> Blocks:
    """The first field of the training part of an encoded corpus, read again."""
    corpus = with_options(corpus, options)
    passes: Passes = partial(parsed, corpus, options, task)
    if info.held_out and options.valid is None:
        passes = split(corpus, info, options, task).training
    return blocks_of(passes, task.fields)[task.fields[0]]


def parsed(
    corpus: Corpus, options: TrainOptions, task: Task[Any, Any]
) -> Iterator[tuple[str, ...]]:
    """The blocks of each field of a corpus. Raises InputError, naming the line of the file.

    Files of examples are read one by one: each may have a heading of its own.
    """
    of_files = [dataclasses.replace(corpus, paths=[path]) for path in corpus.paths]
    for file in of_files if len(task.fields) > 1 else [corpus]:
        try:
            yield from task.parse(file.blocks(), options)
        except ExampleError as error:
            raise InputError(f"{file.located(error.line)}: {error.problem}") from None


def blocks_of(passes: Passes, fields: tuple[str, ...]) -> dict[str, Blocks]:
    """The blocks of each field by itself."""

    def of_field(number: int) -> Iterator[str]:
        return (blocks[number] for blocks in passes() if blocks[number])

    return {field: partial(of_field, number) for number, field in enumerate(fields)}


Halves = Callable[[], Iterator[tuple[tuple[str, ...], tuple[str, ...]]]]


def _halves(both: Halves) -> tuple[Passes, Passes]:
    """Two passes from one that yields the training and the validation part of each block."""
    return (
        lambda: (training for training, _ in both() if training[0]),
        lambda: (validation for _, validation in both() if validation[0]),
    )


def _split_at_random(
    passes: Passes, fraction: float
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The training examples and the validation examples of each block, always the same.

    fraction:  of the examples that become validation examples
    """
    rng = np.random.default_rng(0)
    for blocks in passes():
        fields = [block.removesuffix("\n").split("\n") for block in blocks]
        is_validation = rng.random(len(fields[0])) < fraction
        yield _selected(fields, ~is_validation), _selected(fields, is_validation)


def _selected(fields: Iterable[list[str]], which: Iterable[bool]) -> tuple[str, ...]:
    """The block of each field with some of its lines."""
    which = list(which)
    return tuple(
        "".join(f"{line}\n" for line, kept in zip(lines, which, strict=True) if kept)
        for lines in fields
    )


def _split_at(
    passes: Passes, cut: int, within_line: bool
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The text of each block before and after the split.

    The split is the first line start at or after character `cut`, or `cut` itself.
    """
    last_char, position, is_training = "\n", 0, True
    for (block,) in passes():
        end = len(block) if is_training else 0
        offset = max(cut - position, 0)
        if is_training and offset <= len(block):
            start = offset if within_line else (last_char + block).find("\n", offset)
            if start >= 0:
                end, is_training = start, False
        yield (block[:end],), (block[end:],)
        last_char, position = block[-1:], position + len(block)


def _is_empty(passes: Passes) -> bool:
    return not any(block.strip() for block, *_ in passes())


# --- token files ---


def encode(
    name: str,
    stats: CorpusStats,
    parts: Split,
    fields: tuple[str, ...],
    vocabularies: Vocabularies,
    folder: Path,
) -> Dataset:
    """Encode both parts of a corpus into files in the folder. name: of the corpus"""
    training = blocks_of(parts.training, fields)
    validation = blocks_of(parts.validation, fields)
    counter = _Counter(validation[fields[0]])
    validation[fields[0]] = counter.blocks
    encoded = Examples.encode(training, vocabularies, folder, TRAINING)
    held_out = Examples.encode(validation, vocabularies, folder, VALIDATION)
    info = CorpusInfo(
        **dataclasses.asdict(stats), name=name, valid_chars=counter.chars, held_out=parts.held_out
    )
    return Dataset(encoded, held_out, info)


class _Counter:
    """Counts the characters of the blocks that it passes on."""

    def __init__(self, blocks: Blocks) -> None:
        self.source, self.chars = blocks, 0

    def blocks(self) -> Iterator[str]:
        for block in self.source():
            self.chars += len(block)
            yield block


def reopen(
    folder: Path, fields: tuple[str, ...], vocabularies: Vocabularies, info: CorpusInfo
) -> Dataset:
    """The files that `encode` wrote into the folder."""
    training, validation = (
        Examples.open(fields, vocabularies, folder, part) for part in (TRAINING, VALIDATION)
    )
    return Dataset(training, validation, info)


@contextmanager
def shared(
    folder: Path, corpus: Corpus, plan: Plan, vocabularies: Vocabularies, ranks: Ranks
) -> Iterator[Dataset]:
    """The encoded corpus in each process, for this context.

    folder:  of the run, where rank 0 has encoded the corpus

    Another machine that does not see the folder reads and encodes the text itself. Its first
    process does so for all there. Raises InputError if the text is not the one of rank 0.
    """

    assert plan.corpus
    options, info, task = plan.options, plan.corpus, load_task(plan.options.task)

    def opened(folder: Path) -> Dataset:
        return reopen(folder, task.fields, vocabularies, info)

    def encoded(beside: Path, digest: str) -> Path:
        text = with_options(corpus, options)
        stats = text.stats()
        if stats.sha256 == info.sha256:
            with suppress(OSError, ValueError):  # this machine sees the folder
                if opened(folder).digest() == digest:
                    return folder
        parts = split(text, stats, options, task)
        own = encode(info.name, stats, parts, task.fields, vocabularies, beside)
        if own.digest() != digest:
            raise InputError(
                f"{', '.join(map(str, corpus.paths))} is not the text that rank 0 reads; copy the "
                "same files to all machines"
            )
        return beside

    with TemporaryDirectory() as beside:
        place = folder
        if ranks.here < ranks.size:
            digest = ranks.first(lambda: opened(folder).digest())
            leads = ranks.local == 0 and not ranks.is_first
            of_ranks = ranks.each(lambda: encoded(Path(beside), digest) if leads else folder)
            place = of_ranks[ranks.rank - ranks.local]
        yield opened(place)
