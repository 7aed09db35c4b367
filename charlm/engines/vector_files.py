"""Files of arrays that are larger than memory: .safetensors and .npz, written piece by piece."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.files import replacing

Arrays = Mapping[str, NDArray[Any]]


def save(path: Path, pieces: Iterable[Arrays]) -> int:
    """Write arrays, which come in pieces, to a .safetensors or .npz file. Returns their length.

    Each piece has the same names; the arrays of a name are joined along their first axis. No more
    than a piece is in memory: the arrays are collected in temporary files beside the target.
    """
    with replacing(path) as temporary, ExitStack() as stack:
        columns: dict[str, _Column] = {}
        for piece in pieces:
            for name, array in piece.items():
                if name not in columns:
                    column = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    columns[name] = _Column(column, array)
                columns[name].add(array)
        if path.suffix == ".safetensors":
            _write_safetensors(temporary, columns)
        else:
            with temporary.open("wb") as file:
                np.savez(file, **{n: c.mapped() for n, c in columns.items()})  # type: ignore[arg-type]
        return next((column.length for column in columns.values()), 0)


class _Column:
    """An array that grows in a file.

    like:  has its type, and its shape from the second axis on
    """

    def __init__(self, file: IO[bytes], like: NDArray[Any]) -> None:
        self.file, self.length, self._like = file, 0, like[:0]

    def add(self, array: NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(array).tobytes())
        self.length += len(array)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self._like.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._like.dtype

    def mapped(self) -> NDArray[Any]:
        """The whole array, on disk."""
        self.file.flush()
        if not self.length:
            return self._like
        return np.memmap(self.file, self.dtype, "r", shape=self.shape)


SAFETENSORS_TYPES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


def _write_safetensors(path: Path, columns: Mapping[str, _Column]) -> None:
    """Write a .safetensors file. The library of this name holds all arrays in memory.

    The file is the length of a header (8 bytes, little-endian), the header in JSON with the type,
    the shape and the place of each array, and the arrays.
    """
    header: dict[str, Any] = {}
    position = 0
    for name, column in columns.items():
        end = position + column.file.tell()
        header[name] = {
            "dtype": SAFETENSORS_TYPES[column.dtype.name],
            "shape": list(column.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at multiples of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for column in columns.values():
            column.file.seek(0)
            shutil.copyfileobj(column.file, file)


def check_name(path: Path, *suffixes: str) -> None:
    """Raise OptionError for another suffix, or for a folder that does not exist."""
    if path.suffix not in suffixes:
        raise OptionError(f"`out={path}`: the file's name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OptionError(f"`out={path}`: there is no folder {path.parent}")
