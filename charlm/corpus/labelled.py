"""Labelled texts, as the files of the field hold them."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from charlm.corpus.examples import ExampleError, whole_lines
from charlm.corpus.records import field_of, is_json_document, line_parser, text_of
from charlm.errors import InputError
from charlm.options import option

FASTTEXT = "__label__"
FASTTEXT_LABEL = re.compile(rf"(?<![^ \t]){FASTTEXT}([^ \t]*)[ \t]?")
COLUMNS = "columns"  # a part of a model file: the columns that it was trained on
TAB = "\t"
LABELLED = {"task": ("classify", "tag", "seq2seq")}  # tasks whose examples are read from columns


@dataclass(frozen=True)
class ColumnOptions:
    """Where examples stand in the lines of a table. The fields describe themselves."""

    text_column: str | None = option(
        None,
        "The column of the text, or of the words: a name of the heading, or a number from 1 where "
        "there is none.",
        panel="Text",
        metavar="NAME|N",
        auto="the first one, or text",
        only=LABELLED,
    )
    label_column: str | None = option(
        None,
        "The column of the label, or of the tags: a name or a number.",
        panel="Text",
        metavar="NAME|N",
        auto="the last one, or label",
        only=LABELLED,
    )

    @property
    def are_named(self) -> bool:
        """Whether a column is given."""
        return self.text_column is not None or self.label_column is not None

    @property
    def part(self) -> dict[str, ColumnOptions]:
        """The columns as a part of a model file; {} if none is given."""
        own = ColumnOptions(self.text_column, self.label_column)
        return {COLUMNS: own} if self.are_named else {}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The input of `from_state`."""
        return {"text_column": self.text_column, "label_column": self.label_column}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> ColumnOptions:
        """Restore the columns from their `state`."""
        return cls(settings["text_column"], settings["label_column"])


STANDARD = ColumnOptions()
# A line -> text and label; None for a line without an example. Raises ValueError, saying what the
# line should be.
Parser = Callable[[str], tuple[str, str] | None]


class Names(NamedTuple):
    """What the two parts of an example are called, in messages and in JSON objects.

    may_be_empty:  the first one
    """

    text: str
    label: str
    may_be_empty: bool


TEXT_AND_LABEL = Names("text", "label", may_be_empty=True)
SOURCE_AND_TARGET = Names("source", "target", may_be_empty=False)


def labelled_texts(
    blocks: Iterable[str], columns: ColumnOptions, names: Names = TEXT_AND_LABEL
) -> Iterator[tuple[list[str], list[str]]]:
    """Blocks of a file -> texts and labels, or sources and targets, by blocks.

    Blank lines are skipped. The first line says what the lines are, if no column is given: JSON
    objects with `text` and `label`; fastText's `__label__X text`; otherwise a text, a TAB and a
    label. With columns they are a table with a heading (TSV or CSV) or JSON objects; with numbers,
    a table without one.

    A text is one line: line ends in it become spaces. Labels are in the normal form NFC, without
    white space around them. Raises ExampleError for a line that is none of these.
    """
    number, parse = 0, None
    for block in whole_lines(blocks):
        texts, labels = [], []
        for line in block.removesuffix("\n").split("\n"):
            number += 1
            line = line.removesuffix("\r")
            if not line.strip() and not getattr(parse, "unfinished", None):
                continue
            try:
                parse = parse or _parser(line, columns, names)
                example = parse(line)
            except (ValueError, csv.Error) as problem:
                raise ExampleError(number, str(problem)) from None
            if example is None:
                continue
            text, label = (" ".join(part.splitlines()) for part in example)
            label = unicodedata.normalize("NFC", label.strip()).replace("\t", " ")
            if not label:
                raise ExampleError(number, f"the {names.label} is empty")
            if not (names.may_be_empty or text.strip()):
                raise ExampleError(number, f"the {names.text} is empty")
            texts.append(text)
            labels.append(label)
        if texts:
            yield texts, labels
    if unfinished := getattr(parse, "unfinished", None):
        start = number - len(unfinished) + 1
        raise ExampleError(start, "a quoted value begins here and does not end")


def _parser(first: str, columns: ColumnOptions, names: Names) -> Parser:
    """The parser for a file with this first line."""
    text, label = columns.text_column or names.text, columns.label_column or names.label
    if is_json_document(first):
        raise ValueError("a JSON array; write an object on each line: jq -c '.[]' FILE")
    if all(name.isdecimal() and int(name) for name in (text, label)):
        return _numbered(int(text), int(label))
    if columns.are_named or (first.startswith("{") and _is_json(first)):
        return _Named(first, text, label)
    if names == TEXT_AND_LABEL and (
        first.lstrip().startswith(FASTTEXT) or (TAB not in first and FASTTEXT_LABEL.search(first))
    ):
        return _fasttext
    return partial(_two_columns, names)


def _is_json(line: str) -> bool:
    try:
        return bool(line_parser(line, (), "")(line))
    except ValueError:
        return False


def _two_columns(names: Names, line: str) -> tuple[str, str]:
    """A text, a TAB and a label."""
    text, _, label = line.partition(TAB)
    if TAB in label:
        raise ValueError(
            f"has {line.count(TAB) + 1} columns; name those of the {names.text} and of the "
            f"{names.label}, such as `text_column=1` and `label_column=2`"
        )
    if TAB in line and not label.strip():
        raise ValueError(f"the {names.label} is empty")
    if not label.strip():
        raise ValueError(
            f"should be a {names.text}, a TAB and a {names.label}; for a table with a heading, "
            "name its columns with `text_column` and `label_column`"
        )
    return text, label


def _numbered(text: int, label: int) -> Parser:
    def parse(line: str) -> tuple[str, str]:
        values = line.split("\t")
        if max(text, label) > len(values):
            raise ValueError(
                f"has {len(values)} columns, and column {max(text, label)} is asked for; columns "
                "are separated by TABs"
            )
        return values[text - 1], values[label - 1]

    return parse


class _Named:
    """Reads the lines of a table with a heading, or of JSON objects."""

    def __init__(self, first: str, text: str, label: str) -> None:
        self.text, self.label = text, label
        self._fields = line_parser(first, (text, label), "")

    def __call__(self, line: str) -> tuple[str, str] | None:
        try:
            record = self._fields(line)
        except InputError as error:  # such as a heading without one of the columns
            raise ValueError(str(error)) from None
        if record is None:
            return None
        label = field_of(record, self.label)
        if isinstance(label, bool | int | float):
            label = json.dumps(label)
        return text_of(record, self.text), text_of({self.label: label}, self.label)

    @property
    def unfinished(self) -> Sequence[str]:
        """The lines of a record of CSV that goes on."""
        return getattr(self._fields, "unfinished", ())


def _fasttext(line: str) -> tuple[str, str]:
    """`__label__X text`; the label may also come last."""
    labels = FASTTEXT_LABEL.findall(line)
    if not labels:
        raise ValueError(f"should be {FASTTEXT}X and a text")
    if len(labels) > 1:
        raise ValueError(f"has {len(labels)} labels ({FASTTEXT}…), and should have one")
    return FASTTEXT_LABEL.sub("", line).strip(), labels[0]
