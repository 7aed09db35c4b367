"""Two sentences side by side: which one is more probable, and which words decide it."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from charlm.engines.drawn_scores import notebook
from charlm.engines.scores import SentenceScore, TokenScore, scientific
from charlm.engines.scoring import SentenceOptions
from charlm.engines.words import WordScore
from charlm.errors import InputError
from charlm.options import options_of_call, refuse_text
from charlm.pages.differences import Difference, differences, style

if TYPE_CHECKING:
    from charlm.keywords import SentenceKeywords
    from charlm.tasks.language_model import LanguageModel

LARGEST_BITS = 24  # of a ratio that is written out


class Step(NamedTuple):
    """Aligned words of both sentences. One side may have none."""

    first: Sequence[WordScore]
    second: Sequence[WordScore]

    @property
    def bits(self) -> tuple[float, float]:
        """The surprisal of both sides."""
        first, second = (sum(word.bits for word in words) for words in self)
        return first, second

    @property
    def difference(self) -> float:
        """Bits that the first side is more probable."""
        return self.bits[1] - self.bits[0]

    @property
    def texts(self) -> tuple[str, str]:
        """The words of both sides."""
        first, second = map(_joined, self)
        return first, second

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        return {
            "first": self.texts[0],
            "first_bits": self.bits[0],
            "second": self.texts[1],
            "second_bits": self.bits[1],
            "difference": self.difference,
        }


def compare(
    model: LanguageModel, texts: Sequence[str], **options: Unpack[SentenceKeywords]
) -> list[Comparison]:
    """The most probable sentence beside each of the others, the most probable one first.

    options:  of `charlm.engines.scoring.SentenceOptions`: context, eos, unknown, unseen

    Raises InputError for fewer than two sentences.

    >>> (comparison,) = charlm.compare(model, ["the cat sat", "the cat sad"])
    >>> comparison.first.text
    'the cat sat'
    """
    refuse_text(texts, "compare")
    if len(texts) < 2:
        raise InputError("fewer than two sentences; give two or more")
    options_of_call(SentenceOptions, "compare", options)
    scores = model.score(texts, details=True, **options)
    best, *others = sorted(scores, key=lambda score: -score.logprob)
    return [Comparison(best, other) for other in others]


@dataclass(frozen=True)
class Comparison:
    """Two sentences, scored with `details`."""

    first: SentenceScore
    second: SentenceScore

    @property
    def difference(self) -> float:
        """log₂ P(first) / P(second): bits that the first one is more probable."""
        return self.second.bits - self.first.bits

    @property
    def ratio(self) -> str:
        """P(first) / P(second), such as "270,637"."""
        if abs(self.difference) >= LARGEST_BITS:
            return scientific(self.difference * math.log10(2))
        ratio = 2**self.difference
        return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"

    @cached_property
    def steps(self) -> list[Step]:
        """All words of both, aligned. Their differences add up to the whole difference."""
        first, second = self.first.words(), self.second.words()
        of_first, of_second = ([word.word for word in words] for words in (first, second))
        codes = SequenceMatcher(None, of_first, of_second, autojunk=False).get_opcodes()
        return [step for _, a, b, c, d in codes for step in _steps(first[a:b], second[c:d])]

    @cached_property
    def parting(self) -> tuple[str, TokenScore, TokenScore] | None:
        """The common beginning, and the first token of each that differs.

        None if one sentence is the beginning of the other.
        """
        for a, b in zip(self.first.token_scores, self.second.token_scores, strict=False):
            texts = self.first.text[a.start : a.end], self.second.text[b.start : b.end]
            if a.id != b.id or (a.is_unknown and texts[0] != texts[1]):
                return self.first.text[: a.start], a, b
        return None

    @property
    def summary(self) -> list[str]:
        """Which one is more probable, and where they part, in sentences."""
        return self._said(repr)

    def _said(self, quote: Callable[[str], str]) -> list[str]:
        """`summary`. quote: writes a text of the sentences"""
        first, second = self.first.text, self.second.text
        if first == second:
            return ["The sentences are the same."]
        said = [f"{quote(first)} is {self.ratio} times as probable as {quote(second)}."]
        if self.parting:
            before, *tokens = self.parting
            a, b = (
                f"{quote(_name(text, token))} has probability {2**-token.bits:.2g}"
                for text, token in zip((first, second), tokens, strict=True)
            )
            after = f"After {quote(before)}" if before else "At the start"
            said.append(f"{after}, {a}, and {b}.")
        if self.first.unknown != self.second.unknown:
            said.append(
                f"The sentences have {self.first.unknown:,} and {self.second.unknown:,} unknown "
                "tokens."
            )
        return said

    def _repr_html_(self) -> str:
        """Both sentences in the colours of their words, and the chart, for notebooks."""
        chart = f"<style>\n{style()}</style>\n{draw_difference(self)}"
        return notebook([self.first, self.second], chart, words=True)

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        record = {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "difference": self.difference,
            "words": [step.to_json() for step in self.steps],
        }
        if self.parting:
            after, *tokens = self.parting
            record["parting"] = {"after": after, "tokens": [token.to_json() for token in tokens]}
        return record


def _isolated(text: str) -> str:
    """A text in quotes, as HTML. It does not change the direction of what is around it."""
    return f"<bdi>{html.escape(repr(text))}</bdi>"


def _name(text: str, token: TokenScore) -> str:
    return text[token.start : token.end] if token.is_unknown else token.token


def scores_of(comparisons: Sequence[Comparison]) -> list[SentenceScore]:
    """The sentences of `compare`, the most probable first."""
    return [comparisons[0].first, *(comparison.second for comparison in comparisons)]


def draw_difference(comparison: Comparison) -> str:
    """The summary of a comparison, and a chart of what each word adds to it, as HTML."""
    lines = comparison._said(_isolated)
    said = "".join(f'<p dir="ltr">{line}</p>\n' for line in lines)
    if comparison.first.text == comparison.second.text:
        return said
    steps = comparison.steps
    return said + differences(
        Difference(a, bits_a, b, bits_b)
        for (a, b), (bits_a, bits_b) in ((step.texts, step.bits) for step in steps)
    )


def _joined(words: Sequence[WordScore]) -> str:
    """The words, with a space where the text has one, and before the line end."""
    text = ""
    for before, word in zip([None, *words], words, strict=False):
        has_space = before and (word.start > before.end or word.is_line_end)
        text += f"{' ' if has_space else ''}{word.word}"
    return text


def _steps(first: Sequence[WordScore], second: Sequence[WordScore]) -> Iterator[Step]:
    if len(first) != len(second):
        yield Step(first, second)
        return
    for a, b in zip(first, second, strict=True):
        yield Step([a], [b])
