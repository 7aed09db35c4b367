"""`charlm filter`: keep the lines of a text that are as probable as they should be."""

from __future__ import annotations

import codecs
import math
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from charlm.cli.common import (
    EncodingOption,
    ModelOption,
    NetworkOnlyOption,
    ThreadsOption,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.inputs import StrictOption, show_read
from charlm.corpus.reading import RAW, is_stream
from charlm.engines.scores import byte_length
from charlm.errors import InputError, OptionError
from charlm.files import writing
from charlm.model.devices import cores
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.uses.filtering import Line

PARTS, EDGES = ("head", "middle", "tail"), (0.3, 0.6)  # as in CCNet (Wenzek et al. 2020)


def filter(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...", help="Texts; without any, standard input.", show_default=False
        ),
    ] = None,
    low: Annotated[
        float | None,
        typer.Option("--min", metavar="BITS", help="Keep lines with this many bits or more."),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option("--max", metavar="BITS", help="Keep lines with this many bits or fewer."),
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="Keep lines between these quantiles of the bits of all lines, such as 0:0.9. The "
            "files are read twice.",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Write all lines to three files: PREFIX.head has the 30 % with the fewest bits, "
            "PREFIX.middle the next 30 %, PREFIX.tail the rest.",
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop these lines, and keep the others.")
    ] = False,
    score: Annotated[
        bool, typer.Option("--score", help="Write the bits per character before each line.")
    ] = False,
    field: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The lines are JSON objects, and this field is scored."),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes that score.")] = 1,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    strict: StrictOption = False,
    encoding: EncodingOption = "utf-8",
    threads: ThreadsOption = None,
) -> None:
    """Keep the lines whose surprisal, in bits per character, is within bounds.

    The order stays, and the lines stay as they are.
    """
    if jobs < 1:
        raise OptionError(f"`jobs={jobs}`: must be 1 or more")
    shares = _parse(quantiles) if quantiles is not None else None
    if sum([low is not None or high is not None, shares is not None, into is not None]) != 1:
        raise OptionError("give `min` and `max`, or `quantiles`, or `into`")
    if into == "":
        raise OptionError("`into`: give the beginning of the names of three files")
    if into and drop:
        raise OptionError("`drop`: goes with bounds, and `into` writes all lines")
    if into and not Path(into).parent.is_dir():
        raise InputError(f"{Path(into).parent}: no such folder; make it first")
    edges = [-math.inf if low is None else low, math.inf if high is None else high]
    if not edges[0] <= edges[1]:
        raise OptionError(f"`min={edges[0]:g}` and `max={edges[1]:g}`: nothing is between them")
    paths = files or ["-"]
    if (shares or into) and any(path == "-" or is_stream(Path(path)) for path in paths):
        raise InputError("`quantiles` and `into` read twice: name a file, not a pipe")
    from charlm.corpus.records import BrokenLines
    from charlm.tasks.lm import LanguageModel
    from charlm.uses.filtering import read_lines, scored, with_score

    if threads is None and jobs > 1:
        threads = max(cores() // jobs, 1)
    loaded = load_model(model, LanguageModel, "cpu", threads, network_only)
    name = RAW if encoding == "utf-8" else text_encoding([loaded], encoding)

    def groups(warn: Callable[[str], None] = note) -> Iterator[list[Line]]:
        for path in paths:
            yield from read_lines(path, name, field, BrokenLines(path, strict, warn))

    def results() -> Iterator[tuple[list[Line], Sequence[float]]]:
        """The lines and their bits per character, in groups."""
        with show_progress() as progress:
            show = show_read(progress, paths)
            for group, bits in scored(loaded, groups(), jobs):
                yield group, bits
                show(sum(byte_length(line.line) + 1 for line in group))

    def results_again(bits: Sequence[float]) -> Iterator[tuple[list[Line], Sequence[float]]]:
        """`results` without scoring, for the bits of all lines."""
        start = 0
        for group in groups(lambda _: None):
            yield group, bits[start : start + len(group)]
            start += len(group)

    found = results()
    if shares or into:
        all_bits = array("f", chain.from_iterable(bits for _, bits in found))
        edges = np.quantile(all_bits, shares or EDGES).tolist() if all_bits else edges
        found = results_again(all_bits)
    encoder = codecs.getincrementalencoder("utf-8" if name == RAW else name)
    with ExitStack() as stack:
        outputs = [sys.stdout.buffer]
        if into:
            outputs = [stack.enter_context(writing(Path(f"{into}.{part}"))) for part in PARTS]
        encoders = [encoder("surrogateescape") for _ in outputs]  # a byte order mark comes once
        for group, bits in found:
            for line, value in zip(group, bits, strict=True):
                place = 0 if into is None else int(np.searchsorted(edges, value))
                if into is None and (edges[0] <= value <= edges[1]) == drop:
                    continue
                text = with_score(line.line, value, field is not None) if score else line.line
                outputs[place].write(encoders[place].encode(f"{text}\n"))
            outputs[0].flush()


def _parse(quantiles: str) -> tuple[float, float]:
    """The numbers of "LOW:HIGH". Raises OptionError for anything else."""
    try:
        low, high = map(float, quantiles.split(":"))
        if 0 <= low < high <= 1:
            return low, high
    except ValueError:
        pass
    raise OptionError(f"`quantiles={quantiles}`: give two numbers from 0 to 1, such as 0:0.9")
