"""`python -m charlm`, and the command `charlm`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

# Threads that spin while they wait stop other programs that compute, and are stopped by them: two
# commands at once took 20 times as long. So torch's threads spin for a moment only, and the small
# products of NumPy, which gain nothing from threads, run in one.
SHARING = {"GOMP_SPINCOUNT": "2000", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    """Run the command line. An error of the user is one line on stderr and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    for name, value in SHARING.items():
        os.environ.setdefault(name, value)
    try:
        from charlm.cli import run

        code = run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # the result is written
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit with the code of this signal.

    An exception that is raised while a compiled module is loaded would abort the program, so it
    then exits at once.
    """
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(128 + number)
        frame = frame.f_back
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
