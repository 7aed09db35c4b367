"""Prompts: texts, or token ids, and what begins after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.server.errors import ProtocolError
from charlm.tokenizer import EOS, START, Decoder, IntArray, Primed, Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt.

    text:     of the prompt
    ids:      its tokens, without `<START>`, which is read before them
    offsets:  where each token begins in the text, with the space before it
    primed:   what is read before the first draw
    first:    a line end or `<START>` before the tokens, for `<START>`: it is not read twice. None
              without one
    """

    text: str
    ids: IntArray
    offsets: Sequence[int]
    primed: Primed
    first: int | None = None

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.ids) + (self.first is not None)

    @classmethod
    def of_text(cls, text: str, tokenizer: Tokenizer, exact: bool) -> Prompt:
        """A prompt that is a text.

        exact:  it goes on after its tokens; otherwise an unfinished word at its end may be
                finished, see `Tokenizer.prime`
        """
        ids, spans = tokenizer.encode(text)
        primed = _after(ids, tokenizer) if exact else tokenizer.prime(text)
        return cls(text, ids, [0, *spans[:, 1].tolist()][: len(ids)], primed)

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
        array = np.array(rest, np.int64)
        return cls(text + decoder.flush(), array, offsets, _after(array, tokenizer), first)


def _after(ids: NDArray[np.int64], tokenizer: Tokenizer) -> Primed:
    """What follows these tokens as they are."""
    return Primed(ids, Decoder(tokenizer, int(ids[-1]) if len(ids) else START))


def check_ids(ids: Sequence[int], tokenizer: Tokenizer, param: str = "prompt") -> None:
    """Raise ProtocolError for an id that is not in the vocabulary."""
    if wrong := next((id for id in ids if not 0 <= id < tokenizer.size), None):
        raise ProtocolError(
            400, f"`{param}`: there is no token {wrong}; ids are below {tokenizer.size}", param
        )
