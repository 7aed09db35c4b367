"""Training: from a corpus to a run folder. `train` is the whole way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from charlm import __version__
from charlm.corpus.batches import BatchShape
from charlm.corpus.reading import Corpus
from charlm.errors import Stopped
from charlm.model.file import MODEL_FILE, ModelFile
from charlm.model.network import Trainable, load_rows
from charlm.tasks import load_task
from charlm.tasks.base import VECTORS, Companions, Validation
from charlm.training import dataset
from charlm.training.clock import Clock
from charlm.training.dataset import Dataset
from charlm.training.distributed import Ranks
from charlm.training.forgetting import forgotten
from charlm.training.loop import EVALUATION_SHARE, Loop
from charlm.training.machine import cpu_for_training, use_threads
from charlm.training.options import RunOptions, TrainOptions
from charlm.training.prepare import Prepared, prepare
from charlm.training.recipe import Recipe
from charlm.training.reporter import Reporter, Silent
from charlm.training.resume import command_to_resume
from charlm.training.saver import Callback, Saver
from charlm.training.stopping import StopSignals
from charlm.training.tensorboard import scalar_writer

FEWEST_VALIDATED = 100_000  # tokens, however short the training is
FEW_STEPS = 200  # no network learns much with fewer


def train(
    paths: Sequence[str | Path],
    overrides: Mapping[str, Any],
    place: RunOptions,
    started: float,
    reporter: Reporter,
    callbacks: Sequence[Callback] = (),
) -> tuple[Path, ModelFile]:
    """Train as `charlm.train` describes. Each of several processes calls this.

    overrides:  the options of `TrainOptions` that the user has set
    started:    `time.monotonic()` from which a budget in minutes counts
    callbacks:  see `charlm.train`

    Returns the path of the model file, and what it holds.
    """
    ranks = Ranks()
    reporter = reporter if ranks.is_first else Silent()
    with StopSignals() as signals, ranks.joined():
        ranks.check_same(lambda: _facts(paths, overrides, place))
        corpus = Corpus(paths)
        with cpu_for_training(overrides.get("threads") or ranks.threads):
            run = ranks.first(lambda: prepare(corpus, overrides, place, ranks, reporter))
            try:
                if not run.plan.finished:
                    if not overrides.get("threads"):
                        use_threads(run.recipe.threads, ranks.here)
                    with _with_writer(callbacks, place, run, ranks) as called:
                        _train(run, corpus, started, signals, ranks, reporter, called)
                path = ranks.first(run.folder.complete) / MODEL_FILE
            finally:
                if ranks.is_first:
                    run.folder.release()
            return path, ranks.first(lambda: ModelFile.load(path))


def _train(
    run: Prepared,
    corpus: Corpus,
    started: float,
    signals: StopSignals,
    ranks: Ranks,
    reporter: Reporter,
    callbacks: Sequence[Callback],
) -> None:
    """Train until the budget is used, or a callback says so. Raises Stopped after a signal."""
    options, recipe = run.plan.options, run.recipe
    task = load_task(options.task)
    try:
        with dataset.shared(run.folder.path, corpus, run.plan, run.vocabularies, ranks) as data:
            reporter.note(_described(run, ranks))
            validation = task.validation(data.validation, data.info, options)
            validation = validation.first(
                max(int(3 * EVALUATION_SHARE * recipe.tokens), FEWEST_VALIDATED)
            )
            companions = _companions(run, corpus, data) if ranks.is_first else {}
            loop = _loop(run, data, validation, ranks)
            saver = Saver(task, run.folder, data, loop, validation, companions, ranks, callbacks)
            clock = _clock(recipe, loop, saver, started, signals, ranks)
            measured = loop.validation.predicted, validation.predicted, recipe.precision
            reporter.note_what_is_measured(*measured, bool(companions), task.model.predicted)
            signals.defer()
            for progress in loop.run(clock):
                clock.measure_reserve(saver.seconds_to_finish, progress.fraction)
                reporter.progress(progress, task.model.predicted)
                is_enough = saver.add_metrics(progress)
                if clock.stopped_by:
                    saver.stop(clock)
                    raise _stopped(run, corpus, clock.stopped_by)
                if is_enough:
                    break
                saver.save_if_due(clock)
            saver.finish(clock)
            _warn_about_result(loop, saver, recipe, validation, reporter)
            if ranks.is_first and (note := forgotten(run.folder.path / MODEL_FILE, options)):
                reporter.note(note)
    except BaseException:
        if ranks.is_first and not run.folder.has_checkpoint:
            run.folder.remove()
        raise
    finally:
        reporter.close()


@contextmanager
def _with_writer(
    callbacks: Sequence[Callback], place: RunOptions, run: Prepared, ranks: Ranks
) -> Iterator[Sequence[Callback]]:
    """The callbacks, and the writer for TensorBoard if it is asked for."""
    if not (place.tensorboard and ranks.is_first):
        yield callbacks
        return
    step = run.state.step if run.state else 0
    with scalar_writer(run.folder.path, step) as write:
        yield [*callbacks, write]


def _facts(
    paths: Sequence[str | Path], overrides: Mapping[str, Any], place: RunOptions
) -> dict[str, Any]:
    """What must be the same in all processes. Raises OptionError and InputError."""
    if not place.resume:  # otherwise the task is that of the earlier run
        TrainOptions(**overrides)
    Corpus(paths)
    versions = {"charlm": __version__, "torch": str(torch.__version__)}
    return {"version": versions, "options": dict(overrides)}


def _described(run: Prepared, ranks: Ranks) -> str:
    """The run in one line."""
    place, replaced = f"{run.folder.path}", run.folder.target
    if replaced:
        place += f", to replace {replaced}"
    options = run.plan.options
    recipe = run.recipe.described(load_task(options.task), options)
    several = f", {ranks.size} processes" if ranks.size > 1 else ""
    return f"{place}: {recipe}{several}"


def _companions(run: Prepared, corpus: Corpus, data: Dataset) -> Companions:
    """What the model has beside the network, counted in the training part."""
    options = run.plan.options
    task = load_task(options.task)
    text = dataset.training_text(corpus, data.info, options, task)
    return task.companions(data.training, data.info, options, text)


def _loop(run: Prepared, data: Dataset, validation: Validation[Any], ranks: Ranks) -> Loop:
    """The loop of this process, in the state of the run."""
    recipe, options = run.recipe, run.plan.options
    task = load_task(options.task)
    network: Trainable = task.network(
        recipe.model,
        run.vocabularies,
        recipe.dropout,
        torch.Generator().manual_seed(options.seed),
        forget_bias=options.forget_bias,
    )
    frozen = {}
    names = {id(p): name for name, p in network.named_parameters()}
    vectors = [names[id(member.get_parameter(member.vectors))] for member in network.members]
    for name, (ids, values) in run.initial.items():
        for full_name in vectors if name == VECTORS else [name]:
            parameter = network.get_parameter(full_name)
            load_rows(parameter, ids, values)
            whole = values.shape[1:] == parameter.shape[1:]
            if whole and (options.freeze_embeddings or options.freeze):
                frozen[full_name] = torch.from_numpy(ids)
    independent = task.independent_lines(options)
    shape = BatchShape(recipe.batch, recipe.bptt, independent, options.seed, ranks.part)
    batches = task.batches(data.training, shape)
    network.move_to(torch.device(recipe.device))
    # Different machines may round the initial weights differently.
    ranks.copy_from_first(network.parameters())
    loop = Loop(task, recipe, network, batches, validation, ranks, frozen)
    if run.state:
        loop.restore(run.state)
    return loop


def _clock(
    recipe: Recipe, loop: Loop, saver: Saver, started: float, signals: StopSignals, ranks: Ranks
) -> Clock:
    """The clock of this process. It is set to the time of rank 0."""
    clock = Clock(
        recipe,
        loop.batches.steps_per_epoch,
        started=started,
        signals=signals,
        earlier=loop.seconds,
        is_first=ranks.is_first,
    )
    clock.measure_reserve(saver.seconds_to_finish, 0.0)
    clock.update(ranks.sum(clock.to_share()))
    clock.start_up = loop.start_up if loop.step else clock.seconds
    return clock


def _stopped(run: Prepared, corpus: Corpus, signal: int) -> Stopped:
    return Stopped(
        f"stopped; the model so far is in {run.folder.path}. Continue with: "
        f"{command_to_resume(corpus, run.folder)}",
        signal,
    )


def _warn_about_result(
    loop: Loop, saver: Saver, recipe: Recipe, validation: Validation[Any], reporter: Reporter
) -> None:
    """Warn about a run that was too short, or a model that learnt nothing."""
    if recipe.minutes and loop.step < FEW_STEPS:
        reporter.note(
            f"note: only {loop.step} steps fitted into {recipe.budget}: give more "
            "`minutes`, or `threads=1` if something else keeps this machine busy"
        )
    if not loop.best_loss < validation.chance:
        predicted = loop.task.model.predicted
        message = (
            f"predicts no better than chance ({loop.best_loss:.4g} nats/{predicted}; chance is "
            f"{validation.chance:.4g}): train it for longer, or with a lower `lr` than "
            f"{recipe.lr:g}"
        )
        if saver.model_loss < validation.chance:
            reporter.note(
                f"note: the network alone {message}; the whole model has {saver.model_loss:.4g}"
            )
        else:
            reporter.warn(f"the {'network alone' if saver.companions else 'model'} {message}")
