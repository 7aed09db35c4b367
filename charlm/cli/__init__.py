"""The command line: one file a command, each of which parses, calls the library and renders."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Annotated

import typer

from charlm import __version__
from charlm.cli.embed import embed
from charlm.cli.evaluate import evaluate
from charlm.cli.fill import fill
from charlm.cli.gradients import gradients
from charlm.cli.info import info
from charlm.cli.sample import sample
from charlm.cli.score import score
from charlm.cli.train import train
from charlm.errors import CharlmError

app = typer.Typer(
    name="charlm",
    help="Small recurrent language models of your own text: train, score, sample.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, score, sample, fill, evaluate, embed, gradients, info):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"charlm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Small recurrent language models of your own text: train, score, sample."""


def main() -> None:
    """Run the command line: what a user can cause is one line on stderr and an exit code."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except CharlmError as error:
        _fail(error, str(error), error.exit_code, debug)
    except Exception as error:
        _fail(error, f"{type(error).__name__}: {error} (--debug shows where)", 1, debug)


def _fail(error: Exception, message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"charlm: {' '.join(message.split())}", err=True)
    sys.exit(code)
