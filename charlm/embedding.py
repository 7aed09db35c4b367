"""Embedding: lines → vectors of their tokens in context, and the files of these vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.files import replacing
from charlm.model.backend import ChooseBackend
from charlm.model.sequences import token_states
from charlm.tokenizer import Tokenizer

LINES_AT_ONCE = 1024


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
    backends: ChooseBackend, tokenizer: Tokenizer, lines: Iterable[str]
) -> Iterator[LineVectors]:
    """The vectors of each line, in input order. Each line is read by itself."""
    remaining = iter(lines)
    while batch := list(islice(remaining, LINES_AT_ONCE)):
        encoded = [tokenizer.encode(line) for line in batch]
        backend = backends(sum(len(ids) for ids, _ in encoded))
        states = token_states(backend, [ids for ids, _ in encoded])
        for vectors, (ids, spans) in zip(states, encoded, strict=True):
            features = backend.config.states
            yield LineVectors(vectors.reshape(-1, features), ids, spans.reshape(-1, 2))


def token_arrays(lines: Iterable[tuple[str, LineVectors]]) -> dict[str, NDArray[Any]]:
    """The arrays of a file of token vectors, from lines and their vectors.

    vectors:     (n, S) float32
    ids:         (n,) int64
    lines:       (n,) int64, the line of each token, from 0
    start, end:  (n,) int64, the characters [start, end) of each token in the whole text; each line
                 end counts as one character
    """
    parts: dict[str, list[NDArray[Any]]] = {n: [] for n in ("vectors", "ids", "lines", "spans")}
    position = 0
    for number, (line, embedded) in enumerate(lines):
        parts["vectors"].append(embedded.vectors)
        parts["ids"].append(embedded.ids)
        parts["lines"].append(np.full(len(embedded.ids), number))
        parts["spans"].append(embedded.spans + position)
        position += len(line) + 1
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    spans = arrays.pop("spans")
    return arrays | {"start": spans[:, 0].copy(), "end": spans[:, 1].copy()}


def line_arrays(lines: Iterable[tuple[str, LineVectors]]) -> dict[str, NDArray[Any]]:
    """The arrays of a file of line vectors, from lines and the vectors of their tokens.

    vectors:     (lines, S) float32, the mean over the tokens of each line; 0 for an empty line
    start, end:  (lines,) int64, the characters [start, end) of each line in the whole text
    """
    means, spans, position = [], [], 0
    for line, embedded in lines:
        means.append(embedded.vectors.sum(axis=0) / max(len(embedded.vectors), 1))
        spans.append((position, position + len(line)))
        position += len(line) + 1
    start, end = np.array(spans, np.int64).reshape(-1, 2).T
    return {"vectors": np.stack(means), "start": start.copy(), "end": end.copy()}


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a .safetensors or .npz file."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with replacing(path) as temporary:
            save_file(dict(arrays), temporary)
    else:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub declares a bool keyword


def check_name(path: Path, *suffixes: str) -> None:
    """Raise OptionError for another suffix, or for a folder that does not exist."""
    if path.suffix not in suffixes:
        raise OptionError(f"`out={path}`: the file's name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OptionError(f"`out={path}`: there is no folder {path.parent}")
