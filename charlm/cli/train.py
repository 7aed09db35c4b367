"""`charlm train`: from a text to a model."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.cli.common import STARTED, note
from charlm.cli.options import as_flags, with_options
from charlm.cli.records import printable, write
from charlm.errors import OptionError
from charlm.training.options import RUN, TEXT, RunOptions, TrainOptions


@with_options
def train(
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CORPUS...",
            help="Text files, .gz .xz .bz2 too; - is standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    options: Annotated[dict[str, Any], TrainOptions],
    run: RunOptions,
    bidirectional: Annotated[
        bool, typer.Option("--bidirectional", help="The same as --task fill.", rich_help_panel=TEXT)
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="FILE",
            help="The same as CORPUS: the sources, beside --target.",
            rich_help_panel=TEXT,
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress, only warnings.", rich_help_panel=RUN),
    ] = False,
) -> None:
    """Train a model of a text.

    All options have good defaults, chosen by the text, the time and the machine. On several
    processes or machines: torchrun -m charlm train.
    """
    from charlm.api import train as train_model
    from charlm.training.distributed import is_first_process
    from charlm.training.reporter import Reporter

    if not is_first_process():  # of several: one reports
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")
    if bidirectional and options.setdefault("task", "fill") != "fill":
        raise OptionError(f"`bidirectional` and `task={options['task']}`: give only one of them")
    if not (corpus or source):
        hint = "CORPUS..."
        raise typer.BadParameter("name a text file, or - for standard input", param_hint=hint)
    if corpus and source:
        raise OptionError("give a corpus or `source`, not both")
    reporter = Reporter(quiet, as_flags)
    model = train_model(
        corpus or [str(source)], started=STARTED, reporter=reporter, **vars(run), **options
    )
    write(str(model.path))
    if quiet:
        return
    note(f"validation: {model.validation()}, after {model.card.seconds:.0f} s")
    if example := model.example():
        note("a sample:\n")
        typer.echo(printable(example), err=True)
    folder = shlex.quote(str(model.path.parent))
    for label, command in zip(("\nnext:", "     "), model.next_commands, strict=False):
        note(f"{label} {command} --model {folder}")
