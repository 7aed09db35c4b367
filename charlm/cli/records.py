"""How commands print records: a table on a terminal, TSV in a pipe, or JSON lines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

import typer

from charlm.options import Choices, option

FORMATS = ("table", "tsv", "json")
SURROGATE = re.compile("[\ud800-\udfff]")
NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates of no byte
UNLIMITED = 1 << 20  # characters of a line
FAINTEST = 0.1  # share of the strongest colour that is shown


def format_option(*more: str) -> Any:
    """The option `format` of a dataclass. more: formats besides the usual ones"""
    return option(None, "", Choices((*FORMATS, *more)), auto="table on a terminal, TSV in a pipe")


@dataclass(frozen=True)
class FormatOptions:
    """The format of the records that a command writes. The field describes itself."""

    format: str | None = format_option()

    @property
    def chosen_format(self) -> str:
        """The format, or the default one."""
        return self.format or ("table" if sys.stdout.isatty() else "tsv")


def open_streams() -> None:
    """Make stdout write every character: as UTF-8, or on a terminal as an escape if need be.

    In a pipe, a byte of the input that is not UTF-8 is written as it was, and on stderr one in the
    name of a file.
    """
    if isinstance(sys.stderr, TextIOWrapper) and sys.stderr.encoding.lower() == "utf-8":
        sys.stderr.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def write(text: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(printable(text) + "\n")


def write_json(record: Mapping[str, Any]) -> None:
    """Write a record as a line of JSON. What is not UTF-8 is written as an escape."""
    text = json.dumps(record, ensure_ascii=False)
    write(SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def write_tsv(
    records: Iterable[Mapping[str, object]], columns: Sequence[str] = (), headed: bool = True
) -> None:
    """Write records as TSV, with a heading.

    columns:  the heading; without it the names of the first record, if there is one. A field that
              only later records have is left out, with a warning
    headed:   False for further rows: without a heading
    """
    left_out: dict[str, None] = {}
    if columns and headed:
        write(_tsv_row(columns))
    for record in records:
        if not columns:
            columns = tuple(record)
            if headed:
                write(_tsv_row(columns))
        write(_tsv_row(record.get(name, "") for name in columns))
        left_out |= dict.fromkeys(name for name in record if name not in columns)
    if left_out:
        names = ", ".join(left_out)
        typer.echo(f"warning: left out, since the first row does not have it: {names}", err=True)


def beside(
    columns: Mapping[str, Any], record: Mapping[str, Any], prefix: str = "charlm_"
) -> dict[str, Any]:
    """The columns of the input, then the record.

    prefix:  of a name of the record that is also a column's
    """
    both = dict(columns)
    for name, value in record.items():
        while name in columns:
            name = f"{prefix}{name}"
        both[name] = value
    return both


def write_table(
    columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], headed: bool = True
) -> None:
    """Write a table. Columns are (heading, "left" or "right"); bars have no heading.

    A terminal gets lines of its width; anything else gets whole cells.

    headed:  False for further rows of the table before: without headings
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=headed)
    for heading, justify in columns:
        table.add_column(
            heading,
            justify="right" if justify == "right" else "left",
            overflow="fold" if heading else "crop",
            no_wrap=not heading,
            min_width=len(heading),
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else UNLIMITED).print(table)


def write_coloured(pieces: Iterable[tuple[str, float]], end: str) -> None:
    """Write pieces of text on a background from none, for 0, to red, for 1, and to blue, for −1;
    and then `end`."""
    from rich.console import Console
    from rich.text import Text

    line = Text()
    for text, share in pieces:
        level = min(abs(share), 1.0)
        strong, weak = round(235 - 145 * level), round(190 - 110 * level)
        colour = f"255,{strong},{weak}" if share > 0 else f"{weak},{strong},255"
        line.append(printable(text), f"black on rgb({colour})" if level >= FAINTEST else None)
    line.append(printable(end))
    Console(highlight=False).print(line)


def has_colours() -> bool:
    """Whether stdout shows shades of colours: 16 colours are too few."""
    from rich.console import Console

    console = Console()
    return console.color_system in ("256", "truecolor") and not console.no_color


def printable(text: str) -> str:
    """The text with U+FFFD for what stdout cannot write: lone surrogates, and on a terminal those
    of bytes that are not UTF-8."""
    return (SURROGATE if sys.stdout.isatty() else NO_BYTE).sub("\ufffd", text)


def _tsv_row(values: Iterable[object]) -> str:
    """Values separated by tabs. Tabs, line ends and backslashes within a value are escaped."""
    return "\t".join(_tsv_field(value) for value in values)


def _tsv_field(value: object) -> str:
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif value is None or isinstance(value, str):
        text = value or ""
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
