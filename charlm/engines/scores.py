"""The results of scoring: the measures of a text, of a sentence and of its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.distributions import Distributions
from charlm.tokenizer import EOS, SPECIALS, UNK, Encoding, Tokenizer
from charlm.tokenizer.word_starts import WordStarts, word_starts

CHARS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class TokenScore:
    """One token of a scored text.

    id:       in the model's vocabulary
    token:    its printable form, such as "a" or "<EOS>"
    logprob:  log p(token | context), nats
    start, end:  its characters [start, end) in the text
    rank, entropy, likeliest:  of the distribution before it, see `Distributions`; the entropy in
              nats, and the likeliest tokens with their log p. None without `details`
    """

    id: int
    token: str
    logprob: float
    start: int
    end: int
    rank: int | None = None
    entropy: float | None = None
    likeliest: tuple[tuple[str, float], ...] | None = None

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ p."""
        return 0.0 - self.logprob / math.log(2)

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        record = {
            "token": self.token,
            "logprob": self.logprob,
            "log10prob": self.logprob / math.log(10),
            "bits": self.bits,
            "start": self.start,
            "end": self.end,
        }
        if self.rank is not None and self.entropy is not None:
            record |= {"rank": self.rank, "entropy_bits": self.entropy / math.log(2)}
        return record

    @property
    def is_unknown(self) -> bool:
        """Whether the token is not in the vocabulary, and was scored as `<UNK>`."""
        return self.id == UNK

    @property
    def is_line_end(self) -> bool:
        """Whether the token is the end of a line, `<EOS>`."""
        return self.id == EOS


@dataclass(frozen=True)
class WordScore:
    """One word of a scored sentence, see `SentenceScore.words`.

    word:      as it stands in the text; "<EOS>" for the line end
    logprob:   log P, nats, with the probability that it ends here
    entropy:   of the distribution of its first token after white space, nats
    start, end:  its characters [start, end) in the text
    is_unknown:  some of its tokens are not in the vocabulary
    """

    word: str
    logprob: float
    entropy: float
    start: int
    end: int
    is_unknown: bool

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ P."""
        return 0.0 - self.logprob / math.log(2)

    def to_json(self) -> dict[str, Any]:
        """The values under their names in JSON output."""
        return {
            "word": self.word,
            "start": self.start,
            "end": self.end,
            "bits": self.bits,
            "entropy_bits": self.entropy / math.log(2),
            "length": self.end - self.start,
            "unknown": self.is_unknown,
        }

    @property
    def is_line_end(self) -> bool:
        """Whether this is the end of the line, `<EOS>`."""
        return self.start == self.end


@dataclass(frozen=True)
class TextScore:
    """How probable a text is. A measure is of the whole text unless its name says per what.

    text:     as it was given
    logprob:  log P, nats
    tokens:   predicted tokens, `<EOS>` counted
    chars, bytes:  size of the text, one more for each line end that is scored
    unknown:  tokens that are not in the vocabulary, scored as `<UNK>`
    unknown_logprob:  the part of log P that these tokens have, nats
    lines:    line ends that are scored
    """

    text: str
    logprob: float
    tokens: int
    chars: int
    bytes: int
    unknown: int
    unknown_logprob: float
    lines: int

    @property
    def log10prob(self) -> float:
        """log₁₀ P."""
        return self.logprob / math.log(10)

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ P."""
        return 0.0 - self.logprob / math.log(2)

    @property
    def known_log10prob(self) -> float:
        """log₁₀ P without the unknown tokens."""
        return (self.logprob - self.unknown_logprob) / math.log(10)

    @property
    def nats_per_token(self) -> float:
        """The cross-entropy, −log P / tokens; 0 for a text without tokens."""
        return 0.0 - self.logprob / max(self.tokens, 1)

    @property
    def perplexity(self) -> float:
        """Per token, `<EOS>` counted: P^(−1/tokens); 1 for a text without tokens."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf

    @property
    def bits_per_char(self) -> float:
        """Bits per character."""
        return self.bits / max(self.chars, 1)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return self.bits / max(self.bytes, 1)

    @property
    def probability(self) -> str:
        """P with two digits, also where it is too small for a float: "3.2e-1313"."""
        return scientific(self.log10prob)

    def __add__(self, other: TextScore) -> TextScore:
        """The measures of both texts together."""
        names = [f.name for f in fields(TextScore) if f.name != "text"]
        return TextScore("", *(getattr(self, name) + getattr(other, name) for name in names))

    def to_json(self) -> dict[str, Any]:
        """The measures under their names in JSON output."""
        return {
            "text": self.text,
            "logprob": self.logprob,
            "log10prob": self.log10prob,
            "bits": self.bits,
            "tokens": self.tokens,
            "chars": self.chars,
            "bytes": self.bytes,
            "unknown": self.unknown,
            "perplexity": self.perplexity,
            "bits_per_char": self.bits_per_char,
            "bits_per_byte": self.bits_per_byte,
        }


NOTHING = TextScore("", 0.0, 0, 0, 0, 0, 0.0, 0)


@dataclass(frozen=True)
class SentenceScore(TextScore):
    """A scored sentence.

    context:   the text before it
    ids:       (n,) its tokens
    logprobs:  (n,) log p of each token, nats
    measured:  (n, …) of `charlm.model.distributions.measure`; None without `details`

    `spans` and `token_scores` are computed when they are first read: that takes longer than
    scoring one of many lines.
    """

    context: str = field(repr=False, compare=False)
    ids: NDArray[np.int64] = field(repr=False, compare=False)
    logprobs: NDArray[np.float32] = field(repr=False, compare=False)
    tokenizer: Tokenizer = field(repr=False, compare=False)
    measured: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    prefix: ClassVar[str] = ""  # of the measures' names

    @cached_property
    def spans(self) -> NDArray[np.int64]:
        """(n, 2) the characters [start, end) of each token."""
        spans = encode_after(self.tokenizer, self.context, self.text).spans
        return spans[: len(self.ids)].clip(0, len(self.text))

    @property
    def unknown_pieces(self) -> list[str]:
        """The text of the tokens that are not in the vocabulary, in their order."""
        return [self.text[a:b] for a, b in self.spans[self.ids == UNK].tolist()]

    @cached_property
    def token_scores(self) -> tuple[TokenScore, ...]:
        """The tokens in order."""
        token, d = self.tokenizer.token, self.distributions
        rows = zip(self.ids.tolist(), self.spans.tolist(), self.logprobs.tolist(), strict=True)
        scores = [TokenScore(id, token(id), p, start, end) for id, (start, end), p in rows]
        if d is None:
            return tuple(scores)
        return tuple(replace(s, **d) for s, d in zip(scores, self._details(d), strict=True))

    def _details(self, d: Distributions) -> Iterator[dict[str, Any]]:
        """The fields of `TokenScore` that come from the distributions."""
        ids, logprobs = d.likeliest.astype(int).tolist(), d.likeliest_logprobs.tolist()
        for rank, entropy, k, p in zip(
            d.rank.astype(int).tolist(), d.entropy.tolist(), ids, logprobs, strict=True
        ):
            likeliest = tuple(zip(map(self.tokenizer.token, k), p, strict=True))
            yield {"rank": rank, "entropy": entropy, "likeliest": likeliest}

    @cached_property
    def distributions(self) -> Distributions | None:
        """The distributions before the tokens; None without `details`."""
        if self.measured is None:
            return None
        return Distributions.of(self.measured, sum(len(s.masks) for s in self._word_starts))

    @property
    def _word_starts(self) -> tuple[WordStarts, WordStarts]:
        return word_starts(self.tokenizer, False), word_starts(self.tokenizer, True)

    def words(self, punctuation: bool = False) -> tuple[WordScore, ...]:
        """The words, and the line end. Their log P add up to that of the sentence.

        punctuation:  marks are words by themselves; otherwise they belong to the word they touch

        The tokens of a word do not say that it ends. With B = Σ p over the tokens that may begin
        the next word, and `<EOS>`, log P(word) = Σ log p(its tokens) + log B(after) − log B(before)
        (Pimentel and Meister 2024, Oh and Schuler 2024). The first word has no B(before).

        Raises OptionError for a sentence that was scored without `details`.
        """
        d = self.distributions
        if d is None:
            if len(self.ids):
                raise OptionError("`words`: goes with `details=True`")
            return ()
        joined, separate = self._word_starts
        begins, place = (separate if punctuation else joined).of(self.ids)
        edges = self._with_their_spaces(np.flatnonzero(begins))
        place, first = place[edges], len(joined.masks) if punctuation else 0
        before = np.where(place < 0, 0.0, d.masses[edges, np.maximum(place, 0) + first])
        logprobs = np.add.reduceat(self.logprobs, edges, dtype=np.float64)
        logprobs += np.append(before[1:], 0.0) - before
        ends = np.append(edges[1:], len(self.ids))
        rows = zip(edges.tolist(), ends.tolist(), logprobs.tolist(), strict=True)
        return tuple(self._word(a, b, logprob, d.entropy) for a, b, logprob in rows)

    def _with_their_spaces(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """The edges without those between white space that is not in the vocabulary and a word."""
        for t in np.flatnonzero(self.ids == UNK).tolist() if self.unknown else ():
            if self.text[slice(*self.spans[t].tolist())].isspace():
                edges = edges[edges != t + 1]
        return edges

    def _word(self, a: int, b: int, logprob: float, entropy: Floats) -> WordScore:
        """The word of the tokens [a, b)."""
        while a < b - 1 and not self.text[slice(*self.spans[a].tolist())].strip():
            a += 1  # white space before the word
        start, end = self.spans[[a, b - 1], [0, 1]].tolist()
        word = self.text[start:end]
        if self.ids[b - 1] == EOS:
            return WordScore(SPECIALS[EOS], logprob, float(entropy[a]), end, end, False)
        start += len(word) - len(word.lstrip())
        word = word.strip()
        unknown = bool((self.ids[a:b] == UNK).any())
        return WordScore(word, logprob, float(entropy[a]), start, end, unknown)


@dataclass(frozen=True)
class PseudoScore(SentenceScore):
    """A sentence scored by a bidirectional model (Salazar et al. 2020).

    `logprob` is the pseudo-log-likelihood: the sum over all tokens of log p(token | all other
    tokens). It is not the log-probability of the sentence, so the JSON name of every measure that
    comes from it starts with "pseudo_".
    """

    prefix: ClassVar[str] = "pseudo-"

    def to_json(self) -> dict[str, Any]:
        counts = ("text", "tokens", "chars", "bytes", "unknown")
        prefix = self.prefix.replace("-", "_")
        return {n if n in counts else prefix + n: v for n, v in super().to_json().items()}


def in_groups(
    texts: Iterable[str], most: int, most_chars: int = CHARS_AT_ONCE
) -> Iterator[list[str]]:
    """Groups of up to `most` texts, closed when they have `most_chars` characters.

    Texts before an error are in a group before it is raised again.
    """
    group: list[str] = []
    chars = 0
    try:
        for text in texts:
            group.append(text)
            chars += len(text)
            if len(group) == most or chars >= most_chars:
                yield group
                group, chars = [], 0
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def encode_after(tokenizer: Tokenizer, context: str, sentence: str) -> Encoding:
    """The tokens of a sentence and its line end, and the characters of each in the sentence.

    The first token may begin in the context: its span then begins below 0. A token without text
    belongs to what follows it.
    """
    ids, spans = tokenizer.encode(f"{context}{sentence}\n")
    own = (spans[:, 1] > len(context)) | (spans[:, 0] == len(context))
    return Encoding(ids[own], spans[own] - len(context))


def scientific(log10: float) -> str:
    """10^log10 with two significant digits, for any exponent.

    >>> scientific(-1312.495)
    '3.2e-1313'
    >>> scientific(0.0)
    '1.0e+00'
    """
    exponent = math.floor(log10)
    digits = f"{10 ** (log10 - exponent):.1f}"
    if digits == "10.0":
        digits, exponent = "1.0", exponent + 1
    return f"{digits}e{exponent:+03d}"


def byte_length(text: str) -> int:
    """Bytes of the text in UTF-8. Bytes that were not UTF-8 in the input count as one each."""
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return len(text.encode("utf-8", "surrogatepass"))
