"""What a run writes: checkpoints and models on the way, and the final model."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from charlm import __version__
from charlm.model.file import Card, ModelFile
from charlm.tasks.base import Companions, Task, Validation
from charlm.tasks.source import provenance
from charlm.training import metrics
from charlm.training.checkpoint import Checkpoint
from charlm.training.clock import Clock
from charlm.training.dataset import Dataset
from charlm.training.distributed import Ranks
from charlm.training.folder import Folder
from charlm.training.loop import Loop, LoopState, Progress

# Checkpoints take a hundredth of the time. They are at least this far apart, and at most half a
# minute, as long as that is no more than a fiftieth of the time.
SECONDS_BETWEEN_CHECKPOINTS, MOST_SECONDS_BETWEEN = 2.0, 30.0
CHECKPOINTING, MOST_CHECKPOINTING = 0.01, 0.02
SECONDS_TO_WRITE = 0.3

# Gets a line of the metrics. If it returns True, the training ends.
Callback = Callable[[dict[str, Any]], object]


class Saver:
    """Writes the state and the model of a run into its folder. Rank 0 writes.

    validation:  what the final model is measured on
    companions:  of the model; empty but on rank 0
    callbacks:   called by rank 0 after each evaluation, see `charlm.train`

    All ranks call each method together.
    """

    def __init__(
        self,
        task: Task[Any, Any],
        folder: Folder,
        data: Dataset,
        loop: Loop,
        validation: Validation[Any],
        companions: Companions,
        ranks: Ranks,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        assert folder.plan and folder.plan.recipe
        self.task, self.folder, self.data, self.loop = task, folder, data, loop
        self.validation, self.companions, self.ranks = validation, companions, ranks
        self.callbacks = callbacks
        self.plan, self.recipe = folder.plan, folder.plan.recipe
        self._due = -math.inf  # when the next checkpoint is: the first step is followed by one
        self.model_loss = math.inf  # of the whole model that was written last; known to rank 0
        self._saved_loss: float | None = None  # of the model that was written last

    def add_metrics(self, progress: Progress) -> bool:
        """Add a line to the metrics, and call the callbacks with it, if there was an evaluation.

        Returns whether one of them ends the training.
        """
        if progress.valid_loss is None:
            return False
        record = metrics.record_of(progress, self.task.model.predicted)

        def add() -> bool:
            self.folder.add_metrics(record)
            return True in [callback({**record}) for callback in self.callbacks]

        return self.ranks.first(add)

    def save_if_due(self, clock: Clock) -> None:
        """Write a checkpoint, and a model if there are better weights than before."""
        if clock.seconds < self._due:
            return
        state = self.loop.state()

        def save() -> float:
            before = time.monotonic()
            self._save_checkpoint(state)
            if self.loop.best and self.loop.best_loss != self._saved_loss:
                self._saved_loss = self.loop.best_loss
                validation = self.loop.validation
                totals = [self.loop.best_loss * max(validation.predicted, 1)]
                self._save_model(self._best(), validation, totals, self.loop.seconds)
            return time.monotonic() - before

        seconds = self.ranks.first(save)
        between = min(seconds / CHECKPOINTING, MOST_SECONDS_BETWEEN)
        between = max(between, seconds / MOST_CHECKPOINTING, SECONDS_BETWEEN_CHECKPOINTS)
        self._due = clock.seconds + seconds + between

    def stop(self, clock: Clock) -> None:
        """Write what has been learnt when a signal has stopped training.

        The checkpoint comes first: the model takes longer, and another signal stops at once.
        """
        state = self.loop.state()
        self.ranks.first(lambda: self._save_checkpoint(state))
        if not self.loop.best:
            self.loop.evaluate()
        self._finish(self.loop.validation, clock)

    def finish(self, clock: Clock) -> None:
        """Write the final model and the last checkpoint. The run is finished then."""
        state = self.loop.state()
        self._finish(self.validation, clock)

        def save() -> None:
            self._save_checkpoint(state)
            self.folder.write_plan(dataclasses.replace(self.plan, finished=True))

        self.ranks.first(save)

    def seconds_to_finish(self) -> float:
        """The time that `finish` and the last evaluation will take."""

        def measure() -> float:
            network = self.loop.network.eval()
            seconds = self.validation.seconds(network, self.companions)
            network.train()
            return SECONDS_TO_WRITE + seconds / self.ranks.size

        return self.ranks.first(measure)

    def _finish(self, validation: Validation[Any], clock: Clock) -> None:
        """Write the model. It is fitted to and measured on `validation`, in float32."""
        best = self._best()

        def fitted() -> Companions:
            if self.data.info.held_out:
                self.companions = validation.fitted(best, self.companions)
            return self.companions

        companions = self.ranks.first(fitted)
        totals = self.ranks.sum(validation.totals(best, companions, self.ranks.part))
        self.ranks.first(lambda: self._save_model(best, validation, totals, clock.now()))

    def _best(self) -> Any:
        """A network with the best weights, for evaluation."""
        vocabularies = self.data.training.vocabularies
        best = self.task.network(self.recipe.model, vocabularies).to(self.loop.network.device)
        best.load_state_dict(self.loop.best, strict=False)  # evaluation computes the buffers
        return best.eval()

    def _save_checkpoint(self, state: LoopState) -> None:
        checkpoint = Checkpoint(self.data.training.vocabularies, state)
        self.folder.save_checkpoint(checkpoint)

    def _save_model(
        self, network: Any, validation: Validation[Any], totals: Sequence[float], seconds: float
    ) -> None:
        """Write the model. totals: see `Validation`; seconds: that training took"""
        info, options = self.data.info, self.plan.options
        card = Card(
            corpus=info.name,
            corpus_sha256=info.sha256,
            train_tokens=self.data.training.tokens,
            valid_tokens=validation.predicted,
            valid_nats=totals[0] / max(validation.predicted, 1),
            valid_is_held_out=info.held_out,
            trained=self.recipe.described(self.task, options),
            seconds=round(seconds, 1),
            charlm_version=__version__,
            lines=self.task.independent_lines(options),
            unit=options.unit,
            longest_line=info.longest_line,
            started_from=provenance(options),
            figures=validation.figures(totals),
        )
        parts = {**self.data.training.vocabularies, **self.companions}
        file = ModelFile(
            self.task.name,
            dataclasses.asdict(self.recipe.model),
            network.weights(),
            {name: part.state() for name, part in parts.items()},
            card,
        )
        self.folder.save_model(file)
        self.model_loss = card.valid_nats
        self.folder.add_model_metrics(self.loop.step, card, self.task.model.predicted)
