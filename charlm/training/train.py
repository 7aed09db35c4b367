"""From a corpus to a run folder: a new run, a resumed one, or one that replaces another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from charlm import runs, word_vectors
from charlm.corpus.reading import Corpus
from charlm.errors import InputError, ModelError, OptionError, Stopped
from charlm.model.devices import choose_device
from charlm.tasks import load_task
from charlm.tokenizer import train_tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training import data
from charlm.training.checkpoint import RunInfo
from charlm.training.machine import choose_precision, cpu_for_training
from charlm.training.options import BUDGETS, TrainOptions
from charlm.training.recipe import Recipe, check_network, choose, probe
from charlm.training.reporter import Reporter
from charlm.training.run import Run
from charlm.training.run_folder import RunFolder, check_target, runs_of
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
    with StopSignals() as signals, cpu_for_training(options.threads):
        if resume:
            run = _resumed(paths, user_options, out)
        else:
            run = _new(paths, options, out, force, reporter)
        reporter.note(f"{run.folder.name}: {run.recipe.described()}")
        try:
            stopped_by = run.train(started, reporter, signals)
        finally:
            reporter.close()
        if stopped_by:
            raise Stopped(
                f"stopped; what was learnt is in {run.folder.path}, and to continue: "
                f"{_command_to_resume(paths, run.folder)}",
                stopped_by,
            )
    return run.folder.complete()


def _new(
    paths: Sequence[str | Path],
    options: TrainOptions,
    out: Path | None,
    force: bool,
    reporter: Reporter,
) -> Run:
    check_target(out, force)
    device, width = choose_device(options.device), _width(options)
    check_network(options, width)
    text = data.read_text(paths, options, reporter.note, reporter.warn)
    _mention_unfinished(text, reporter)
    precision, rate = _choose_precision(options, device, reporter)
    tokenizer = train_tokenizer(
        options.level, text.parts.training, options.vocab_size, options.split, options.normalize
    )
    folder = RunFolder.make(text.corpus.name, out, force)
    try:
        encoded = data.encode(text, tokenizer, folder.path)
        vectors = _start_vectors(options, encoded, reporter)
        recipe = choose(
            options,
            counts=encoded.training.counts(tokenizer.size),
            alphabet=Letters(tokenizer).size if options.characters else 0,
            width=width,
            chars=text.stats.chars,
            rate=rate,
            device=str(device),
            precision=precision,
        )
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


def _width(options: TrainOptions) -> int | None:
    """Features of the word vectors to start from, if there are any."""
    if options.embeddings is None:
        return None
    width = word_vectors.width(options.embeddings)
    if options.embedding not in (None, width):
        raise OptionError(
            f"`embedding={options.embedding}`: the vectors of {options.embeddings} have {width} "
            "features; leave the option out"
        )
    return width


def _start_vectors(
    options: TrainOptions, encoded: data.Data, reporter: Reporter
) -> word_vectors.WordVectors | None:
    if options.embeddings is None:
        return None
    size = encoded.tokenizer.size
    vectors = word_vectors.read(options.embeddings, encoded.tokenizer)
    counts = encoded.training.counts(size)
    share = counts[vectors.ids].sum() / counts.sum()
    reporter.note(
        f"embeddings: {len(vectors.ids):,} of {size:,} tokens have a vector in "
        f"{options.embeddings}: {share:.1%} of the text"
    )
    return vectors


def _mention_unfinished(text: data.Text, reporter: Reporter) -> None:
    for folder in runs_of(text.corpus.name):
        info = folder.info()
        if info and not info.finished and info.corpus.sha256 == text.stats.sha256:
            reporter.note(
                f"note: {folder.path} is an unfinished run of this corpus; to continue it: "
                f"{_command_to_resume(text.corpus.paths, folder)}"
            )


def _command_to_resume(paths: Sequence[str | Path], folder: RunFolder) -> str:
    return shlex.join(["charlm", "train", *map(str, paths), "--out", str(folder.path), "--resume"])


def _resumed(paths: Sequence[str | Path], user_options: Mapping[str, Any], out: Path | None) -> Run:
    folder = RunFolder(out) if out else _find_run(paths)
    checkpoint = folder.load_checkpoint()
    info = checkpoint.run
    if not _is_of(info, paths):
        raise InputError(
            f"{folder.path} was trained on another text than {', '.join(map(str, paths))}; "
            "name that one, or train anew without `resume`"
        )
    _check_unchanged(user_options, info.options)
    recipe = _with_budget(info, user_options)
    choose_device(recipe.device)
    return Run.resumed(folder, checkpoint, recipe)


def _find_run(paths: Sequence[str | Path]) -> RunFolder:
    """The newest run of this corpus, an unfinished one first."""
    name = Corpus(paths).name
    candidates = [(folder, info) for folder in runs_of(name) if (info := folder.info())]
    for folder, info in sorted(candidates, key=lambda pair: pair[1].finished):
        if _is_of(info, paths):
            return folder
    raise ModelError(
        f"no run of {name} to resume in {runs.RUNS.resolve()}; name it with `out`, or train "
        "without `resume`"
    )


def _is_of(info: RunInfo, paths: Sequence[str | Path]) -> bool:
    """Whether the run is of this text, read as the run's own options say."""
    return data.open_corpus(paths, info.options).stats().sha256 == info.corpus.sha256


def _check_unchanged(user_options: Mapping[str, Any], earlier: TrainOptions) -> None:
    """Raise OptionError for an option that differs from the run's own."""
    for name, value in user_options.items():
        before = getattr(earlier, name)
        if name not in MAY_CHANGE and value != before:
            raise OptionError(
                f"`{name}={value}`: the run was started with {before}; leave the option out, or "
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
