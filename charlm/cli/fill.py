"""`charlm fill`: words that fit into a blank."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    read_lines,
    text_encoding,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.records import FormatOptions, write, write_json, write_table, write_tsv
from charlm.engines.filling import Filler, FillOptions
from charlm.errors import ModelError

if TYPE_CHECKING:
    from charlm.tasks.fill import FillModel
    from charlm.tasks.language_model import LanguageModel

COLUMNS = ("sentence", "blank", "rank", "filler", "probability")
Fillers = list[list[Filler]]


@with_options
def fill(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Lines with ___ where a word is missing; without any, from standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    options: FillOptions,
    models: ModelOptions,
    machine: Annotated[MachineOptions, "threads"],
    output: FormatOptions,
) -> None:
    """Fill blanks: the most probable words, by what stands before and after."""
    from charlm.tasks.fill import FillModel
    from charlm.tasks.language_model import LanguageModel
    from charlm.tasks.trained import TrainedModel

    loaded = load_model(TrainedModel, models, machine)
    if not isinstance(loaded, LanguageModel | FillModel):
        raise ModelError(
            f"{loaded.path}: this model cannot fill blanks; it was trained with "
            f"`task={loaded.task}`"
        )
    writers = {"table": _table, "tsv": _tsv, "json": _json}
    writers[output.chosen_format](_filled(loaded, texts, options))


def _filled(
    model: LanguageModel | FillModel, texts: Sequence[str] | None, options: FillOptions
) -> Iterator[tuple[str, Fillers]]:
    """The texts, else the lines of standard input, each with the fillers of its blanks."""
    lines = texts or read_lines("-", text_encoding([model], "utf-8"))
    for number, text in enumerate(lines, start=1):
        fillers: Fillers = []
        if texts or options.blank in text:
            fillers = model.fill(text, **vars(options))
            _warn(text, fillers, options.blank, model)
        else:
            note(f"warning: line {number}: no blank in {text!r}; nothing to fill")
        yield text, fillers
        sys.stdout.flush()


def _warn(text: str, fillers: Fillers, blank: str, model: LanguageModel | FillModel) -> None:
    """Warn about unknown pieces of the filled text, and about blanks without a filler."""
    for number, best in enumerate(fillers, start=1):
        text = text.replace(blank, best[0].text if best else " ", 1)
        if not best:
            note(f"nothing fits in blank {number} of {text!r}; is there a space missing by it?")
    warn_unknown(model.unknown_in(text))


def _table(results: Iterable[tuple[str, Fillers]]) -> None:
    columns = [("blank", "right"), ("filler", "left"), ("probability", "right")]
    for text, fillers in results:
        write(text)
        write_table(
            columns,
            (
                (str(blank), filler.text, f"{filler.probability:.4f}")
                for blank, best in enumerate(fillers, start=1)
                for filler in best
            ),
        )


def _tsv(results: Iterable[tuple[str, Fillers]]) -> None:
    rows = (
        (sentence, blank, rank, filler.text, filler.probability)
        for sentence, (_, fillers) in enumerate(results, start=1)
        for blank, best in enumerate(fillers, start=1)
        for rank, filler in enumerate(best, start=1)
    )
    write_tsv((dict(zip(COLUMNS, row, strict=True)) for row in rows), COLUMNS)


def _json(results: Iterable[tuple[str, Fillers]]) -> None:
    for text, fillers in results:
        blanks = [
            [{"filler": filler.text, "probability": filler.probability} for filler in best]
            for best in fillers
        ]
        write_json({"text": text, "blanks": blanks})
