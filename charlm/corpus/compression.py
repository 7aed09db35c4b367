"""Compressed files. The first bytes of a file say how it is compressed; its name does not count."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from charlm.errors import InputError

SUFFIXES = (".gz", ".xz", ".bz2", ".zst", ".zip")  # of names
HEAD_BYTES = 10
# How a file of each kind begins.
HEADS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "zip": re.compile(rb"PK\x03\x04"),
}
DAMAGE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zipfile.BadZipFile)


def compression(head: bytes) -> str | None:
    """The kind of compression of a file that begins with these bytes; None for none."""
    return next((kind for kind, pattern in HEADS.items() if pattern.match(head)), None)


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed."""
    with path.open("rb") as file:
        return compression(file.read(HEAD_BYTES)) is not None


def decompressed_chunks(
    file: BufferedReader, name: str, size: int, arriving: bool
) -> Iterator[bytes]:
    """The bytes of a file, decompressed if it is compressed, in chunks.

    name:      of the file, for errors
    size:      bytes of a chunk
    arriving:  a chunk may be smaller: what has arrived through a pipe

    Raises InputError for a file that is damaged or cannot be read.
    """
    kind = None
    try:
        kind = compression(file.peek(HEAD_BYTES)[:HEAD_BYTES])
        opened: Any = OPENERS[kind](file, name) if kind else file
        read = opened.read1 if arriving else opened.read
        while chunk := read(size):
            yield chunk
    except (*DAMAGE, OSError) as error:
        # bz2 reports damage by an OSError without a number.
        if isinstance(error, DAMAGE) or (kind and error.errno is None):
            raise InputError(
                f"{name}: the compressed file is damaged ({error}); copy it again"
            ) from None
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from None


def _open_zstd(file: BufferedReader, name: str) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # from Python 3.14 on
    except ImportError:
        raise InputError(
            f"{name}: compressed with zstd, which Python reads from version 3.14 on; decompress it "
            "first: zstd -d"
        ) from None
    return zstd.open(file)


def _open_zip(file: BufferedReader, name: str) -> Any:
    """The only file in an archive."""
    if not file.seekable():
        raise InputError(f"{name}: a zip archive in a pipe; name the file, or unpack it first")
    archive = zipfile.ZipFile(file)
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(files) != 1:
        raise InputError(
            f"{name}: a zip archive of {len(files)} files; unpack it and name one of them (a "
            "document of an office program: save it as plain text)"
        )
    if files[0].flag_bits & 1:
        raise InputError(f"{name}: a zip archive with a password; unpack it first")
    return archive.open(files[0])


OPENERS: dict[str, Callable[[BufferedReader, str], Any]] = {
    "gzip": lambda file, _: gzip.open(file),
    "xz": lambda file, _: lzma.open(file),
    "bzip2": lambda file, _: bz2.open(file),
    "zstd": _open_zstd,
    "zip": _open_zip,
}
