"""One run: a network, its trainer and its folder, from the first step to the model file."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from charlm import __version__
from charlm.corpus.batches import BatchShape
from charlm.model.file import Card, ModelFile
from charlm.model.network import Network
from charlm.tasks import load_task
from charlm.tokenizer.letters import Letters
from charlm.training.checkpoint import Checkpoint, RunInfo
from charlm.training.clock import Clock
from charlm.training.data import Data, reopen
from charlm.training.options import TrainOptions
from charlm.training.recipe import Recipe
from charlm.training.reporter import Reporter
from charlm.training.run_folder import RunFolder
from charlm.training.stopping import StopSignals
from charlm.training.trainer import EVALUATION_SHARE, Trainer
from charlm.word_vectors import WordVectors

# Checkpoints take a hundredth of the time. They are at least this far apart, and at most half a
# minute, as long as that is no more than a fiftieth of the time.
SECONDS_BETWEEN_CHECKPOINTS, MOST_SECONDS_BETWEEN = 2.0, 30.0
CHECKPOINTING, MOST_CHECKPOINTING = 0.01, 0.02
FEWEST_VALIDATED = 100_000  # tokens, however short the training is
SECONDS_TO_WRITE = 0.3
FEW_STEPS = 200  # no network learns much with fewer


class Run:
    """One training run.

    folder:   where it is written
    options:  as the user gave them
    recipe:   as it was chosen
    data:     the encoded corpus
    vectors:  word vectors to start from
    """

    def __init__(
        self,
        folder: RunFolder,
        options: TrainOptions,
        recipe: Recipe,
        data: Data,
        vectors: WordVectors | None = None,
    ) -> None:
        self.folder, self.options, self.recipe, self.data = folder, options, recipe, data
        self.device = torch.device(recipe.device)
        self.spellings = None
        if recipe.model.characters:
            self.spellings = Letters(data.tokenizer).of_vocabulary()
        network = Network(
            recipe.model,
            recipe.dropout,
            torch.Generator().manual_seed(recipe.seed),
            spellings=self.spellings,
            forget_bias=recipe.forget_bias,
        )
        if vectors:
            rows = torch.from_numpy(vectors.ids)
            network.encoder.embedding.data[rows] = torch.from_numpy(vectors.vectors)
        task = load_task(recipe.task)
        validated = max(int(3 * EVALUATION_SHARE * recipe.tokens), FEWEST_VALIDATED)
        self.validation = task.validation(
            data.validation.ids, data.validation.bounds, lines=recipe.lines
        ).first(validated)
        shape = BatchShape(recipe.batch, recipe.bptt, recipe.lines, recipe.seed)
        batches = task.batches(data.training, data.tokenizer, shape)
        frozen = torch.from_numpy(vectors.ids) if vectors and options.freeze_embeddings else None
        self.trainer = Trainer(
            task, recipe, network.move_to(self.device), batches, self.validation, frozen
        )
        self._checkpoint_due = -math.inf  # the first step is followed by one
        self._saved_loss: float | None = None  # of the model that was written last

    @classmethod
    def resumed(cls, folder: RunFolder, checkpoint: Checkpoint, recipe: Recipe) -> Run:
        """The run of a checkpoint. The recipe may have a larger budget."""
        data = reopen(folder.path, checkpoint.tokenizer, checkpoint.run.corpus)
        run = cls(folder, checkpoint.run.options, recipe, data)
        run.trainer.restore(checkpoint.trainer)
        folder.drop_metrics_after(checkpoint.trainer.step)
        return run

    def train(self, started: float, reporter: Reporter, signals: StopSignals) -> int | None:
        """Train until the budget is used, and write the model.

        started:  `time.monotonic()` from which a budget in minutes counts

        Returns None; or the number of a signal that stopped training, after saving.
        """
        trainer = self.trainer
        clock = Clock(
            self.recipe,
            trainer.batches.steps_per_epoch,
            started=started,
            earlier=trainer.seconds,
            reserve=self._seconds_to_finish() if self.recipe.minutes else 0.0,
        )
        measured = len(trainer.validation.ids)
        if measured < len(self.validation.ids) or self.recipe.precision != "fp32":
            reporter.note(
                f"note: while it trains, valid is the loss of the first {measured:,} tokens of the "
                f"validation text in {self.recipe.precision}; the final figure is of "
                f"{len(self.validation.ids):,} tokens in fp32"
            )
        signals.defer()
        for progress in trainer.run(clock):
            reporter.progress(progress)
            if progress.valid_loss is not None:
                self.folder.add_metrics(progress)
            if signals.received:
                self._save_checkpoint(finished=False)
                if not trainer.best:
                    trainer.evaluate()
                self._save_best_so_far()
                return signals.received
            if time.monotonic() >= self._checkpoint_due:
                self._save_unfinished()
        self._finish(clock)
        self._judge(reporter)
        return None

    def _save_unfinished(self) -> None:
        """Write the checkpoint, and a model if there are better weights than before."""
        before = time.monotonic()
        self._save_checkpoint(finished=False)
        if self.trainer.best and self.trainer.best_loss != self._saved_loss:
            self._save_best_so_far()
        seconds = time.monotonic() - before
        between = min(seconds / CHECKPOINTING, MOST_SECONDS_BETWEEN)
        between = max(between, seconds / MOST_CHECKPOINTING, SECONDS_BETWEEN_CHECKPOINTS)
        self._checkpoint_due = time.monotonic() + between

    def _save_best_so_far(self) -> None:
        self._save_model(self._best(), self.trainer.best_loss, {}, self.trainer.seconds)
        self._saved_loss = self.trainer.best_loss

    def _finish(self, clock: Clock) -> None:
        """Measure the best weights in float32 on all of `validation`, and write everything."""
        best = self._best()
        loss, figures = self.validation.loss(best), self.validation.figures(best)
        self._save_model(best, loss, figures, clock.seconds)
        self._save_checkpoint(finished=True)

    def _judge(self, reporter: Reporter) -> None:
        """Warn about a run that was too short, or a model that learnt nothing."""
        trainer, chance = self.trainer, math.log(self.recipe.model.vocab)
        if self.recipe.minutes and trainer.step < FEW_STEPS:
            reporter.note(
                f"note: only {trainer.step} steps fitted into {self.recipe.budget}: give more "
                "`minutes`, or `threads=1` if something else keeps this machine busy"
            )
        if not trainer.best_loss < chance:
            reporter.warn(
                f"the model predicts no better than chance ({trainer.best_loss:.4g} nats/token; "
                f"chance is {chance:.4g}): train it for longer, or with a lower `lr` than "
                f"{self.recipe.lr:g}"
            )

    def _best(self) -> Network:
        """A network with the best weights, for evaluation."""
        best = Network(self.recipe.model, spellings=self.spellings).to(self.device)
        best.load_state_dict(self.trainer.best, strict=False)  # evaluation computes the buffers
        best.eval()
        return best

    def _seconds_to_finish(self) -> float:
        """The time that `_finish` and the last evaluation will take."""
        self.trainer.network.eval()
        return SECONDS_TO_WRITE + self.validation.seconds(self.trainer.network)

    def _save_checkpoint(self, finished: bool) -> None:
        info = RunInfo(finished, self.options, self.recipe, self.data.corpus)
        self.folder.save_checkpoint(Checkpoint(info, self.data.tokenizer, self.trainer.state()))

    def _save_model(
        self, network: Network, loss: float, figures: dict[str, Any], seconds: float
    ) -> None:
        corpus, tokens = self.data.corpus, self.validation.predicted
        share = len(self.validation.ids) / len(self.data.validation.ids)
        # A token that is not predicted is a line end: one character.
        chars = corpus.valid_chars * share - (len(self.validation.ids) - tokens)
        card = Card(
            corpus=corpus.name,
            corpus_sha256=corpus.sha256,
            lines=self.options.lines,
            unit=self.options.unit,
            train_tokens=len(self.data.training.ids),
            valid_tokens=tokens,
            valid_nats=loss,
            valid_carried=figures.get("valid_carried"),
            valid_lines=figures.get("valid_lines"),
            valid_bits_per_char=loss * tokens / max(chars, 1) / math.log(2),
            valid_is_held_out=corpus.held_out,
            trained=self.recipe.described(),
            seconds=round(seconds, 1),
            charlm_version=__version__,
            valid_both_tokens=figures.get("valid_both_tokens"),
            longest_line=corpus.longest_line,
        )
        model, tokenizer = self.recipe.model, self.data.tokenizer
        self.folder.save_model(
            ModelFile(model, network.weights(), tokenizer, card, self.recipe.task)
        )
