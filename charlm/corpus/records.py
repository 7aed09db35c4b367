"""Records of files: tables (TSV, CSV) with a heading, JSON lines, and JSON arrays of objects."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from charlm.corpus.reading import Corpus
from charlm.errors import InputError

DELIMITERS = "\t,;|"
LINES_NAMED = 3  # of those that cannot be read
DETAIL = re.compile(r"'[^']*'|\(.*\)$")  # what differs between messages about one problem


class Record(NamedTuple):
    """A record and the number of its last line, from 1. The fields are text, or what JSON holds."""

    line: int
    fields: dict[str, Any]


@dataclass
class Problem:
    """What is wrong with lines of a file.

    message:  about the first one
    lines:    the first ones
    count:    of all of them
    """

    message: str
    lines: list[int] = field(default_factory=list)
    count: int = 0


class BrokenLines:
    """What happens to the lines of a file that cannot be read: they are skipped, or are an error.

    path:     of the file
    strict:   a broken line is an error
    warn:     takes a line about the lines that are skipped

    skipped:  number of lines so far
    """

    def __init__(self, path: str, strict: bool, warn: Callable[[str], None]) -> None:
        self.name = "standard input" if path == "-" else path
        self.strict, self.warn = strict, warn
        self._problems: dict[str, Problem] = {}

    @property
    def skipped(self) -> int:
        return sum(problem.count for problem in self._problems.values())

    def report(self, line: int, problem: object) -> None:
        """Remember what is wrong with a line. Raises InputError if `strict`."""
        message = str(problem)
        if self.strict:
            raise InputError(f"{self.name}, line {line}: {message}; without `strict` it is skipped")
        same = self._problems.setdefault(DETAIL.sub("", message), Problem(message))
        same.count += 1
        if same.count <= LINES_NAMED:
            same.lines.append(line)

    def finish(self, read: int, summary: bool = True) -> None:
        """Warn about all lines that were skipped, once for each problem.

        read:     number of lines that were read
        summary:  also say how many were read and skipped

        Raises InputError if no line could be read.
        """
        for problem in self._problems.values():
            if not read:
                raise InputError(f"{self._described(problem)}; no line of it can be read")
            self.warn(f"warning: {self._described(problem)}; skipped")
        if self._problems and summary:
            self.warn(f"{self.name}: {read:,} lines read, {self.skipped:,} skipped")

    def _described(self, problem: Problem) -> str:
        lines = ", ".join(f"{line:,}" for line in problem.lines)
        if problem.count == 1:
            return f"{self.name}, line {lines}: {problem.message}"
        more = ", …" if problem.count > len(problem.lines) else ""
        return f"{self.name}: {problem.count:,} lines ({lines}{more}): {problem.message}"


def read_records(
    path: str, encoding: str, texts: Sequence[str], columns: Sequence[str], broken: BrokenLines
) -> Iterator[list[Record]]:
    """The records of a file in groups; of a pipe, those that have arrived together.

    Records before an error are in a group before it is raised.

    path:      "-" is standard input
    encoding:  see `Corpus`
    texts:     the columns, or the fields of JSON objects, that every record must have as text
    columns:   others that every record must have

    The first line says what the file is, see `line_parser`. Blank lines are skipped. Raises
    InputError for a heading without a required column, and for a file without any such record.
    """
    parse: LineParser | None = None
    number = read = 0
    groups = Corpus([path], encoding=encoding, once=True).line_groups()
    for group in groups:
        if parse is None and (first := next(filter(str.strip, group), None)) is not None:
            if is_json_document(first):
                whole = "\n".join(chain(group, chain.from_iterable(groups)))
                group = list(map(json.dumps, json_objects(whole, broken.name)))
                first, groups = "{", iter(())
            parse = line_parser(first, (*texts, *columns), broken.name, path)
        records = []
        for line in group:
            number += 1
            try:
                fields = parse(line) if parse else None
                if fields is not None:
                    for name in texts:
                        text_of(fields, name)
                    for name in columns:
                        field_of(fields, name)
                    records.append(Record(number, fields))
            except ValueError as problem:
                if broken.strict:
                    yield records
                broken.report(number, problem)
        read += len(records)
        yield records
    if unfinished := getattr(parse, "unfinished", ()):
        broken.report(number - len(unfinished) + 1, "a quoted value begins here and does not end")
    broken.finish(read)


# --- JSON


def is_json_document(first: str) -> bool:
    """Whether a file with this first line is one JSON value, and not a value on each line."""
    return bool(re.match(r"\s*(?:\[\s*(?:\{|$)|\{\s*$)", first))


def json_objects(text: str, name: str) -> list[dict[str, Any]]:
    """The objects of a JSON array, or the only object. name: of the file

    Raises InputError for anything else.
    """
    try:
        return objects_of(json.loads(text), name)
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error})") from None


def objects_of(value: Any, name: str) -> list[dict[str, Any]]:
    """`json_objects` of a value that is parsed already."""
    objects = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in objects):
        raise InputError(f"{name}: a JSON array of other values than objects")
    return objects


def json_object(line: str) -> dict[str, Any]:
    """The JSON object of a line. Raises ValueError for anything else."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def field_of(fields: Mapping[str, Any], name: str) -> Any:
    """A field of a record. Raises ValueError if there is none of this name."""
    if name not in fields:
        raise ValueError(f"no field {name!r}; there is {quoted(fields) or 'none'}")
    return fields[name]


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """The text in a field of a record. Raises ValueError if it holds anything else."""
    value = field_of(fields, name)
    if isinstance(value, str):
        return value
    kinds = {bool: "a truth value", int: "a number", float: "a number", list: "a list"}
    kind = "null" if value is None else kinds.get(type(value), "an object")
    raise ValueError(f"{name!r} is {kind}, and not text")


def quoted(names: Iterable[str]) -> str:
    """Names in quotes, for messages."""
    return ", ".join(map(repr, names))


# --- tables

# Takes the lines of a file in their order, and returns their fields: None for a heading, a blank
# line and a line that goes on in the next one. Raises ValueError for a broken line.
LineParser = Callable[[str], dict[str, Any] | None]


def has_column(first: str, column: str) -> bool:
    """Whether the first line of a file is a JSON object with this field, or a heading with it."""
    try:
        parse = line_parser(first, [column], "")
        fields = parse(first)
        return column in ((parse.heading or ()) if isinstance(parse, Separated) else fields or ())
    except (ValueError, InputError):
        return False


def line_parser(first: str, required: Sequence[str], name: str, path: str = "") -> LineParser:
    """The parser for a file with this first line: JSON objects, or a table with a heading.

    required:  columns of the heading. The delimiter is one that separates them, a tab, a comma, a
               semicolon or a bar; it is the most frequent one if none does
    name:      of the file, for errors
    path:      its suffix counts only for a heading without any delimiter
    """
    if first.lstrip().startswith("{"):
        return lambda line: json_object(line) if line.strip() else None
    if "\r" in first.removesuffix("\r") and '"' not in first:
        prefix = f"{name}: " if name else ""
        raise InputError(
            f"{prefix}carriage returns without line feeds; convert the file: tr '\\r' '\\n'"
        )
    return Separated(delimiter_of(first, required, path), required, name)


def delimiter_of(heading: str, required: Sequence[str], path: str = "") -> str:
    """The delimiter of a table, see `line_parser`."""
    for delimiter in DELIMITERS:
        if {*required} <= {value.strip() for value in _split(heading, delimiter)}:
            if delimiter in heading:
                return delimiter
    best = max(DELIMITERS, key=heading.count)
    return best if best in heading or not path.endswith(".csv") else ","


def _split(line: str, delimiter: str, has_blanks: bool = False) -> list[str]:
    """The values of a line. has_blanks: before each value, and they do not count"""
    if delimiter == "\t":
        return line.split("\t")
    try:
        rows = csv.reader([line], delimiter=delimiter, skipinitialspace=has_blanks)
        return next(rows, [])
    except csv.Error:
        raise ValueError("a carriage return in a value; put the value in quotes") from None


class Separated:
    """Reads the lines of a table with a heading.

    delimiter:  what stands between values. Unless it is a TAB, the table is CSV: a value in quotes
                may hold the delimiter, and line ends
    required:   columns of the heading
    name:       of the file, for errors

    Blanks after each delimiter of the heading do not count, nor do they in the values then.
    """

    def __init__(self, delimiter: str, required: Sequence[str], name: str) -> None:
        self.delimiter, self.required, self.name = delimiter, required, name
        self.heading: list[str] | None = None
        self.has_blanks = False
        self.unfinished: list[str] = []  # lines of a record whose last value goes on
        csv.field_size_limit(1 << 30)

    def __call__(self, line: str) -> dict[str, Any] | None:
        starts_within = bool(self.unfinished)
        if self.delimiter != "\t" and _goes_on(
            line, starts_within, self.delimiter, self.has_blanks
        ):
            self.unfinished.append(line)
            return None
        line, self.unfinished = "\n".join([*self.unfinished, line]), []
        if not line:
            return None
        if self.heading is None:
            self.heading = self._read_heading(line)
            return None
        values = self.values(line)
        if len(values) != len(self.heading):
            raise ValueError(f"{len(values)} values, and the heading has {len(self.heading)}")
        return dict(zip(self.heading, values, strict=True))

    def values(self, line: str) -> list[str]:
        """The values of a whole record."""
        values = _split(line, self.delimiter, self.has_blanks)
        return [value.strip(" ") for value in values] if self.has_blanks else values

    def _read_heading(self, line: str) -> list[str]:
        columns = _split(line, self.delimiter)
        if all(column.startswith(" ") for column in columns[1:]) and len(columns) > 1:
            self.has_blanks = True
            columns = [value.strip() for value in _split(line, self.delimiter, has_blanks=True)]
        name = f"{self.name}: " if self.name else ""
        for column in columns:
            if columns.count(column) > 1:
                raise InputError(f"{name}two columns are named {column!r}; rename one")
        for column in self.required:
            if column not in columns:
                raise InputError(f"{name}no column {column!r}; its heading has {quoted(columns)}")
        return columns


def _goes_on(line: str, quoted: bool, delimiter: str, has_blanks: bool = False) -> bool:
    """Whether a quoted value goes on after a line of CSV.

    quoted:      the line begins in a quoted value
    has_blanks:  blanks before a value do not count

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
        elif at_start and has_blanks and line[k] == " ":
            k += 1
        elif at_start and line[k] == '"':
            quoted, k = True, k + 1
        else:
            k = line.find(delimiter, k) + 1
            if not k:
                return False
            at_start = True
    return quoted
