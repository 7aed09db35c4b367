"""A line with blanks -> the likeliest fillers of each.

A filler is a word: characters without white space. Fillers are proposed token by token, from the
left and, by a bidirectional model, from the right too; then they are ranked by how probable the
whole line is with each, P(left · filler · right).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError, OptionError
from charlm.model.likelihood import (
    Backends,
    both_sides,
    one_side,
    one_sided_logprobs,
    sequence_logprobs,
)
from charlm.model.stepper import Floats, Stepper, log_softmax
from charlm.tokenizer import EOS, SPECIALS, START, UNK, Decoder, Tokenizer, as_inputs

BLANK = "___"
UNFILLED = "\ufffd"  # stands for a blank that has no filler yet: hardly any vocabulary has it
ANY_WORD = "\u02ac"  # a letter that stands for the word that is sought
BEAM = 32  # fillers that are spelled side by side
LONGEST = 24  # tokens of a filler
PROPOSED = 64  # fillers that each direction proposes
WORDS = 256  # words that a forward model proposes


@dataclass(frozen=True)
class Filler:
    """What may stand in a blank.

    text:         the filler
    probability:  by a bidirectional model of words, that of the word given all others; else the
                  filler's share among all that were ranked
    """

    text: str
    probability: float


class Filling:
    """Fills the blanks of a line by one model.

    stepper:  spells what is proposed
    backends: what ranks the proposals
    """

    def __init__(self, stepper: Stepper, backends: Backends, tokenizer: Tokenizer) -> None:
        self.stepper, self.backends, self.tokenizer = stepper, backends, tokenizer
        self.both = stepper.config.bidirectional
        # Of each token, the text that it adds at the start of a line, and within one.
        self.starts, self.texts = (
            [
                tokenizer.appended(id, after).decode("utf-8", "surrogateescape")
                for id in range(tokenizer.size)
            ]
            for after in (START, UNK)
        )

    def fill(self, line: str, k: int, blank: str) -> list[list[Filler]]:
        """The k best fillers of each blank, the likeliest first.

        Several blanks are filled one after the other, those to come unknown, and then each once
        more with the best fillers of the others in place. Raises InputError for a line without a
        blank, OptionError for k below 1.
        """
        if k < 1:
            raise OptionError(f"-k {k}: must be 1 or more")
        if not blank or blank not in line:
            raise InputError(f"no blank in {line!r}; mark the place to fill with {blank or BLANK}")
        parts = line.split(blank)
        best = [UNFILLED] * (len(parts) - 1)
        found: list[list[Filler]] = [[] for _ in best]
        for _ in range(min(len(best), 2)):
            for place in range(len(best)):
                left = _woven(parts[: place + 1], best[:place])
                right = _woven(parts[place + 1 :], best[place + 1 :])
                found[place] = self.fillers(left, right)[:k]
                best[place] = found[place][0].text if found[place] else UNFILLED
        return found

    def fillers(self, left: str, right: str) -> list[Filler]:
        """Those of one blank, by what stands before and after it; the best first."""
        if self.tokenizer.level == "word":
            return self._words(left, right)
        proposed = self._from_left(left, right)
        if self.both:
            proposed |= self._from_right(left, right)
        return self._ranked(sorted(proposed), left, right)

    def _words(self, left: str, right: str) -> list[Filler]:
        """The words of the vocabulary that fit: all of them by p(word | left, right), or by a
        forward model those that it finds likeliest after what is on the left."""
        ids, spans = self.tokenizer.encode(left + ANY_WORD + right)
        place = int(np.searchsorted(spans[:, 1], len(left), side="right"))
        start, end = (int(edge) - len(left) for edge in spans[place])
        before, after = left[len(left) + start :], right[: end - len(ANY_WORD)]
        words = [text.removeprefix(" ") for text in self.texts]
        fits = [
            id >= len(SPECIALS) and bool(word.strip()) and len(word) > len(before + after)
            and word.startswith(before) and word.endswith(after)
            for id, word in enumerate(words)
        ]  # fmt: skip
        if not any(fits):
            return []
        if self.both:
            y = both_sides(self.backends(len(ids)), [ids])[0, place]
            logprobs = np.pad(self.stepper.logits(y), (1, 0))
        else:
            (logprobs,) = _Side(self.stepper, [START, *as_inputs(ids[:place])], False).logprobs()
        logprobs = log_softmax(np.where(fits, logprobs, -np.inf))
        best = np.argsort(-logprobs, kind="stable")[: sum(fits)]
        texts = [words[id][len(before) : len(words[id]) - len(after)] for id in best]
        if not self.both:
            return self._ranked(texts[:WORDS], left, right)
        return [Filler(t, float(np.exp(logprobs[id]))) for t, id in zip(texts, best, strict=True)]

    def _ranked(self, fillers: Sequence[str], left: str, right: str) -> list[Filler]:
        """The fillers by the probability of the whole line, each with its share of their sum.

        Each direction of a bidirectional model gives such a probability, by the tokens on its own
        side alone; the geometric mean of the two counts.
        """
        if not fillers:
            return []
        lines = [self.tokenizer.encode(left + filler + right).ids for filler in fillers]
        if self.both:
            backend = self.backends(2 * sum(map(len, lines)))
            onward, back = (_sums(one_sided_logprobs(backend, lines, r)) for r in (False, True))
            scores = (onward + back) / 2
        else:
            lines = [np.append(line, EOS) for line in lines]
            scores = _sums(sequence_logprobs(self.backends(sum(map(len, lines))), lines))
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        order = np.argsort(-shares, kind="stable")
        return [Filler(fillers[k], float(shares[k])) for k in order]

    # --- fillers, spelled token by token from one side ---

    def _from_left(self, left: str, right: str) -> set[str]:
        """Fillers that go on from the left, and after which the line can go on to the right."""
        ids, decoder = self.tokenizer.prime(left)
        side = _Side(self.stepper, [START, *as_inputs(ids).tolist()], reverse=False)
        if right:
            end = self._those(self.texts, lambda text: text[:1] == right[0])
        else:  # no bidirectional model predicts the end
            end = (np.arange(self.tokenizer.size) == EOS) & (not self.both)
        # The piece of a space alone may begin a line, too, and adds nothing there.
        start = self._those(self.texts if left else self.starts, _has_no_space)
        first = _Onward("", decoder, start)
        return _search(side, first, self._those(self.texts, _is_word), end)

    def _from_right(self, left: str, right: str) -> set[str]:
        """Fillers that lead to the right, spelled from their end, and that can go on the left."""
        ids, spans = self.tokenizer.encode("x" + right)
        side = _Side(self.stepper, [EOS, *ids[spans[:, 0] > 0][::-1].tolist()], reverse=True)
        allowed = self._those(self.texts, _is_word)
        # A subword that begins a word has the space before it: with it the word is complete.
        spaced = self.tokenizer.level == "subword" and (not left or left[-1].isspace())
        before = (left[:-1] if spaced else left)[-1:]
        end = self._those(self.texts, lambda text: text[-1:] == before)
        if spaced:
            allowed |= self._those(
                self.texts, lambda text: text[:1] == " " and _has_no_space(text[1:])
            )
        pieces = [self.tokenizer.appended(id, UNK) for id in range(self.tokenizer.size)]
        first = _Backward(b"", pieces, spaced)
        return _search(side, first, allowed, end)

    def _those(self, texts: Sequence[str], wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
        """The tokens (V,) whose text is wanted; none of the special ones."""
        found = np.array([wanted(text) for text in texts])
        found[: len(SPECIALS)] = False
        return found


def _woven(parts: Sequence[str], fillers: Sequence[str]) -> str:
    return "".join(part + filler for part, filler in zip(parts, [*fillers, ""], strict=True))


def _sums(logprobs: Sequence[Floats]) -> NDArray[np.float64]:
    return np.array([row.sum(dtype=np.float64) for row in logprobs])


def _is_word(text: str) -> bool:
    return bool(text) and _has_no_space(text)


def _has_no_space(text: str) -> bool:
    return not any(char.isspace() for char in text)


class _Side:
    """What a model expects on from one side of a blank, for several ways of going on at once.

    ids:  that are read first, from the line's start or, in reverse, from its end
    """

    def __init__(self, stepper: Stepper, ids: Sequence[int], reverse: bool) -> None:
        self.stepper, self.reverse = stepper, reverse
        y, self.state = stepper.read(np.array([ids]), stepper.initial_state(1), reverse)
        self.y = y[:, -1]

    def go_on(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """After row k of those before, read a token; so for each of the new rows."""
        self.state = [tuple(s[list(rows)] for s in layer) for layer in self.state]
        y, self.state = self.stepper.read(np.array(ids)[:, None], self.state, self.reverse)
        self.y = y[:, -1]

    def logprobs(self) -> Floats:
        """Of each token (rows, V), by this side alone."""
        both = self.stepper.config.bidirectional
        y = one_side(self.y, self.reverse) if both else self.y
        found = log_softmax(self.stepper.logits(y))
        return np.pad(found, ((0, 0), (1, 0)), constant_values=-np.inf)  # <START>


@dataclass(frozen=True)
class _Onward:
    """A filler that is spelled from its beginning.

    start:  (V,), the tokens that it may begin with, if none is held to begin it
    """

    text: str
    decoder: Decoder
    start: NDArray[np.bool_]

    def mask(self) -> NDArray[np.bool_] | None:
        held = self.decoder.mask()
        return self.start if held is None and not self.text else held

    def extended(self, id: int) -> _Onward:
        decoder = self.decoder.copy()
        return replace(self, text=self.text + decoder.push(id), decoder=decoder)

    @property
    def filler(self) -> str | None:
        """The text, if it may end here."""
        return self.text if self.decoder.is_whole and _is_word(self.text) else None

    @property
    def is_open(self) -> bool:
        """Whether it may go on."""
        return _has_no_space(self.text)


@dataclass(frozen=True)
class _Backward:
    """A filler that is spelled from its end.

    pieces:  the UTF-8 text of every token
    spaced:  it is complete when it begins with a space
    """

    spelled: bytes
    pieces: Sequence[bytes]
    spaced: bool

    def mask(self) -> NDArray[np.bool_] | None:
        return None

    def extended(self, id: int) -> _Backward:
        return replace(self, spelled=self.pieces[id] + self.spelled)

    @property
    def filler(self) -> str | None:
        if self.spaced and self.is_open:
            return None
        try:
            text = self.spelled.decode().removeprefix(" ")
        except UnicodeDecodeError:
            return None
        return text if _is_word(text) else None

    @property
    def is_open(self) -> bool:
        return not self.spelled.startswith(b" ")


def _search(
    side: _Side,
    first: _Onward | _Backward,
    allowed: NDArray[np.bool_],
    end: NDArray[np.bool_],
) -> set[str]:
    """The likeliest fillers, by a beam search.

    allowed:  (V,), the tokens that a filler is made of
    end:      (V,), the tokens one of which should come next after it
    """
    found: dict[str, float] = {}
    beam: list[tuple[float, _Onward | _Backward]] = [(0.0, first)]
    for length in range(LONGEST + 1):
        logprobs = side.logprobs()
        for (logprob, spelled), row in zip(beam, logprobs, strict=True):
            if (filler := spelled.filler) is not None:
                ending = float(np.logaddexp.reduce(row[end])) if end.any() else 0.0
                found[filler] = max(logprob + ending, found.get(filler, -np.inf))
        if length == LONGEST:
            break
        scores = np.full(logprobs.shape, -np.inf)
        for row, ((logprob, spelled), given) in enumerate(zip(beam, logprobs, strict=True)):
            if spelled.is_open:
                mask = spelled.mask()
                fits = allowed if mask is None else mask
                scores[row, fits] = logprob + given[fits]
        best = np.argsort(-scores, axis=None)[:BEAM]
        rows, ids = np.unravel_index(best[np.isfinite(scores.ravel()[best])], scores.shape)
        if not len(rows):
            break
        beam = [
            (float(scores[row, id]), beam[row][1].extended(int(id)))
            for row, id in zip(rows, ids, strict=True)
        ]
        side.go_on(rows, ids)
    return set(sorted(found, key=lambda filler: -found[filler])[:PROPOSED])
