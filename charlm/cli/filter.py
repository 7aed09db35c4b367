"""`charlm filter`: keep the lines of a text whose surprisal is within bounds."""

from __future__ import annotations

import codecs
import math
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    PrecisionOptions,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.inputs import plain_size, show_read
from charlm.cli.options import with_options
from charlm.corpus.compression import SUFFIXES
from charlm.corpus.reading import BYTE_ORDER_MARK, LENIENT, RAW, is_stream
from charlm.engines.scores import byte_length
from charlm.errors import InputError, OptionError
from charlm.files import writing
from charlm.model.devices import cores
from charlm.options import Choices, Range, option
from charlm.parts import WHOLE, parse_shard
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.uses.filtering import Bounds, Counts, ScoredGroup, Thirds

    Outputs = Bounds | Thirds


JOBS_PAY_FROM = 4_000_000  # bytes; to start processes takes some seconds


@dataclass(frozen=True)
class FilterOptions:
    """Which lines are kept, and how they are scored and written. The fields describe themselves."""

    min: float | None = option(None, "Keep lines with this many bits or more.", metavar="BITS")
    max: float | None = option(None, "Keep lines with this many bits or fewer.", metavar="BITS")
    quantiles: str | None = option(
        None,
        "Keep lines between these quantiles of the bits of all lines, such as 0:0.9. The files are "
        "read twice.",
        metavar="LOW:HIGH",
    )
    into: str | None = option(
        None,
        "Write all lines to three files: PREFIX.head has the 30 % with the fewest bits, "
        "PREFIX.middle the next 30 %, PREFIX.tail the rest.",
        metavar="PREFIX",
    )
    drop: bool = option(
        False,
        "Drop these lines, and keep the others.",
        excludes={"into": "goes with bounds, and `into` writes all lines"},
    )
    score: bool = option(False, "Write the bits per character before each line.")
    field: str | None = option(
        None, "The lines are JSON objects, and this field is scored.", metavar="NAME"
    )
    dedupe: str | None = option(
        None,
        "Drop lines that were there before: exact, or near for those that differ only in case, "
        "punctuation, spaces and digits.",
        Choices(("exact", "near")),
    )
    out: str | None = option(
        None,
        "Write the lines of each file to a file of the same name in this folder.",
        metavar="FOLDER",
        excludes={"into": "does not go with `into`, which names files"},
    )
    shard: str | None = option(None, "Only part I of N of the lines: I, I+N, …", metavar="I/N")
    jobs: int | None = option(
        None,
        "Processes that score, each with one thread.",
        Range(1),
        metavar="N",
        auto="one for each core if that pays, else 1 with all threads",
    )
    precision: str = option(
        "auto",
        "Of the network's products: bf16 is faster where the machine has it, and moves scores by "
        "thousandths of a bit; auto is the faster one.",
        Choices(("fp32", "bf16", "auto")),
    )

    @property
    def reads_twice(self) -> bool:
        """Whether the bounds depend on the scores of all lines."""
        return self.quantiles is not None or self.into is not None

    @property
    def has_scores(self) -> bool:
        """Whether the scores of lines are used."""
        return self.reads_twice or self.score or self.bounds != (-math.inf, math.inf)

    @property
    def bounds(self) -> tuple[float, float]:
        """The bits per character from `min` to `max`."""
        low = -math.inf if self.min is None else self.min
        return low, math.inf if self.max is None else self.max

    @property
    def shares(self) -> tuple[float, float]:
        """The numbers of `quantiles`. Raises OptionError for anything but "LOW:HIGH"."""
        try:
            low, high = map(float, (self.quantiles or "").split(":"))
            if 0 <= low < high <= 1:
                return low, high
        except ValueError:
            pass
        raise OptionError(
            f"`quantiles={self.quantiles}`: give two numbers from 0 to 1, such as 0:0.9"
        )

    def targets(self, paths: Sequence[str]) -> list[Path]:
        """The files of the folder `out`, one for each file of the input.

        Raises InputError unless each can be written without replacing a file of the input.
        """
        folder = Path(self.out or "")
        names = [Path(path) for path in paths]
        targets = [folder / (p.stem if p.suffix in SUFFIXES else p.name) for p in names]
        for path, target in zip(paths, targets, strict=True):
            if path == "-":
                raise InputError("`out`: standard input has no name; name files")
            if target.exists() and any(target.samefile(name) for name in names):
                raise InputError(f"`out={folder}`: {target} would be replaced; name another folder")
            if targets.count(target) > 1:
                raise InputError(f"`out={folder}`: two files are named {target.name}")
        return targets

    def check(self, paths: Sequence[str]) -> None:
        """Raise InputError or OptionError for what cannot be done with these files."""
        (low, high), has_bounds = self.bounds, self.min is not None or self.max is not None
        selections = has_bounds + (self.quantiles is not None) + (self.into is not None)
        if selections > 1 or not (selections or self.dedupe):
            raise OptionError("give `min` and `max`, or `quantiles`, or `into`, or `dedupe`")
        if not low <= high:
            raise OptionError(f"`min={low:g}` and `max={high:g}`: nothing is between them")
        if self.quantiles is not None:
            _ = self.shares  # raises OptionError
        if self.out is not None:
            self.targets(paths)
        if self.shard is not None:
            parse_shard(self.shard)
        if self.into == "":
            raise OptionError("`into`: give the beginning of the names of three files")
        if self.into and not Path(self.into).parent.is_dir():
            raise InputError(f"{Path(self.into).parent}: no such folder; make it first")
        if self.reads_twice and any(path == "-" or is_stream(Path(path)) for path in paths):
            raise InputError("`quantiles` and `into` read twice: name a file, not a pipe")


@with_options
def filter(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...", help="Texts; without any, standard input.", show_default=False
        ),
    ] = None,
    *,
    options: FilterOptions,
    models: ModelOptions,
    input: InputOptions,
    machine: Annotated[MachineOptions, "threads"],
) -> None:
    """Keep the lines whose surprisal, in bits per character, is within bounds.

    Lines are kept in order and unchanged, byte for byte. A good bound depends on the model: text
    like its training text has about the bits per character that `info` shows, text of another kind
    has more, and another language or noise far more. To see lines near a bound, try `score --file
    FILE --sort bits_per_char`.
    """
    paths = files or ["-"]
    options.check(paths)
    from charlm.tasks.language_model import LanguageModel
    from charlm.uses.filtering import Bounds, Counts, Lines, Thirds, quantile_bounds, scored

    jobs, threads = options.jobs, machine.threads
    if jobs is None and threads is None and not models.ngram_only:
        pays = sum(map(plain_size, paths)) > JOBS_PAY_FROM
        jobs = cores() if pays else None
    if jobs and threads is None:
        threads = 1  # processes do not wait for each other as threads do
    loaded = None
    if options.has_scores:
        precision = PrecisionOptions(options.precision)
        loaded = load_model(LanguageModel, models, MachineOptions("cpu", threads), precision)
    encoding = text_encoding([loaded] if loaded else [], input.encoding, lenient=True)
    shard = parse_shard(options.shard) if options.shard else WHOLE
    lines = Lines(paths, encoding, options.field, input.strict, shard, options.dedupe)
    counts = Counts()
    outputs: Outputs = Bounds(*options.bounds, options.drop)
    with show_progress() as progress:
        done = show_read(progress, paths, shard.of)
        groups = _counted(scored(loaded, lines.groups(note, counts), jobs or 1), done)
        if options.reads_twice:
            bits = array("f", chain.from_iterable(bits for _, bits in groups))
            outputs = (
                Thirds.of(bits)
                if options.into
                else quantile_bounds(bits, options.shares, options.drop)
            )
            groups = lines.with_bits(bits)
        kept = _write(groups, outputs, options, paths, encoding)
    note(_summary(counts, kept, options))


def _counted(groups: Iterable[ScoredGroup], done: Callable[[int], None]) -> Iterator[ScoredGroup]:
    """The groups. `done` is called with the bytes of each that is written."""
    for group, bits in groups:
        yield group, bits
        done(sum(byte_length(line.line) for line in group.lines))


def _summary(counts: Counts, kept: Sequence[int], options: FilterOptions) -> str:
    """What became of the lines, in a line. kept: lines in each output"""
    from charlm.uses.filtering import THIRDS

    parts = [f"{kept[0]:,} kept"]
    if options.into:
        parts = [f"{n:,} in {options.into}.{name}" for n, name in zip(kept, THIRDS, strict=True)]
    else:
        dropped = counts.read - counts.skipped - counts.duplicates - kept[0]
        parts.append(f"{dropped:,} dropped")
    if options.dedupe:
        parts.append(f"{counts.duplicates:,} duplicates")
    if counts.skipped:
        parts.append(f"{counts.skipped:,} skipped")
    return f"{counts.read:,} lines read: {', '.join(parts)}"


def _write(
    groups: Iterable[ScoredGroup],
    outputs: Outputs,
    options: FilterOptions,
    paths: Sequence[str],
    encoding: str,
) -> list[int]:
    """Write each line to the output for its surprisal, in the encoding of the input.

    Returns the number of lines in each output for a surprisal.
    """
    from charlm.uses.filtering import THIRDS

    kept = [0] * (len(THIRDS) if options.into else 1)
    with ExitStack() as stack:
        if options.into:
            names = [Path(f"{options.into}.{name}") for name in THIRDS]
        else:
            names = options.targets(paths) if options.out is not None else []
        for name in names:
            name.parent.mkdir(parents=True, exist_ok=True)
        files = [stack.enter_context(writing(name)) for name in names] or [sys.stdout.buffer]
        written = [_Output(file, encoding) for file in files]
        for group, bits in groups:
            for line, value in zip(group.lines, bits, strict=True):
                if (k := outputs.number(value)) is not None:
                    kept[k] += 1
                    text = line.with_score(value) if options.score else line.line
                    output = group.file if options.out is not None else k
                    written[output].write(text, group.has_mark and not options.score)
            files[0].flush()
    return kept


class _Output:
    """A file of lines that are written as they are."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        # With "utf-16", the encoder writes one byte order mark.
        name = "utf-8" if encoding in (RAW, LENIENT) else encoding
        codec = codecs.getincrementalencoder(name)
        self.file, self.encoder = file, codec("surrogateescape")
        self.is_new, self.ends = True, True

    def write(self, line: str, has_mark: bool) -> None:
        """Write a line. has_mark: its file begins with a byte order mark"""
        before = "" if self.ends else "\n"  # a last line without a line end is no longer the last
        if self.is_new and has_mark:
            before = BYTE_ORDER_MARK
        self.is_new, self.ends = False, line.endswith("\n")
        self.file.write(self.encoder.encode(before + line))
