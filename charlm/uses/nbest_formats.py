"""Formats of n-best lists. A line of a list looks like this:

moses   id ||| hypothesis ||| features ||| total
srilm   acoustic score, old language model score, number of words, words (base 10)
kaldi   utterance-N words
tsv     a heading with id, hypothesis and perhaps score; commas or semicolons are read, too
json    an object with these fields

In the first three, words are separated by white space of any kind and length: a hypothesis is
scored with one space between its words. In the others a hypothesis is scored as it stands.
"""

from __future__ import annotations

import csv
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import chain, islice
from typing import Any, ClassVar

from charlm.corpus.records import (
    DELIMITERS,
    BrokenLines,
    Separated,
    delimiter_of,
    field_of,
    has_column,
    is_json_document,
    json_object,
    json_objects,
    text_of,
)

ID, TEXT, SCORE = "id", "hypothesis", "score"
SEPARATOR, TAB = " ||| ", "\t"
ENDS = ("<s>", "</s>")  # of a line of SRILM; they are no words


@dataclass(frozen=True)
class Hypothesis:
    """One line of a list.

    list:   name of the list
    text:   the words, as they are scored
    score:  the list's own, without the language model
    source: the fields of its line that are written again
    written_text:  the words as they stand in the line
    """

    list: str
    text: str
    score: float
    source: Any = field(repr=False)
    written_text: str = field(repr=False)

    @property
    def words(self) -> int:
        """The number of words."""
        return len(self.text.split())


class Format(ABC):
    """A format of lists.

    base:      of its logarithms
    is_sorted:  its lists are written with the best hypothesis first; otherwise in their own order
    """

    name: ClassVar[str]
    base: ClassVar[float] = math.e
    is_sorted: ClassVar[bool] = True

    def heading(self) -> str | None:
        """The first line of what is written, if there is one."""
        return None

    @abstractmethod
    def read(self, line: str) -> Hypothesis | None:
        """The hypothesis of a line; None for a heading. Raises ValueError for a broken line."""

    @abstractmethod
    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        """The line with the new scores. logprob: of the hypothesis, in the base of the list"""


class Moses(Format):
    """`id ||| hypothesis ||| name= value … ||| total`; further fields are kept."""

    name = "moses"

    def read(self, line: str) -> Hypothesis:
        try:
            id, text, features, total, *rest = map(str.strip, line.split(SEPARATOR.strip()))
        except ValueError:
            raise ValueError("not `id ||| hypothesis ||| features ||| total`") from None
        return Hypothesis(id, _one_spaced(text), _number(total), (features, rest), text)

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        features, rest = hypothesis.source
        features = f"{features} charlm= {logprob:.6g}".strip()
        fields = (hypothesis.list, hypothesis.written_text, features, f"{total:.6g}", *rest)
        return SEPARATOR.join(fields)


class Srilm(Format):
    """`acoustic lm words w1 w2 …`, base 10. The language model score is replaced.

    `<s>` and `</s>` are written again, and not scored.
    """

    name, base = "srilm", 10.0

    def read(self, line: str) -> Hypothesis:
        try:
            score, _, words, *rest = line.split(maxsplit=3)
            source = score, int(words), "".join(rest)
        except ValueError:
            raise ValueError("not `score score number words`") from None
        text = " ".join(word for word in source[2].split() if word not in ENDS)
        return Hypothesis("", text, _number(score), source, text)

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        score, words, text = hypothesis.source
        return f"{score} {logprob:.6g} {words} {text}"


class Kaldi(Format):
    """`utterance-N w1 w2 …`; written is `utterance-N cost`, the cost being −total."""

    name, is_sorted = "kaldi", False

    def read(self, line: str) -> Hypothesis:
        key, *text = line.split(maxsplit=1)
        list, dash, number = key.rpartition("-")
        if not dash or not number.isdigit():
            raise ValueError(f"{key!r} is not an utterance with a number")
        written = "".join(text).strip()
        return Hypothesis(list, _one_spaced(written), 0.0, key, written)

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        return f"{hypothesis.source} {0.0 - total:.6g}"


class Tsv(Format):
    """A table with tabs, or another delimiter. log P and the total are added as columns."""

    name = "tsv"

    def __init__(self) -> None:
        self.table: Separated | None = None
        self.file = ""

    def read(self, line: str) -> Hypothesis | None:
        if self.table is None:
            self.table = Separated(delimiter_of(line, (ID, TEXT)), (ID, TEXT), self.file)
        fields = self.table(line)
        return None if fields is None else _of_fields(fields)

    def heading(self) -> str | None:
        columns = (self.table.heading or ()) if self.table else ()
        return self._joined([*columns, "logprob", "total"])

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        return self._joined([*hypothesis.source.values(), f"{logprob:.6g}", f"{total:.6g}"])

    def _joined(self, values: Sequence[str]) -> str:
        delimiter = self.table.delimiter if self.table else TAB
        if delimiter == TAB:
            return TAB.join(values)
        line = StringIO()
        csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(values)
        return line.getvalue().removesuffix("\n")


class Json(Format):
    """JSON objects. log P and the total are added as fields."""

    name = "json"

    def read(self, line: str) -> Hypothesis:
        return _of_fields(json_object(line))

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        record = {**hypothesis.source, "logprob": logprob, "total": total}
        return json.dumps(record, ensure_ascii=False)


def _of_fields(fields: dict[str, Any]) -> Hypothesis:
    id = field_of(fields, ID)
    if isinstance(id, int) and not isinstance(id, bool):
        fields = {**fields, ID: str(id)}
    text, score = text_of(fields, TEXT), _number(fields.get(SCORE, 0.0))
    return Hypothesis(text_of(fields, ID), text, score, fields | {ID: id}, text)


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _number(value: Any) -> float:
    """The value as a finite number. Raises ValueError for any other."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its score {value!r} is not a number")
    return number


FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (Moses, Srilm, Kaldi, Tsv, Json)}


def guessed_format(line: str) -> str:
    """The name of the format of a list, by its first line."""
    if SEPARATOR in line:
        return Moses.name
    if line.lstrip().startswith("{"):
        return Json.name
    if has_column(line, TEXT):
        return Tsv.name
    for format in (Srilm, Kaldi):
        try:
            format().read(line)
            return format.name
        except ValueError:
            pass
    return Tsv.name if any(mark in line for mark in DELIMITERS) else Kaldi.name


def opened(
    lines: Iterator[str], name: str | None, file: str = "the list"
) -> tuple[Format, Iterator[str]]:
    """The format of a list and all its lines; of a JSON array, a line for each object.

    name:  of the format; None to guess it
    file:  its name, for errors
    """
    first = list(islice(lines, 1))
    if first and is_json_document(first[0]):
        objects = json_objects("\n".join(chain(first, lines)), file)
        return Json(), map(json.dumps, objects)
    format = FORMATS[name or (guessed_format(first[0]) if first else Json.name)]()
    if isinstance(format, Tsv):
        format.file = file
    return format, chain(first, lines)


def hypotheses(
    format: Format, lines: Iterable[str], file: str, broken: BrokenLines
) -> Iterator[Hypothesis]:
    """The hypotheses of a file. A list without a name of its own is named after the file.

    Raises InputError for a file without any hypothesis.
    """
    read = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            hypothesis = format.read(line)
        except ValueError as problem:
            broken.report(number, problem)
            continue
        if hypothesis:
            read += 1
            yield hypothesis if hypothesis.list else replace(hypothesis, list=file)
    broken.finish(read)
