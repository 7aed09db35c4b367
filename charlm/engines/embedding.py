"""Embedding: lines → vectors of their tokens in context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.engines.scores import in_groups
from charlm.model.backend import Backends
from charlm.model.sequences import token_states
from charlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from charlm.engines.vector_files import Arrays

LINES_AT_ONCE, CHARS_AT_ONCE = 1024, 1 << 16


class LineVectors(NamedTuple):
    """The vectors of the tokens of a line.

    vectors:  (n, S) float32, the encoder's output for each token, see `token_states`
    ids:      (n,) int64, the ids of the tokens
    spans:    (n, 2) int64, the characters [start, end) of each token in the line
    """

    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    spans: NDArray[np.int64]


def embed_lines(
    backends: Backends, tokenizer: Tokenizer, lines: Iterable[str]
) -> Iterator[LineVectors]:
    """The vectors of each line, in input order. Each line is read by itself."""
    for batch in in_groups(lines, LINES_AT_ONCE, CHARS_AT_ONCE):
        encoded = [tokenizer.encode(line) for line in batch]
        backend = backends.for_tokens(sum(len(ids) for ids, _ in encoded))
        states = token_states(backend, [ids for ids, _ in encoded])
        for vectors, (ids, spans) in zip(states, encoded, strict=True):
            features = backend.config.states
            yield LineVectors(vectors.reshape(-1, features), ids, spans.reshape(-1, 2))


def token_arrays(lines: Iterable[tuple[str, LineVectors]]) -> Iterator[Arrays]:
    """The arrays of a file of token vectors, in pieces, one for each line.

    lines:  the lines of a text and their vectors

    vectors:     (n, S) float32
    ids:         (n,) int64
    lines:       (n,) int64, the line of each token, from 0
    start, end:  (n,) int64, the characters [start, end) of each token in the whole text; each line
                 end counts as one character
    """
    position = 0
    for number, (line, embedded) in enumerate(lines):
        start, end = (embedded.spans + position).T
        yield {
            "vectors": embedded.vectors,
            "ids": embedded.ids,
            "lines": np.full(len(embedded.ids), number, np.int64),
            "start": start,
            "end": end,
        }
        position += len(line) + 1


def line_arrays(lines: Iterable[tuple[str, LineVectors]]) -> Iterator[Arrays]:
    """The arrays of a file of line vectors, in pieces, one for each line.

    vectors:     (lines, S) float32, the mean over the tokens of each line; 0 for an empty line
    start, end:  (lines,) int64, the characters [start, end) of each line in the whole text
    """
    position = 0
    for line, embedded in lines:
        count = max(len(embedded.vectors), 1)
        yield {
            "vectors": embedded.vectors.sum(axis=0, dtype=np.float32)[None] / np.float32(count),
            "start": np.array([position]),
            "end": np.array([position + len(line)]),
        }
        position += len(line) + 1
