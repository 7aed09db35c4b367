"""Reads text files, plain or compressed, in blocks of whole lines and in bounded memory."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain, zip_longest
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from charlm.corpus.compression import SUFFIXES, decompressed_chunks
from charlm.corpus.stats import CorpusStats
from charlm.errors import InputError, OptionError
from charlm.parts import in_groups_of

BLOCK_BYTES = 1 << 20
TEXT_SUFFIXES = (".txt", ".text")
UNITS = ("line", "paragraph")
# UTF-8 in which a byte that is not UTF-8 becomes a lone surrogate. RAW accepts every file; LENIENT
# refuses UTF-16, which is no text of lines in UTF-8.
RAW, LENIENT = "utf-8-raw", "utf-8-lenient"
BYTE_ORDER_MARK = "\ufeff"
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_16_AS_BYTES = ("\udcff\udcfe", "\udcfe\udcff")  # the same, in `LENIENT`
LINES_AT_ONCE = 4096  # of two files
NOT_UTF_8 = re.compile("[\udc80-\udcff]")
PROBED = 1000  # characters that tell what kind of file it is


@dataclass(frozen=True)
class Corpus:
    """A text in one or more files.

    paths:     the files in their order; "-" is standard input
    unit:      "line", or "paragraph" to join the lines up to each blank line
    encoding:  encoding of the files, `RAW` or `LENIENT`
    once:      it is read once only
    as_it_is:  a byte order mark and the "\\r" of a line end stay, and no last line end is added
    beside:    a second file with as many lines. Each line is then one of the text, a TAB, and the
               line of the second file with the same number

    Unless it is read once, standard input and pipes are copied to temporary files, which are shared
    with every corpus that is made of this one by `dataclasses.replace`. Raises OptionError for an
    unknown unit or encoding, InputError if a path is not a file.
    """

    paths: Sequence[str | Path]
    unit: str = "line"
    encoding: str = "utf-8"
    once: bool = False
    as_it_is: bool = False
    beside: str | Path | None = None
    _copies: dict[str | Path, mmap | bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise OptionError(f"`unit={self.unit}`: choose line or paragraph")
        if self.encoding not in (RAW, LENIENT):
            _check_encoding(self.encoding)
        if not self.paths:
            raise InputError("no corpus: name a text file, or - for standard input")
        for path in (*self.paths, *([self.beside] if self.beside else [])):
            if path != "-":
                check_is_file(Path(path))

    @property
    def name(self) -> str:
        """The name of the first file without suffixes that tell its format only.

        The run folder is named after it. A byte that is not UTF-8 becomes U+FFFD.
        """
        first = Path(self.paths[0])
        if self.paths[0] == "-":
            return "stdin"
        if is_stream(first):
            return "pipe"
        if first.suffix in SUFFIXES:
            first = first.with_suffix("")
        name = first.stem if first.suffix in TEXT_SUFFIXES else first.name
        return os.fsencode(name).decode("utf-8", "replace") or "corpus"

    def blocks(self) -> Iterator[str]:
        """The text in blocks of about a megabyte that end with "\\n".

        A line longer than a block is cut into several blocks. The last line of a file always ends
        with "\\n", unless the text is read `as_it_is`. Raises InputError for a file that cannot be
        read or decoded.
        """
        if self.beside is not None:
            return self._pairs(self.beside)
        lines = self._line_blocks()
        return lines if self.unit == "line" else _join_paragraphs(lines)

    def _pairs(self, beside: str | Path) -> Iterator[str]:
        """Each line, a TAB, and the line beside it. A TAB in a line becomes a space."""
        texts = [
            dataclasses.replace(self, paths=paths, beside=None).lines()
            for paths in (self.paths, [beside])
        ]
        for group in in_groups_of(zip_longest(*texts), LINES_AT_ONCE):
            rows = [[text for text in pair if text is not None] for pair in group]
            if any(len(row) == 1 for row in rows):
                raise InputError(
                    f"{self._description()} and {beside} do not have the same number of lines"
                )
            yield "".join("\t".join(t.replace("\t", " ") for t in row) + "\n" for row in rows)

    def lines(self) -> Iterator[str]:
        """The lines of the text without "\\n", each line whole."""
        return chain.from_iterable(self.line_groups())

    def line_groups(self) -> Iterator[list[str]]:
        """The lines in groups of about a megabyte; of a stream, those that have arrived together.

        A line that is read `as_it_is` has its line end. The lines before an error are in groups
        before it is raised.
        """
        end, parts = "\n" if self.as_it_is else "", list[str]()
        for block in self.blocks():
            rest, *lines = block.split("\n")
            parts.append(rest)
            if lines:
                yield [f"{line}{end}" for line in ("".join(parts), *lines[:-1])]
                parts = [lines[-1]]
        if last := "".join(parts):
            yield [last]

    def stats(self) -> CorpusStats:
        """Read the whole corpus once. Raises InputError if it cannot be read or is empty."""
        digest, chars, lines = hashlib.sha256(), 0, 0
        longest = unfinished = 0
        for block in self.blocks():
            chars += len(block)
            first, *others = map(len, block.split("\n"))
            lines += len(others)
            unfinished += first
            longest = max(longest, unfinished, *others)
            unfinished = others[-1] if others else unfinished
            digest.update(block.encode("utf-8", "surrogatepass"))
        if chars == lines:  # every character is a line end
            raise InputError(
                f"{self._description()}: the corpus is empty; there is nothing to learn"
            )
        return CorpusStats(chars, lines, longest, digest.hexdigest())

    def located(self, line: int) -> str:
        """A line of the corpus, from 1, as "FILE, line N"."""
        for path in self.paths:
            blocks = dataclasses.replace(self, paths=[path]).blocks()
            lines = sum(block.count("\n") for block in blocks)
            if line <= lines:
                break
            line -= lines
        name = "standard input" if path == "-" else str(path)
        return f"{name}, line {line:,}"

    def _description(self) -> str:
        return ", ".join("standard input" if p == "-" else str(p) for p in self.paths)

    def _line_blocks(self) -> Iterator[str]:
        for path in self.paths:
            name = "standard input" if path == "-" else str(path)
            for block in decoded_blocks(self._chunks(path), name, self.encoding, self.as_it_is):
                yield block if self.as_it_is else block.replace("\r\n", "\n")

    def _chunks(self, path: str | Path) -> Iterator[bytes]:
        if path != "-" and not is_stream(Path(path)):
            yield from raw_chunks(Path(path))
        elif self.once:
            yield from arriving_chunks(path)
        else:
            if path not in self._copies:
                self._copies[path] = _copy(arriving_chunks(path))
            copy = self._copies[path]
            for start in range(0, len(copy), BLOCK_BYTES):
                yield copy[start : start + BLOCK_BYTES]


def count_broken_lines(lines: Iterable[str]) -> int:
    """The number of lines with bytes that are not UTF-8, in `RAW` or `LENIENT`."""
    return sum(not line.isascii() and bool(NOT_UTF_8.search(line)) for line in lines)


def _check_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)  # unlike `codecs.lookup`, refuses rot13 and the like
    except (LookupError, UnicodeError):
        raise OptionError(
            f"`encoding={encoding}`: no encoding of text; try utf-8, latin-1, iso-8859-2 or cp1252"
        ) from None


def check_is_file(path: Path) -> None:
    """Raise InputError if `path` is a folder or does not exist."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the text files in it, such as {path}/*.txt")
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name and the folder you are in")


def is_stream(path: Path) -> bool:
    """Whether `path` is a pipe or a terminal, which can be read once only."""
    return path.exists() and not path.is_file() and not path.is_dir()


def arriving_chunks(path: str | Path) -> Iterator[bytes]:
    """The bytes of a pipe, or of standard input ("-"), as they arrive; decompressed.

    A chunk is whatever is there, up to a megabyte. Raises InputError for a damaged file.
    """
    name = "standard input" if path == "-" else str(path)
    with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
        # Other programs that call this one may have replaced standard input.
        reader: Any = file if isinstance(file, BufferedReader) else BufferedReader(file)
        yield from decompressed_chunks(reader, name, BLOCK_BYTES, arriving=True)


def _copy(chunks: Iterator[bytes]) -> mmap | bytes:
    """The bytes in a temporary file, which disappears with the last reference to it."""
    with tempfile.TemporaryFile() as file:
        file.writelines(chunks)
        file.flush()
        size = file.tell()
        return mmap(file.fileno(), size, access=ACCESS_READ) if size else b""


def raw_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time; decompressed.

    Raises InputError for a file that is damaged or cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    with file:
        yield from decompressed_chunks(file, str(path), BLOCK_BYTES, arriving=False)


def decoded_blocks(
    chunks: Iterator[bytes], name: str, encoding: str, as_it_is: bool = False
) -> Iterator[str]:
    """Decode chunks of bytes into blocks of whole lines.

    name:      name of the text in errors
    as_it_is:  see `Corpus`

    Raises InputError, with the line number, if the bytes are not text in this encoding.
    """
    rest, last = "", "\n"
    for text in _decode(chunks, name, encoding, as_it_is):
        whole, rest = _split_whole_lines(rest + text)
        if whole:
            last = whole
            yield whole
    if rest:
        last = rest
        yield rest
    if not (as_it_is or last.endswith("\n")):
        yield "\n"


def _decode(chunks: Iterator[bytes], name: str, encoding: str, keep_mark: bool) -> Iterator[str]:
    """Decode chunks of bytes. A byte order mark is dropped unless it is kept."""
    decoder = _make_decoder(encoding)
    lines, mark = 0, "" if keep_mark else BYTE_ORDER_MARK
    for chunk in chain(chunks, [b""]):
        problem = None
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            text = error.object[: error.start].decode(encoding, "replace")
            hint = "`encoding` (such as latin-1, iso-8859-2 or cp1252)"
            if encoding.startswith("utf") and error.object.startswith(UTF_16_MARKS):
                hint = "`encoding`: it looks like utf-16"
            problem = f"not {encoding} text; name its {hint}, or train with `level=byte`"
        except UnicodeError:  # of an encoding such as punycode
            text, problem = "", f"not {encoding} text; name its `encoding`"
        if encoding == LENIENT and not lines and text.startswith(UTF_16_AS_BYTES):
            text, problem = "", "not utf-8 text; name its `encoding`: it looks like utf-16"
        elif encoding != RAW and _every_second_is_nul(text[:PROBED]):
            hint = "it may be utf-16: try `encoding=utf-16-le` or `encoding=utf-16-be`"
            text, problem = "", f"holds a NUL, so it is not text; {hint}"
        elif encoding not in (RAW, LENIENT) and "\0" in text:
            hint = "is it a binary file? (train with `level=byte` to model any file)"
            text = text[: text.index("\0")]
            problem = f"holds a NUL, so it is not text; {hint}"
        lines += text.count("\n")
        if text:
            yield text.removeprefix(mark)
            mark = ""
        if problem:
            raise InputError(f"{name}, line {lines + 1}: {problem}")


def _every_second_is_nul(text: str) -> bool:
    """Whether NULs alternate with other characters, as in UTF-16 that is read as UTF-8."""
    fewer, more = sorted(text[k::2].count("\0") / len(text[k::2] or " ") for k in (0, 1))
    return fewer < 0.1 and more > 0.6


def _make_decoder(encoding: str) -> codecs.IncrementalDecoder:
    if encoding in (RAW, LENIENT):
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
