"""What commands share: options that several have, loading a model, and notes on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from charlm.cli.options import as_flags
from charlm.errors import OptionError

if TYPE_CHECKING:
    from charlm.tasks.base import TrainedModel

    M = TypeVar("M", bound=TrainedModel)

STARTED = time.monotonic()  # about the start of the program: the command line is loaded first

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE|FOLDER",
        help="The model. [default: $CHARLM_MODEL, else the run trained last from here]",
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE|FOLDER",
        help="The model; several are put side by side. [default: $CHARLM_MODEL, else the run "
        "trained last from here]",
    ),
]
EncodingOption = Annotated[
    str,
    typer.Option(
        "--encoding", metavar="NAME", help="Encoding of the file, such as latin-1 or cp1252."
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|mps", help="Where to compute large amounts of text."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Threads of the CPU. [default: all cores]"),
]
NetworkOnlyOption = Annotated[
    bool, typer.Option("--network-only", help="Leave the model's n-gram part out.")
]
MOST_UNKNOWN_NAMED = 10


def load_model(
    name: str | None,
    kind: type[M],
    device: str = "auto",
    threads: int | None = None,
    network_only: bool = False,
) -> M:
    """Load a model that must be of this kind, and name it on stderr."""
    from charlm.api import load

    loaded = load(name, kind=kind, device=device, threads=threads, network_only=network_only)
    note(f"model: {loaded.path}")
    return loaded


def text_encoding(models: Sequence[TrainedModel], encoding: str) -> str:
    """The encoding of a text for these models: byte models take every byte as it is."""
    from charlm.corpus.reading import RAW

    if not all(model.tokenizer.reads_bytes for model in models):
        return encoding
    if encoding != "utf-8":
        raise OptionError(f"`encoding={encoding}`: the model reads bytes; leave the option out")
    return RAW


def refuse(when: bool, why: str, **options: object) -> None:
    """Raise OptionError for the first of the options that is given, in some cases.

    when:  the case is there
    why:   what is wrong with the option
    """
    for name, value in options.items():
        if when and value is not None and value is not False:
            raise OptionError(f"`{name}={value}`: {why}")


def read_groups(path: str, encoding: str) -> Iterator[list[str]]:
    """The lines of a file in groups; of standard input, "-", those that have arrived together."""
    from charlm.corpus.reading import Corpus

    if path == "-" and sys.stdin.isatty():
        note("reading sentences, one a line, until Ctrl-D")
    return Corpus([path], encoding=encoding, once=True).line_groups()


def read_lines(path: str, encoding: str) -> Iterator[str]:
    """The lines of a file; "-" is standard input."""
    return chain.from_iterable(read_groups(path, encoding))


def note(text: str) -> None:
    """Write a line to stderr. Arguments in backticks become options."""
    typer.echo(as_flags(text), err=True)


def warn_unknown(pieces: Iterable[str], read_as: str = "read as <UNK>") -> None:
    """Warn about pieces of a text that are not in the vocabulary, if there are any."""
    distinct = list(dict.fromkeys(pieces))
    if not distinct:
        return
    named = ", ".join(repr(piece) for piece in distinct[:MOST_UNKNOWN_NAMED])
    more = ", …" if len(distinct) > MOST_UNKNOWN_NAMED else ""
    typer.echo(f"warning: the model has never seen {named}{more}; {read_as}", err=True)
