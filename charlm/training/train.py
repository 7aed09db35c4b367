"""From a corpus to a run folder: a new run, a resumed one, or one that replaces another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from charlm import runs, word_vectors
from charlm.corpus.reading import Corpus
from charlm.errors import InputError, ModelError, OptionError, Stopped
from charlm.model.backend import cores
from charlm.model.devices import choose_device
from charlm.tasks import load_task
from charlm.tokenizer import train_tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training import data
from charlm.training.checkpoint import RunInfo
from charlm.training.machine import check_memory, choose_precision, cpu_for_training
from charlm.training.options import BUDGETS, TrainOptions
from charlm.training.recipe import Recipe, check_network, choose, probe
from charlm.training.reporter import Reporter
from charlm.training.run import Run
from charlm.training.run_folder import RunFolder, Start, attempts, check_target, runs_of
from charlm.training.stopping import StopSignals

# Options that may differ when a run is resumed: the budget, and what does not change the result.
MAY_CHANGE = (*BUDGETS, "threads")


def train_run(
    paths: Sequence[str | Path],
    user_options: Mapping[str, Any],
    *,
    out: Path | None,
    resume: bool,
    force: bool,
    started: float,
    reporter: Reporter,
) -> Path:
    """Train as `charlm.train` describes, which explains the arguments. Returns the run folder.

    user_options:  the options of `TrainOptions` that the user gave
    """
    options = TrainOptions(**user_options)
    if force and (resume or out is None):
        raise OptionError("`force`: goes with `out`, and without `resume`")
    corpus = Corpus(paths)
    with StopSignals() as signals, cpu_for_training(options.threads):
        if resume:
            run = _resumed(corpus, user_options, out, reporter)
        else:
            run = _new(corpus, options, out, force, reporter)
        place = f"{run.folder.path}"
        if run.folder.target:
            place += f", to replace {run.folder.target}"
        reporter.note(f"{place}: {run.recipe.described()}")
        try:
            stopped_by = run.train(started, reporter, signals)
            if not stopped_by:
                return run.folder.complete()
        finally:
            reporter.close()
            run.folder.release()
        raise Stopped(
            f"stopped; what was learnt is in {run.folder.path}, and to continue: "
            f"{_command_to_resume(corpus, run.folder)}",
            stopped_by,
        )


def _new(
    corpus: Corpus,
    options: TrainOptions,
    out: Path | None,
    force: bool,
    reporter: Reporter,
    target: Path | None = None,
) -> Run:
    """A run from the start; see `RunFolder.make` for out, force and target."""
    check_target(out, force)
    device = choose_device(options.device)
    vectors_file = word_vectors.opened(options.embeddings) if options.embeddings else None
    width = _width(options, vectors_file)
    check_network(options, width)
    text = data.read_text(corpus, options, reporter.note, reporter.warn)
    _mention_unfinished(text, out, reporter)
    precision, rate = _choose_precision(options, device, reporter)
    tokenizer = train_tokenizer(
        options.level, text.parts.training, options.vocab_size, options.split, options.normalize
    )
    start = Start(asdict(options), text.stats.sha256)
    folder = RunFolder.make(text.corpus.name, out, force, start, target)
    try:
        encoded = data.encode(text, tokenizer, folder.path)
        vectors = _start_vectors(vectors_file, encoded, reporter)
        recipe = choose(
            options,
            counts=encoded.training.counts(tokenizer.size),
            alphabet=Letters(tokenizer).size if options.characters else 0,
            width=width,
            chars=text.stats.chars,
            rate=rate,
            device=str(device),
            precision=precision,
            threads=torch.get_num_threads(),
        )
        check_memory(recipe, device)
        return Run(folder, options, recipe, encoded, vectors)
    except BaseException:
        folder.remove()
        raise


def _choose_precision(
    options: TrainOptions, device: torch.device, reporter: Reporter
) -> tuple[str, float]:
    """The precision and its speed in FLOP/s; one thread is set where that is faster."""
    # A budget in steps or epochs gives the same model each time; other threads might not.
    fewer_threads = not (options.threads or options.steps or options.epochs)
    precision, threads, rate = choose_precision(
        options.precision, device, load_task(options.task), probe(options), fewer_threads
    )
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
        reporter.note("note: something keeps this machine busy: one thread is faster than more")
    return precision, rate


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


def _start_vectors(
    file: Corpus | None, encoded: data.Data, reporter: Reporter
) -> word_vectors.WordVectors | None:
    if file is None:
        return None
    size = encoded.tokenizer.size
    vectors = word_vectors.read(file, encoded.tokenizer)
    counts = encoded.training.counts(size)
    share = counts[vectors.ids].sum() / counts.sum()
    reporter.note(
        f"embeddings: {len(vectors.ids):,} of {size:,} tokens have a vector in "
        f"{file.paths[0]}: {share:.1%} of the text"
    )
    return vectors


def _mention_unfinished(text: data.Text, out: Path | None, reporter: Reporter) -> None:
    """Say how to continue the unfinished runs of this corpus."""
    for folder in chain(runs_of(text.corpus.name), attempts(out) if out else ()):
        info = folder.info()
        if info and not info.finished and info.corpus.sha256 == text.stats.sha256:
            too = ", which this one replaces, too" if out and folder.target == out else ""
            reporter.note(
                f"note: {folder.path} is an unfinished run of this corpus{too}; to continue it: "
                f"{_command_to_resume(text.corpus, folder)}"
            )


def _command_to_resume(corpus: Corpus, folder: RunFolder) -> str:
    paths = map(str, corpus.paths)
    return shlex.join(["charlm", "train", *paths, "--out", str(folder.path), "--resume"])


def _resumed(
    corpus: Corpus, user_options: Mapping[str, Any], out: Path | None, reporter: Reporter
) -> Run:
    if out:
        runs.restore(out)
    folder = RunFolder(out) if out else _find_run(corpus)
    if folder.start and not folder.has_checkpoint:
        return _restarted(corpus, folder, folder.start, user_options, reporter)
    checkpoint = folder.load_checkpoint()
    info = checkpoint.run
    _check_corpus(corpus, folder, info.options, info.corpus.sha256)
    _check_unchanged(user_options, info.options)
    recipe = _with_budget(info, user_options)
    device = choose_device(recipe.device)
    if not user_options.get("threads"):
        torch.set_num_threads(min(recipe.threads or torch.get_num_threads(), cores()))
    check_memory(recipe, device)
    folder.lock()
    reporter.note(f"note: it goes on after step {checkpoint.trainer.step:,}")
    return Run.resumed(folder, checkpoint, recipe)


def _restarted(
    corpus: Corpus,
    folder: RunFolder,
    start: Start,
    user_options: Mapping[str, Any],
    reporter: Reporter,
) -> Run:
    """The run of a folder that has no checkpoint yet, from the start."""
    options = TrainOptions(**start.options)
    _check_corpus(corpus, folder, options, start.sha256)
    _check_unchanged(user_options, options)
    if any(user_options.get(name) for name in BUDGETS):
        options = replace(options, minutes=None, epochs=None, steps=None)
    reporter.note(f"note: {folder.path} was stopped before its first checkpoint: it starts anew")
    options = replace(options, **user_options)
    return _new(corpus, options, folder.path, False, reporter, folder.target)


def _find_run(corpus: Corpus) -> RunFolder:
    """The newest run of this corpus, an unfinished one first."""
    finished: list[RunFolder] = []
    for folder in runs_of(corpus.name):
        info = folder.info()
        if info and _is_of(corpus, info.options, info.corpus.sha256):
            if not info.finished:
                return folder
            finished.append(folder)
        elif folder.start and not folder.has_checkpoint:
            if _is_of(corpus, TrainOptions(**folder.start.options), folder.start.sha256):
                return folder
    if finished:
        return finished[0]
    raise ModelError(
        f"no run of {corpus.name} to resume in {runs.RUNS.resolve()}; name it with `out`, or train "
        "without `resume`"
    )


def _is_of(corpus: Corpus, options: TrainOptions, sha256: str) -> bool:
    """Whether the text has this hash, read as the options say."""
    return data.as_options_say(corpus, options).stats().sha256 == sha256


def _check_corpus(corpus: Corpus, folder: RunFolder, options: TrainOptions, sha256: str) -> None:
    if not _is_of(corpus, options, sha256):
        raise InputError(
            f"{folder.path} was trained on another text than {', '.join(map(str, corpus.paths))}; "
            "name that one, or train anew without `resume`"
        )


def _check_unchanged(user_options: Mapping[str, Any], earlier: TrainOptions) -> None:
    """Raise OptionError for an option that differs from the run's own."""
    for name, value in user_options.items():
        before = getattr(earlier, name)
        if name not in MAY_CHANGE and value != before:
            with_it = "without it" if before in (None, False) else f"with {before}"
            raise OptionError(
                f"`{name}={value}`: the run was started {with_it}; leave the option out, or "
                "train anew without `resume`"
            )


def _with_budget(info: RunInfo, user_options: Mapping[str, Any]) -> Recipe:
    """The run's recipe, with a larger budget if one is given."""
    recipe = info.recipe
    for name in BUDGETS:
        budget, before = user_options.get(name), getattr(info.recipe, name)
        if budget is None:
            continue
        if before is None or budget < before:
            raise OptionError(
                f"`{name}={budget:g}`: the run's budget is {info.recipe.budget}; give as much or "
                "more of the same"
            )
        recipe = replace(recipe, **{name: budget})
    if info.finished and recipe == info.recipe:
        raise OptionError(
            f"the run is finished; to train on, give it more than {info.recipe.budget}"
        )
    return recipe
