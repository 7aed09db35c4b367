"""Text files, plain or compressed, as blocks of whole lines in bounded memory."""

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
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from charlm.errors import InputError, OptionError

BLOCK_BYTES = 1 << 20
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
UNITS = ("line", "paragraph")
# With this encoding every byte is read as it is: undecodable ones as lone surrogates.
RAW = "utf-8-raw"


@dataclass(frozen=True)
class CorpusStats:
    """What one pass over a corpus finds."""

    chars: int
    lines: int
    sha256: str
    looks_hard_wrapped: bool

    @property
    def has_hardly_any_lines(self) -> bool:
        return self.chars > 20_000 and self.chars > 5_000 * self.lines


@dataclass(frozen=True)
class Corpus:
    """A text in one or more files; "-" is standard input.

    paths:     read one after the other
    unit:      "line", or "paragraph": hard-wrapped lines are joined up to a blank line
    encoding:  of the files; `RAW` takes every byte as it is

    Standard input is kept in a temporary file, since a corpus is read more than once.
    """

    paths: Sequence[str | Path]
    unit: str = "line"
    encoding: str = "utf-8"
    _stdin: list[mmap | bytes] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise OptionError(f"--unit {self.unit}: choose line or paragraph")
        if self.encoding != RAW:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise OptionError(
                    f"--encoding {self.encoding}: no such encoding; try utf-8, latin-1 or cp1252"
                ) from None
        if not self.paths:
            raise InputError("no corpus: name a text file, or - for standard input")
        for path in self.paths:
            if path != "-":
                check_is_file(Path(path))

    @property
    def name(self) -> str:
        """The first file's name without its suffixes: what a run folder is called after."""
        if self.paths[0] == "-":
            return "stdin"
        first = Path(self.paths[0])
        stem = first.stem if first.suffix in OPENERS else first.name
        return Path(stem).stem or "corpus"

    def blocks(self) -> Iterator[str]:
        """The text in blocks of about a megabyte that end with a line end, "\\n".

        A line longer than a block comes in several; the last line of a file gets its end.
        """
        lines = self._line_blocks()
        return lines if self.unit == "line" else _join_paragraphs(lines)

    def lines(self) -> Iterator[str]:
        """The lines of the text, however long, without their ends."""
        parts: list[str] = []
        for block in self.blocks():
            rest, *lines = block.split("\n")
            parts.append(rest)
            for line in lines:
                yield "".join(parts)
                parts = [line]

    def stats(self) -> CorpusStats:
        """Read everything once. Raises InputError for what cannot be read or is empty."""
        digest, chars, lines, wrapped = hashlib.sha256(), 0, 0, False
        for block in self.blocks():
            if not chars:
                wrapped = self.unit == "line" and looks_hard_wrapped(block)
            chars += len(block)
            lines += block.count("\n")
            digest.update(block.encode("utf-8", "surrogatepass"))
        if chars == lines:  # nothing but line ends
            raise InputError(f"{self._described()}: the corpus is empty; there is nothing to learn")
        return CorpusStats(chars, lines, digest.hexdigest(), wrapped)

    def _described(self) -> str:
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
        kept = self._stdin[0]
        for start in range(0, len(kept), BLOCK_BYTES):
            yield kept[start : start + BLOCK_BYTES]


def check_is_file(path: Path) -> None:
    """Raise InputError unless `path` is a file that can be read."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the text files in it, such as {path}/*.txt")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name and the folder you are in")


def raw_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, decompressed if its suffix says so, a megabyte at a time."""
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
    """Decode chunks of bytes into blocks of whole lines; "\\r\\n" ends a line like "\\n".

    Raises InputError, with file and line, for bytes that are no text in this encoding.
    """
    raw = encoding == RAW
    make_decoder = codecs.getincrementaldecoder("utf-8" if raw else encoding)
    decoder = make_decoder("surrogateescape" if raw else "strict")
    rest, block, lines, first = "", "\n", 0, True
    for chunk in _with_end(chunks):
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = lines + rest.count("\n") + error.object[: error.start].count(b"\n") + 1
            raise InputError(
                f"{name}, line {line}: not {encoding} text; name its --encoding (such as latin-1 "
                "or cp1252), or use --level byte"
            ) from None
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if not raw and "\0" in text:
            line = lines + (rest + text[: text.index("\0")]).count("\n") + 1
            raise InputError(
                f"{name}, line {line}: holds a NUL, so it is no text; is it a binary file? "
                "(--level byte models any file)"
            )
        whole, rest = _whole_lines(rest + text, last=not chunk)
        if whole:
            block = whole.replace("\r\n", "\n")
            lines += block.count("\n")
            yield block
    if not block.endswith("\n"):
        yield "\n"


def _with_end(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from chunks
    yield b""


def _whole_lines(text: str, last: bool) -> tuple[str, str]:
    """Cut after the last line end; a line longer than a block is cut at a space, or anywhere."""
    if last:
        return text, ""
    cut = text.rfind("\n") + 1
    if not cut and len(text) >= BLOCK_BYTES:
        cut = text.rfind(" ") + 1 or len(text) - 1  # "\r\n" is not cut in two
    return text[:cut], text[cut:]


def _join_paragraphs(blocks: Iterator[str]) -> Iterator[str]:
    """Join the lines of each paragraph with spaces; blank lines, which part them, are dropped."""
    paragraph: list[str] = []
    for block in blocks:
        done: list[str] = []
        for line in block.removesuffix("\n").split("\n"):
            if line.strip():
                paragraph.append(line.strip())
            elif paragraph:
                done.append(" ".join(paragraph))
                paragraph = []
        if done:
            yield "\n".join(done) + "\n"
    if paragraph:
        yield " ".join(paragraph) + "\n"


def looks_hard_wrapped(text: str) -> bool:
    """Whether lines seem to be broken at a fixed width, as in e-mail and in Gutenberg's books.

    Then most lines that are followed by another are nearly as long as the longest, and end
    within a sentence.
    """
    lines = text.split("\n")[:5_000]
    inner = [line for line, after in pairwise(lines) if line and after]
    if len(inner) < 20:
        return False
    lengths = np.array([len(line.rstrip()) for line in inner])
    width = np.quantile(lengths, 0.98)
    in_sentence = np.mean(
        [line.rstrip()[-1:].isalnum() or line.rstrip()[-1:] in ",;-" for line in inner]
    )
    return bool(40 <= width <= 120 and np.mean(lengths > 0.8 * width) > 0.7 and in_sentence > 0.6)
