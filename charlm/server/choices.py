"""One completion of an answer, while it comes."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.server.prompts import Prompt
from charlm.server.tokens import TokenList
from charlm.server.writer import Token, Writing
from charlm.tokenizer import EOS, START, Tokenizer


class Choice:
    """A completion, in pieces as it comes.

    index:     in the answer
    prompt:    that it continues
    writing:   that it takes its tokens from
    tokenizer: of the model
    echo:      it begins with the prompt
    logprobs:  the number of the likeliest tokens in place of each; None for no figures

    reason:    why it ended; "" before
    """

    def __init__(
        self,
        index: int,
        prompt: Prompt,
        writing: Writing,
        tokenizer: Tokenizer,
        echo: bool,
        logprobs: int | None,
    ) -> None:
        self.index, self.writing, self.reason = index, writing, ""
        self._tokenizer, self._logprobs = tokenizer, logprobs
        self._start = len(prompt.text) if echo else 0  # of the written text
        self._previous = int(prompt.ids[-1]) if len(prompt.ids) else START
        self._length = 0  # of the written text
        self._held: deque[Token] = deque()  # that a stop text may take away
        self._text, self._lists = prompt.text if echo else "", self._new_lists()
        self._is_sent = False

    def _new_lists(self) -> TokenList | None:
        return None if self._logprobs is None else TokenList(self._tokenizer, self._previous)

    def score(self, prompt: Prompt, records: NDArray[np.void]) -> None:
        """Begin with log p of the prompt's tokens. records: of `Likeliest`"""
        self._lists = lists = TokenList(self._tokenizer)
        if prompt.first is not None:
            lists.add(prompt.first, 0, None, ())
            lists.previous = START
        for id, offset, record in zip(prompt.ids.tolist(), prompt.offsets, records, strict=True):
            likeliest = likeliest_of(record)[: self._logprobs]
            lists.add(id, offset, float(record["logprob"]), likeliest)

    def receive(self) -> None:
        """Take the tokens that are written."""
        tokens = self.writing.tokens
        while tokens:
            token = tokens.popleft()
            self._text += token.text
            self._length += len(token.text)
            self.reason = token.reason or self.reason
            if self._logprobs is not None:
                self._held.append(token)
        while self._held and self._is_certain(self._held[0]):
            token = self._held.popleft()
            self._previous = token.id
            if self._lists and token.figures:
                self._lists.add(token.id, self._start + token.start, *token.figures)

    def _is_certain(self, token: Token) -> bool:
        """Whether a token belongs to the text for certain; a line end that ends it does."""
        ends_line = token.id == EOS and self.writing.sample.limits.max_lines == 1
        return token.start < self._length or self.reason == "length" or ends_line

    def take(self) -> dict[str, Any] | None:
        """The object of what has come since the last call; None if nothing has."""
        lists, text = self._lists, self._text
        if self._is_sent or not (text or self.reason or (lists and lists.tokens)):
            return None
        self._text, self._lists = "", self._new_lists()
        self._is_sent = bool(self.reason)
        return {
            "text": text,
            "index": self.index,
            "logprobs": lists.to_json() if lists else None,
            "finish_reason": self.reason or None,
        }


def likeliest_of(record: np.void) -> list[tuple[int, float]]:
    """The likeliest tokens of a record of `Likeliest`, with their log p."""
    ids, logprobs = record["likeliest"].tolist(), record["likeliest_logprobs"].tolist()
    return list(zip(ids, logprobs, strict=True))
