"""The loop of `charlm sample --interactive`: reads lines and prints the answers of a session."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import suppress

import typer

from charlm.cli.common import warn_unknown
from charlm.cli.records import printable
from charlm.cli.session import Session, as_commands
from charlm.errors import CharlmError


def interact(session: Session) -> None:
    """Answer the lines of standard input until it ends. A text that is there is continued first.

    Ctrl-C stops the answer, not the loop.
    """
    with suppress(ImportError):  # Windows has none
        import readline  # noqa: F401  # `input` edits lines with it and has a history
    if isinstance(sys.stdin, io.TextIOWrapper):
        encoding = None if sys.stdin.isatty() else "utf-8"  # as everywhere
        sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape")
    prompt = "> " if sys.stdin.isatty() and sys.stdout.isatty() else ""
    typer.echo(
        "Type how the text goes on; an empty line for more, /again for other words, /help for the "
        f"rest. Set now: {session.settings}",
        err=True,
    )
    first = [""] if session.step.text else []
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            try:
                _print_answer(session, first.pop() if first else input(prompt))
            except EOFError:
                sys.stdout.write("\n" if prompt else "")
                return
            except KeyboardInterrupt:
                sys.stdout.write("\n")
    finally:
        signal.signal(signal.SIGINT, handler)


def _print_answer(session: Session, line: str) -> None:
    last = "\n"
    try:
        for piece in session.answer(line):
            last = piece or last
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
    except CharlmError as error:
        typer.echo(as_commands(str(error)), err=True)
    if not last.endswith("\n"):
        sys.stdout.write("\n")
    warn_unknown(session.new_unknown())
