"""The words of a scored sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.tokenizer import EOS, SPECIALS, UNK, Tokenizer
from charlm.tokenizer.word_starts import WordStarts, word_starts

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore

ROUNDING = 1e-5  # bits
JOINED, SEPARATE = "joined", "separate"  # punctuation belongs to words, or is a word by itself


def starts_of_words(tokenizer: Tokenizer) -> dict[str, WordStarts]:
    """Where words begin, with joined and with separate punctuation."""
    return {JOINED: word_starts(tokenizer, False), SEPARATE: word_starts(tokenizer, True)}


def bits_of(logprob: float) -> float:
    """The surprisal −log₂ P of log P in nats; 0 where rounding would make it a little negative."""
    bits = 0.0 - logprob / math.log(2)
    return bits if abs(bits) > ROUNDING else max(bits, 0.0)


@dataclass(frozen=True)
class WordScore:
    """One word of a scored sentence, see `SentenceScore.words`.

    word:      as it stands in the text; "<EOS>" for the line end
    logprob:   log P, nats, with the probability that it ends here
    entropy:   of the distribution of its first token after white space, nats
    start, end:  its characters [start, end) in the text
    unknown:   some of its tokens are not in the vocabulary
    """

    word: str
    logprob: float
    entropy: float
    start: int
    end: int
    unknown: bool

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ P."""
        return bits_of(self.logprob)

    @property
    def entropy_bits(self) -> float:
        """The entropy in bits."""
        return self.entropy / math.log(2)

    @property
    def length(self) -> int:
        """The number of its characters."""
        return self.end - self.start

    def to_json(self) -> dict[str, Any]:
        """The columns of tables and JSON output, which are attributes, too."""
        names = ("word", "start", "end", "bits", "entropy_bits", "length", "unknown")
        return {name: getattr(self, name) for name in names}

    @property
    def is_line_end(self) -> bool:
        """Whether this is the end of the line, `<EOS>`."""
        return self.start == self.end


def word_scores(sentence: SentenceScore, punctuation: bool) -> tuple[WordScore, ...]:
    """See `SentenceScore.words`."""
    if not len(sentence.ids):
        return ()
    distributions = sentence.distributions
    if distributions is None:
        raise OptionError("`words`: goes with `details=True`")
    name = SEPARATE if punctuation else JOINED
    starts = starts_of_words(sentence.tokenizer)[name].of(
        sentence.text, sentence.ids, sentence.spans
    )
    first = np.flatnonzero(starts.begins)
    place = starts.place[first]
    # log B before each word; there is none where `place` is −1.
    log_before = distributions[name][first, np.maximum(place, 0)]
    log_before = np.where(place < 0, 0.0, log_before)
    logprobs = np.add.reduceat(sentence.logprobs, first, dtype=np.float64)
    logprobs += np.append(log_before[1:], 0.0) - log_before
    end = np.append(first[1:], len(sentence.ids))
    rows = zip(first.tolist(), end.tolist(), logprobs.tolist(), strict=True)
    return tuple(_word(sentence, distributions["entropy"], *row) for row in rows)


def _word(
    sentence: SentenceScore, entropy: NDArray[np.float32], first: int, end: int, logprob: float
) -> WordScore:
    """The word of the tokens [first, end)."""
    text, spans = sentence.text, sentence.spans
    while first < end - 1 and not text[slice(*spans[first].tolist())].strip():
        first += 1  # white space before the word
    a, b = spans[[first, end - 1], [0, 1]].tolist()
    nats = float(entropy[first])
    if sentence.ids[end - 1] == EOS:
        return WordScore(SPECIALS[EOS], logprob, nats, b, b, False)
    word = text[a:b]
    a += len(word) - len(word.lstrip())
    unknown = bool((sentence.ids[first:end] == UNK).any())
    return WordScore(word.strip(), logprob, nats, a, b, unknown)
