"""`python -m charlm`, and the command `charlm`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

ALARM = [signal.SIGALRM] if hasattr(signal, "SIGALRM") else []  # not on Windows
SECONDS_TO_WAIT = 0.05


def main() -> None:
    """Run the command line. An error of the user is one line on stderr and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    # The small products of NumPy gain nothing from threads, and lose much on a busy machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Threads of torch that wait spin for a moment only. Where several programs compute, threads
    # that spin for long stop each other: two commands at once took 20 times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        from charlm.cli import run

        code = run()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, *ALARM):  # the result is written
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit with the code of this signal.

    An exception that is raised while a compiled module is loaded would abort the program, so it
    waits until modules are loaded.
    """
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            for alarm in ALARM:
                signal.signal(alarm, lambda _, frame: _exit(number, frame))
                signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_WAIT)
                return
            os._exit(128 + number)
        frame = frame.f_back
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
