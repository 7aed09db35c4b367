"""`charlm units`: what hidden units and gates do along a text."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm import __version__
from charlm.cli.common import (
    GivenOptions,
    InputOptions,
    ModelOptions,
    is_file,
    load_language_model,
    load_model,
    note,
    text_encoding,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.page import check_page, page_option, source_of
from charlm.cli.records import (
    FormatOptions,
    has_colours,
    write,
    write_coloured,
    write_json,
    write_table,
    write_tsv,
)
from charlm.errors import InputError
from charlm.options import Range, option
from charlm.progress import BARS, show_progress

if TYPE_CHECKING:
    from charlm.tasks.trained import TrainedModel
    from charlm.uses.unit_search import Finding
    from charlm.uses.units import Picture, Units

NARROW = 80  # characters of a line, where stdout is no terminal
MOST_ON_PAGE = 4000  # characters of a text
MEANING = (
    "Of two tokens that differ in the property, a figure is how often they are put in the right "
    "order: 0.5 is chance. Units are chosen in the first half of the text and measured in the "
    "second. Token, two tokens, line: what the last token, the last two, and the position in the "
    "line say alone. Shuffled: the best unit of the network with shuffled weights. A unit is "
    "believed if it is clearly better than all of them."
)
COLUMNS = (
    ("property", "left"), ("unit", "left"), ("figure", "right"), ("token", "right"),
    ("two tokens", "right"), ("line", "right"), ("shuffled", "right"), ("mean", "right"),
    ("believed", "left"),
)  # fmt: skip


@dataclass(frozen=True)
class UnitOptions:
    """Which units are shown, and where. The fields describe themselves."""

    unit: Sequence[str] | None = option(
        None,
        "Show this unit and search for none: LAYER.QUANTITY and its number, such as 1.c17; "
        "may be repeated. Without TEXT, along the beginning of the file.",
        metavar="UNIT",
    )
    file: str | None = option(
        None, "Find units in a text file; - is standard input.", metavar="FILE"
    )
    chars: int = option(50_000, "Characters of the file that are read.", Range(1), goes_with="file")
    html: str | None = page_option(
        "a text in the colours of a unit that is chosen there. A long text has the units that vary "
        "most, and those found or asked for"
    )


@with_options
def units(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Texts to show [default: excerpts of FILE].",
            show_default=False,
        ),
    ] = None,
    *,
    options: UnitOptions,
    given: GivenOptions,
    models: Annotated[ModelOptions, "model"],
    output: FormatOptions,
    input: Annotated[InputOptions, "encoding"],
) -> None:
    """Find hidden units that follow a property of the text, and show them.

    The values of hidden states, cell states and gates colour a text. In a long text the units are
    found that follow a property best: the position in the line, quotes, brackets, words, capitals.
    """
    from charlm.tasks.trained import TrainedModel
    from charlm.uses.units import units as find

    if not texts and options.file is None:
        raise InputError("no text; give one, or `file` to find units in")
    check_page(options.html)
    model: TrainedModel = (
        load_model(TrainedModel, models)
        if given.given is None
        else load_language_model(models, given)
    )
    search = None
    if options.file is not None:
        search = _read(model, options.file, text_encoding([model], input.encoding), options.chars)
    with show_progress() as progress:
        found = find(model, texts or (), search=search, unit=options.unit or (), progress=progress)
    _warn(model, texts or (), search or "")
    if found.note:
        note(f"note: {found.note}")
    writers = {"table": _table, "tsv": _tsv, "json": _json}
    writers[output.chosen_format](found, bool(texts or options.unit))
    if options.html:
        text = "\n".join(texts or ()) if search is None else search
        searched = f"{source_of(options.file)}: {len(text):,} characters"
        _write_page(
            Path(options.html),
            model,
            texts or [found.longer],
            found,
            searched if found.findings else "",
        )
        note(f"page: {options.html}")


def _read(model: TrainedModel, path: str, encoding: str, chars: int) -> str:
    """The beginning of a file, whole lines if there are any; of a corpus of the model's task the
    texts without their labels."""
    from charlm.corpus.examples import ExampleError
    from charlm.corpus.reading import Corpus
    from charlm.tasks import load_task

    pieces, length = list[str](), 0
    for block in Corpus([path], model.card.unit, encoding, once=True).blocks():
        pieces.append(block)
        length += len(block)
        if length > chars:
            break
    text = "".join(pieces)
    if len(text) > chars:
        text = text[: text.rfind("\n", 0, chars) + 1] or text[:chars]
    if not model.reads_columns:
        return text
    try:
        fields = load_task(model.task).parse([text], model.columns)
        return "".join(of_text.replace("\t", " ") for of_text, *_ in fields)
    except ExampleError:
        return text


def _warn(model: TrainedModel, texts: Sequence[str], searched: str) -> None:
    """Warn about what the model does not know, if it can tell, and about texts that are files."""
    from charlm.tasks.tokens import TokenModel
    from charlm.tasks.trained import KnowsTokens

    lines = [line for text in (*texts, searched) for line in text.splitlines()]
    if isinstance(model, TokenModel):
        warn_unknown(piece for line in lines for piece in model.unknown_in(line))
    elif isinstance(model, KnowsTokens):
        warn_unknown(piece for line in lines for piece in model.unknown(line))
    for text in texts:
        if is_file(text):
            name = shlex.quote(text)
            note(f"warning: {text!r} was read as a text; to search the file: --file {name}")


def _json(found: Units, of_texts: bool) -> None:
    for record in found.pictures if of_texts else found.findings:
        write_json(record.to_json())


def _tsv(found: Units, of_texts: bool) -> None:
    if not of_texts:
        write_tsv(finding.to_json() for finding in found.findings)
        return
    write_tsv(
        {
            "unit": picture.unit.name,
            "property": picture.finding.text_property.name if picture.finding else "",
            "start": start,
            "end": end,
            "token": picture.text[start:end],
            "value": value,
        }
        for picture in found.pictures
        for (start, end), value in zip(picture.spans.tolist(), picture.values.tolist(), strict=True)
    )


def _table(found: Units, of_texts: bool) -> None:
    if found.findings:
        write_table(COLUMNS, map(_row, found.findings))
        write("")
        write(MEANING)
        if found.rare:
            write(f"Too rare in the text: {', '.join(found.rare)}.")
        if not found.pictures:
            write("No unit is clearly better than the simpler explanations.")
    colours = has_colours()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else NARROW
    if found.pictures:
        write("")
        write("Blue is low, red is high." if colours else "The bars below the text are the values.")
    for picture in found.pictures:
        write("")
        write(_title(picture))
        if colours:
            write_coloured(((text, shade or 0.0) for text, shade in _pieces(picture)), "")
        else:
            for line in bars(picture, width):
                write(line)


def _row(finding: Finding) -> Sequence[str]:
    from charlm.uses.unit_search import EXPLANATIONS

    figures = [finding.figure, *map(finding.simpler.get, EXPLANATIONS)]
    is_yes = finding.text_property.is_yes
    return (
        finding.text_property.name,
        finding.unit.name,
        *("" if figure is None else f"{figure:.3f}" for figure in figures),
        f"{finding.mean:.1%}" if is_yes else f"{finding.mean:.1f}",
        finding.verdict,
    )


def _title(picture: Picture) -> str:
    name = f"{picture.unit.name}, {picture.unit.described}"
    if picture.finding is None:
        return name
    way = "high" if picture.finding.rising else "low"
    return (
        f"{picture.finding.text_property.name}: {name}, {way} there, {picture.finding.figure:.3f}"
    )


def _pieces(picture: Picture) -> Iterator[tuple[str, float | None]]:
    """The pieces of the text with their shades; None for what has no value."""
    done = 0
    for (start, end), shade in zip(picture.spans.tolist(), picture.shades.tolist(), strict=True):
        start, end = max(start, done), max(end, done)
        yield picture.text[done:start], None
        yield picture.text[start:end], shade
        done = end
    yield picture.text[done:], None


def bars(picture: Picture, width: int) -> Iterator[str]:
    """The text in lines of this width at the most, each with a line of bars below it."""
    cells = [(char, shade) for text, shade in _pieces(picture) for char in text]
    ends = [k for k, (char, _) in enumerate(cells) if char == "\n"]
    for before, end in pairwise([-1, *ends, len(cells)]):
        for first in range(before + 1, end, width):
            row = cells[first : min(first + width, end)]
            yield "".join(char if char.isprintable() else " " for char, _ in row)
            yield "".join(_bar(shade) * _width(char) for char, shade in row)


def _bar(shade: float | None) -> str:
    if shade is None:
        return " "
    return BARS[min(int((shade + 1) / 2 * len(BARS)), len(BARS) - 1)]


def _width(char: str) -> int:
    """The cells of a terminal that a character takes."""
    from rich.cells import cell_len

    return cell_len(char)


def _write_page(
    path: Path, model: TrainedModel, texts: Sequence[str], found: Units, searched: str
) -> None:
    """Write a page of texts. searched: where units were searched, in words; empty for nowhere"""
    from charlm.cli.page import model_facts
    from charlm.cli.side_by_side import names_of
    from charlm.pages.frame import write_page
    from charlm.pages.units import body, style
    from charlm.uses.units import panels

    if any(len(text) > MOST_ON_PAGE for text in texts):
        note(f"the page has the first {MOST_ON_PAGE:,} characters of a text")
        texts = [text[:MOST_ON_PAGE] for text in texts]
    shown = panels(model, texts, found.named)
    (name,) = names_of([model])
    facts = model_facts(model, name) | {
        "Searched": searched,
        "Text below": f"{sum(map(len, texts)):,} characters",
        "On this page": f"{shown[0].on_page} Written by charlm {__version__}.",
    }
    if not searched:
        del facts["Searched"]
    pieces = body(found.to_json(), [panel.to_json() for panel in shown])
    write_page(path, "Hidden units along a text", facts, pieces, style())
