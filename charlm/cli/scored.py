"""Rows of scored sentences: which are kept, in which order, and how they are written."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.cli.log10 import write_kenlm, write_srilm
from charlm.cli.records import beside, write_coloured, write_json, write_table, write_tsv
from charlm.errors import InputError, OptionError
from charlm.options import Choices, Range, option
from charlm.parts import Part, of_part

if TYPE_CHECKING:
    from charlm.cli.inputs import Sentence
    from charlm.engines.scores import SentenceScore

MEASURES = (
    "logprob", "bits", "bits_per_char", "bits_per_byte", "perplexity", "tokens", "chars", "unknown",
)  # fmt: skip

SELECTION = "Selection"
LOG10 = ("kenlm", "srilm")  # formats of other programs
IN_LOG10 = [f"format={name}" for name in LOG10]  # options; these formats show tokens anyway
MOST_UNKNOWN = 0.5  # share of the tokens of a line that is sorted
STRONGEST = {"token": 10.0, "word": 20.0}  # bits with the strongest colour
LONGEST_BAR = 24  # characters
# Of a token or word, in a table.
FIGURES = {"bits": ".2f", "p": ".4f", "rank": "d", "entropy_bits": ".2f"}


class Row(NamedTuple):
    """A scored sentence.

    number:   in the input, from 1
    columns:  that are carried from the input to the output
    scores:   of the sentence, by each model
    """

    number: int
    columns: Mapping[str, Any]
    scores: tuple[SentenceScore, ...]

    @property
    def score(self) -> SentenceScore:
        """By the first model."""
        return self.scores[0]


Groups = Iterable[Iterable[Row]]
# The scores of sentences, in their order.
ScoreSentences = Callable[[Iterable[str]], Iterator["SentenceScore"]]


class RowScorer:
    """Scores sentences as they are read.

    models:   the function of each model that scores sentences
    shard:    of the sentences, which is scored
    done:     called with the bytes of each sentence
    unknown:  the pieces that were not in the vocabulary of each model, each once in their order
    """

    def __init__(
        self, models: Sequence[ScoreSentences], shard: Part, done: Callable[[int], None]
    ) -> None:
        self.models, self.shard, self.done = models, shard, done
        self.unknown: list[dict[str, None]] = [{} for _ in models]

    def groups(self, sentences: Iterable[Sequence[Sentence]]) -> Groups:
        """The rows of each group of sentences, which are written before the next is read."""
        numbers = count(self.shard.number + 1, self.shard.of)
        for group in of_part(sentences, self.shard):
            yield self._rows(group, numbers)
            sys.stdout.flush()

    def _rows(self, group: Sequence[Sentence], numbers: Iterator[int]) -> Iterator[Row]:
        texts = [sentence.text for sentence in group]
        by_model = zip(*(score(texts) for score in self.models), strict=True)
        for sentence, number, scores in zip(group, numbers, by_model, strict=False):
            for score, unknown in zip(scores, self.unknown, strict=True):
                if score.unknown:
                    unknown.update(dict.fromkeys(score.unknown_pieces))
            self.done(sentence.size)
            yield Row(number, sentence.columns, scores)


class Measures(Choices):
    """A choice among measures; a minus before one is allowed."""

    def check(self, name: str, value: str) -> None:
        super().check(name, value.removeprefix("-"))


@dataclass(frozen=True)
class Selection:
    """Which rows are written, and in which order. The fields describe themselves."""

    sort: str | None = option(
        None,
        "Sort by a measure such as bits_per_char, the highest first; with - the lowest.",
        Measures(MEASURES),
        panel=SELECTION,
        metavar="[-]MEASURE",
    )
    top: int | None = option(
        None, "Only the first N sorted ones.", Range(1), panel=SELECTION, metavar="N"
    )
    best_by: str | None = option(
        None,
        "Only the most probable one of those with the same value in this column.",
        panel=SELECTION,
        metavar="COLUMN",
        goes_with="text_column",
    )

    def __post_init__(self) -> None:
        if self.top is not None and self.sort is None:
            raise OptionError("`top`: goes with `sort`, such as --sort bits_per_char")

    def of(self, groups: Groups, aside: list[Row] | None = None) -> Groups:
        """The selected rows, as one group unless all are selected.

        aside:  gets the rows that are not sorted, since the model knows hardly any of their
                tokens; None to sort all
        """
        if self.sort is None and self.best_by is None:
            return groups
        rows: Iterable[Row] = chain.from_iterable(groups)
        if self.sort is not None and aside is not None:
            rows = _known(rows, aside)
        if self.best_by is not None:
            rows = _best(rows, self.best_by)
        if self.sort is not None:
            rows = self._sorted(rows, self.sort)
        return [rows]

    def _sorted(self, rows: Iterable[Row], measure: str) -> Iterable[Row]:
        def value(row: Row) -> float:
            return float(getattr(row.score, measure.removeprefix("-")))

        lowest_first = measure.startswith("-")
        if self.top is None:
            return sorted(rows, key=value, reverse=not lowest_first)
        return (heapq.nsmallest if lowest_first else heapq.nlargest)(self.top, rows, key=value)


def _known(rows: Iterable[Row], aside: list[Row]) -> Iterator[Row]:
    for row in rows:
        if row.score.unknown > MOST_UNKNOWN * row.score.tokens:
            aside.append(row)
        else:
            yield row


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

    file:     where the sentences come from; "-" is standard input
    text_column:  of the sentences in a table, which is written beside tokens and words; None for
                  text that is not carried
    """

    tokens: bool = option(False, "Show every token's surprisal.", excludes=IN_LOG10)
    words: bool = option(False, "Show every word's surprisal.", excludes=("tokens", *IN_LOG10))
    punctuation: bool = option(
        False, "With `words`: a mark is a word by itself.", goes_with="words"
    )
    file: str = "-"
    text_column: str | None = None

    def text_of(self, score: SentenceScore) -> dict[str, str]:
        """The column of the sentence, if it is carried."""
        return {} if self.text_column is None else {self.text_column: score.text}

    @property
    def details(self) -> bool:
        """Whether tokens or words are shown, which needs the whole distributions."""
        return self.tokens or self.words

    def records(self, score: SentenceScore) -> list[dict[str, Any]]:
        """The tokens or words of a sentence."""
        if not self.words:
            return [token.to_json() for token in score.token_scores]
        return score.word_records(self.punctuation)


def write_rows(format: str, groups: Groups, view: View) -> None:
    """Write the rows in one of the formats table, tsv, json, kenlm and srilm."""
    if format in LOG10:
        scores = (row.score for row in chain.from_iterable(groups))
        if format == "kenlm":
            write_kenlm(scores)
        else:
            write_srilm(scores, view.file)
    else:
        {"table": _table, "tsv": _tsv, "json": _json}[format](groups, view)


def _json(groups: Groups, view: View) -> None:
    for row in chain.from_iterable(groups):
        record = row.score.to_json()
        if view.details:
            record["words" if view.words else "token_scores"] = view.records(row.score)
        write_json(beside(row.columns, record))


def _tsv(groups: Groups, view: View) -> None:
    rows = chain.from_iterable(groups)
    write_tsv(_detail_records(rows, view) if view.details else map(_record, rows))


def _record(row: Row) -> dict[str, Any]:
    """The text comes last, since it may be long."""
    record = beside(row.columns, row.score.to_json())
    text = record.pop("text")
    return {**record, "text": text}


def _detail_records(rows: Iterable[Row], view: View) -> Iterator[dict[str, Any]]:
    """The records of the tokens or words of all rows."""
    for row in rows:
        for number, record in enumerate(view.records(row.score), 1):
            ids = {"sentence": row.number} | ({"word_id": number} if view.words else {})
            yield beside({**row.columns, **view.text_of(row.score)}, {**ids, **record})


def _table(groups: Groups, view: View) -> None:
    headed = False
    for rows in groups:
        if view.details:
            for row in rows:
                _detail_table(row.score, view)
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
    from charlm.engines.scores import written_perplexity

    s = row.score
    return (
        *map(str, row.columns.values()),
        s.probability,
        f"{s.bits:.1f}",
        f"{s.bits_per_char:.3f}",
        written_perplexity(s.perplexity),
        str(s.unknown or ""),
        s.text,
    )


def _detail_table(score: SentenceScore, view: View) -> None:
    """The sentence in the colours of its surprisal, and a row for each token or word."""
    kind = "word" if view.words else "token"
    records = [{"p": 2 ** -record["bits"], **record} for record in view.records(score)]
    write_sentence(score, records, STRONGEST[kind])
    figures = {n: form for n, form in FIGURES.items() if records and n in records[0]}
    most_bits = max((record["bits"] for record in records), default=0.0) or 1.0
    headings = [(kind, "left"), *((n.replace("_", " "), "right") for n in figures), ("", "left")]
    rows = []
    for record in records:
        cells = [f"{record[n]:{form}}" for n, form in figures.items()]
        bar = "▇" * round(LONGEST_BAR * record["bits"] / most_bits)
        rows.append([record[kind], *cells, bar])
    write_table(headings, rows)


def write_sentence(
    score: SentenceScore, records: Iterable[Mapping[str, Any]], strongest: float
) -> None:
    """Write a sentence in the colours of the surprisal of its tokens or words.

    records:    of the tokens or words
    strongest:  bits of the strongest colour
    """
    pieces, done = [], 0
    for record in records:
        start, end = max(record["start"], done), max(record["end"], done)
        pieces += [(score.text[done:start], 0.0)]
        pieces += [(score.text[start:end], record["bits"] / strongest)]
        done = end
    about = f"{score.prefix}probability {score.probability}, {score.bits:.1f} bits"
    write_coloured(pieces, f"   {about}")
