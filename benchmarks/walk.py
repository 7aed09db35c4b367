"""How a reader walks through the code: the files that a command visits, in the order of its calls.

    python -m benchmarks.walk

Each command runs on a small text. Every function of the package counts once, when it is first
called: so this is the way of a reader who reads each function when it is needed.

files:    different files of the package
stays:    stretches of functions that are in the same file
returns:  stays in a file that the reader had left before
chain:    the most functions of the package that are on the stack at the same time
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import charlm

PACKAGE = Path(charlm.__file__).parent
TEXT = "the cat sat on the mat\nthe dog ran home\na bird sang all day\n" * 40
COMMANDS = {
    "train": ("train", "text.txt", "--steps", "12", "--hidden", "16", "--out", "run", "-q"),
    "score --words": ("score", "--words", "the cat sang", "-m", "run"),
    "sample": ("sample", "--prime", "the", "--length", "40", "--seed", "1", "-m", "run"),
}


class Walk(NamedTuple):
    """See the module."""

    files: int
    stays: int
    returns: int
    chain: int


def walked(function: Callable[[], object]) -> Walk:
    """The walk through the functions that a call of this function reaches."""
    seen: set[Any] = set()
    order: list[str] = []
    depth = chain = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal depth, chain
        path = frame.f_code.co_filename
        if event not in ("call", "return") or not path.startswith(str(PACKAGE)):
            return
        depth += 1 if event == "call" else -1
        chain = max(chain, depth)
        named = not frame.f_code.co_name.startswith("<")  # no module, lambda or comprehension
        if event == "call" and named and frame.f_code not in seen:
            seen.add(frame.f_code)
            order.append(path)

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    stays = order[:1] + [b for a, b in pairwise(order) if a != b]
    files = len(set(stays))
    return Walk(files, len(stays), len(stays) - files, chain)


def command(*arguments: str) -> Callable[[], object]:
    """A command, without its output."""
    from charlm.cli import app

    def run() -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            app(list(arguments), standalone_mode=False)

    return run


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("text.txt").write_text(TEXT, encoding="utf-8")
        print(f"{'':16}{'files':>8}{'stays':>8}{'returns':>9}{'chain':>7}")
        for name, arguments in COMMANDS.items():
            command(*arguments)()  # whatever happens once, at import, is not part of the way
            shutil.rmtree("run" if name == "train" else "none", ignore_errors=True)
            walk = walked(command(*arguments))
            print(f"{name:16}{walk.files:8}{walk.stays:8}{walk.returns:9}{walk.chain:7}")
        os.chdir("/")


if __name__ == "__main__":
    main()
