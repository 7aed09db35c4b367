"""The sentences that commands read: lines of a file, or a column of a table."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from charlm.cli.common import note, read_groups
from charlm.corpus.compression import is_compressed
from charlm.corpus.records import BrokenLines, json_object, read_records
from charlm.engines.scores import byte_length


class Sentence(NamedTuple):
    """A sentence of the input.

    text:     the sentence
    columns:  the other columns of its row, for a table
    size:     bytes of the line or row, approximately
    """

    text: str
    columns: Mapping[str, Any]
    size: int


def from_texts(texts: Sequence[str]) -> list[Sentence]:
    """Sentences of the command line."""
    return [Sentence(text, {}, 0) for text in texts]


def from_lines(path: str, encoding: str) -> Iterator[list[Sentence]]:
    """The lines of a file, or of standard input as they arrive."""
    for number, lines in enumerate(read_groups(path, encoding)):
        if not number:
            _hint_at_records(path, lines[0])
        yield [Sentence(line, {}, byte_length(line) + 1) for line in lines]


def _hint_at_records(path: str, first: str) -> None:
    """Say how to read records, if the first line of a file is one."""
    from charlm.uses.pairs import GOOD

    try:
        fields = json_object(first)
    except ValueError:
        return
    hint = f"`text_column={next(iter(fields), 'NAME')}` scores a field"
    if GOOD in fields:
        hint += f", and for minimal pairs there is: charlm pairs {shlex.quote(path)}"
    note(f"note: the lines look like JSON, and are scored as they are; {hint}")


def from_table(
    path: str, encoding: str, text: str, kept: Sequence[str] | None, strict: bool
) -> Iterator[list[Sentence]]:
    """The records of a table.

    text:    the column of the sentences
    kept:    the other columns to carry; None for all
    strict:  a broken line is an error; otherwise it is named and skipped
    """
    broken = BrokenLines(path, strict, note)
    for group in read_records(path, encoding, [text], kept or (), broken):
        yield [_from_fields(record.fields, text, kept) for record in group]


def _from_fields(fields: dict[str, Any], text: str, kept: Sequence[str] | None) -> Sentence:
    names = [name for name in fields if name != text] if kept is None else kept
    size = sum(len(str(value)) + 1 for value in fields.values())
    return Sentence(fields[text], {name: fields[name] for name in names}, size)


def show_read(
    progress: Callable[[float], None], paths: Iterable[str], of: int = 1
) -> Callable[[int], None]:
    """A function that takes the bytes of each line that is done, and shows the progress.

    progress:  takes the fraction of all files that is done
    of:        number of shards of the files; one is read

    Nothing is shown for pipes and compressed files, and while results go to a terminal.
    """
    done, total = 0, sum(map(plain_size, paths))

    def show(size: int) -> None:
        nonlocal done
        done += size
        if total and not sys.stdout.isatty():
            progress(min(of * done / total, 1.0))

    return show


def plain_size(path: str) -> int:
    """The bytes of a file; 0 for a pipe, and for a compressed file."""
    file = Path(path)
    return file.stat().st_size if file.is_file() and not is_compressed(file) else 0
