"""Rows of scored sentences: which are kept, in which order, and how they are written."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.cli.records import write, write_coloured, write_json, write_table, write_tsv
from charlm.errors import InputError, OptionError

if TYPE_CHECKING:
    from charlm.scores import SentenceScore, TextScore, TokenScore

MEASURES = (
    "logprob", "bits", "bits_per_char", "bits_per_byte", "perplexity", "tokens", "chars", "unknown",
)  # fmt: skip

STRONGEST = {"token": 10.0, "word": 20.0}  # bits with the strongest colour
# Of a token or word, in a table.
FIGURES = {"bits": ".2f", "p": ".4f", "rank": "d", "entropy_bits": ".2f"}


class Row(NamedTuple):
    """A scored sentence.

    number:   in the input, from 1
    columns:  that are carried from the input to the output
    score:    of the sentence
    """

    number: int
    columns: Mapping[str, Any]
    score: SentenceScore


Groups = Iterable[Iterable[Row]]


@dataclass(frozen=True)
class Selection:
    """Which rows are written.

    sort:     a measure, for the highest first; with a minus before it, for the lowest first
    top:      only the first ones
    best_by:  of the rows with the same value in this column, only the most probable one
    """

    sort: str | None
    top: int | None
    best_by: str | None

    def __post_init__(self) -> None:
        if self.sort is not None and self.sort.removeprefix("-") not in MEASURES:
            raise OptionError(f"`sort={self.sort}`: choose {', '.join(MEASURES)}")
        if self.top is not None and self.top < 1:
            raise OptionError(f"`top={self.top}`: must be 1 or more")
        if self.top is not None and self.sort is None:
            raise OptionError("`top`: goes with `sort`, such as --sort bits_per_char")

    def of(self, groups: Groups) -> Groups:
        """The selected rows, as one group unless all are selected."""
        if self.sort is None and self.best_by is None:
            return groups
        rows: Iterable[Row] = chain.from_iterable(groups)
        if self.best_by is not None:
            rows = _best(rows, self.best_by)
        if self.sort is not None:
            rows = self._sorted(rows)
        return [rows]

    def _sorted(self, rows: Iterable[Row]) -> Iterable[Row]:
        assert self.sort
        name = self.sort.removeprefix("-")

        def value(row: Row) -> float:
            return float(getattr(row.score, name))

        lowest_first = self.sort.startswith("-")
        if self.top is None:
            return sorted(rows, key=value, reverse=not lowest_first)
        return (heapq.nsmallest if lowest_first else heapq.nlargest)(self.top, rows, key=value)


def _best(rows: Iterable[Row], column: str) -> Iterable[Row]:
    """The most probable one of the rows with the same value in a column."""
    best: dict[str, Row] = {}
    for row in rows:
        if column not in row.columns:
            raise InputError(f"`best_by={column}`: there is no such column or field")
        group = str(row.columns[column])
        if group not in best or row.score.logprob > best[group].score.logprob:
            best[group] = row
    return best.values()


@dataclass(frozen=True)
class View:
    """What is shown of each sentence: the whole, or its tokens, or its words.

    punctuation:  marks are words by themselves
    """

    tokens: bool = False
    words: bool = False
    punctuation: bool = False

    @property
    def details(self) -> bool:
        """Whether the whole distributions are needed."""
        return self.tokens or self.words

    def parts(self, score: SentenceScore) -> list[dict[str, Any]]:
        """The records of the tokens or words."""
        parts = score.words(self.punctuation) if self.words else score.token_scores
        return [part.to_json() for part in parts]


def write_rows(format: str, groups: Groups, view: View) -> None:
    """Write the rows in one of the formats table, tsv, json, kenlm and srilm."""
    writers = {"table": _table, "tsv": _tsv, "json": _json, "kenlm": _kenlm, "srilm": _srilm}
    writers[format](groups, view)


def _json(groups: Groups, view: View) -> None:
    for row in chain.from_iterable(groups):
        record = row.score.to_json()
        if view.details:
            record["words" if view.words else "token_scores"] = view.parts(row.score)
        write_json(_beside(row.columns, record))


def _tsv(groups: Groups, view: View) -> None:
    rows = chain.from_iterable(groups)
    write_tsv(_part_records(rows, view) if view.details else map(_record, rows))


def _record(row: Row) -> dict[str, Any]:
    """The text comes last, since it may be long."""
    record = _beside(row.columns, row.score.to_json())
    text = record.pop("text")
    return {**record, "text": text}


def _part_records(rows: Iterable[Row], view: View) -> Iterator[dict[str, Any]]:
    for row in rows:
        for number, part in enumerate(view.parts(row.score), 1):
            ids = {"sentence": row.number} | ({"word_id": number} if view.words else {})
            yield _beside(row.columns, {**ids, **part})


def _beside(columns: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The carried columns, then the record."""
    if both := columns.keys() & record.keys():
        raise InputError(
            f"column {min(both)!r} is also the name of a result; rename it, or name the columns to "
            "keep with `columns`"
        )
    return {**columns, **record}


def _table(groups: Groups, view: View) -> None:
    headed = False
    for rows in groups:
        if view.details:
            for row in rows:
                _part_table(row.score, view)
            continue
        rows = iter(rows)
        for first in islice(rows, 1):
            columns = [
                *((name, "left") for name in first.columns),
                (f"{first.score.prefix}probability", "right"),
                ("bits", "right"),
                ("bits/char", "right"),
                ("perplexity", "right"),
                ("unknown", "right"),
                ("text", "left"),
            ]
            write_table(columns, map(_table_row, chain([first], rows)), not headed)
            headed = True


def _table_row(row: Row) -> tuple[str, ...]:
    s = row.score
    return (
        *map(str, row.columns.values()),
        s.probability,
        f"{s.bits:.1f}",
        f"{s.bits_per_char:.3f}",
        f"{s.perplexity:.2f}",
        str(s.unknown or ""),
        s.text,
    )


def _part_table(score: SentenceScore, view: View) -> None:
    """The sentence in the colours of its surprisal, and a row for each token or word."""
    name = "word" if view.words else "token"
    parts = [{"p": 2 ** -part["bits"], **part} for part in view.parts(score)]
    write_sentence(score, parts, STRONGEST[name])
    shown = [(n, form) for n, form in FIGURES.items() if parts and n in parts[0]]
    longest = max((part["bits"] for part in parts), default=0.0) or 1.0
    headings = [(name, "left"), *((n.replace("_", " "), "right") for n, _ in shown), ("", "left")]
    rows = []
    for part in parts:
        figures = [f"{part[n]:{form}}" for n, form in shown]
        rows.append([part[name], *figures, "▇" * round(24 * part["bits"] / longest)])
    write_table(headings, rows)


def write_sentence(
    score: SentenceScore, parts: Iterable[Mapping[str, Any]], strongest: float
) -> None:
    """Write a sentence in the colours of the surprisal of its tokens or words."""
    pieces, done = [], 0
    for part in parts:
        start, end = max(part["start"], done), max(part["end"], done)
        pieces += [(score.text[done:start], 0.0)]
        pieces += [(score.text[start:end], part["bits"] / strongest)]
        done = end
    about = f"{score.prefix}probability {score.probability}, {score.bits:.1f} bits"
    write_coloured(pieces, f"   {about}")


def _kenlm(groups: Groups, view: View) -> None:
    """The format of KenLM's `query`. The n-gram length is the number of tokens so far."""
    total = known = 0.0
    number = oov = 0
    for row in chain.from_iterable(groups):
        score, parts = row.score, []
        for length, t in enumerate(score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            parts.append(f"{name}={0 if t.is_unknown else t.id} {length} {_log10(t):.6g}")
        write("\t".join([*parts, f"Total: {score.log10prob:.6g} OOV: {score.unknown}"]))
        total, known = total + score.log10prob, known + score.known_log10prob
        number, oov = number + score.tokens, oov + score.unknown
    write(f"Perplexity including OOVs:\t{10 ** (-total / max(number, 1)):.6g}")
    write(f"Perplexity excluding OOVs:\t{10 ** (-known / max(number - oov, 1)):.6g}")
    write(f"OOVs:\t{oov}")
    write(f"Tokens:\t{number}")


def _srilm(groups: Groups, view: View) -> None:
    """The format of SRILM's `ngram -ppl -debug 2`. The n-gram length is the number of tokens."""
    total = SrilmTotals(0, 0, 0, 0.0)
    for row in chain.from_iterable(groups):
        write(row.score.text)
        before = "<s> "
        for length, t in enumerate(row.score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            found = f"[{length}gram] {math.exp(t.logprob):.6g} [ {_log10(t):.6g} ]"
            write(f"\tp( {name} | {before}) \t= {'[OOV] 0 [ -inf ]' if t.is_unknown else found}")
            before = f"{name} ..."
        totals = SrilmTotals.of(row.score)
        totals.write()
        write("")
        total = total.plus(totals)
    total.write("file -: ")


class SrilmTotals(NamedTuple):
    """What SRILM writes of a text. Unknown words do not count in the perplexities."""

    sentences: int
    words: int
    unknown: int
    log10prob: float

    @classmethod
    def of(cls, score: TextScore) -> SrilmTotals:
        """The totals of a score."""
        words = score.tokens - score.lines
        return cls(score.lines, words, score.unknown, score.known_log10prob)

    def plus(self, other: SrilmTotals) -> SrilmTotals:
        """The totals of both."""
        counts = (self.sentences + other.sentences, self.words + other.words)
        return SrilmTotals(*counts, self.unknown + other.unknown, self.log10prob + other.log10prob)

    def write(self, name: str = "") -> None:
        """Write them. name: what stands before them"""
        words = self.words - self.unknown
        ppl, ppl1 = (10 ** (-self.log10prob / max(n, 1)) for n in (words + self.sentences, words))
        write(f"{name}{self.sentences} sentences, {self.words} words, {self.unknown} OOVs")
        write(f"0 zeroprobs, logprob= {self.log10prob:.6g} ppl= {ppl:.6g} ppl1= {ppl1:.6g}")


def _log10(token: TokenScore) -> float:
    return token.logprob / math.log(10)
