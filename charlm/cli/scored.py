"""Rows of scored sentences: which are kept, in which order, and how they are written."""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.cli.records import write, write_coloured, write_json, write_table, write_tsv
from charlm.errors import InputError, OptionError
from charlm.parts import Part, of_part

if TYPE_CHECKING:
    from charlm.cli.inputs import Item
    from charlm.engines.scores import SentenceScore, TextScore, TokenScore
    from charlm.engines.words import WordScore
    from charlm.model.lexicon import Lexicon

MEASURES = (
    "logprob", "bits", "bits_per_char", "bits_per_byte", "perplexity", "tokens", "chars", "unknown",
)  # fmt: skip

LOG10 = ("kenlm", "srilm")  # formats of other programs
LARGEST_EXPONENT = 308  # of a float
STRONGEST = {"token": 10.0, "word": 20.0}  # bits with the strongest colour
# Of a token or word, in a table.
FIGURES = {"bits": ".2f", "p": ".4f", "rank": "d", "entropy_bits": ".2f"}


class Row(NamedTuple):
    """A scored sentence.

    number:   in the input, from 1
    columns:  that are carried from the input to the output
    scores:   of the sentence, one by each model
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
Score = Callable[[Iterable[str]], Iterator["SentenceScore"]]


class Scored:
    """The rows of sentences that are scored as they are read.

    score:    by each model
    part:     of the sentences
    show:     takes the bytes of each sentence that is done
    unknown:  the pieces that were not in a vocabulary, each once in their order
    """

    def __init__(self, score: Sequence[Score], part: Part, show: Callable[[int], None]) -> None:
        self.score, self.part, self.show = score, part, show
        self.unknown: dict[str, None] = {}

    def groups(self, items: Iterable[Sequence[Item]]) -> Groups:
        """The rows of each group of sentences, which are written before the next is read."""
        numbers = count(self.part.number + 1, self.part.of)
        for group in of_part(items, self.part):
            yield self._rows(group, numbers)
            sys.stdout.flush()

    def _rows(self, group: Sequence[Item], numbers: Iterator[int]) -> Iterator[Row]:
        texts = [item.text for item in group]
        scores = zip(*(score(texts) for score in self.score), strict=True)
        for item, number, found in zip(group, numbers, scores, strict=False):
            for one in found:
                if one.unknown:
                    self.unknown.update(dict.fromkeys(one.unknown_pieces))
            self.show(item.size)
            yield Row(number, item.columns, found)


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
    lexicon:      of the model, for the frequency of words; None if there is none
    file:         where the sentences come from; "-" is standard input
    """

    tokens: bool = False
    words: bool = False
    punctuation: bool = False
    lexicon: Lexicon | None = None
    file: str = "-"

    @property
    def details(self) -> bool:
        """Whether the whole distributions are needed."""
        return self.tokens or self.words

    def parts(self, score: SentenceScore) -> list[dict[str, Any]]:
        """The records of the tokens or words."""
        if not self.words:
            return [token.to_json() for token in score.token_scores]
        return [self._word(word) for word in score.words(self.punctuation)]

    def _word(self, word: WordScore) -> dict[str, Any]:
        record = word.to_json()
        if not self.lexicon:
            return record
        frequency = None if word.is_line_end else self.lexicon.frequency(word.word)
        last = {name: record.pop(name) for name in ("length", "unknown")}
        return {**record, "frequency": frequency, **last}


def write_rows(format: str, groups: Groups, view: View) -> None:
    """Write the rows in one of the formats table, tsv, json, kenlm and srilm."""
    writers = {"table": _table, "tsv": _tsv, "json": _json, "kenlm": _kenlm, "srilm": _srilm}
    writers[format](groups, view)


def _json(groups: Groups, view: View) -> None:
    for row in chain.from_iterable(groups):
        record = row.score.to_json()
        if view.details:
            record["words" if view.words else "token_scores"] = view.parts(row.score)
        write_json(beside(row.columns, record))


def _tsv(groups: Groups, view: View) -> None:
    rows = chain.from_iterable(groups)
    write_tsv(_part_records(rows, view) if view.details else map(_record, rows))


def _record(row: Row) -> dict[str, Any]:
    """The text comes last, since it may be long."""
    record = beside(row.columns, row.score.to_json())
    text = record.pop("text")
    return {**record, "text": text}


def _part_records(rows: Iterable[Row], view: View) -> Iterator[dict[str, Any]]:
    for row in rows:
        for number, part in enumerate(view.parts(row.score), 1):
            ids = {"sentence": row.number} | ({"word_id": number} if view.words else {})
            yield beside(row.columns, {**ids, **part})


def beside(columns: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
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
    from charlm.engines.scores import NOTHING

    total = NOTHING
    for row in chain.from_iterable(groups):
        score, parts = row.score, []
        for length, t in enumerate(score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            parts.append(f"{name}={0 if t.is_unknown else t.id} {length} {_log10(t):.6g}")
        write("\t".join([*parts, f"Total: {score.log10prob:.6g} OOV: {score.unknown}"]))
        total += score
    write_kenlm_totals(total)


def write_kenlm_totals(total: TextScore) -> None:
    """Write the last lines of KenLM's `query`."""
    known = total.tokens - total.unknown
    including = _perplexity(total.log10prob, total.tokens)
    write(f"Perplexity including OOVs:\t{including:.6g}")
    write(f"Perplexity excluding OOVs:\t{_perplexity(total.known_log10prob, known):.6g}")
    write(f"OOVs:\t{total.unknown}")
    write(f"Tokens:\t{total.tokens}")


def _srilm(groups: Groups, view: View) -> None:
    """The format of SRILM's `ngram -ppl -debug 2`. The n-gram length is the number of tokens."""
    from charlm.engines.scores import NOTHING

    total = NOTHING
    for row in chain.from_iterable(groups):
        write(row.score.text)
        before = "<s> "
        for length, t in enumerate(row.score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            found = f"[{length}gram] {math.exp(t.logprob):.6g} [ {_log10(t):.6g} ]"
            write(f"\tp( {name} | {before}) \t= {'[OOV] 0 [ -inf ]' if t.is_unknown else found}")
            before = f"{name} ..."
        write_srilm_totals(row.score)
        write("")
        total += row.score
    write_srilm_totals(total, f"file {view.file}: ")


def write_srilm_totals(total: TextScore, name: str = "") -> None:
    """Write what SRILM says of a text. Unknown words do not count in the perplexities.

    name:  what stands before it
    """
    words = total.tokens - total.lines
    known, log10prob = words - total.unknown, total.known_log10prob
    ppl, ppl1 = (_perplexity(log10prob, n) for n in (known + total.lines, known))
    write(f"{name}{total.lines} sentences, {words} words, {total.unknown} OOVs")
    write(f"0 zeroprobs, logprob= {log10prob:.6g} ppl= {ppl:.6g} ppl1= {ppl1:.6g}")


def _perplexity(log10prob: float, tokens: int) -> float:
    exponent = -log10prob / max(tokens, 1)
    return 10**exponent if exponent < LARGEST_EXPONENT else math.inf


def _log10(token: TokenScore) -> float:
    return token.logprob / math.log(10)
