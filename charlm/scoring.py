"""Sentences -> log-probabilities, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.model.likelihood import Backends, pseudo_logprobs, sequence_logprobs
from charlm.tokenizer import EOS, UNK, Encoding, IntArray, Tokenizer

# Sentences that are read before the first is scored: enough to fill batches of similar length.
SENTENCES_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenScore:
    """One token of a scored text.

    id:       in the model's vocabulary
    token:    its printable form, such as "a" or "<EOS>"
    logprob:  log p(token | what stands before it), nats
    start, end:  the characters [start, end) of the text that it stands for
    """

    id: int
    token: str
    logprob: float
    start: int
    end: int

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ p."""
        return 0.0 - self.logprob / math.log(2)

    @property
    def is_unknown(self) -> bool:
        """Whether the model has never seen it, and it was scored as `<UNK>`."""
        return self.id == UNK

    @property
    def is_line_end(self) -> bool:
        return self.id == EOS


@dataclass(frozen=True)
class TextScore:
    """How probable a text is. Every measure is of the text as a whole unless it says per what.

    text:     as it was given
    logprob:  log P, nats
    tokens:   predicted tokens, `<EOS>` counted
    chars, bytes:  of the text, one more for each line end that is scored
    unknown:  how many tokens were unknown to the model and scored as `<UNK>`
    """

    text: str
    logprob: float
    tokens: int
    chars: int
    bytes: int
    unknown: int

    @property
    def log10prob(self) -> float:
        return self.logprob / math.log(10)

    @property
    def bits(self) -> float:
        """The surprisal, −log₂ P."""
        return 0.0 - self.logprob / math.log(2)

    @property
    def perplexity(self) -> float:
        """Per token, `<EOS>` counted: P^(−1/tokens); 1 for no tokens at all."""
        nats = -self.logprob / max(self.tokens, 1)
        return math.exp(nats) if nats < 700 else math.inf

    @property
    def bits_per_char(self) -> float:
        return self.bits / max(self.chars, 1)

    @property
    def bits_per_byte(self) -> float:
        return self.bits / max(self.bytes, 1)

    @property
    def probability(self) -> str:
        """P in three digits, also where it is too small for a float: "3.2e-1313"."""
        return scientific(self.log10prob)

    def to_json(self) -> dict[str, Any]:
        """The measures by the names that they have in JSON output."""
        return {
            "text": self.text, "logprob": self.logprob, "log10prob": self.log10prob,
            "bits": self.bits, "tokens": self.tokens, "chars": self.chars, "bytes": self.bytes,
            "unknown": self.unknown, "perplexity": self.perplexity,
            "bits_per_char": self.bits_per_char, "bits_per_byte": self.bits_per_byte,
        }  # fmt: skip


@dataclass(frozen=True)
class SentenceScore(TextScore):
    """A scored sentence, and its tokens in order.

    context:   the text before it
    ids:       (n,) of its tokens
    logprobs:  (n,) log p of each, nats

    What else there is to know of the tokens is found when it is asked for: it takes more time than
    to score a line among many.
    """

    context: str = field(repr=False, compare=False)
    ids: NDArray[np.int64] = field(repr=False, compare=False)
    logprobs: NDArray[np.float32] = field(repr=False, compare=False)
    tokenizer: Tokenizer = field(repr=False, compare=False)
    prefix: ClassVar[str] = ""  # of the measures' names

    @cached_property
    def spans(self) -> NDArray[np.int64]:
        """(n, 2), the characters that each token stands for, start and end."""
        spans = _encode_after(self.tokenizer, self.context, self.text).spans
        return spans[: self.tokens].clip(0, len(self.text))

    @cached_property
    def token_scores(self) -> tuple[TokenScore, ...]:
        """The tokens in order."""
        rows = zip(self.ids.tolist(), self.spans.tolist(), self.logprobs.tolist(), strict=True)
        return tuple(
            TokenScore(id, self.tokenizer.token(id), logprob, start, end)
            for id, (start, end), logprob in rows
        )


@dataclass(frozen=True)
class PseudoScore(SentenceScore):
    """A sentence scored by a bidirectional model (Salazar et al. 2020).

    Every token is predicted from all others, before and after it, and `logprob` is the sum of
    their log-probabilities. It is no log-probability of the sentence, and in JSON every measure
    that comes of it says so in its name.
    """

    prefix: ClassVar[str] = "pseudo-"

    def to_json(self) -> dict[str, Any]:
        counts = ("text", "tokens", "chars", "bytes", "unknown")
        prefix = self.prefix.replace("-", "_")
        return {n if n in counts else prefix + n: v for n, v in super().to_json().items()}


Score = TypeVar("Score", bound=SentenceScore)


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
    """Bytes of the text as UTF-8; what was no UTF-8 when it was read counts as it was."""
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return len(text.encode("utf-8", "surrogatepass"))


def score_sentences(
    backends: Backends,
    tokenizer: Tokenizer,
    sentences: Iterable[str],
    *,
    context: str = "",
    eos: bool = True,
) -> Iterator[SentenceScore]:
    """Score each sentence from the zero state, in the order given.

    context:  text before the sentence that is not scored; a token that reaches from it into
              the sentence is
    eos:      whether the line end after the sentence is scored
    """
    remaining = iter(sentences)
    while batch := list(islice(remaining, SENTENCES_AT_ONCE)):
        encoded = _encode_lines(tokenizer, context, batch, eos)
        found = sequence_logprobs(backends(sum(map(len, encoded))), encoded)
        for sentence, ids, logprobs in zip(batch, encoded, found, strict=True):
            if context:
                scored = len(_encode_after(tokenizer, context, sentence).ids) - (not eos)
                ids, logprobs = ids[len(ids) - scored :], logprobs[len(ids) - scored :]
            yield _sentence_score(SentenceScore, tokenizer, context, sentence, ids, logprobs, eos)


def pseudo_score_sentences(
    backends: Backends, tokenizer: Tokenizer, sentences: Iterable[str]
) -> Iterator[PseudoScore]:
    """Score each sentence by a bidirectional model, in the order given; without its line end."""
    remaining = iter(sentences)
    while batch := list(islice(remaining, SENTENCES_AT_ONCE)):
        encoded = _encode_lines(tokenizer, "", batch, eos=False)
        found = pseudo_logprobs(backends(2 * sum(map(len, encoded))), encoded)
        for sentence, ids, logprobs in zip(batch, encoded, found, strict=True):
            yield _sentence_score(PseudoScore, tokenizer, "", sentence, ids, logprobs, False)


def _encode_lines(
    tokenizer: Tokenizer, context: str, sentences: list[str], eos: bool
) -> list[IntArray]:
    """The ids of each sentence and the context before it; encoded as one text, which is faster."""
    texts = [f"{context}{sentence}\n" for sentence in sentences]
    ids = tokenizer.encode_ids("".join(texts))
    ends = np.flatnonzero(ids == EOS)[np.cumsum([text.count("\n") for text in texts]) - 1] + 1
    return [ids[start : end - (not eos)] for start, end in pairwise([0, *ends.tolist()])]


def _encode_after(tokenizer: Tokenizer, context: str, sentence: str) -> Encoding:
    """The tokens of a sentence and its line end, and the characters of it behind each: those of
    the first may begin in the context."""
    ids, spans = tokenizer.encode(f"{context}{sentence}\n")
    own = spans[:, 1] > len(context)
    return Encoding(ids[own], spans[own] - len(context))


def _sentence_score(
    kind: type[Score],
    tokenizer: Tokenizer,
    context: str,
    sentence: str,
    ids: IntArray,
    logprobs: NDArray[np.float32],
    eos: bool,
) -> Score:
    return kind(
        text=sentence, logprob=float(logprobs.sum(dtype=np.float64)), tokens=len(ids),
        chars=len(sentence) + eos, bytes=byte_length(sentence) + eos,
        unknown=int(np.count_nonzero(ids == UNK)), context=context, ids=ids.astype(np.int64),
        logprobs=logprobs, tokenizer=tokenizer,
    )  # fmt: skip
