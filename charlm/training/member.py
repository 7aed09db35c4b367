"""A network in training: its gradient, its step, and the state after its last batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from charlm.model.devices import autocast
from charlm.model.layers import States
from charlm.model.network import Trainable
from charlm.tasks.base import Task
from charlm.training.optimizer import AdamW
from charlm.training.recipe import Recipe

CLIP = 1.0
# Keeps small gradients above float16's smallest number. It is not divided out again: Adam's update
# does not depend on the scale of the gradient.
FP16_SCALE = 2.0**12
AVERAGE_DECAY = 0.98  # per step


class Member:
    """One network of a model, see `Trainable.members`.

    parameters:  by their names in the whole model
    frozen:      by the name of a parameter: the numbers of its rows that do not change

    averages:    exponential averages of the parameters
    """

    def __init__(
        self,
        task: Task[Any, Any],
        recipe: Recipe,
        network: Trainable,
        parameters: Mapping[str, Tensor],
        frozen: Mapping[str, Tensor],
    ) -> None:
        self.task, self.recipe, self.network, self.parameters = task, recipe, network, parameters
        self.frozen = {name: rows for name, rows in frozen.items() if name in parameters}
        self.optimizer = AdamW(parameters, recipe.weight_decay)
        self.scale = FP16_SCALE if recipe.precision == "fp16" else 1.0
        self.averages = {name: torch.empty_like(p) for name, p in parameters.items()}
        self.carried: States = []
        self._after: States = []

    def tensors(self) -> list[Tensor]:
        """All that its steps change, but for the state."""
        moments = (t for of_kind in self.optimizer.moments.values() for t in of_kind.values())
        return [*self.parameters.values(), *self.averages.values(), *moments]

    def backward(self, batch: Any) -> float:
        """Compute the gradient of the mean loss of a batch. Returns the loss."""
        for parameter in self.parameters.values():
            parameter.grad = None
        with autocast(self.recipe.precision, self.network.device):
            total, self._after = self.task.loss(self.network, batch, self.carried)
            loss = total / batch.predicted
        (loss * self.scale).backward()
        return float(loss.detach())

    def step(self, rate: float) -> bool:
        """Update the parameters, and go on after the batch. Returns whether that was possible.

        Without a finite gradient nothing changes.
        """
        parameters = list(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP * self.scale)
        if not norm.isfinite():
            return False
        with torch.no_grad():
            kept = {name: self.parameters[name][rows] for name, rows in self.frozen.items()}
            self.optimizer.step(rate)
            for name, rows in self.frozen.items():
                self.parameters[name][rows] = kept[name]
        self.carried = self._after
        return True

    def forget(self) -> None:
        """Start the next batch from the zero state."""
        self.carried = []

    @torch.no_grad()
    def average(self, first: bool) -> None:
        """Update the averages of the parameters (Polyak and Juditsky 1992); start them at first."""
        averages, parameters = list(self.averages.values()), list(self.parameters.values())
        if first:
            torch._foreach_copy_(averages, parameters)
        else:
            torch._foreach_lerp_(averages, parameters, 1 - AVERAGE_DECAY)

    def state(self) -> tuple[States, Tensor]:
        """The state after the last batch, and that of the generator."""
        return self.carried, self.network.generator.get_state()

    def load_averages(self, averages: Mapping[str, Tensor]) -> None:
        """Continue with these averages, of these parameters or of more; there may be none yet."""
        for name, own in self.averages.items() if averages else ():
            own.copy_(averages[name])

    def restore(self, carried: Sequence[Any], generator: Tensor) -> None:
        """Continue from this state."""
        self.carried = list(carried)
        self.network.generator.set_state(generator)
