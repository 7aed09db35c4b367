"""One run: a network, its trainer and its folder, from the first step to the model file."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from charlm import __version__
from charlm.corpus.batches import BatchShape
from charlm.corpus.word_vectors import WordVectors
from charlm.model.file import Card, ModelFile
from charlm.model.lexicon import Lexicon
from charlm.model.mixture import Mixture
from charlm.model.network import Network
from charlm.model.ngram_counts import count, sampled
from charlm.tasks import load_task
from charlm.tasks.base import Validation
from charlm.tokenizer import Tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training.checkpoint import Checkpoint, RunInfo
from charlm.training.clock import Clock
from charlm.training.data import CorpusInfo, Data
from charlm.training.distributed import Ranks
from charlm.training.options import TrainOptions
from charlm.training.recipe import Recipe
from charlm.training.reporter import Reporter
from charlm.training.run_folder import RunFolder
from charlm.training.stopping import StopSignals
from charlm.training.trainer import EVALUATION_SHARE, Trainer, TrainerState

# Checkpoints take a hundredth of the time. They are at least this far apart, and at most half a
# minute, as long as that is no more than a fiftieth of the time.
SECONDS_BETWEEN_CHECKPOINTS, MOST_SECONDS_BETWEEN = 2.0, 30.0
CHECKPOINTING, MOST_CHECKPOINTING = 0.01, 0.02
FEWEST_VALIDATED = 100_000  # tokens, however short the training is
SECONDS_TO_WRITE = 0.3
# Parts of a budget in minutes after which the time for finishing is measured. The median counts:
# something else may have kept the machine busy once.
RESERVE_MEASURED = (0.0, 0.5, 0.9)
FEW_STEPS = 200  # no network learns much with fewer


@dataclass(frozen=True)
class Plan:
    """What a run is to do. Rank 0 decides it, and every rank gets it.

    folder:             where it is written, by rank 0
    options:            as the user gave them
    recipe:             as it was chosen
    tokenizer, corpus:  of the text
    vectors:            word vectors to start from
    state:              of the trainer, if the run goes on; None if it starts
    """

    folder: RunFolder
    options: TrainOptions
    recipe: Recipe
    tokenizer: Tokenizer
    corpus: CorpusInfo
    vectors: WordVectors | None = None
    state: TrainerState | None = None


class Run:
    """One training run, in one of its processes.

    plan:   what rank 0 has decided
    data:   the encoded corpus
    ranks:  the processes of the run
    """

    def __init__(self, plan: Plan, data: Data, ranks: Ranks) -> None:
        self.plan, self.data, self.ranks = plan, data, ranks
        self.folder, self.recipe = plan.folder, plan.recipe
        recipe, vectors = plan.recipe, plan.vectors
        self.device = torch.device(recipe.device)
        self.spellings = None
        if recipe.model.characters:
            self.spellings = Letters(plan.tokenizer).of_vocabulary()
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
        shape = BatchShape(recipe.batch, recipe.bptt, recipe.lines, recipe.seed, ranks.part)
        batches = task.batches(data.training, plan.tokenizer, shape)
        frozen = None
        if vectors and plan.options.freeze_embeddings:
            frozen = torch.from_numpy(vectors.ids)
        self.mixture, self.lexicon = None, None
        if recipe.ngram and ranks.is_first:
            self.mixture = self._counted()
            self.lexicon = Lexicon.of(data.words, plan.tokenizer) if data.words else None
        network.move_to(self.device)
        # Different machines may round the initial weights differently.
        ranks.copy_from_first(network.parameters())
        self.trainer = Trainer(task, recipe, network, batches, self.validation, ranks, frozen)
        if plan.state:
            self.trainer.restore(plan.state)
        self._checkpoint_due = -math.inf  # the first step is followed by one
        self._saved_loss: float | None = None  # of the model that was written last
        self._reserves: list[float] = []  # seconds for finishing, as measured so far

    def train(self, started: float, reporter: Reporter, signals: StopSignals) -> int | None:
        """Train until the budget is used, and write the model.

        started:  `time.monotonic()` from which a budget in minutes counts

        Returns None; or the number of a signal that stopped training, after saving.
        """
        trainer = self.trainer
        clock = self._clock(started, signals)
        if self.ranks.is_first:
            self._note_what_is_measured(reporter)
        signals.defer()
        for progress in trainer.run(clock):
            self._measure_reserve(clock, progress.fraction)
            if self.ranks.is_first:
                reporter.progress(progress)
                if progress.valid_loss is not None:
                    self.folder.add_metrics(progress)
            if clock.stopped_by:
                self._save_unfinished(clock)
                if not trainer.best:
                    trainer.evaluate()
                self._finish(clock, trainer.validation, finished=False)
                return clock.stopped_by
            if clock.seconds >= self._checkpoint_due:
                self._save_unfinished(clock)
        self._finish(clock, self.validation, finished=True)
        if self.ranks.is_first:
            self._judge(reporter)
        return None

    def _note_what_is_measured(self, reporter: Reporter) -> None:
        measured, precision = len(self.trainer.validation.ids), self.recipe.precision
        if self.mixture or measured < len(self.validation.ids) or precision != "fp32":
            by_network, by_mixture = ", by the network alone", ", by the mixture"
            reporter.note(
                f"note: while it trains, valid is the loss of the first {measured:,} tokens of the "
                f"validation text in {precision}{by_network if self.mixture else ''}; the final "
                f"figure is of {len(self.validation.ids):,} tokens in fp32"
                f"{by_mixture if self.mixture else ''}"
            )

    def _clock(self, started: float, signals: StopSignals) -> Clock:
        """The clock of this process. It is set to the time of rank 0."""
        clock = Clock(
            self.recipe,
            self.trainer.batches.steps_per_epoch,
            started=started,
            signals=signals,
            earlier=self.trainer.seconds,
            is_first=self.ranks.is_first,
        )
        self._measure_reserve(clock, 0.0)
        clock.hear(self.ranks.sum(clock.message()))
        clock.start_up = self.trainer.start_up if self.trainer.step else clock.seconds
        return clock

    def _measure_reserve(self, clock: Clock, fraction: float) -> None:
        """Set the time of a budget in minutes that is kept for finishing, when that is due.

        fraction:  of the budget that is used
        """
        measured = len(self._reserves)
        if not self.recipe.minutes or measured == len(RESERVE_MEASURED):
            return
        if fraction >= RESERVE_MEASURED[measured]:
            self._reserves.append(self.ranks.first(self._seconds_to_finish))
            clock.reserve = statistics.median(self._reserves)

    def _save_unfinished(self, clock: Clock) -> None:
        """Write the checkpoint, and a model if there are better weights than before."""
        state = self.trainer.state()

        def save() -> float:
            before = time.monotonic()
            self._save_checkpoint(state, finished=False)
            if self.trainer.best and self.trainer.best_loss != self._saved_loss:
                self._save_model(
                    self._best(),
                    self.trainer.validation,
                    [self.trainer.best_loss],
                    {},
                    self.trainer.seconds,
                )
                self._saved_loss = self.trainer.best_loss
            return time.monotonic() - before

        seconds = self.ranks.first(save)
        between = min(seconds / CHECKPOINTING, MOST_SECONDS_BETWEEN)
        between = max(between, seconds / MOST_CHECKPOINTING, SECONDS_BETWEEN_CHECKPOINTS)
        self._checkpoint_due = clock.seconds + seconds + between

    def _finish(self, clock: Clock, validation: Validation, finished: bool) -> None:
        """Write everything. The model is fitted to and measured on `validation`, in float32."""
        best, state = self._best(), self.trainer.state()

        def fit() -> Mixture | None:
            if self.mixture and self.data.corpus.held_out:
                self.mixture = validation.fitted(best, self.mixture)
            return self.mixture

        mixture = self.ranks.first(fit)
        totals = self.ranks.sum(validation.totals(best, mixture, self.ranks.part))

        def save() -> None:
            losses = [total / max(validation.predicted, 1) for total in totals]
            figures = validation.figures(best, mixture)
            self._save_model(best, validation, losses, figures, clock.now())
            self._save_checkpoint(state, finished)

        self.ranks.first(save)

    def _counted(self) -> Mixture:
        """The n-gram model of the training text, to be combined with the network."""
        recipe, ids = self.recipe, self.data.training.ids
        assert recipe.ngram
        ngram = count(
            sampled(ids),
            recipe.model.vocab,
            recipe.ngram,
            independent_lines=recipe.lines,
            most=recipe.ngrams,
        )
        return Mixture(ngram)

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
        network = self.trainer.network.eval()
        seconds = self.validation.seconds(network, self.mixture)
        network.train()
        return SECONDS_TO_WRITE + seconds / self.ranks.size

    def _save_checkpoint(self, state: TrainerState, finished: bool) -> None:
        plan = self.plan
        info = RunInfo(finished, plan.options, plan.recipe, plan.corpus)
        self.folder.save_checkpoint(Checkpoint(info, plan.tokenizer, state))

    def _save_model(
        self,
        network: Network,
        validation: Validation,
        losses: Sequence[float],
        figures: dict[str, Any],
        seconds: float,
    ) -> None:
        """Write the model.

        losses:   nats per token on `validation`: of the model, and of its parts alone
        figures:  further ones for the card
        """
        loss, of_network, of_ngram = losses if len(losses) > 1 else (losses[0], None, None)
        corpus, tokens = self.plan.corpus, validation.predicted
        share = len(validation.ids) / len(self.data.validation.ids)
        # A token that is not predicted is a line end: one character.
        chars = corpus.valid_chars * share - (len(validation.ids) - tokens)
        card = Card(
            corpus=corpus.name,
            corpus_sha256=corpus.sha256,
            lines=self.plan.options.lines,
            unit=self.plan.options.unit,
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
            valid_network=of_network,
            valid_ngram=of_ngram,
        )
        recipe, tokenizer, weights = self.recipe, self.plan.tokenizer, network.weights()
        parts = recipe.task, self.mixture, self.lexicon
        self.folder.save_model(ModelFile(recipe.model, weights, tokenizer, card, *parts))
