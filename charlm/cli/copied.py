"""`charlm copied`: the passages of a text that are in a corpus, word for word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import InputOptions, note
from charlm.cli.options import with_options
from charlm.cli.records import FormatOptions, write_json, write_table, write_tsv
from charlm.errors import InputError
from charlm.options import Range, option

if TYPE_CHECKING:
    from charlm.corpus.copying import Copied

MOST_SHOWN = 100  # characters of a passage in a table


@dataclass(frozen=True)
class CopyOptions:
    """Which passages are shown. The fields describe themselves."""

    corpus: Sequence[str] | None = option(
        None, "A text that it may be copied from; may be repeated.", metavar="FILE"
    )
    min_length: int = option(20, "Characters of a passage that is shown.", Range(1), metavar="N")
    lines: bool = option(
        False, "A passage ends where its line ends, for lists of names and the like."
    )
    top: int = option(20, "Only the N longest passages.", Range(1), metavar="N")


@with_options
def copied(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A text, such as samples; - is standard input.")
    ],
    options: CopyOptions,
    output: FormatOptions,
    input: Annotated[InputOptions, "encoding"],
) -> None:
    """Show the longest passages that a text copies from a corpus."""
    from charlm.corpus.reading import Corpus
    from charlm.uses import copies

    corpus = options.corpus or []
    if not corpus:
        raise InputError("`corpus`: name the text that it may be copied from")
    if file == "-" and "-" in corpus:
        raise InputError("`corpus=-`: standard input is the text; name a file")
    encoding = input.encoding
    text = "".join(Corpus([file], encoding=encoding, once=True).blocks()).removesuffix("\n")
    found = copies.copied(
        text, corpus, min_length=options.min_length, lines=options.lines, encoding=encoding
    )
    _write(output.chosen_format, found.pieces[: options.top])
    note(
        f"{len(found.pieces):,} passages of {options.min_length} characters or more are in the "
        f"corpus; all such passages together hold {found.share:.1%} of the text; "
        f"{found.copied_lines:,} of {found.lines:,} lines are whole lines of the corpus"
    )


def _write(format: str, passages: Sequence[Copied]) -> None:
    records = [passage.to_json() for passage in passages]
    if format == "json":
        for record in records:
            write_json(record)
    elif format == "tsv":
        write_tsv(records, ("length", "line", "corpus", "corpus_line", "text"))
    else:
        columns = [("length", "right"), ("line", "right"), ("corpus", "left"), ("line", "right")]
        write_table([*columns, ("text", "left")], map(_cells, records))


def _cells(record: dict[str, Any]) -> list[str]:
    *figures, text = record.values()
    return [*map(str, figures), repr(_cut(text))]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
