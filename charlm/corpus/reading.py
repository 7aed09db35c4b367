"""Reads text files, plain or compressed, in blocks of whole lines and in bounded memory."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import lzma
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from charlm.errors import InputError, OptionError

BLOCK_BYTES = 1 << 20
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
UNITS = ("line", "paragraph")
# The encoding that accepts every file. A byte that is not UTF-8 becomes a lone surrogate.
RAW = "utf-8-raw"
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class CorpusStats:
    """Facts about a corpus, from one pass over it.

    chars:               number of characters, line ends included
    lines:               number of line ends
    sha256:              hash of the text as UTF-8
    looks_hard_wrapped:  see the function of this name; applied to the first block
    """

    chars: int
    lines: int
    sha256: str
    looks_hard_wrapped: bool

    @property
    def has_hardly_any_lines(self) -> bool:
        """Whether lines have over 5,000 characters on average, in a text of over 20,000."""
        return self.chars > 20_000 and self.chars > 5_000 * self.lines


@dataclass(frozen=True)
class Corpus:
    """A text in one or more files.

    paths:     the files in their order; "-" is standard input
    unit:      "line", or "paragraph" to join the lines up to each blank line
    encoding:  encoding of the files, or `RAW`

    A corpus can be read more than once: standard input is copied to a temporary file. Raises
    OptionError for an unknown unit or encoding, InputError if a path is not a file.
    """

    paths: Sequence[str | Path]
    unit: str = "line"
    encoding: str = "utf-8"
    _stdin: list[mmap | bytes] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise OptionError(f"`unit={self.unit}`: choose line or paragraph")
        if self.encoding != RAW:
            _check_encoding(self.encoding)
        if not self.paths:
            raise InputError("no corpus: name a text file, or - for standard input")
        for path in self.paths:
            if path != "-":
                check_is_file(Path(path))

    @property
    def name(self) -> str:
        """The name of the first file without suffixes. The run folder is named after it."""
        if self.paths[0] == "-":
            return "stdin"
        first = Path(self.paths[0])
        stem = first.stem if first.suffix in OPENERS else first.name
        return Path(stem).stem or "corpus"

    def blocks(self) -> Iterator[str]:
        """The text in blocks of about a megabyte that end with "\\n".

        A line longer than a block is cut into several blocks. The last line of a file always ends
        with "\\n". Raises InputError for a file that cannot be read or decoded.
        """
        lines = self._line_blocks()
        return lines if self.unit == "line" else _join_paragraphs(lines)

    def lines(self) -> Iterator[str]:
        """The lines of the text without "\\n", each line whole."""
        parts: list[str] = []
        for block in self.blocks():
            rest, *lines = block.split("\n")
            parts.append(rest)
            for line in lines:
                yield "".join(parts)
                parts = [line]

    def stats(self) -> CorpusStats:
        """Read the whole corpus once. Raises InputError if it cannot be read or is empty."""
        digest, chars, lines, wrapped = hashlib.sha256(), 0, 0, False
        for block in self.blocks():
            if not chars:
                wrapped = self.unit == "line" and looks_hard_wrapped(block)
            chars += len(block)
            lines += block.count("\n")
            digest.update(block.encode("utf-8", "surrogatepass"))
        if chars == lines:  # every character is a line end
            raise InputError(
                f"{self._description()}: the corpus is empty; there is nothing to learn"
            )
        return CorpusStats(chars, lines, digest.hexdigest(), wrapped)

    def _description(self) -> str:
        return ", ".join("standard input" if p == "-" else str(p) for p in self.paths)

    def _line_blocks(self) -> Iterator[str]:
        for path in self.paths:
            if path == "-":
                yield from decoded_blocks(self._standard_input(), "standard input", self.encoding)
            else:
                yield from decoded_blocks(raw_chunks(Path(path)), str(path), self.encoding)

    def _standard_input(self) -> Iterator[bytes]:
        if not self._stdin:
            with tempfile.TemporaryFile() as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
                file.flush()
                size = file.tell()
                self._stdin.append(mmap(file.fileno(), size, access=ACCESS_READ) if size else b"")
        data = self._stdin[0]
        for start in range(0, len(data), BLOCK_BYTES):
            yield data[start : start + BLOCK_BYTES]


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise OptionError(
            f"`encoding={encoding}`: no such encoding; try utf-8, latin-1 or cp1252"
        ) from None


def check_is_file(path: Path) -> None:
    """Raise InputError if `path` is a folder or does not exist."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the text files in it, such as {path}/*.txt")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name and the folder you are in")


def raw_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time, decompressed if its suffix is in `OPENERS`.

    Raises InputError for a file that is damaged or cannot be read.
    """
    try:
        opener: Any = OPENERS.get(path.suffix, Path.open)
        with opener(path, "rb") as file:
            while chunk := file.read(BLOCK_BYTES):
                yield chunk
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            f"{path}: the compressed file is damaged ({error}); copy it again"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def decoded_blocks(chunks: Iterator[bytes], name: str, encoding: str) -> Iterator[str]:
    """Decode chunks of bytes into blocks of whole lines. A line end "\\r\\n" becomes "\\n".

    name:  name of the text in errors

    Raises InputError, with the line number, if the bytes are not text in this encoding.
    """
    rest, block = "", "\n"
    for text in _decode(chunks, name, encoding):
        whole, rest = _split_whole_lines(rest + text)
        if whole:
            block = whole.replace("\r\n", "\n")
            yield block
    if rest:
        block = rest.replace("\r\n", "\n")
        yield block
    if not block.endswith("\n"):
        yield "\n"


def _decode(chunks: Iterator[bytes], name: str, encoding: str) -> Iterator[str]:
    """Decode chunks of bytes, without a byte order mark. `name` is for errors."""
    decoder = _make_decoder(encoding)
    lines, mark = 0, BYTE_ORDER_MARK
    for chunk in chain(chunks, [b""]):
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].count(b"\n") + 1
            raise InputError(
                f"{name}, line {line}: not {encoding} text; name its `encoding` (such as latin-1 "
                "or cp1252), or use `level=byte`"
            ) from None
        if encoding != RAW and "\0" in text:
            line = lines + text[: text.index("\0")].count("\n") + 1
            raise InputError(
                f"{name}, line {line}: holds a NUL, so it is not text; is it a binary file? "
                "(`level=byte` models any file)"
            )
        lines += text.count("\n")
        if text:
            yield text.removeprefix(mark)
            mark = ""


def _make_decoder(encoding: str) -> codecs.IncrementalDecoder:
    if encoding == RAW:
        return codecs.getincrementaldecoder("utf-8")("surrogateescape")
    return codecs.getincrementaldecoder(encoding)("strict")


def _split_whole_lines(text: str) -> tuple[str, str]:
    """The whole lines of `text`, and the rest. A line longer than a block is cut at a space."""
    cut = text.rfind("\n") + 1
    if not cut and len(text) >= BLOCK_BYTES:
        cut = text.rfind(" ") + 1 or len(text) - 1  # "\r\n" is not cut in two
    return text[:cut], text[cut:]


def _join_paragraphs(blocks: Iterator[str]) -> Iterator[str]:
    """Join the lines of each paragraph with spaces. Blank lines separate paragraphs."""
    paragraph: list[str] = []
    for block in blocks:
        complete: list[str] = []
        for line in block.removesuffix("\n").split("\n"):
            if line.strip():
                paragraph.append(line.strip())
            elif paragraph:
                complete.append(" ".join(paragraph))
                paragraph = []
        if complete:
            yield "\n".join(complete) + "\n"
    if paragraph:
        yield " ".join(paragraph) + "\n"


def looks_hard_wrapped(text: str) -> bool:
    """Whether lines look broken at a fixed width, as in e-mail and in books of Project Gutenberg.

    This is so if most lines before another line are nearly as long as the longest ones and end
    within a sentence. A blank line, and the line before it, do not count.
    """
    lines = text.split("\n")[:5_000]
    inner = [line for line, next_line in pairwise(lines) if line and next_line]
    if len(inner) < 20:
        return False
    lengths = np.array([len(line.rstrip()) for line in inner])
    width = np.quantile(lengths, 0.98)
    in_sentence = np.mean(
        [line.rstrip()[-1:].isalnum() or line.rstrip()[-1:] in ",;-" for line in inner]
    )
    return bool(40 <= width <= 120 and np.mean(lengths > 0.8 * width) > 0.7 and in_sentence > 0.6)
