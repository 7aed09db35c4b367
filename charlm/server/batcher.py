"""The thread that reads texts with one model: work of one kind that waits is done together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from charlm.server.errors import ProtocolError

T = TypeVar("T", bound=Sized)
R = TypeVar("R")
AT_ONCE = 1 << 15  # characters or tokens that are read together


@dataclass(eq=False)
class _Work:
    """Items that wait for their results. Those that are done are taken away from the front."""

    function: Callable[[list[Any]], Sequence[Any]]
    kind: Hashable
    items: deque[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[Any]]
    results: list[Any]


class Batcher:
    """Does work in one thread, a part of bounded size at a time, in the order in which it comes.

    most:  characters or tokens of one piece of work
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[_Work] = deque()
        self._news = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._run, name="charlm-reader", daemon=True).start()

    async def do(
        self, function: Callable[[list[T]], Sequence[R]], kind: Hashable, items: Sequence[T]
    ) -> list[R]:
        """The results of a function for items with a length: texts, or sequences of ids.

        function:  gives a result for each item
        kind:      the items of work of the same kind are given to the function together

        Raises ProtocolError for more than the most.
        """
        size = sum(map(_size, items))
        if size > self._most:
            message = f"{size:,} characters or tokens; this server allows {self._most:,}"
            raise ProtocolError(400, message, code="context_length_exceeded")
        if not items:
            return []
        loop = asyncio.get_running_loop()
        work = _Work(function, kind, deque(items), loop, loop.create_future(), [])
        with self._news:
            self._waiting.append(work)
            self._news.notify()
        return await work.future

    def close(self) -> None:
        """End the thread after the part that it is at."""
        with self._news:
            self._is_closed = True
            self._news.notify()

    def _run(self) -> None:
        while part := self._next_part():
            try:
                results = iter(part[0][0].function([item for _, own in part for item in own]))
                for work, own in part:
                    work.results += [next(results) for _ in own]
            except Exception as error:
                self._do_alone(part, error)
            for work, _ in part:
                if not work.items:
                    self._answer(work, work.results)

    def _do_alone(self, part: Sequence[tuple[_Work, list[Any]]], error: Exception) -> None:
        """Do the work of a part one by one, after an error whose cause is one of them."""
        for work, own in part:
            try:
                if len(part) == 1:
                    raise error
                work.results += work.function(own)
            except Exception as of_work:
                work.items.clear()
                self._answer(work, of_work)

    def _next_part(self) -> list[tuple[_Work, list[Any]]]:
        """Items of the work that has waited longest, and of other work of its kind.

        Waits for some. Returns none after `close`. Work that nobody waits for is dropped; what has
        more items than fit goes to the end.
        """
        with self._news:
            while True:
                self._waiting = deque(w for w in self._waiting if w.items and not w.future.done())
                if self._waiting or self._is_closed:
                    break
                self._news.wait()
            part, size = list[tuple[_Work, list[Any]]](), 0
            for work in [] if self._is_closed else self._waiting:
                own: list[Any] = []
                while work.kind == self._waiting[0].kind and work.items:
                    if size and size + _size(work.items[0]) > AT_ONCE:
                        break
                    size += _size(work.items[0])
                    own.append(work.items.popleft())
                if own:
                    part.append((work, own))
            self._waiting.rotate(-1)
        return part

    @staticmethod
    def _answer(work: _Work, answer: list[Any] | Exception) -> None:
        def set_answer() -> None:
            if work.future.done():
                return
            if isinstance(answer, Exception):
                work.future.set_exception(answer)
            else:
                work.future.set_result(answer)

        with suppress(RuntimeError):  # the server has stopped
            work.loop.call_soon_threadsafe(set_answer)


def _size(item: Sized) -> int:
    return len(item) + 1
