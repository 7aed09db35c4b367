"""From what was asked to a run that can train: a locked folder whose plan is decided."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from charlm.corpus import word_vectors
from charlm.corpus.examples import TEXT, Examples
from charlm.corpus.reading import Corpus
from charlm.corpus.stats import CorpusStats
from charlm.corpus.word_vectors import WordVectors
from charlm.errors import ModelError, OptionError
from charlm.model.config import ModelConfig
from charlm.model.devices import choose_device
from charlm.tasks import load_task
from charlm.tasks.base import VECTORS, Rows, Sizes, Task
from charlm.tokenizer import Tokenizer, Vocabularies
from charlm.tokenizer.letters import Letters
from charlm.training import dataset
from charlm.training.advice import advice
from charlm.training.dataset import Dataset
from charlm.training.distributed import Ranks
from charlm.training.folder import Folder, attempts, check_target, runs_of
from charlm.training.loop import LoopState
from charlm.training.machine import check_processes, choose_precision
from charlm.training.options import RunOptions, TrainOptions
from charlm.training.plan import PLAN, Plan
from charlm.training.recipe import (
    PROBE_HIDDEN,
    PROBE_VOCABULARY,
    Machine,
    Recipe,
    choose,
    hidden_sizes,
    probe_options,
)
from charlm.training.reporter import Reporter
from charlm.training.resume import (
    check_corpus,
    check_unchanged,
    command_to_resume,
    earlier_run,
    is_unfinished,
    restarted_options,
    with_budget,
)


@dataclass(frozen=True)
class Prepared:
    """What every process needs to train. Rank 0 makes it, and every rank gets it.

    folder:        of the run, locked, with its plan
    vocabularies:  of the fields; empty for a run that is finished
    initial:       weights to start from, by the names of parameters
    state:         of the loop, if the run goes on; None if it starts
    """

    folder: Folder
    vocabularies: Vocabularies
    initial: Mapping[str, Rows] = field(default_factory=dict)
    state: LoopState | None = None

    @property
    def plan(self) -> Plan:
        """What the run does."""
        assert self.folder.plan
        return self.folder.plan

    @property
    def recipe(self) -> Recipe:
        """The recipe of the plan."""
        assert self.plan.recipe
        return self.plan.recipe


def prepare(
    corpus: Corpus,
    overrides: Mapping[str, Any],
    place: RunOptions,
    ranks: Ranks,
    reporter: Reporter,
) -> Prepared:
    """A new run, or an earlier one that goes on. Rank 0 alone calls this.

    overrides:  the options of `TrainOptions` that the user has set

    Raises InputError, OptionError or ModelError, and leaves nothing behind then.
    """
    folder = earlier_run(corpus, overrides, place, ranks)
    if not folder:
        return _started(corpus, TrainOptions(**overrides), place, ranks, reporter)
    try:
        assert folder.plan
        if folder.plan.finished and not place.resume:  # while another process has failed
            return Prepared(folder, {})
        check_corpus(corpus, folder, folder.plan)
        check_unchanged(overrides, folder.plan.options)
        if folder.has_checkpoint:
            return _continued(folder, folder.plan, overrides, ranks, reporter)
        reporter.note(
            f"note: {folder.path} was stopped before its first checkpoint, and starts again"
        )
        options = restarted_options(folder.plan.options, overrides)
        return _started(corpus, options, place, ranks, reporter, folder)
    except BaseException:
        folder.release()
        raise


def _continued(
    folder: Folder, plan: Plan, overrides: Mapping[str, Any], ranks: Ranks, reporter: Reporter
) -> Prepared:
    """A run from its checkpoint on."""
    checkpoint = folder.load_checkpoint()
    if not plan.recipe:
        raise ModelError(f"{folder.path / PLAN}: the recipe is missing; train anew")
    recipe = with_budget(plan, plan.recipe, overrides)
    if recipe.minutes and not overrides.get("threads"):
        options = dataclasses.replace(plan.options, precision=recipe.precision)
        device = choose_device(recipe.device)
        machine = _measured(load_task(options.task), options, device, ranks, reporter)
        recipe = dataclasses.replace(recipe, threads=machine.threads)
        recipe = _fastest(recipe, load_task(options.task), options, ranks)
    check_processes(recipe, choose_device(recipe.device), ranks)
    folder.remove_unfinished_files()
    folder.drop_metrics_after(checkpoint.state.step)
    folder.write_plan(dataclasses.replace(plan, recipe=recipe, finished=False))
    reporter.note(f"note: resuming after step {checkpoint.state.step:,}")
    return Prepared(folder, checkpoint.vocabularies, state=checkpoint.state)


def _started(
    corpus: Corpus,
    options: TrainOptions,
    place: RunOptions,
    ranks: Ranks,
    reporter: Reporter,
    folder: Folder | None = None,
) -> Prepared:
    """A run from the start. folder: of a run that has no checkpoint yet; None for a new one"""
    if folder:
        folder.check_left_behind()
    else:
        check_target(place.folder, place.force)
    task, device = load_task(options.task), choose_device(options.device)
    options = task.completed(options)
    vectors = word_vectors.opened(options.embeddings) if options.embeddings else None
    width = _width(options, vectors)
    _check_shape(task, options, width)
    corpus = dataset.with_options(corpus, options)
    stats = corpus.stats()
    if task.fields == (TEXT,):
        for note in advice(next(corpus.blocks()), stats, options):
            reporter.note(note)
    parts = dataset.split(corpus, stats, options, task)
    if not parts.held_out:
        reporter.warn(
            "the corpus is too small to hold a part out: validation is on the training text"
        )
    _mention_unfinished(corpus, stats, place.folder, reporter)
    machine = _measured(task, options, device, ranks, reporter)
    texts = dataset.blocks_of(parts.training, task.fields)
    vocabularies = {name: task.vocabulary(name, text, options) for name, text in texts.items()}
    plan = Plan(options, stats.sha256, time.time(), launch=ranks.launch)
    if folder:
        assert folder.plan
        folder.clear()
        folder.write_plan(dataclasses.replace(plan, replaces=folder.plan.replaces))
    else:
        folder = Folder.make(corpus.name, place.folder, place.force, plan)
    try:
        data = dataset.encode(corpus.name, stats, parts, task.fields, vocabularies, folder.path)
        for note in task.notes(data.training, data.validation, options):
            reporter.note(note)
        start = _start_vectors(vectors, data.training, reporter)
        initial = {VECTORS: Rows(start.ids, start.vectors)} if start else {}
        recipe = _fastest(_recipe(task, options, data, width, machine), task, options, ranks)
        check_processes(recipe, device, ranks)
        assert folder.plan
        folder.write_plan(dataclasses.replace(folder.plan, corpus=data.info, recipe=recipe))
        initial |= task.initial(recipe.model, vocabularies, options)
        return Prepared(folder, vocabularies, initial)
    except BaseException:
        folder.remove()
        raise


def _check_shape(task: Task[Any, Any], options: TrainOptions, width: int | None) -> None:
    """Raise OptionError for options of the network that do not go together.

    width:  features of the word vectors to start from
    """
    sizes = Sizes(dict.fromkeys(task.fields, 4), vectors=width)
    shape = task.shape(options, sizes, options.hidden or 1)
    if options.forget_bias != 1.0 and "f" not in shape.recurrence.gates:
        raise OptionError(
            f"`forget_bias={options.forget_bias:g}`: there is no forget gate; leave the option "
            "out, or use `cell=lstm`"
        )


def _recipe(
    task: Task[Any, Any], options: TrainOptions, data: Dataset, width: int | None, machine: Machine
) -> Recipe:
    """The recipe for the encoded corpus. width: features of the word vectors to start from"""
    training, alphabet = data.training, 0
    if options.characters and isinstance(text := training.vocabularies[TEXT], Tokenizer):
        alphabet = Letters(text).size
    sizes = Sizes({n: v.size for n, v in training.vocabularies.items()}, alphabet, width)
    defaults = task.defaults(options, training.tokens)
    candidates = task.candidates(options, training, sizes, hidden_sizes(options, defaults))
    return choose(
        options,
        candidates,
        defaults,
        train_tokens=training.tokens,
        chars=data.info.chars,
        machine=machine,
    )


def _mention_unfinished(
    corpus: Corpus, stats: CorpusStats, out: Path | None, reporter: Reporter
) -> None:
    """Say how to continue the unfinished runs of this corpus."""
    for folder in chain(runs_of(corpus.name), attempts(out) if out else ()):
        is_own = folder.plan and folder.plan.sha256 == stats.sha256
        if not (is_own and folder.has_checkpoint and is_unfinished(folder)):
            continue
        too = "; `force` will replace it, too" if out and folder.target == out else ""
        reporter.note(
            f"note: {folder.path} is an unfinished run of this corpus{too}. Continue it with: "
            f"{command_to_resume(corpus, folder)}"
        )


def _measured(
    task: Task[Any, Any],
    options: TrainOptions,
    device: torch.device,
    ranks: Ranks,
    reporter: Reporter,
) -> Machine:
    """Precision, threads and speed of training on this machine, by a short measurement."""
    sizes = Sizes(dict.fromkeys(task.fields, PROBE_VOCABULARY))
    probe = task.shape(probe_options(options), sizes, PROBE_HIDDEN)
    # A budget in steps or epochs gives the same model each time; other threads might not. While
    # something else keeps the machine busy, threads wait for each other at every step.
    fewer_threads = not (options.threads or options.steps or options.epochs)
    every = torch.get_num_threads()
    counts = {1, every} if fewer_threads and device.type == "cpu" else {every}
    precision, threads, rate, thread_rate = choose_precision(
        options.precision, device, task, probe, counts
    )
    if threads < every:
        reporter.note("note: this machine is busy; using one thread, which measured faster")
    size = ranks.size
    return Machine(rate * size, str(device), precision, threads * ranks.here, thread_rate * size)


def _fastest(recipe: Recipe, task: Task[Any, Any], options: TrainOptions, ranks: Ranks) -> Recipe:
    """The recipe with the precision and the threads that suit its own network best.

    The products of a small network are too small for bf16 and for several threads. Several
    networks have a thread each.
    """
    model, device = recipe.model, torch.device(recipe.device)
    if not (isinstance(model, ModelConfig) and recipe.minutes and device.type == "cpu"):
        return recipe
    is_small = model.multiplied_weights() < model.networks * PROBE_HIDDEN**2 * 4
    if options.task != "lm" or model.characters or ranks.size > 1 or not is_small:
        return recipe
    several = model.networks > 1
    counts = {1} if several else {recipe.threads, *([] if options.threads else [1])}
    precision, threads, *_ = choose_precision(
        options.precision, device, task, model.one, counts, (recipe.bptt, recipe.batch)
    )
    threads = recipe.threads if several else threads
    return dataclasses.replace(recipe, precision=precision, threads=threads)


def _width(options: TrainOptions, vectors: Corpus | None) -> int | None:
    """Features of the word vectors to start from, if there are any."""
    if vectors is None:
        return None
    width = word_vectors.width(vectors)
    if options.embedding not in (None, width):
        raise OptionError(
            f"`embedding={options.embedding}`: the vectors of {options.embeddings} have {width} "
            "features; leave the option out"
        )
    return width


def _start_vectors(file: Corpus | None, data: Examples, reporter: Reporter) -> WordVectors | None:
    if file is None:
        return None
    tokenizer = data.vocabularies[TEXT]
    vectors = word_vectors.read(file, tokenizer)
    counts = data.fields[TEXT].counts(tokenizer.size)
    share = counts[vectors.ids].sum() / counts.sum()
    reporter.note(
        f"embeddings: {len(vectors.ids):,} of {tokenizer.size:,} tokens have a vector in "
        f"{file.paths[0]}: {share:.1%} of the text"
    )
    return vectors
