"""`charlm filter`: keep the lines of a text whose surprisal is within bounds."""

from __future__ import annotations

import codecs
import math
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.inputs import show_read
from charlm.cli.options import with_options
from charlm.corpus.reading import RAW, is_stream
from charlm.engines.scores import byte_length
from charlm.errors import InputError, OptionError
from charlm.files import writing
from charlm.model.devices import cores
from charlm.options import Range, option
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.uses.filtering import Bounds, ScoredLines, Thirds

    Outputs = Bounds | Thirds


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
    jobs: int = option(1, "Processes that score.", Range(1), metavar="N")

    @property
    def reads_twice(self) -> bool:
        """Whether the bounds depend on the scores of all lines."""
        return self.quantiles is not None or self.into is not None

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

    def check(self, paths: Iterable[str]) -> None:
        """Raise InputError or OptionError for what cannot be done with these files."""
        (low, high), has_bounds = self.bounds, self.min is not None or self.max is not None
        if has_bounds + (self.quantiles is not None) + (self.into is not None) != 1:
            raise OptionError("give `min` and `max`, or `quantiles`, or `into`")
        if not low <= high:
            raise OptionError(f"`min={low:g}` and `max={high:g}`: nothing is between them")
        if self.quantiles is not None:
            _ = self.shares  # raises OptionError
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

    Lines are kept in order and unchanged.
    """
    paths = files or ["-"]
    options.check(paths)
    from charlm.tasks.language_model import LanguageModel
    from charlm.uses.filtering import Bounds, Lines, Thirds, quantile_bounds, scored

    threads = machine.threads
    if threads is None and options.jobs > 1:
        threads = max(cores() // options.jobs, 1)
    loaded = load_model(LanguageModel, models, MachineOptions("cpu", threads))
    encoding = input.encoding
    encoding = RAW if encoding == "utf-8" else text_encoding([loaded], encoding)
    lines = Lines(paths, encoding, options.field, input.strict)
    with show_progress() as progress:
        done = show_read(progress, paths)
        groups = _counted(scored(loaded, lines.groups(note), options.jobs), done)
        if not options.reads_twice:
            return _write(groups, Bounds(*options.bounds, options.drop), options, encoding)
        bits = array("f", chain.from_iterable(bits for _, bits in groups))
    outputs: Outputs = (
        Thirds.of(bits) if options.into else quantile_bounds(bits, options.shares, options.drop)
    )
    _write(lines.with_bits(bits), outputs, options, encoding)


def _counted(groups: Iterable[ScoredLines], done: Callable[[int], None]) -> Iterator[ScoredLines]:
    """The groups. `done` is called with the bytes of each that is written."""
    for lines, bits in groups:
        yield lines, bits
        done(sum(byte_length(line.line) + 1 for line in lines))


def _write(
    groups: Iterable[ScoredLines], outputs: Outputs, options: FilterOptions, encoding: str
) -> None:
    """Write each line to the output for its surprisal, in the encoding of the input."""
    from charlm.uses.filtering import THIRDS

    codec = codecs.getincrementalencoder("utf-8" if encoding == RAW else encoding)
    with ExitStack() as stack:
        files = [sys.stdout.buffer]
        if options.into:
            paths = (Path(f"{options.into}.{name}") for name in THIRDS)
            files = [stack.enter_context(writing(path)) for path in paths]
        encoders = [codec("surrogateescape") for _ in files]  # a byte order mark comes once
        for lines, bits in groups:
            for line, value in zip(lines, bits, strict=True):
                if (k := outputs.number(value)) is not None:
                    text = line.with_score(value) if options.score else line.line
                    files[k].write(encoders[k].encode(f"{text}\n"))
            files[0].flush()
