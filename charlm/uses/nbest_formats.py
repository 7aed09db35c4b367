"""Formats of n-best lists. A line of a list looks like this:

moses   id ||| hypothesis ||| features ||| total
srilm   acoustic score, old language model score, number of words, words (base 10)
kaldi   utterance-N words
tsv     a heading with id, hypothesis and perhaps score
json    an object with these fields
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, ClassVar

from charlm.corpus.records import BrokenLines, json_object
from charlm.errors import InputError

ID, TEXT, SCORE = "id", "hypothesis", "score"
SEPARATOR = " ||| "
ENDS = ("<s>", "</s>")  # of a line of SRILM; they are no words


@dataclass(frozen=True)
class Hypothesis:
    """One line of a list.

    list:   name of the list
    text:   the words
    score:  the list's own, without the language model
    source: the fields of its line that are written again
    """

    list: str
    text: str
    score: float
    source: Any = field(repr=False)

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
        return Hypothesis(id, text, _number(total), (features, rest))

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        features, rest = hypothesis.source
        features = f"{features} charlm= {logprob:.6g}".strip()
        fields = (hypothesis.list, hypothesis.text, features, f"{total:.6g}", *rest)
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
        return Hypothesis("", text, _number(score), source)

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        score, words, text = hypothesis.source
        return f"{score} {logprob:.6g} {words} {text}"


class Kaldi(Format):
    """`utterance-N w1 w2 …`; written is `utterance-N cost`, the cost being −total."""

    name, is_sorted = "kaldi", False

    def read(self, line: str) -> Hypothesis:
        key, _, text = line.partition(" ")
        list, dash, number = key.rpartition("-")
        if not dash or not number.isdigit():
            raise ValueError(f"{key!r} is not an utterance with a number")
        return Hypothesis(list, text, 0.0, key)

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        return f"{hypothesis.source} {-total:.6g}"


class Tsv(Format):
    """A table. log P and the total are added as columns."""

    name = "tsv"

    def __init__(self) -> None:
        self.columns: Sequence[str] | None = None

    def read(self, line: str) -> Hypothesis | None:
        values = line.split("\t")
        if self.columns is None:
            self.columns = values
            for name in (ID, TEXT):
                if name not in values:
                    raise InputError(f"the table has no column {name!r}, but {', '.join(values)}")
            return None
        if len(values) != len(self.columns):
            raise ValueError(f"{len(values)} values, and the heading has {len(self.columns)}")
        return _of_fields(dict(zip(self.columns, values, strict=True)))

    def heading(self) -> str | None:
        return "\t".join([*(self.columns or ()), "logprob", "total"])

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        return "\t".join([*hypothesis.source.values(), f"{logprob:.6g}", f"{total:.6g}"])


class Json(Format):
    """JSON objects. log P and the total are added as fields."""

    name = "json"

    def read(self, line: str) -> Hypothesis:
        return _of_fields(json_object(line))

    def written(self, hypothesis: Hypothesis, logprob: float, total: float) -> str:
        record = {**hypothesis.source, "logprob": logprob, "total": total}
        return json.dumps(record, ensure_ascii=False)


def _of_fields(fields: dict[str, Any]) -> Hypothesis:
    for name in (ID, TEXT):
        if name not in fields:
            raise ValueError(f"no {name!r}")
    return Hypothesis(str(fields[ID]), str(fields[TEXT]), _number(fields.get(SCORE, 0.0)), fields)


def _number(value: Any) -> float:
    """The value as a finite number. Raises ValueError for any other."""
    try:
        number = float(value)
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
    if line.startswith("{"):
        return Json.name
    if "\t" in line:
        return Tsv.name
    try:
        Srilm().read(line)
    except ValueError:
        return Kaldi.name
    return Srilm.name


def opened(lines: Iterator[str], name: str | None) -> tuple[Format, Iterator[str]]:
    """The format of a list and all its lines. name: of the format; None to guess it"""
    first = list(islice(lines, 1))
    kind = FORMATS[name or (guessed_format(first[0]) if first else Json.name)]
    return kind(), chain(first, lines)


def hypotheses(
    format: Format, lines: Iterable[str], file: str, broken: BrokenLines
) -> Iterator[Hypothesis]:
    """The hypotheses of a file. A list without a name of its own is named after the file."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            hypothesis = format.read(line)
        except ValueError as problem:
            broken.report(number, problem)
            continue
        if hypothesis:
            yield hypothesis if hypothesis.list else replace(hypothesis, list=file)
