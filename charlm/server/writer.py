"""The thread that writes texts with one model: those of all requests side by side."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

from charlm.engines.generation import Beginning, Generation, Sample
from charlm.engines.stream import Ending, Figures
from charlm.engines.text_model import TextModel
from charlm.server.metrics import Metrics

# Tokens of beginnings that are read between two steps of the texts in progress, and without any.
TOKENS_BETWEEN, TOKENS_ALONE = 64, 1024


class Token(NamedTuple):
    """A token that was written.

    text:    of the completion that is certain with it, see `Ending.push`
    id, figures:  the token, and its figures
    start:   where its own text begins, in characters after the prime
    reason:  why it is the last one: "stop" or "length"; None if it is not
    """

    text: str
    id: int
    figures: Figures | None
    start: int
    reason: str | None


@dataclass(eq=False)
class Writing:
    """A text that is written for a request.

    sample:      draws its tokens
    max_tokens:  how many, at the most
    respells:    the first tokens may only spell the end of the prime again; they do not count
    tokens:      those that the request has not taken yet
    """

    sample: Sample
    max_tokens: int
    respells: bool = False
    tokens: deque[Token] = field(default_factory=deque)
    written: int = 0

    def __post_init__(self) -> None:
        self._ending = Ending(self.sample.limits)
        self._chars = 0

    def take_piece(self) -> bool:
        """Take the sample's next piece. Returns whether it is the last."""
        text, id, figures = self.sample.unread.popleft()
        if self.respells and not text:
            return False
        self.respells = False
        self.written += 1
        certain, reason = self._ending.push(text), None
        if self._ending.is_reached:
            reason = "stop" if self._ending.by_text else "length"
        elif self.written >= self.max_tokens:
            certain += self._ending.rest()
            reason = "length"
        self.tokens.append(Token(certain, id, figures, self._chars, reason))
        self._chars += len(text)
        return reason is not None


@dataclass(eq=False)
class Order:
    """Texts that a request wants after one prime.

    beginning:  the prime
    writings:   the texts
    streams:    each token is wanted at once, and not the whole texts in the end
    news:       set when there are tokens to take, or an error
    open:       texts that are not finished
    is_given_up:  the request is gone
    """

    beginning: Beginning
    writings: Sequence[Writing]
    streams: bool
    loop: asyncio.AbstractEventLoop
    news: asyncio.Event
    error: Exception | None = None
    is_given_up: bool = False

    def __post_init__(self) -> None:
        self.open = len(self.writings)


class Writer:
    """Writes the texts of orders, at each step a token of every text.

    model:    writes
    batch:    texts side by side; further orders wait while there are this many
    metrics:  of the server
    """

    def __init__(self, model: TextModel, batch: int, metrics: Metrics) -> None:
        self._model, self._batch, self._metrics = model, batch, metrics
        self._inbox: SimpleQueue[Order | None] = SimpleQueue()
        self._waiting: deque[Order] = deque()  # whose beginnings are not read yet
        self._orders: dict[Writing, Order] = {}  # of the texts in progress, in their order
        self._generation = Generation(model)
        self._thread = threading.Thread(target=self._run, name="charlm-writer", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Write the texts of an order, as soon as there is room. Set `is_given_up` to stop it."""
        self._inbox.put(order)

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._receive():
            try:
                self._advance()
            except Exception as error:  # none of an order: the server goes on with the next ones
                self._fail(error)

    def _receive(self) -> bool:
        """Take the orders that have come. Waits for one if there is nothing to do."""
        is_idle = not (self._waiting or self._orders)
        while is_idle or not self._inbox.empty():
            order = self._inbox.get()
            if order is None:
                return False
            self._waiting.append(order)
            is_idle = False
        return True

    def _advance(self) -> None:
        gone = [w for w, order in self._orders.items() if order.is_given_up]
        for writing in gone:
            self._close(writing)
        self._begin()
        if not self._orders:
            return
        self._metrics.batch.observe(len(self._orders))
        self._generation.step()
        news: dict[Order, None] = {}
        for writing, order in list(self._orders.items()):
            if writing.take_piece():
                self._close(writing)
                order.open -= 1
            if order.streams or not order.open:
                news[order] = None
        _tell(news)

    def _begin(self) -> None:
        """Read beginnings, a part at a time, and begin the texts after those that are read."""
        budget = TOKENS_BETWEEN if self._orders else TOKENS_ALONE
        while self._waiting and budget > 0:
            if len(self._orders) >= self._batch:
                return
            order = self._waiting.popleft()
            if order.is_given_up:
                continue
            budget -= max(order.beginning.read(budget), 1)
            if len(order.beginning.unread):  # a long one lets others pass
                self._waiting.append(order)
            else:
                self._generation.add(order.beginning, [w.sample for w in order.writings])
                self._orders |= dict.fromkeys(order.writings, order)

    def _close(self, writing: Writing) -> None:
        del self._orders[writing]
        self._generation.close(writing.sample)

    def _fail(self, error: Exception) -> None:
        """Give all orders up."""
        orders = {**dict.fromkeys(self._orders.values()), **dict.fromkeys(self._waiting)}
        self._orders, self._generation = {}, Generation(self._model)
        self._waiting.clear()
        for order in orders:
            order.error = error
        _tell(orders)


def _tell(orders: Iterable[Order]) -> None:
    """Wake the requests of these orders, all in one call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Order]] = {}
    for order in orders:
        by_loop.setdefault(order.loop, []).append(order)
    for loop, of_loop in by_loop.items():
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(_set, [order.news for order in of_loop])


def _set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
