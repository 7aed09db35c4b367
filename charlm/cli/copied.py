"""`charlm copied`: pieces of a text that stand in a corpus as they are."""

from __future__ import annotations

from typing import Annotated

import typer

from charlm.cli.common import EncodingOption, note
from charlm.cli.records import choose_format, format_option, write_json, write_table, write_tsv
from charlm.errors import InputError, OptionError

SHOWN = 100  # characters of a piece in a table


def copied(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A text, such as samples; - is standard input.")
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A text that it may be copied from; may be repeated."),
    ] = None,
    min_length: Annotated[
        int, typer.Option(metavar="N", help="Characters of a piece that is shown.")
    ] = 20,
    top: Annotated[int, typer.Option(metavar="N", help="Only the N longest pieces.")] = 20,
    format: Annotated[str | None, format_option()] = None,
    encoding: EncodingOption = "utf-8",
) -> None:
    """Show the longest pieces of a text that stand in a corpus as they are."""
    from charlm.corpus import copying
    from charlm.corpus.reading import Corpus

    chosen = choose_format(format)
    if not corpus:
        raise InputError("`corpus`: name the text that it may be copied from")
    for name, value in (("min_length", min_length), ("top", top)):
        if value < 1:
            raise OptionError(f"`{name}={value}`: must be 1 or more")
    if file == "-" and "-" in corpus:
        raise InputError("`corpus=-`: standard input is the text; name a file")
    text = "".join(Corpus([file], encoding=encoding, once=True).blocks()).removesuffix("\n")
    blocks = {name: Corpus([name], encoding=encoding, once=True).blocks() for name in corpus}
    pieces, share = copying.copied(text, blocks, min_length)
    records = [piece.to_json() for piece in pieces[:top]]
    if chosen == "json":
        for record in records:
            write_json(record)
    elif chosen == "tsv":
        write_tsv(records, ("length", "line", "corpus", "corpus_line", "text"))
    else:
        columns = [("length", "right"), ("line", "right"), ("corpus", "left"), ("line", "right")]
        rows = ([*map(str, list(r.values())[:-1]), _shown(r["text"])] for r in records)
        write_table([*columns, ("text", "left")], rows)
    note(
        f"{len(pieces):,} pieces of {min_length} characters or more are in the corpus; all such "
        f"pieces together hold {share:.1%} of the text"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
