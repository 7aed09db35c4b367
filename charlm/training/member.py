"""The networks of a model in training: each makes its own steps, side by side on the cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from charlm.model.devices import autocast
from charlm.model.layers import States
from charlm.model.network import Trainable
from charlm.tasks.base import Task
from charlm.training.optimizer import AdamW, Moments
from charlm.training.recipe import Recipe

T = TypeVar("T")
CLIP = 1.0
# Keeps small gradients above float16's smallest number. It is not divided out again: Adam's update
# does not depend on the scale of the gradient.
FP16_SCALE = 2.0**12


class Member:
    """One network: its gradient, its optimizer, and the state after its last batch.

    parameters:  by their names in the whole model
    frozen:      see `LoopState`; names of other networks do not matter
    """

    def __init__(
        self,
        task: Task[Any, Any],
        recipe: Recipe,
        network: Trainable,
        parameters: dict[str, Tensor],
        frozen: dict[str, Tensor],
    ) -> None:
        self.task, self.recipe, self.network, self.parameters = task, recipe, network, parameters
        self.frozen = {name: rows for name, rows in frozen.items() if name in parameters}
        self.optimizer = AdamW(parameters, recipe.weight_decay)
        self.scale = FP16_SCALE if recipe.precision == "fp16" else 1.0
        self.carried: States = []
        self._after: States = []

    def backward(self, batch: Any) -> float:
        """Compute the gradient of the mean loss of a batch. Returns the loss."""
        for parameter in self.parameters.values():
            parameter.grad = None
        with autocast(self.recipe.precision, self.network.device):
            total, self._after = self.task.loss(self.network, batch, self.carried)
            loss = total / batch.predicted
        (loss * self.scale).backward()
        return float(loss.detach())

    def clip(self) -> bool:
        """Limit the norm of the gradient. Returns whether it is finite."""
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), CLIP * self.scale)
        return bool(norm.isfinite())

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update the parameters, but for the frozen rows, and go on after the batch."""
        kept = {name: self.parameters[name][rows] for name, rows in self.frozen.items()}
        self.optimizer.step(rate)
        for name, rows in self.frozen.items():
            self.parameters[name][rows] = kept[name]
        self.carried = self._after


class Members:
    """The members of a network. On a CPU they share its cores, each on a thread of its own.

    network:  see `Trainable.members`
    frozen:   see `LoopState`
    """

    def __init__(
        self,
        task: Task[Any, Any],
        recipe: Recipe,
        network: Trainable,
        frozen: dict[str, Tensor],
    ) -> None:
        names = {id(p): name for name, p in network.named_parameters()}
        self._members = [
            Member(task, recipe, member, {names[id(p)]: p for p in member.parameters()}, frozen)
            for member in network.members
        ]
        workers = min(len(self._members), torch.get_num_threads())
        self._pool: ThreadPoolExecutor | None = None
        if workers > 1 and network.device.type == "cpu":
            threads = torch.get_num_threads() // workers
            self._pool = ThreadPoolExecutor(workers, "network", _use_threads, (threads,))

    def each(self, function: Callable[[Member], T]) -> list[T]:
        """What a function returns for each member."""
        return list((self._pool or _Here()).map(function, self._members))

    @property
    def carried(self) -> States:
        """The states of all members, see `SeveralNetworks`; empty for the zero state."""
        return [layer for member in self._members for layer in member.carried]

    @carried.setter
    def carried(self, states: States) -> None:
        layers = len(states) // len(self._members)
        for k, member in enumerate(self._members):
            member.carried = states[k * layers : (k + 1) * layers]

    @property
    def moments(self) -> Moments:
        """The moments of all optimizers."""
        every = [member.optimizer.moments for member in self._members]
        return {kind: {n: t for one in every for n, t in one[kind].items()} for kind in every[0]}

    def load_moments(self, moments: Moments) -> None:
        """Continue with these moments."""
        for member in self._members:
            member.optimizer.load(moments)

    @property
    def random_state(self) -> Tensor:
        """The states of the generators of all members, one after the other."""
        return torch.cat([member.network.generator.get_state() for member in self._members])

    @random_state.setter
    def random_state(self, state: Tensor) -> None:
        states = state.chunk(len(self._members))
        for member, own in zip(self._members, states, strict=True):
            member.network.generator.set_state(own.clone())


class _Here:
    """Runs the members one after the other, on this thread."""

    def map(self, function: Callable[[Member], T], members: Sequence[Member]) -> list[T]:
        return [function(member) for member in members]


def _use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
