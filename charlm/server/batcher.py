"""The thread that reads texts with one model: work of one kind that waits is done together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from charlm.server.errors import ProtocolError

T = TypeVar("T", bound=Sized)
R = TypeVar("R")
AT_ONCE = 1 << 17  # characters or tokens that are read together


@dataclass(eq=False)
class _Work:
    function: Callable[[list[Any]], Sequence[Any]]
    kind: Hashable
    items: list[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Any]]

    @property
    def size(self) -> int:
        return sum(map(len, self.items))


class Batcher:
    """Does work in one thread, in the order in which it comes.

    most:  characters or tokens of one piece of work
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="charlm-reader")
        self._waiting: deque[_Work] = deque()
        self._lock = threading.Lock()

    async def do(
        self, function: Callable[[list[T]], Sequence[R]], kind: Hashable, items: list[T]
    ) -> list[R]:
        """The results of a function for items with a length: texts, or sequences of ids.

        function:  gives a result for each item
        kind:      the items of work of the same kind are given to the function together

        Raises ProtocolError for more than the most.
        """
        size = sum(len(item) + 1 for item in items)
        if size > self._most:
            message = f"{size:,} characters or tokens; this server allows {self._most:,}"
            raise ProtocolError(400, message, code="context_length_exceeded")
        loop = asyncio.get_running_loop()
        work = _Work(function, kind, items, loop, loop.create_future())
        with self._lock:
            self._waiting.append(work)
        self._executor.submit(self._do_next)
        return await work.future

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(cancel_futures=True)

    def _do_next(self) -> None:
        group = self._next_group()
        if not group:
            return
        try:
            results = iter(group[0].function([item for work in group for item in work.items]))
            for work in group:
                self._answer(work, [next(results) for _ in work.items])
        except Exception as error:
            if len(group) == 1:
                self._answer(group[0], error)
                return
            for work in group:  # one of them is the cause
                try:
                    self._answer(work, list(work.function(work.items)))
                except Exception as of_work:
                    self._answer(work, of_work)

    def _next_group(self) -> list[_Work]:
        """The work that has waited longest, with what can be done together with it."""
        with self._lock:
            waiting = [work for work in self._waiting if not work.future.cancelled()]
            group, size = waiting[:1], 0
            for work in waiting[1:]:
                size += work.size
                if work.kind == group[0].kind and group[0].size + size <= AT_ONCE:
                    group.append(work)
            self._waiting = deque(work for work in waiting if work not in group)
        return group

    @staticmethod
    def _answer(work: _Work, answer: list[Any] | Exception) -> None:
        def set_answer() -> None:
            if work.future.done():
                return
            if isinstance(answer, Exception):
                work.future.set_exception(answer)
            else:
                work.future.set_result(answer)

        work.loop.call_soon_threadsafe(set_answer)
