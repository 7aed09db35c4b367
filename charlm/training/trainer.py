"""The training loop: truncated back-propagation through time under a budget."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.corpus.batches import Batch, Batches, LineBatches, Place
from charlm.errors import CharlmError
from charlm.model.network import Network
from charlm.training.checkpoint import Checkpoint, below, under
from charlm.training.machine import autocast
from charlm.training.optimizer import AdamW
from charlm.training.recipe import Recipe
from charlm.training.validation import Validation

CLIP = 1.0
# Keeps small gradients above float16's least number. It is not taken out again: Adam's update
# does not depend on the scale of the gradient.
FP16_SCALE = 2.0**12
SHORTEST = 1.0  # seconds of training in a budget of minutes, even if all went for the start
WARM_UP = 0.05  # of the budget
AVERAGE_FROM = 0.5  # of the budget: from here on the weights are averaged
AVERAGE_DECAY = 0.98  # a step
EVALUATIONS = 12  # on the way; together they should take this part of the training time,
EVALUATION_SHARE = 0.05
MOST_SHARE = 0.1  # and of a budget in minutes they may not take more than this
FEWEST_EVALUATED = 4096  # tokens
SMOOTHING = 0.02  # of the running training loss
MOST_SKIPPED = 50


def schedule(fraction: float) -> float:
    """The learning rate, as a part of the highest, after this fraction of the budget.

    Linear warm-up, then half a cosine down to 0 (Loshchilov and Hutter 2017).
    """
    if fraction < WARM_UP:
        return (fraction + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


class Clock:
    """How much of the budget is used.

    started:   the time on the monotonic clock from which it counts
    earlier:   seconds used up before, in runs that this one resumes
    start_up:  seconds that were used up before the first step
    reserve:   seconds that are to be left of a budget in minutes, for finishing
    """

    def __init__(
        self, recipe: Recipe, steps_per_epoch: int, started: float, earlier: float
    ) -> None:
        self.recipe, self.steps_per_epoch = recipe, steps_per_epoch
        self.started = started - earlier
        self.start_up = self.reserve = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def fraction(self, step: int) -> float:
        """0 at the first step, 1 when the budget is used up."""
        if self.recipe.minutes:
            usable = 60 * self.recipe.minutes - self.reserve - self.start_up
            return min((self.seconds - self.start_up) / max(usable, SHORTEST), 1.0)
        steps = self.recipe.steps or (self.recipe.epochs or 1) * self.steps_per_epoch
        return min(step / steps, 1.0)

    def left(self, fraction: float) -> float:
        """The seconds of training to come when this fraction of it is done."""
        return (self.seconds - self.start_up) * (1 - fraction) / fraction if fraction else math.inf


@dataclass(frozen=True)
class Progress:
    """How training stands after a step. Losses are nats per token."""

    fraction: float  # of the budget
    step: int
    epoch: float
    seconds: float
    seconds_left: float
    tokens_per_second: float
    learning_rate: float
    train_loss: float  # a running mean
    valid_loss: float | None  # None between two evaluations


class Trainer:
    """Trains a network in place on batches, and keeps the weights that validate best.

    validation:  of which the evaluations on the way see the first part
    frozen:      (n,) ids whose vectors stay as they are; none unless it is set
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        batches: Batches | LineBatches,
        validation: Validation,
    ) -> None:
        self.recipe, self.network, self.batches = recipe, network, batches
        # A token takes a third of what it takes to train on; half of those read are warm-up.
        affordable = int(3 / 2 * EVALUATION_SHARE * recipe.tokens / EVALUATIONS)
        self.validation = validation.first(max(affordable, FEWEST_EVALUATED))
        self.device = network.embedding.device
        self.frozen = torch.zeros(0, dtype=torch.int64, device=self.device)
        self.parameters = dict(network.named_parameters())
        self.optimizer = AdamW(self.parameters, recipe.weight_decay)
        self.state = network.initial_state(recipe.batch)
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.best_loss = self.train_loss = math.inf
        self.place = Place()
        self.step = self.evaluations = self.skipped = 0
        self.seconds = self.start_up = self.evaluating = 0.0

    def run(self, clock: Clock) -> Iterator[Progress]:
        """Train until the budget is used up; how it stands after every step."""
        self.network.train()
        if not self.step:
            self.start_up = clock.seconds
        clock.start_up = self.start_up
        fraction = clock.fraction(self.step)
        self.evaluations = int(fraction * EVALUATIONS)
        if fraction < AVERAGE_FROM:  # of a run that goes on with a larger budget
            self.average = {}
        for batch in self.batches.iterate(self.place):
            before = time.perf_counter()
            rate = self.recipe.lr * schedule(fraction)
            self._update(batch, rate)
            speed = batch.targets.size / (time.perf_counter() - before)
            fraction = clock.fraction(self.step)
            if fraction >= AVERAGE_FROM:
                self._average()
            valid_loss = self.evaluate() if self._evaluation_is_due(fraction, clock) else None
            self.seconds = clock.seconds
            epoch = self.place.epoch + self.place.step / self.batches.steps_per_epoch
            yield Progress(
                fraction, self.step, epoch, self.seconds, clock.left(fraction), speed, rate,
                self.train_loss, valid_loss,
            )  # fmt: skip
            if fraction >= 1:
                return

    def evaluate(self) -> float:
        """The validation loss, nats per token, in the training precision; best weights are kept."""
        before = time.perf_counter()
        with self._averaged(), autocast(self.recipe.precision, self.device):
            self.network.eval()
            loss = self.validation.loss(self.network)
            self.network.train()
            if not self.best or loss < self.best_loss or math.isnan(self.best_loss):
                self.best_loss = loss
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.evaluating += time.perf_counter() - before
        return loss

    def _evaluation_is_due(self, fraction: float, clock: Clock) -> bool:
        due, self.evaluations = self.evaluations, int(fraction * EVALUATIONS)
        if fraction >= 1:
            return True
        if self.recipe.minutes:
            affordable = MOST_SHARE * clock.seconds
            return self.evaluations > due and self.evaluating <= affordable
        return self.evaluations > due

    def _update(self, batch: Batch, rate: float) -> None:
        inputs = torch.from_numpy(batch.inputs).to(self.device)
        targets = torch.from_numpy(batch.targets).to(self.device)
        following = None
        if batch.following is not None:
            following = torch.from_numpy(batch.following).to(self.device)
        for parameter in self.parameters.values():
            parameter.grad = None
        with autocast(self.recipe.precision, self.device):
            total, state = self.network.loss(inputs, targets, self._carried(batch), following)
            loss = total / int(np.count_nonzero(batch.targets))
        scale = FP16_SCALE if self.recipe.precision == "fp16" else 1.0
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), CLIP * scale)
        self.step += 1
        if not self._is_finite(norm):
            self.state = self.network.initial_state(self.recipe.batch)
            return
        kept = self.network.embedding.detach()[self.frozen]
        self.optimizer.step(rate)
        if len(self.frozen):
            self.network.embedding.data[self.frozen] = kept
        self.state = [tuple(s.detach() for s in layer) for layer in state]
        value = float(loss.detach())
        older = value if math.isinf(self.train_loss) else self.train_loss
        self.train_loss = older + max(SMOOTHING, 1 / self.step) * (value - older)

    def _carried(self, batch: Batch) -> list[tuple[Tensor, ...]]:
        """The state that each stream has come to, zero where it starts anew."""
        if batch.restarted.all():
            return self.network.initial_state(len(batch.restarted))
        keep = torch.from_numpy(~batch.restarted).to(self.device, torch.float32)[:, None]
        return [tuple(s * keep for s in layer) for layer in self.state]

    def _is_finite(self, norm: Tensor) -> bool:
        """A step whose gradient is not finite is left out; many in a row are an error."""
        finite = bool(norm.isfinite())
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped > MOST_SKIPPED:
            raise CharlmError(
                f"training diverged at step {self.step}: no finite gradient for "
                f"{MOST_SKIPPED} steps; give a lower --lr than {self.recipe.lr:g}"
            )
        return finite

    @torch.no_grad()
    def _average(self) -> None:
        """Move the exponential average of the weights (Polyak and Juditsky 1992) along."""
        if not self.average:
            self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        averages = [self.average[name] for name in self.parameters]
        torch._foreach_lerp_(averages, list(self.parameters.values()), 1 - AVERAGE_DECAY)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights, once there are such, in place of the network's own."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, averaged in self.average.items():
            own = self.parameters[name]
            own.data, self.average[name] = averaged, own.data

    # --- to go on later, exactly ---

    def checkpoint(self) -> Checkpoint:
        states = {f"{k}.{j}": s for k, layer in enumerate(self.state) for j, s in enumerate(layer)}
        tensors = (
            under("weights", self.parameters) | under("average", self.average)
            | under("best", self.best) | under("state", states)
            | {"generator": self.network.generator.get_state(), "frozen": self.frozen}
        )  # fmt: skip
        for kind, moments in self.optimizer.moments.items():
            tensors |= under(f"optimizer.{kind}", moments)
        values = {
            "recipe": self.recipe.to_json(), "place": asdict(self.place), "step": self.step,
            "seconds": self.seconds, "start_up": self.start_up, "best_loss": self.best_loss,
            "train_loss": self.train_loss,
        }  # fmt: skip
        return Checkpoint(tensors, values)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        tensors = {name: t.to(self.device) for name, t in checkpoint.tensors.items()}
        values = checkpoint.values
        self.network.load_state_dict(below("weights", tensors), strict=False)
        self.frozen = tensors["frozen"]
        self.average, self.best = below("average", tensors), below("best", tensors)
        states = below("state", tensors)
        self.state = [
            tuple(states[f"{k}.{j}"] for j in range(len(layer)))
            for k, layer in enumerate(self.state)
        ]
        for kind in self.optimizer.moments:
            self.optimizer.moments[kind] = below(f"optimizer.{kind}", tensors)
        self.network.generator.set_state(checkpoint.tensors["generator"])
        self.place, self.step = Place(**values["place"]), values["step"]
        self.seconds, self.start_up = values["seconds"], values["start_up"]
        self.best_loss, self.train_loss = values["best_loss"], values["train_loss"]
