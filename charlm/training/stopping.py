"""Ctrl-C and SIGTERM: stop at once before there is anything to lose, and after saving later."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from charlm.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Within this context the two signals raise `Stopped`, or, once `deferred`, are remembered.

    A second one is not held up. Outside the main thread, where Python delivers no signals, it
    does nothing.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

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

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.deferred and self.received is None:
            self.received = number
            return
        saved = "the last checkpoint stands" if self.deferred else "nothing was saved"
        raise Stopped(f"stopped at once; {saved}", number)
