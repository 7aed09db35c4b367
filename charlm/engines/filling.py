"""Filling: a line with blanks → the most probable fillers of each blank.

A filler is a word: characters without white space. At the word level a filler is a word of the
vocabulary. At other levels fillers are proposed token by token, then ranked by the probability of
the whole line with each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.engines.filler_search import (
    FromLeft,
    FromRight,
    Mask,
    has_no_space,
    is_word,
    search,
)
from charlm.errors import InputError, OptionError
from charlm.model.backend import Backends, Floats
from charlm.model.likelihood import sequence_logprobs
from charlm.model.mixture import Predictors
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Predictor, Reader
from charlm.model.pseudo_likelihood import OneSidedPredictor, both_sides, one_sided_logprobs
from charlm.options import Range, check_options, option
from charlm.tokenizer import EOS, SPECIALS, START, UNK, IntArray, Tokenizer, as_inputs

BLANK = "___"
UNFILLED = "\ufffd"  # stands for a blank without a filler yet: hardly any vocabulary has it
ANY_WORD = "\u02ac"  # a letter that stands for the unknown word
WORDS = 256  # words that a forward model proposes


@dataclass(frozen=True)
class FillOptions:
    """How blanks are filled. The fields describe themselves."""

    k: int = option(5, "Fillers of each blank.", Range(1), metavar="K")
    blank: str = option(BLANK, "The text that marks a blank.", metavar="TEXT")

    def __post_init__(self) -> None:
        check_options(self)
        if not self.blank:
            raise OptionError("`blank`: give the text that marks a blank")


@dataclass(frozen=True)
class Filler:
    """A text that may stand in a blank.

    text:         the filler
    probability:  its share among all ranked fillers; by a bidirectional model of words,
                  p(word | all other words)
    """

    text: str
    probability: float


class Filling(ABC):
    """Fills the blanks of a line with one model. The subclasses differ in what the model reads.

    Proposals are spelled by the NumPy network, and ranked by whatever backend suits the work.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # The text that each token adds at the start of a line, and within one.
        self.starts, self.texts = (
            [
                tokenizer.appended(id, after).decode("utf-8", "surrogateescape")
                for id in range(tokenizer.size)
            ]
            for after in (START, UNK)
        )

    def fill(self, line: str, options: FillOptions) -> list[list[Filler]]:
        """The k best fillers of each blank, most probable first.

        Several blanks are filled one after the other, while the later ones are unknown. Then each
        is filled once more, with the best fillers of the others in place. Raises InputError for a
        line without a blank.
        """
        blank, line = map(self.tokenizer.normalized, (options.blank, line))
        if blank not in line:
            raise InputError(f"no blank in {line!r}; mark the place to fill with {blank}")
        texts = line.split(blank)  # around the blanks
        best = [UNFILLED] * (len(texts) - 1)
        fillers: list[list[Filler]] = [[] for _ in best]
        for _ in range(min(len(best), 2)):
            for k in range(len(best)):
                left = _joined(texts[: k + 1], best[:k])
                right = _joined(texts[k + 1 :], best[k + 1 :])
                fillers[k] = self.fillers(left, right)[: options.k]
                best[k] = fillers[k][0].text if fillers[k] else UNFILLED
        return fillers

    def fillers(self, left: str, right: str) -> list[Filler]:
        """The fillers of one blank between two texts, most probable first."""
        if self.tokenizer.tokens_are_words:
            return self._words(left, right)
        return self._ranked(sorted(self._proposals(left, right)), left, right)

    @abstractmethod
    def _proposals(self, left: str, right: str) -> set[str]:
        """Fillers spelled token by token."""

    @abstractmethod
    def _word_scores(self, ids: IntArray, position: int) -> Floats:
        """Logits (V,) of every word at this position of a line."""

    @abstractmethod
    def _rank_words(
        self, words: list[str], probabilities: NDArray[np.float64], left: str, right: str
    ) -> list[Filler]:
        """The fillers, from words in the order of their probabilities at the blank."""

    @abstractmethod
    def _line_scores(self, lines: list[IntArray]) -> NDArray[np.float64]:
        """The log-probability of each whole line."""

    def _words(self, left: str, right: str) -> list[Filler]:
        """The words of the vocabulary that fit between the two texts."""
        ids, spans = self.tokenizer.encode(left + ANY_WORD + right)
        position = int(np.searchsorted(spans[:, 1], len(left), side="right"))
        start, end = (int(edge) - len(left) for edge in spans[position])
        before, after = left[len(left) + start :], right[: end - len(ANY_WORD)]
        words = [text.removeprefix(" ") for text in self.texts]
        fits = [
            id >= len(SPECIALS)
            and bool(word.strip())
            and len(word) > len(before + after)
            and word.startswith(before)
            and word.endswith(after)
            for id, word in enumerate(words)
        ]
        if not any(fits):
            return []
        logprobs = log_softmax(np.where(fits, self._word_scores(ids, position), -np.inf))
        best = np.argsort(-logprobs, kind="stable")[: sum(fits)]
        texts = [words[id][len(before) : len(words[id]) - len(after)] for id in best]
        return self._rank_words(texts, np.exp(logprobs[best].astype(np.float64)), left, right)

    def _ranked(self, fillers: Sequence[str], left: str, right: str) -> list[Filler]:
        """The fillers by the probability of the whole line; each has its share of the sum."""
        if not fillers:
            return []
        lines: list[IntArray] = [
            self.tokenizer.encode(left + filler + right).ids for filler in fillers
        ]
        scores = self._line_scores(lines)
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        order = np.argsort(-shares, kind="stable")
        return [Filler(fillers[k], float(shares[k])) for k in order]

    def _search_from_left(self, left: str, predictor: Predictor, end: Mask) -> set[str]:
        """Fillers that continue the text on the left."""
        ids, decoder = self.tokenizer.prime(left)
        # The piece of a single space may begin a line, too, and adds nothing there.
        start = self._tokens(self.texts if left else self.starts, has_no_space)
        allowed = self._tokens(self.texts, is_word)
        inputs = as_inputs(np.append(START, ids))
        return search(predictor, inputs, FromLeft(allowed, end, decoder, start))

    def _beginning_of(self, right: str) -> Mask:
        """The tokens that begin with the first character of a text."""
        return self._tokens(self.texts, lambda text: text[:1] == right[0])

    def _tokens(self, texts: Sequence[str], condition: Callable[[str], bool]) -> Mask:
        """The tokens (V,) whose text meets a condition; no special ones."""
        mask = np.array([condition(text) for text in texts])
        mask[: len(SPECIALS)] = False
        return mask


class ForwardFilling(Filling):
    """Filling by a forward model: P(left · filler · right)."""

    def __init__(self, predictors: Predictors, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.predictors = predictors

    def _proposals(self, left: str, right: str) -> set[str]:
        line_end = np.arange(self.tokenizer.size) == EOS
        end = self._beginning_of(right) if right else line_end
        return self._search_from_left(left, self.predictors.numpy, end)

    def next_words(self, left: str, end: Mask) -> list[str]:
        """Words that may come next, as many as are proposed for a blank, in any order.

        end:  (V,) the tokens that may follow a whole word: line ends, and what begins a word
        """
        if not self.tokenizer.tokens_are_words:
            return sorted(self._search_from_left(left, self.predictors.numpy, end))
        ids = self.tokenizer.encode(left).ids
        best = np.argsort(-self._word_scores(ids, len(ids)), kind="stable")
        best = best[end[best] & (best >= len(SPECIALS))]
        words = [self.texts[id].strip() for id in best.tolist()]
        return [word for word in words if word][:WORDS]

    def _word_scores(self, ids: IntArray, position: int) -> Floats:
        inputs = as_inputs(np.append(START, ids[:position]))
        (logprobs,) = Reader(self.predictors.numpy, inputs).logprobs()
        return logprobs

    def _rank_words(
        self, words: list[str], probabilities: NDArray[np.float64], left: str, right: str
    ) -> list[Filler]:
        return self._ranked(words[:WORDS], left, right)

    def _line_scores(self, lines: list[IntArray]) -> NDArray[np.float64]:
        lines = [np.append(line, EOS) for line in lines]
        predictor = self.predictors.for_tokens(sum(map(len, lines)))
        return _sums(sequence_logprobs(predictor, lines))


class TwoSidedFilling(Filling):
    """Filling by a bidirectional network.

    A line is ranked by the geometric mean of two probabilities: of the forward direction, and of
    the one that reads from the end.
    """

    def __init__(self, backends: Backends, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.backends = backends

    def _proposals(self, left: str, right: str) -> set[str]:
        nothing = np.zeros(self.tokenizer.size, bool)  # the network never predicts the line end
        end = self._beginning_of(right) if right else nothing
        from_left = self._search_from_left(left, OneSidedPredictor(self.backends.numpy, False), end)
        return from_left | self._search_from_right(left, right)

    def _search_from_right(self, left: str, right: str) -> set[str]:
        """Fillers that lead to the text on the right, and can follow the text on the left."""
        ids, spans = self.tokenizer.encode("x" + right)
        inputs = np.append(EOS, ids[spans[:, 0] > 0][::-1])
        allowed = self._tokens(self.texts, is_word)
        # A subword that begins a word has the space before it: with the space the word is whole.
        spaced = self.tokenizer.space_starts_word and (not left or left[-1].isspace())
        before = (left[:-1] if spaced else left)[-1:]
        end = self._tokens(self.texts, lambda text: text[-1:] == before)
        if spaced:
            allowed |= self._tokens(
                self.texts, lambda text: text[:1] == " " and has_no_space(text[1:])
            )
        token_texts = [self.tokenizer.appended(id, UNK) for id in range(self.tokenizer.size)]
        predictor = OneSidedPredictor(self.backends.numpy, True)
        return search(predictor, inputs, FromRight(allowed, end, token_texts, spaced))

    def _word_scores(self, ids: IntArray, position: int) -> Floats:
        y = both_sides(self.backends.for_tokens(len(ids)), [ids])[0, position]
        return np.pad(self.backends.numpy.logits(y), (1, 0))

    def _rank_words(
        self, words: list[str], probabilities: NDArray[np.float64], left: str, right: str
    ) -> list[Filler]:
        return [Filler(word, float(p)) for word, p in zip(words, probabilities, strict=True)]

    def _line_scores(self, lines: list[IntArray]) -> NDArray[np.float64]:
        backend = self.backends.for_tokens(2 * sum(map(len, lines)))
        forward, reverse = (_sums(one_sided_logprobs(backend, lines, r)) for r in (False, True))
        return (forward + reverse) / 2


def _joined(texts: Sequence[str], fillers: Sequence[str]) -> str:
    return "".join(text + filler for text, filler in zip(texts, [*fillers, ""], strict=True))


def _sums(logprobs: Sequence[Floats]) -> NDArray[np.float64]:
    return np.array([row.sum(dtype=np.float64) for row in logprobs])
