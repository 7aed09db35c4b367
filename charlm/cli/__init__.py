"""The command line: one file a command. A command parses, calls the library and renders."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, ClassVar

import typer

from charlm import __version__
from charlm.cli.commands import LazyGroup
from charlm.cli.options import as_flags
from charlm.cli.records import open_streams
from charlm.errors import CharlmError
from charlm.files import file_error


class Commands(LazyGroup):
    """The commands. The line about each is the first line of its own help."""

    panels: ClassVar[dict[str, dict[str, str]]] = {
        "Make a model": {
            "train": "Train a model of a text.",
            "info": "Show a model's card, its configuration and its training curve.",
        },
        "Use it": {
            "score": "Give the probability of sentences, or the surprisal of every token or word.",
            "evaluate": "Measure how well models predict whole texts, or the labels in them.",
            "sample": "Write text like the training text.",
            "fill": "Fill blanks: the most probable words, by what stands before and after.",
            "serve": "Answer requests over HTTP, as OpenAI does, and show a page to try models on.",
            "predict": "Print what a model predicts: a label, tags, a labelled tree, a target.",
        },
        "Put scores to use": {
            "compare": "Compare sentences: which is more probable, where they first differ, which "
            "words decide.",
            "pairs": "Measure how often the better sentence of a pair is the more probable one.",
            "filter": "Keep the lines whose surprisal, in bits per character, is within bounds.",
            "rescore": "Order the hypotheses of n-best lists by score, log P and number of words.",
        },
        "Look inside": {
            "copied": "Show the longest passages that a text copies from a corpus.",
            "embed": "Write the vectors of tokens, lines or words to a file.",
            "gradients": "Show how far back gradients reach.",
            "units": "Find hidden units that follow a property of the text, and show them.",
        },
    }


app = typer.Typer(
    name="charlm",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(show: bool) -> None:
    if show:
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


def run() -> int:
    """Run the command line, and return the exit code. An error is one line on stderr."""
    debug = "--debug" in sys.argv
    open_streams()
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except CharlmError as error:
        return _failed(error, as_flags(str(error)), error.exit_code, debug)
    except OSError as error:
        return _failed(error, str(file_error(error)), 1, debug)
    except Exception as error:
        return _failed(error, f"{type(error).__name__}: {error} (--debug shows where)", 1, debug)
    return 0


def _failed(error: Exception, message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"charlm: {' '.join(message.split())}", err=True)
    return code
