"""Ctrl-C and SIGTERM: stop at once before training has begun, and after saving later."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from charlm.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Signal(BaseException):
    """Raised by the handler. No `except Exception` between it and `StopSignals` catches it."""


class StopSignals:
    """Within this context the two signals raise `Stopped`; after `defer` they are remembered.

    A second signal always stops. Outside the main thread, where Python delivers no signals, the
    context does nothing.

    received:  the number of the remembered signal
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False
        self._previous: dict[int, Any] = {}

    def defer(self) -> None:
        """From now on remember the first signal."""
        self._deferred = True

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if isinstance(error, _Signal):
            saved = "the last checkpoint remains" if self._deferred else "nothing was saved"
            raise Stopped(f"stopped at once; {saved}", error.args[0]) from None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._deferred and self.received is None:
            self.received = number
        else:
            raise _Signal(number)
