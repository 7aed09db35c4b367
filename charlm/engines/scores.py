"""The results of scoring: the measures of a text, of a sentence and of its tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.engines.bootstrap import NO_PARTS, Interval, interval_95
from charlm.engines.words import WordScore, bits_of, word_scores
from charlm.tokenizer import EOS, UNK, Encoding, Tokenizer

if TYPE_CHECKING:
    from pandas import DataFrame

    from charlm.model.lexicon import Lexicon

CHARS_AT_ONCE = 1 << 20
LARGE_PERPLEXITY = 1e6  # has two digits in reports


@dataclass(frozen=True)
class TokenScore:
    """One token of a scored text.

    id:       in the model's vocabulary
    token:    its printable form, such as "a" or "<EOS>"
    logprob:  log p(token | context), nats
    start, end:  its characters [start, end) in the text
    rank, entropy, likeliest:  of the distribution before it, see `Statistics`; the entropy in
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
        return bits_of(self.logprob)

    @property
    def log10prob(self) -> float:
        """log₁₀ p."""
        return self.logprob / math.log(10)

    @property
    def entropy_bits(self) -> float | None:
        """The entropy in bits."""
        return None if self.entropy is None else self.entropy / math.log(2)

    def to_json(self) -> dict[str, Any]:
        """The columns of tables and JSON output, which are attributes, too."""
        names = ["token", "logprob", "log10prob", "bits", "start", "end"]
        names += [] if self.rank is None else ["rank", "entropy_bits"]
        return {name: getattr(self, name) for name in names}

    @property
    def is_unknown(self) -> bool:
        """Whether the token is not in the vocabulary, and was scored as `<UNK>`."""
        return self.id == UNK

    @property
    def is_line_end(self) -> bool:
        """Whether the token is the end of a line, `<EOS>`."""
        return self.id == EOS


@dataclass(frozen=True)
class TextScore:
    """How probable a text is. A measure is of the whole text unless its name says per what.

    text:     the text itself
    logprob:  log P, nats
    tokens:   predicted tokens, `<EOS>` counted
    chars, bytes:  size of the text, one more for each line end that is scored
    unknown:  tokens that are not in the vocabulary, scored as `<UNK>`
    unknown_logprob:  the part of log P that these tokens have, nats
    lines:    line ends that are scored
    parts:    (n, 2) bits and characters of parts of the text, for intervals; of texts that are
              evaluated, see `charlm.engines.bootstrap`
    """

    text: str
    logprob: float
    tokens: int
    chars: int
    bytes: int
    unknown: int
    unknown_logprob: float
    lines: int
    parts: NDArray[np.float64] = field(
        default_factory=lambda: NO_PARTS, repr=False, compare=False, kw_only=True
    )

    columns: ClassVar = {
        "tokens": ",",
        "unknown": ",",
        "perplexity": ".2f",
        "nats_per_token": ".4f",
        "bits_per_char": ".4f",
        "bits_per_char_interval": ".4f",
        "bits_per_byte": ".4f",
    }

    @property
    def predicted(self) -> int:
        """The number of predicted tokens."""
        return self.tokens

    @property
    def log10prob(self) -> float:
        """log₁₀ P."""
        return self.logprob / math.log(10)

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ P."""
        return bits_of(self.logprob)

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

    @cached_property
    def bits_per_char_interval(self) -> Interval | None:
        """The 95 % interval of bits per character; None for a text without enough `parts`."""
        return interval_95(self.parts)

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
        names = [f.name for f in fields(TextScore) if f.name not in ("text", "parts")]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return TextScore("", **sums, parts=np.concatenate([self.parts, other.parts]))

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

    def figures(self) -> dict[str, Any]:
        """The measures of `to_json`, nats per token and an interval, without the text."""
        figures = {
            **self.to_json(),
            "nats_per_token": self.nats_per_token,
            "bits_per_char_interval": self.bits_per_char_interval,
        }
        del figures["text"]
        return figures


def difference(score: TextScore, other: TextScore) -> tuple[float, Interval | None]:
    """By how many bits per character a model is worse than another on the same text.

    Also its 95 % interval, by the same parts of the text for both; None for short texts.
    """
    value = score.bits_per_char - other.bits_per_char
    if score is other or score.parts.shape != other.parts.shape:
        return value, None
    bits = score.parts[:, 0] - other.parts[:, 0]
    return value, interval_95(np.stack([bits, other.parts[:, 1]], axis=1))


NOTHING = TextScore("", 0.0, 0, 0, 0, 0, 0.0, 0)


@dataclass(frozen=True)
class SentenceScore(TextScore):
    """A scored sentence.

    context:   the text before it
    ids:       (n,) its tokens
    logprobs:  (n,) log p of each token, nats
    distributions:  (n,) records of `charlm.model.distributions.Statistics`; None without `details`
    lexicon:   of the model, for the frequency of words; None if there is none

    `spans` and `token_scores` are computed when they are first read: that takes longer than
    scoring one of many lines.
    """

    context: str = field(repr=False, compare=False)
    ids: NDArray[np.int64] = field(repr=False, compare=False)
    logprobs: NDArray[np.float32] = field(repr=False, compare=False)
    tokenizer: Tokenizer = field(repr=False, compare=False)
    distributions: NDArray[np.void] | None = field(default=None, repr=False, compare=False)
    lexicon: Lexicon | None = field(default=None, repr=False, compare=False)
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
        token = self.tokenizer.token
        rows = zip(self.ids.tolist(), self.spans.tolist(), self.logprobs.tolist(), strict=True)
        scores = [TokenScore(id, token(id), p, start, end) for id, (start, end), p in rows]
        if self.distributions is None:
            return tuple(scores)
        details = self._details(self.distributions)
        return tuple(replace(s, **d) for s, d in zip(scores, details, strict=True))

    def _details(self, distributions: NDArray[np.void]) -> Iterator[dict[str, Any]]:
        """The fields of `TokenScore` that come from the distributions."""
        names = ("rank", "entropy", "likeliest", "likeliest_logprobs")
        columns = (distributions[name].tolist() for name in names)
        for rank, entropy, ids, logprobs in zip(*columns, strict=True):
            likeliest = tuple(zip(map(self.tokenizer.token, ids), logprobs, strict=True))
            yield {"rank": rank, "entropy": entropy, "likeliest": likeliest}

    def words(self, punctuation: bool = False) -> tuple[WordScore, ...]:
        """The words, and the line end. Their log P add up to that of the sentence.

        punctuation:  marks are words by themselves; otherwise they belong to the word they touch

        The tokens of a word do not say that it ends. With B = Σ p over the tokens that may begin
        the next word, and `<EOS>`, log P(word) = Σ log p(its tokens) + log B(after) − log B(before)
        (Pimentel and Meister 2024, Oh and Schuler 2024). The first word has no B(before).

        Raises OptionError for a sentence that was scored without `details`.
        """
        return word_scores(self, punctuation)

    def word_records(self, punctuation: bool = False) -> list[dict[str, Any]]:
        """`words` under the names of tables and JSON output, with their frequency if it is known:
        occurrences in a million words of the training text; None for the line end."""
        return [self._word_record(word) for word in self.words(punctuation)]

    def _word_record(self, word: WordScore) -> dict[str, Any]:
        record = word.to_json()
        if not self.lexicon:
            return record
        frequency = None if word.is_line_end else self.lexicon.frequency(word.word)
        last = {name: record.pop(name) for name in ("length", "unknown")}
        return {**record, "frequency": frequency, **last}

    def to_frame(self, by: str = "token") -> DataFrame:
        """A pandas data frame with a row for each token, or word: see `Scores.to_frame`.

        >>> "".join(model.score("the cat").to_frame()["token"])
        'the▁cat<EOS>'
        """
        from charlm.engines.score_list import Scores

        frame = Scores([self]).to_frame(by)
        return frame.drop(columns="sentence", errors="ignore")

    def _repr_html_(self) -> str:
        """The sentence in the colours of its tokens, for notebooks."""
        from charlm.engines.drawn_scores import notebook

        return notebook([self])


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


def written_perplexity(perplexity: float) -> str:
    """A perplexity as reports show it.

    >>> written_perplexity(12.345), written_perplexity(3213338356474.03)
    ('12.35', '3.2e+12')
    """
    return f"{perplexity:.2f}" if perplexity < LARGE_PERPLEXITY else f"{perplexity:.1e}"


def byte_length(text: str) -> int:
    """Bytes of the text in UTF-8. Bytes that were not UTF-8 in the input count as one each."""
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return len(text.encode("utf-8", "surrogatepass"))
