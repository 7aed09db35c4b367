"""What the commands share: options that several have, and how results and notes are written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.errors import OptionError
from charlm.training.reporter import clock

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel

STARTED = time.monotonic()  # near enough: the command line is the first thing to be loaded

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="FILE|FOLDER",
        help="The model; else $CHARLM_MODEL, else the run trained last from here.",
    ),
]  # fmt: skip
EncodingOption = Annotated[
    str, typer.Option("--encoding", help="Of the file, such as latin-1 or cp1252.")
]
MOST_UNKNOWN_NAMED = 10
SECONDS_BETWEEN = 0.25  # of two showings of progress


def load_named(model: str | None) -> LanguageModel:
    """Load the model that is meant, and say on stderr which it is."""
    from charlm.language_model import load

    loaded = load(model)
    note(f"model: {loaded.path}")
    return loaded


def text_encoding(model: LanguageModel, wanted: str) -> str:
    """How a text for this model is read: a byte model takes every byte as it is."""
    from charlm.corpus.reading import RAW

    return RAW if model.tokenizer.level == "byte" else wanted


def read_lines(path: str, encoding: str) -> Iterator[str]:
    """The lines of a file; "-" is standard input."""
    from charlm.corpus.reading import Corpus

    if path == "-" and sys.stdin.isatty():
        note("reading sentences, one a line, until Ctrl-D")
    return Corpus([path], encoding=encoding).lines()


def note(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def waiting() -> Iterator[Callable[[float], None]]:
    """A function that shows, on a terminal, what part of long work is done and the time left, in
    one line that goes away in the end."""
    started = shown = time.monotonic()

    def show(fraction: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if not sys.stderr.isatty() or now < shown + SECONDS_BETWEEN or not fraction:
            return
        shown = now
        left = clock((now - started) * (1 - fraction) / fraction)
        sys.stderr.write(f"\r\x1b[K{fraction:4.0%} · {left} left")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if shown > started:
            sys.stderr.write("\r\x1b[K")


def warn_unknown(pieces: Iterable[str]) -> None:
    """Name the pieces of a text that the model has never seen, if there are any."""
    distinct = list(dict.fromkeys(pieces))
    if not distinct:
        return
    named = ", ".join(repr(piece) for piece in distinct[:MOST_UNKNOWN_NAMED])
    more = ", …" if len(distinct) > MOST_UNKNOWN_NAMED else ""
    note(f"warning: the model has never seen {named}{more}; read as <UNK>")


def choose_format(wanted: str | None, choices: Sequence[str]) -> str:
    """The format asked for; else a table on a terminal, and TSV in a pipe."""
    if wanted is None:
        return "table" if sys.stdout.isatty() else "tsv"
    if wanted not in choices:
        raise OptionError(f"--format {wanted}: choose {', '.join(choices)}")
    return wanted


def tsv_row(values: Iterable[object]) -> str:
    """Values parted by tabs; a tab, line end or backslash within one is escaped."""
    return "\t".join(_tsv_field(value) for value in values)


def _tsv_field(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def write(text: str) -> None:
    """Write a line of the result; what cannot be encoded is replaced, never a crash."""
    sys.stdout.write(printable(text) + "\n")


def printable(text: str) -> str:
    """The text without lone surrogates and what else stdout cannot take."""
    encoding = sys.stdout.encoding or "utf-8"
    clean = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return clean.encode(encoding, "replace").decode(encoding)


def write_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout: columns are (heading, "left" or "right")."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in columns:
        table.add_column(
            heading, justify="right" if justify == "right" else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False).print(table)
