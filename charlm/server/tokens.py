"""The tokens of a text, as the protocol writes them: names, log-probabilities, offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from charlm.tokenizer import START, UNK, Tokenizer

NEVER = -9999.0  # for log 0, which JSON cannot write


@dataclass
class TokenList:
    """The lists of `logprobs` in an answer, an entry a token.

    tokenizer:  of the model
    previous:   the token before the next one
    """

    tokenizer: Tokenizer
    previous: int = START
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)

    def add(
        self, id: int, offset: int, logprob: float | None, likeliest: Iterable[tuple[int, float]]
    ) -> None:
        """Add a token.

        offset:     where it begins, in characters of the text
        logprob:    log p, in nats; None for one that is not predicted
        likeliest:  the most probable tokens in its place, with their log p
        """
        self.tokens.append(self._name(id))
        self.text_offset.append(offset)
        if logprob is None:
            self.token_logprobs.append(None)
            self.top_logprobs.append(None)
        else:
            self.token_logprobs.append(finite(logprob))
            self.top_logprobs.append(self._top(id, logprob, likeliest))
        self.previous = id

    def _top(
        self, id: int, logprob: float, likeliest: Iterable[tuple[int, float]]
    ) -> dict[str, float]:
        """The likeliest tokens and the one that stands there, each under a name of its own."""
        top: dict[str, float] = {}
        for other, value in {**dict(likeliest), id: logprob}.items():
            name = self._name(other)
            top[name if name not in top else f"{name} ({other})"] = finite(value)
        return top

    def _name(self, id: int) -> str:
        """The text that a token adds; its printable form if that is no text."""
        piece = self.tokenizer.appended(id, self.previous)
        try:
            text = "" if id == UNK else piece.decode()
        except UnicodeDecodeError:  # a part of a character
            text = ""
        return text or self.tokenizer.token(id)

    def to_json(self) -> dict[str, Any]:
        """The object of the answer."""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: getattr(self, name) for name in names}


def finite(logprob: float) -> float:
    """A log-probability that JSON can write."""
    return max(logprob, NEVER)
