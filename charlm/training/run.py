"""A training run and its folder: metrics, checkpoint and model are written as it goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from charlm import __version__
from charlm.corpus.batches import Batches, LineBatches
from charlm.files import write_text
from charlm.model.file import MODEL_FILE, Card, ModelFile
from charlm.model.likelihood import STEPS_AT_ONCE, text_streams
from charlm.model.network import Network, as_arrays
from charlm.tokenizer import load_tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training.checkpoint import Checkpoint, below, under
from charlm.training.data import Data, Facts, reopen
from charlm.training.recipe import Recipe, TrainOptions
from charlm.training.reporter import Reporter
from charlm.training.stopping import StopSignals
from charlm.training.trainer import EVALUATION_SHARE, Clock, Progress, Trainer
from charlm.training.validation import Validation
from charlm.word_vectors import WordVectors

CHECKPOINT = Path("checkpoint") / "state.safetensors"
METRICS = "metrics.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 30.0
BOTH_WAYS = 20_000  # tokens that are measured with the state carried and line by line
FEWEST_VALIDATED = 100_000  # tokens, however short the training
SECONDS_TO_WRITE = 0.3
FEW_STEPS = 200  # with which no network learns much
PROBED_TOKENS = 16384  # of the validation text, to see how long all of it takes


class Run:
    """One training run.

    folder:   where everything is written
    options:  as they were asked for
    recipe:   as it was chosen
    data:     the encoded corpus
    vectors:  of words, to start from
    """

    def __init__(
        self,
        folder: Path,
        options: TrainOptions,
        recipe: Recipe,
        data: Data,
        vectors: WordVectors | None = None,
    ) -> None:
        self.folder, self.options, self.recipe, self.data = folder, options, recipe, data
        self.device = torch.device(recipe.device)
        generator = torch.Generator().manual_seed(recipe.seed)
        self.letters = None
        if recipe.model.characters:
            self.letters = Letters(data.tokenizer).of_vocabulary()
        self.network = Network(
            recipe.model, recipe.dropout, generator, spellings=self.letters,
            forget_bias=recipe.forget_bias,
        ).to(self.device)  # fmt: skip
        if vectors:
            ids = torch.from_numpy(vectors.ids).to(self.device)
            self.network.embedding.data[ids] = torch.from_numpy(vectors.vectors).to(self.device)
        if self.device.type != "cpu":
            self.network.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        most = max(int(3 * EVALUATION_SHARE * recipe.tokens), FEWEST_VALIDATED)
        self.validation = Validation(
            data.validation.ids, data.validation.bounds, recipe.lines, recipe.model.bidirectional
        ).first(most)
        self.trainer = Trainer(recipe, self.network, self._batches(), self.validation)
        if vectors and options.freeze_embeddings:
            self.trainer.frozen = torch.from_numpy(vectors.ids).to(self.device)
        self._written = -math.inf

    def _batches(self) -> Batches | LineBatches:
        recipe, data = self.recipe, self.data
        unknowns = data.tokenizer.level in ("char", "word")  # the others spell what is rare
        if recipe.model.bidirectional:
            return LineBatches(
                data.training, data.tokenizer.size, recipe.batch, recipe.bptt, seed=recipe.seed,
                unknowns=unknowns,
            )  # fmt: skip
        return Batches(
            data.training, data.tokenizer.size, recipe.batch, recipe.bptt,
            lines=recipe.lines, seed=recipe.seed, unknowns=unknowns,
        )  # fmt: skip

    @classmethod
    def resumed(cls, folder: Path, checkpoint: Checkpoint, recipe: Recipe) -> Run:
        """The run that this checkpoint was written by; the recipe's budget may be another."""
        values = checkpoint.values
        arrays = {n: t.numpy() for n, t in below("tokenizer", checkpoint.tensors).items()}
        tokenizer = load_tokenizer(values["tokenizer"], arrays)
        data = reopen(folder, tokenizer, Facts(**values["facts"]))
        run = cls(folder, TrainOptions(**values["options"]), recipe, data)
        run.trainer.restore(checkpoint)
        _forget_metrics_after(folder / METRICS, run.trainer.step)
        return run

    def train(self, started: float, reporter: Reporter, signals: StopSignals) -> int | None:
        """Train until the budget is used up, and write the model.

        Returns None, or the number of a signal that has come, once everything is saved.
        """
        trainer = self.trainer
        clock = Clock(self.recipe, trainer.batches.steps_per_epoch, started, trainer.seconds)
        clock.reserve = self._seconds_to_finish() if self.recipe.minutes else 0.0
        signals.deferred = True
        for progress in trainer.run(clock):
            reporter.progress(progress)
            if progress.valid_loss is not None:
                self._write_metrics(progress)
            if signals.received:
                self._save_unfinished()
                return signals.received
            if progress.valid_loss is not None and self._checkpoint_is_due():
                self._save_unfinished()
        self._finish(clock)
        if self.recipe.minutes and trainer.step < FEW_STEPS:
            reporter.note(
                f"note: only {trainer.step} steps fitted into {self.recipe.budget}: give more "
                "--minutes, or --threads 1 if something else keeps this machine busy"
            )
        if not trainer.best_loss < (chance := math.log(self.recipe.model.vocab)):
            reporter.warn(
                f"the model predicts no better than chance ({trainer.best_loss:.4g} nats/token; "
                f"chance is {chance:.4g}): train it for longer, or with a lower --lr than "
                f"{self.recipe.lr:g}"
            )
        return None

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() > self._written + SECONDS_BETWEEN_CHECKPOINTS

    def _save_unfinished(self) -> None:
        """The checkpoint, and a model of the best weights so far."""
        if not self.trainer.best:
            self.trainer.evaluate()
        self._checkpoint(finished=False)
        best = self._best()
        self._write_model(best, self.trainer.best_loss, None, None, self.trainer.seconds)
        self._written = time.monotonic()

    def _finish(self, clock: Clock) -> None:
        """Measure the best weights in float32 on all of `validation`, and write the model."""
        best = self._best()
        loss, carried, by_line = self.validation.loss(best), None, None
        if not self.validation.pseudo:
            first = self.validation.first(BOTH_WAYS)
            carried, by_line = first.loss_carried(best), first.loss_by_line(best)
        self._write_model(best, loss, carried, by_line, clock.seconds)
        self._checkpoint(finished=True)

    def _best(self) -> Network:
        """A network with the weights that validated best."""
        best = Network(self.recipe.model, spellings=self.letters).to(self.device)
        best.load_state_dict(self.trainer.best, strict=False)  # what is derived is made by eval
        best.eval()
        return best

    def _seconds_to_finish(self) -> float:
        """What `_finish` and the last evaluation will take, by one timed call of the network, or
        by lines of a part that a bidirectional one reads."""
        self.network.eval()
        part = self.validation.first(PROBED_TOKENS)
        if part.pseudo:
            took = _seconds(lambda: part.loss(self.network))
            return SECONDS_TO_WRITE + 1.2 * took * len(self.validation.ids) / len(part.ids)
        streams, length = text_streams(len(self.validation.ids))
        ids = np.ones((streams, STEPS_AT_ONCE), np.int64)

        def call() -> None:
            y, _ = self.network.read(ids, self.network.initial_state(streams))
            self.network.logprobs(y, ids)

        took = _seconds(call)
        calls = -(-length // STEPS_AT_ONCE)
        more = min(BOTH_WAYS, len(self.validation.ids)) / (streams * STEPS_AT_ONCE)
        return SECONDS_TO_WRITE + took * (1.1 * calls + 3 * more)

    def _write_metrics(self, progress: Progress) -> None:
        line = {
            "step": progress.step, "epoch": progress.epoch, "seconds": progress.seconds,
            "train_nats_per_token": progress.train_loss,
            "valid_nats_per_token": progress.valid_loss,
            "learning_rate": progress.learning_rate,
            "tokens_per_second": progress.tokens_per_second,
        }  # fmt: skip
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _checkpoint(self, finished: bool) -> None:
        state = self.trainer.checkpoint()
        settings, arrays = self.data.tokenizer.state()
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        values = {
            "finished": finished, "options": asdict(self.options), "tokenizer": settings,
            "facts": asdict(self.data.facts),
        }  # fmt: skip
        Checkpoint(
            {**state.tensors, **under("tokenizer", tensors)}, {**state.values, **values}
        ).save(self.folder / CHECKPOINT)

    def _write_model(
        self, best: Network, loss: float, carried: float | None, by_line: float | None,
        seconds: float,
    ) -> None:  # fmt: skip
        facts, tokens = self.data.facts, self.validation.predicted
        share = len(self.validation.ids) / len(self.data.validation.ids)
        unpredicted = len(self.validation.ids) - tokens  # the ends of lines, a character each
        chars = facts.valid_chars * share - unpredicted
        card = Card(
            corpus=facts.name, corpus_sha256=facts.sha256, lines=self.options.lines,
            unit=self.options.unit, train_tokens=len(self.data.training.ids),
            valid_tokens=tokens, valid_nats=loss, valid_carried=carried, valid_lines=by_line,
            valid_bits_per_char=loss * tokens / max(chars, 1) / math.log(2),
            valid_is_held_out=facts.held_out, trained=self.recipe.described(),
            seconds=round(seconds, 1), charlm_version=__version__,
        )  # fmt: skip
        weights = as_arrays(best.state_dict())
        model = ModelFile(self.recipe.model, weights, self.data.tokenizer, card)
        model.save(self.folder / MODEL_FILE)


def _seconds(call: Callable[[], object]) -> float:
    """How long it takes the second time; the first makes the kernels."""
    call()
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def _forget_metrics_after(path: Path, step: int) -> None:
    """Leave out what a run that was killed wrote after its checkpoint: it is done again."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            kept += [line] if json.loads(line)["step"] <= step else []
        except ValueError:  # cut off when it was written
            break
    write_text(path, "".join(f"{line}\n" for line in kept))
