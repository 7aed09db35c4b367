"""Training on several processes, as `torchrun` starts them, by torch.distributed.

Data parallelism: every process ("rank") has all weights, and its own columns of each batch. After
the backward pass the gradients are summed, so that all ranks make the same step. Rank 0 decides,
writes and reports. A training of one process goes through the same code, with nobody to talk to.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from charlm.errors import CharlmError, OptionError
from charlm.model.devices import cores
from charlm.parts import Part

T = TypeVar("T")
SECONDS_TO_REPORT = 1.0  # torchrun ends rank 0 as soon as another one has failed
LONGEST_WAIT = timedelta(hours=2)  # for rank 0, which prepares the text
FAILURE = "failure"


class Ranks:
    """The processes of one training.

    rank, size:   number of this process, from 0, and of all
    local, here:  number of this process on its machine, from 0, and of those there
    launch:       a name that processes have in common which torchrun starts one after the other;
                  None without torchrun
    restarts:     how often torchrun has started the processes again, after one of them failed
    """

    def __init__(self) -> None:
        def number(name: str, default: int) -> int:
            return int(os.environ.get(name, default)) if _is_launched() else default

        self.rank, self.size = number("RANK", 0), number("WORLD_SIZE", 1)
        self.local = number("LOCAL_RANK", self.rank)
        self.here = number("LOCAL_WORLD_SIZE", self.size)
        self.launch = os.environ.get("TORCHELASTIC_RUN_ID")
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        self._store: Any = None

    @property
    def launch_is_unique(self) -> bool:
        """Whether the name is this launch's own, so that nobody else's run can have it."""
        return self.launch not in (None, "none")

    @property
    def part(self) -> Part:
        """The part of shared work that this process does."""
        return Part(self.rank, self.size)

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and reports."""
        return self.rank == 0

    @property
    def threads(self) -> int | None:
        """Threads with which the processes here share the cores; None to leave it to torch."""
        return max(cores() // self.here, 1) if self.size > 1 else None

    # --- joining and leaving ---

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within this context the processes are connected: gloo between CPUs, NCCL between GPUs.

        Raises CharlmError if they do not find each other. An error of one process ends all.
        """
        if self.size == 1:
            yield
            return
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        if dist.is_initialized():  # by a training before this one that failed
            dist.destroy_process_group()
        gpus = torch.cuda.is_available()
        if gpus:
            torch.cuda.set_device(self.local % torch.cuda.device_count())
        try:
            store, rank, size = next(iter(rendezvous("env://")))
            # The store remains when torchrun restarts the processes, with the old addresses in it.
            self._store = PrefixStore(f"start {self.restarts}", store)
            backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
            dist.init_process_group(
                backend, store=self._store, rank=rank, world_size=size, timeout=LONGEST_WAIT
            )
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise CharlmError(
                f"the {self.size} processes cannot meet at {where}: {_first_sentence(error)}; "
                "check the address, or use another port"
            ) from error
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, CharlmError):
                name = f"rank {self.rank} on {socket.gethostname()}"
                with suppress(RuntimeError):
                    self._store.set(FAILURE, f"{name}: {type(error).__name__}: {error}")
            dist.destroy_process_group()
            if self.rank:
                time.sleep(SECONDS_TO_REPORT)
            raise
        dist.destroy_process_group()

    def check_device(self, device: torch.device) -> None:
        """Raise OptionError for a device that so many processes cannot share."""
        if self.size == 1 or device.type == "cpu":
            return
        gpus = torch.cuda.device_count()
        if device.type != "cuda" or self.here > gpus:
            raise OptionError(
                f"`device={device.type}`: {self.here} processes on a machine need a GPU each, and "
                f"there are {gpus}; start fewer, or use `device=cpu`"
            )

    def check_same(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Raise OptionError if another process has other facts than rank 0."""
        first, *others = self.each(facts)
        for rank, other in enumerate(others, 1):
            for name, value in first.items():
                if other[name] != value:
                    raise OptionError(
                        f"rank {rank} differs from rank 0 in its {name} ({other[name]}, not "
                        f"{value}): start all with the same command and the same versions"
                    )

    # --- talking; every process must make the same calls in the same order ---

    def first(self, function: Callable[[], T]) -> T:
        """What the function returns on rank 0, which alone calls it. Its error is raised on all."""
        if self.size == 1:
            return function()
        import torch.distributed as dist

        outcome = self._outcome(function) if self.rank == 0 else None
        received = [outcome]
        with self._connection():
            dist.broadcast_object_list(received)
        return self._result([outcome or received[0]])[0]  # rank 0 keeps its own object

    def each(self, function: Callable[[], T]) -> list[T]:
        """What the function returns on each rank, in order. An error of one is raised on all."""
        if self.size == 1:
            return [function()]
        import torch.distributed as dist

        outcomes: list[Any] = [None] * self.size
        outcome = self._outcome(function)
        with self._connection():
            dist.all_gather_object(outcomes, outcome)
        return self._result(outcomes)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums of the numbers over all ranks."""
        if self.size == 1:
            return list(numbers)
        return self._reduced(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def sum_gradients(self, parameters: Iterable[Tensor], numbers: Sequence[float]) -> list[float]:
        """Replace each gradient by its sum over all ranks; returns the sums of the numbers.

        Gradients and numbers travel in one flat tensor of float32. Every rank gets the same bits.
        """
        if self.size == 1:
            return list(numbers)
        parameters = list(parameters)
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in parameters]
        last = parameters[0].new_tensor(numbers)
        flat = self._reduced(torch.cat([*(g.flatten() for g in gradients), last]))
        *pieces, last = torch.split(flat, [*(p.numel() for p in parameters), len(numbers)])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        sums: list[float] = last.tolist()
        return sums

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give the tensors of every rank the values of those of rank 0, in place."""
        if self.size == 1:
            return
        import torch.distributed as dist

        with self._connection():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def _reduced(self, tensor: Tensor) -> Tensor:
        import torch.distributed as dist

        with self._connection():
            dist.all_reduce(tensor)
        return tensor

    def _outcome(self, function: Callable[[], T]) -> tuple[T | None, CharlmError | None]:
        """The result of the function, and its error."""
        try:
            return function(), None
        except CharlmError as error:
            return None, error

    def _result(self, outcomes: list[Any]) -> list[Any]:
        for rank, (_, error) in enumerate(outcomes):
            if error:
                if rank:
                    error.args = (f"rank {rank}: {error}", *error.args[1:])
                raise error
        return [result for result, _ in outcomes]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Within this context the loss of another process is one line."""
        try:
            yield
        except RuntimeError as error:
            reason = f"another process of this training has ended ({_first_sentence(error)})"
            with suppress(RuntimeError):
                if self._store.check([FAILURE]):
                    reason = self._store.get(FAILURE).decode()
            raise CharlmError(
                f"{reason}; what the last checkpoint holds remains: go on with `resume`, or let "
                "torchrun do so (--max-restarts)"
            ) from error


def _is_launched() -> bool:
    """Whether torchrun, or something like it, has started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)


def is_first_process() -> bool:
    """Whether this process writes and reports."""
    return not _is_launched() or os.environ["RANK"] == "0"


def weave(parts: Sequence[Tensor]) -> Tensor:
    """The rows of which part k has every n-th, from row k on; n parts (rows_k, H).

    >>> weave([torch.tensor([[1], [3]]), torch.tensor([[2]])]).flatten().tolist()
    [1, 2, 3]
    """
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
    for number, part in enumerate(parts):
        whole[Part(number, len(parts)).every] = part
    return whole


def _first_sentence(error: Exception) -> str:
    """What the error says, without the place in the source that gloo puts before it."""
    text = re.sub(r"^\[\S+\] ", "", str(error).strip())
    return re.split(r"\. |\n", text)[0][:200] or type(error).__name__
