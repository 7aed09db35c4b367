"""Prompts: texts, or token ids, and what begins after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlm.server.errors import ProtocolError
from charlm.tokenizer import EOS, START, Decoder, IntArray, Primed, Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    text:     of the prompt
    ids:      its tokens, without `<START>`, which is read before them
    offsets:  where each token begins in the text, with the space before it
    first:    a line end or `<START>` before the tokens, for `<START>`: it is not read twice. None
              without one
    """

    text: str
    ids: IntArray
    offsets: Sequence[int]
    first: int | None = None

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.ids) + (self.first is not None)

    @classmethod
    def of_text(cls, text: str, tokenizer: Tokenizer) -> Prompt:
        """A prompt that is a text."""
        ids, spans = tokenizer.encode(text)
        return cls(text, ids, [0, *spans[:, 1].tolist()][: len(ids)])

    @classmethod
    def of_ids(cls, ids: Sequence[int], tokenizer: Tokenizer) -> Prompt:
        """A prompt of token ids. Raises ProtocolError for one that is not in the vocabulary."""
        check_ids(ids, tokenizer)
        first = ids[0] if len(ids) and ids[0] in (START, EOS) else None
        rest = ids if first is None else ids[1:]
        if START in rest:
            raise ProtocolError(400, f"`prompt`: id {START} can only come first", "prompt")
        decoder, text, offsets = tokenizer.decoder(), "", []
        for id in rest:
            offsets.append(len(text))
            text += decoder.push(id)
        return cls(text + decoder.flush(), np.array(rest, np.int64), offsets, first)

    def primed(self, tokenizer: Tokenizer, exact: bool) -> Primed:
        """What is read before the first draw.

        exact:  after the tokens as they are; otherwise an unfinished word at the end of a text may
                be finished, see `Tokenizer.prime`
        """
        if not exact:
            return tokenizer.prime(self.text)
        previous = int(self.ids[-1]) if len(self.ids) else START
        return Primed(self.ids.astype(np.int64), Decoder(tokenizer, previous))


def check_ids(ids: Sequence[int], tokenizer: Tokenizer, param: str = "prompt") -> None:
    """Raise ProtocolError for an id that is not in the vocabulary."""
    if wrong := next((id for id in ids if not 0 <= id < tokenizer.size), None):
        raise ProtocolError(
            400, f"`{param}`: there is no token {wrong}; ids are below {tokenizer.size}", param
        )
