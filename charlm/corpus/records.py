"""Records of files: tables (TSV, CSV) with a heading, and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charlm.corpus.reading import OPENERS, Corpus
from charlm.errors import InputError

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}


class Record(NamedTuple):
    """A record and the number of its last line, from 1. The fields are text, or what JSON holds."""

    line: int
    fields: dict[str, Any]


class BrokenLines:
    """What happens to lines that cannot be read: they are named and skipped, or are an error.

    path:    of their file
    strict:  raise InputError
    warn:    takes the name of a line that is skipped, and what is wrong with it
    """

    def __init__(self, path: str, strict: bool, warn: Callable[[str], None]) -> None:
        self.name = "standard input" if path == "-" else path
        self.strict, self.warn = strict, warn

    def report(self, line: int, problem: object) -> None:
        """Report what is wrong with a line."""
        message = f"{self.name}, line {line}: {problem}"
        if self.strict:
            raise InputError(f"{message}; without `strict` the line is skipped")
        self.warn(f"warning: {message}; the line is skipped")


def read_records(
    path: str, encoding: str, text: str, columns: Sequence[str], broken: BrokenLines
) -> Iterator[list[Record]]:
    """The records of a file in groups; of a pipe, those that have arrived together.

    Records before an error are in a group before it is raised.

    path:      "-" is standard input
    encoding:  see `Corpus`
    text:      the column, or the field of JSON objects, that every record must have as text
    columns:   others that every record must have

    The suffix says what the file is (.csv, .tsv, .json, .jsonl, .ndjson); otherwise its first line
    does. Blank lines are skipped. Raises InputError for a heading without a required column.
    """
    read: Callable[[str], dict[str, Any] | None] | None = None
    required = (text, *columns)
    number = 0
    for group in Corpus([path], encoding=encoding, once=True).line_groups():
        records = []
        for line in group:
            number += 1
            if read is None:
                read = line_parser(path, line, required, broken.name)
            try:
                fields = read(line)
                if fields is not None:
                    _check_fields(fields, text, columns)
                    records.append(Record(number, fields))
            except csv.Error:
                if broken.strict:
                    yield records
                broken.report(number, "a carriage return in a value; put the value in quotes")
            except ValueError as problem:
                if broken.strict:
                    yield records
                broken.report(number, problem)
        yield records
    if isinstance(read, _Separated) and read.unfinished:
        start = number - len(read.unfinished) + 1
        broken.report(start, "a quoted value begins here and does not end")


def line_parser(
    path: str, first: str, required: Sequence[str], name: str
) -> Callable[[str], dict[str, Any] | None]:
    """A function from the lines of a file, in their order, to their fields.

    It returns None for a heading, a blank line, and a line that goes on in the next one; and raises
    ValueError for a broken line.
    """
    file = Path(path)
    kind = SUFFIXES.get((file.with_suffix("") if file.suffix in OPENERS else file).suffix)
    if kind is None:
        kind = "json" if first.startswith("{") else "tsv" if "\t" in first else "csv"
    if kind == "json":
        return lambda line: json_object(line) if line.strip() else None
    separator = "\t"
    if kind == "csv":
        separator = ";" if ";" in first and "," not in first else ","
    return _Separated(separator, required, name)


def json_object(line: str) -> dict[str, Any]:
    """The JSON object of a line. Raises ValueError for anything else."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


class _Separated:
    """Reads the lines of a table with a heading.

    separator:  what stands between values. Unless it is a TAB, the table is CSV: a value in quotes
                may hold the separator, and line ends
    """

    def __init__(self, separator: str, required: Sequence[str], name: str) -> None:
        self.separator, self.required, self.name = separator, required, name
        self.quoted = separator != "\t"
        self.heading: list[str] | None = None
        self.unfinished: list[str] = []  # lines of a record whose last value goes on
        csv.field_size_limit(1 << 30)

    def __call__(self, line: str) -> dict[str, Any] | None:
        if self.quoted and _goes_on(line, bool(self.unfinished), self.separator):
            self.unfinished.append(line)
            return None
        line, self.unfinished = "\n".join([*self.unfinished, line]), []
        if not line:
            return None
        values = (
            next(csv.reader([line], delimiter=self.separator)) if self.quoted else line.split("\t")
        )
        if self.heading is None:
            self.heading = values
            for column in values:
                if values.count(column) > 1:
                    raise InputError(f"{self.name}: two columns are named {column!r}; rename one")
            for column in self.required:
                if column not in values:
                    name = f"{self.name}: " if self.name else ""
                    raise InputError(
                        f"{name}no column {column!r}; its heading has {', '.join(values)}"
                    )
            return None
        if len(values) != len(self.heading):
            raise ValueError(f"{len(values)} values, and the heading has {len(self.heading)}")
        return dict(zip(self.heading, values, strict=True))


def _goes_on(line: str, quoted: bool, separator: str) -> bool:
    """Whether a quoted value goes on after a line of CSV.

    quoted:  the line begins in a quoted value

    A quotation mark opens a value only as its first character.
    """
    k, at_start = 0, True
    while k < len(line):
        if quoted:
            k = line.find('"', k)
            if k < 0:
                return True
            quoted, at_start = line[k + 1 : k + 2] == '"', False  # a double one is a character
            k += 1 + quoted
        elif at_start and line[k] == '"':
            quoted, k = True, k + 1
        else:
            k = line.find(separator, k) + 1
            if not k:
                return False
            at_start = True
    return quoted


def _check_fields(fields: dict[str, Any], text: str, columns: Sequence[str]) -> None:
    """Raise ValueError for a record without one of these."""
    for name in (text, *columns):
        if name not in fields:
            raise ValueError(f"no {name!r}")
    if not isinstance(fields[text], str):
        raise ValueError(f"no text {text!r}")
