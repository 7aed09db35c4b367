"""Who trains the networks of a model: this process, or several processes side by side.

A small network has too little work for several cores, and Python runs one thread at a time. So
several networks train in processes of their own, one core each. Their weights and moments are in
memory that all processes see, and they make each step together.
"""

from __future__ import annotations

import mmap
import pickle
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.training.member import Member
from charlm.training.stopping import SIGNALS


class Crew:
    """Trains all members here, one after the other."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members

    def each(self, method: str, *arguments: Any) -> list[Any]:
        """What a method of `Member` returns for each member, in their order."""
        return [getattr(member, method)(*arguments) for member in self.members]


class Processes(Crew):
    """Trains the members in several processes, this one included, with one thread each.

    workers:  the number of processes

    The others end with this one, or when this object is no longer used.
    """

    def __init__(self, members: Sequence[Member], workers: int) -> None:
        super().__init__(members)
        for member in members:
            share_memory(member.tensors())
        context = get_context("fork")
        self._own = list(range(0, len(members), workers))
        self._others: list[tuple[list[int], Connection, BaseProcess]] = []
        for number in range(1, workers):
            theirs = list(range(number, len(members), workers))
            here, there = context.Pipe()
            open_here = [*(connection for _, connection, _ in self._others), here]
            arguments = ([members[k] for k in theirs], there, open_here)
            process = context.Process(target=_work, args=arguments, daemon=True)
            with warnings.catch_warnings():  # Python warns that there are threads: they wait
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            self._others.append((theirs, here, process))
        Finalize(self, _dismiss, [self._others], exitpriority=0)

    def each(self, method: str, *arguments: Any) -> list[Any]:
        results: dict[int, Any] = {}
        try:
            for _, connection, _ in self._others:
                _send(connection, (method, arguments))
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            for k in self._own:
                results[k] = getattr(self.members[k], method)(*arguments)
            torch.set_num_threads(threads)
            for theirs, connection, _ in self._others:
                outcome = _receive(connection)
                if isinstance(outcome, BaseException):
                    raise outcome
                results |= zip(theirs, outcome, strict=True)
        except (EOFError, OSError) as error:
            raise CharlmError(
                "a process that trains one of the networks has ended, perhaps for lack of memory; "
                "what the last checkpoint holds remains: go on with `resume`"
            ) from error
        return [results[k] for k in range(len(self.members))]


# Tensors travel as bytes: multiprocessing would put each into a file in memory.


def _send(connection: Connection, what: object) -> None:
    connection.send_bytes(pickle.dumps(what))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


def _dismiss(others: Sequence[tuple[Any, Connection, BaseProcess]]) -> None:
    for _, connection, _ in others:
        connection.close()
    for _, _, process in others:
        process.join()


def crew(members: Sequence[Member], *, processes: int) -> Crew:
    """Who trains these members, in at most this number of processes.

    Other systems than Linux cannot split a process that has used torch.
    """
    workers = min(len(members), processes)
    if workers > 1 and sys.platform == "linux" and members[0].network.device.type == "cpu":
        return Processes(members, workers)
    return Crew(members)


def _work(
    members: Sequence[Member], connection: Connection, open_here: Sequence[Connection]
) -> None:
    """Does what the first process asks for, until it ends."""
    for other in open_here:  # otherwise no end of the first process would be noticed
        other.close()
    for number in SIGNALS:  # the first process decides what to do
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with suppress(EOFError, OSError):  # the first process has ended
        while True:
            method, arguments = _receive(connection)
            try:
                outcome: Any = [getattr(member, method)(*arguments) for member in members]
            except Exception as error:
                outcome = error
            _send(connection, outcome)


def share_memory(tensors: Sequence[Tensor]) -> None:
    """Move tensors into memory that forked processes share, in place.

    It is no file: containers allow files in memory little space.
    """
    sizes = [-(-tensor.nbytes // 64) * 64 for tensor in tensors]
    memory, start = mmap.mmap(-1, max(sum(sizes), 1)), 0
    for tensor, size in zip(tensors, sizes, strict=True):
        moved = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=start)
        moved = moved.view(tensor.shape)
        moved.copy_(tensor.detach())
        tensor.data = moved
        start += size
