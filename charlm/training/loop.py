"""The training loop, the same for every task: updates, schedule, averaging, evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from charlm.corpus.batches import Batches, Cursor
from charlm.errors import CharlmError
from charlm.model.devices import autocast
from charlm.model.layers import States
from charlm.model.network import Trainable
from charlm.tasks.base import Task, Validation
from charlm.training.clock import Clock
from charlm.training.crew import Crew, crew
from charlm.training.distributed import Ranks, weave
from charlm.training.member import Member
from charlm.training.optimizer import Moments, joined_moments
from charlm.training.recipe import Recipe

WARM_UP = 0.05  # of the budget
AVERAGE_FROM = 0.5  # of the budget: from here on the weights are averaged
EVALUATIONS = 12  # evaluations during training, at the least
MINUTES_BETWEEN_EVALUATIONS = 5.0  # at the most
EVALUATION_SHARE = 0.05  # of the training time, for all evaluations together
MOST_SHARE = 0.1  # of a budget in minutes: the upper limit for evaluations
SMOOTHING = 0.02  # of the running training loss
MOST_SKIPPED = 50


def schedule(fraction: float) -> float:
    """The learning rate after this fraction of the budget, as a fraction of the highest.

    Linear warm-up, then half a cosine down to 0 (Loshchilov and Hutter 2017).
    """
    if fraction < WARM_UP:
        return (fraction + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


@dataclass(frozen=True)
class Progress:
    """The state of training after a step. Losses are nats per token."""

    fraction: float  # of the budget
    step: int
    epoch: float
    seconds: float
    seconds_left: float
    tokens_per_second: float
    learning_rate: float
    train_loss: float  # a running mean
    valid_loss: float | None  # None between two evaluations


Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class LoopState:
    """Everything that a loop needs to continue exactly.

    weights, average, best:  by name; the last two are empty before there are any
    carried:  the network's state after the last batch, for all columns of it
    generator:  the states of the networks' generators, one after the other
    frozen:   by the name of a parameter: the numbers of its rows that do not change
    """

    step: int
    cursor: Cursor
    seconds: float
    start_up: float
    best_loss: float
    train_loss: float
    weights: Tensors
    average: Tensors
    best: Tensors
    moments: Moments
    carried: States
    generator: Tensor
    frozen: Tensors


class Loop:
    """Trains a network in place, and keeps the weights with the best validation loss.

    Of several networks, see `Trainable.members`, each makes its own step on the same batch. They
    are validated, averaged over time and chosen as one.

    batches:     of this process
    validation:  evaluations during training use its first part
    ranks:       the processes that train the same network
    frozen:      see `LoopState`
    """

    def __init__(
        self,
        task: Task[Any, Any],
        recipe: Recipe,
        network: Trainable,
        batches: Batches,
        validation: Validation[Any],
        ranks: Ranks,
        frozen: Tensors | None = None,
    ) -> None:
        self.task, self.recipe, self.network, self.batches = task, recipe, network, batches
        self.ranks = ranks
        long_budget = math.ceil((recipe.minutes or 0) / MINUTES_BETWEEN_EVALUATIONS)
        self.planned = max(EVALUATIONS, long_budget)
        # A token takes a third of the time in evaluation; half of those that are read are warm-up.
        affordable = int(3 / 2 * EVALUATION_SHARE * recipe.tokens / self.planned)
        self.validation = validation.first(max(affordable, validation.fewest))
        self.parameters = dict(network.named_parameters())
        self.frozen = {n: rows.to(network.device) for n, rows in (frozen or {}).items()}
        self.members = self._members()
        self.crew = Crew(self.members)
        self.averaged = False
        self.best: Tensors = {}
        self.best_loss = self.train_loss = math.inf
        self.cursor = Cursor()
        self.step = self.evaluations = self.skipped = 0
        self.seconds = self.start_up = self.evaluating = 0.0

    def _members(self) -> list[Member]:
        names = {id(p): name for name, p in self.parameters.items()}
        return [
            Member(
                self.task,
                self.recipe,
                network,
                {names[id(p)]: p for p in network.parameters()},
                self.frozen,
            )
            for network in self.network.members
        ]

    def run(self, clock: Clock) -> Iterator[Progress]:
        """Train until the budget is used. Yields the progress after every step."""
        self.network.train()
        if self.ranks.size == 1:
            self.crew = crew(self.members, processes=torch.get_num_threads())
        self.start_up = clock.start_up
        fraction = clock.fraction(self.step)
        self.evaluations = int(fraction * self.planned)
        if fraction < AVERAGE_FROM:  # a run that continues with a larger budget
            self.averaged = False
        if fraction >= 1 and self.best:  # stopped after its last step
            return
        for batch in self.batches.iterate(self.cursor):
            before = time.perf_counter()
            rate = self.recipe.lr * schedule(fraction)
            self._update(batch, rate, clock)
            speed = batch.predicted / (time.perf_counter() - before)
            fraction = clock.fraction(self.step)
            if fraction >= AVERAGE_FROM:
                self.crew.each("average", not self.averaged)
                self.averaged = True
            valid_loss = self.evaluate() if self._evaluation_is_due(fraction, clock) else None
            self.seconds = clock.seconds
            yield Progress(
                fraction=fraction,
                step=self.step,
                epoch=self.cursor.epoch + self.cursor.step / self.batches.steps_per_epoch,
                seconds=self.seconds,
                seconds_left=clock.left(fraction),
                tokens_per_second=speed,
                learning_rate=rate,
                train_loss=self.train_loss,
                valid_loss=valid_loss,
            )
            if fraction >= 1:
                return

    def evaluate(self) -> float:
        """The validation loss in the training precision, nats per token. Keeps the best weights."""
        before = time.perf_counter()
        with self._averaged(), autocast(self.recipe.precision, self.network.device):
            self.network.eval()
            total = self.validation.total(self.network, self.ranks.part)
            seconds = time.perf_counter() - before
            total, seconds = self.ranks.sum([total, seconds])
            loss = total / max(self.validation.predicted, 1)
            self.network.train()
            if not self.best or loss < self.best_loss or math.isnan(self.best_loss):
                self.best_loss = loss
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.evaluating += seconds / self.ranks.size
        return loss

    def _evaluation_is_due(self, fraction: float, clock: Clock) -> bool:
        due, self.evaluations = self.evaluations, int(fraction * self.planned)
        if fraction >= 1:
            return True
        if self.recipe.minutes:
            affordable = MOST_SHARE * clock.seconds
            return self.evaluations > due and self.evaluating <= affordable
        return self.evaluations > due

    def _update(self, batch: Any, rate: float, clock: Clock) -> None:
        """One step of the optimizer. A step without a finite gradient is skipped."""
        losses = self.crew.each("backward", batch)
        value, *messages = self.ranks.sum_gradients(
            self.parameters.values(), [sum(losses) / len(losses), *clock.to_share()]
        )
        clock.update(messages)
        self.step += 1
        if not self._is_finite(all(self.crew.each("step", rate))):
            self.crew.each("forget")
            return
        older = value if math.isinf(self.train_loss) else self.train_loss
        self.train_loss = older + max(SMOOTHING, 1 / self.step) * (value - older)

    def _is_finite(self, finite: bool) -> bool:
        """Whether the gradient is finite. Raises CharlmError after many that were not."""
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped > MOST_SKIPPED:
            raise CharlmError(
                f"training diverged at step {self.step}: no finite gradient for "
                f"{MOST_SKIPPED} steps; use a lower `lr` than {self.recipe.lr:g}"
            )
        return finite

    @property
    def average(self) -> Tensors:
        """The averaged weights, by name; empty before there are any."""
        if not self.averaged:
            return {}
        return {name: t for member in self.members for name, t in member.averages.items()}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within this context the network has the averaged weights, if there are any."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, averaged in self.average.items():
            own = self.parameters[name]
            own.data, averaged.data = averaged.data, own.data

    # --- to continue later, exactly ---

    def state(self) -> LoopState:
        """The state after the last step. It shares its tensors with the loop.

        All ranks must ask for it together: each has the state of its own columns.
        """
        states, generators = zip(*self.crew.each("state"), strict=True)
        return LoopState(
            step=self.step,
            cursor=replace(self.cursor),
            seconds=self.seconds,
            start_up=self.start_up,
            best_loss=self.best_loss,
            train_loss=self.train_loss,
            weights={name: p.detach() for name, p in self.parameters.items()},
            average=self.average,
            best=self.best,
            moments=joined_moments([member.optimizer.moments for member in self.members]),
            carried=self._carried_of_all([layer for own in states for layer in own]),
            generator=torch.cat(generators),
            frozen=self.frozen,
        )

    def _carried_of_all(self, carried: States) -> States:
        if self.ranks.size == 1:
            return carried
        own = [[s.cpu() for s in layer] for layer in carried]
        layers = zip(*self.ranks.each(lambda: own), strict=True)
        return [tuple(map(weave, zip(*layer, strict=True))) for layer in layers]

    @torch.no_grad()
    def restore(self, state: LoopState) -> None:
        """Continue from this state."""
        device = self.network.device

        def moved(tensors: Tensors) -> Tensors:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        # Buffers are not saved: evaluation computes them.
        self.network.load_state_dict(moved(state.weights), strict=False)
        self.averaged, self.best = bool(state.average), moved(state.best)
        self.frozen, own = moved(state.frozen), self.ranks.part.every
        self.members = self._members()
        moments = {kind: moved(tensors) for kind, tensors in state.moments.items()}
        carried = [tuple(s[own].to(device) for s in layer) for layer in state.carried]
        generators = state.generator.cpu().chunk(len(self.members))
        layers = len(carried) // len(self.members)
        for k, (member, generator) in enumerate(zip(self.members, generators, strict=True)):
            member.optimizer.load(moments)
            member.restore(carried[k * layers : (k + 1) * layers], generator.clone())
            member.load_averages(state.average)
        self.crew = Crew(self.members)
        self.cursor, self.step = state.cursor, state.step
        self.seconds, self.start_up = state.seconds, state.start_up
        self.best_loss, self.train_loss = state.best_loss, state.train_loss
