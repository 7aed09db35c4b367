"""From a corpus to a run folder: new runs, resumed ones, and those that replace another."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from charlm import runs, word_vectors
from charlm.corpus.reading import Corpus, Survey
from charlm.errors import CharlmError, InputError, ModelError, OptionError, Stopped
from charlm.model.file import MODEL_FILE
from charlm.tokenizer import train_tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training import machine
from charlm.training.checkpoint import Checkpoint
from charlm.training.data import Data, encode, open_corpus, split
from charlm.training.recipe import Recipe, TrainOptions, choose, network, probe
from charlm.training.reporter import Reporter
from charlm.training.run import CHECKPOINT, Run
from charlm.training.stopping import StopSignals

BUDGETS = ("minutes", "epochs", "steps")
# What may differ when a run is resumed: the budget, and what does not change the result.
MAY_CHANGE = (*BUDGETS, "threads")


def train_run(
    paths: Sequence[str | Path],
    *,
    out: Path | None,
    resume: bool,
    force: bool,
    quiet: bool,
    started: float,
    options: dict[str, Any],
) -> Path:
    """Train as `charlm.train` says, where the arguments are explained; the run folder.

    options:  those of `TrainOptions` that are given
    """
    options = {n: str(v) if isinstance(v, Path) else v for n, v in options.items()}
    wanted = TrainOptions(**options)
    if force and (resume or out is None):
        raise OptionError("--force: goes with --out, and without --resume")
    reporter = Reporter(quiet)
    with StopSignals() as signals, machine.cpu_for_training(wanted.threads):
        if resume:
            text, run = _resumed(paths, options, out)
        else:
            _check_target(out, force)
            text = open_corpus(paths, wanted)
            survey = text.survey()
            _advise(text, survey, wanted, reporter)
            run = _new(text, survey, wanted, out, force, reporter)
        reporter.note(f"{out or run.folder}: {run.recipe.described()}")
        try:
            stopped_by = run.train(started, reporter, signals)
        finally:
            reporter.done()
        if stopped_by:
            raise Stopped(
                f"stopped; what was learnt is in {run.folder}, and to go on: "
                f"{_command_to_resume(text, run.folder)}",
                stopped_by,
            )
    return _settled(run.folder, out if force else None)


def _check_target(target: Path | None, force: bool) -> None:
    if target is None or not target.exists():
        return
    if not force:
        raise _exists(target)
    if not (target / MODEL_FILE).is_file() and not (target / CHECKPOINT).is_file():
        raise InputError(f"{target} is no run folder and is not replaced; name another --out")


def _exists(target: Path) -> InputError:
    return InputError(
        f"{target} exists; add --force to replace it, --resume to go on with it, or name "
        "another --out"
    )


def _make_folder(target: Path | None, name: str, force: bool) -> Path:
    """Where to write, a folder that nothing else writes into; to replace a run, one beside it."""
    if target is None:
        return runs.make_free_folder(runs.RUNS / name)
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        if not force:
            raise _exists(target) from None  # made by another training since it was looked for
        return runs.make_free_folder(target.with_name(f"{target.name}.new"))
    return target


def _settled(folder: Path, target: Path | None) -> Path:
    """Put a complete run in the place of the one that it replaces, and remember it."""
    if target is not None and folder != target:
        shutil.rmtree(target)
        folder.rename(target)
        folder = target
    runs.remember(folder)
    return folder


def _advise(corpus: Corpus, survey: Survey, options: TrainOptions, reporter: Reporter) -> None:
    """Notes on options that seem not to suit the text, and on older runs."""
    if survey.looks_hard_wrapped:
        reporter.note(
            "note: the lines look broken at a fixed width; --unit paragraph joins them up to a "
            "blank line"
        )
    if survey.has_hardly_any_lines and options.unit == "line":
        reporter.note(
            f"note: {survey.lines} line ends in {survey.chars:,} characters: the model learns "
            "little of how a text begins and ends; a line for each sentence or paragraph is best"
        )
    for folder in runs.runs_of(corpus.name):
        checkpoint = _checkpoint_in(folder)
        if checkpoint and not checkpoint.values["finished"] and _is_of(checkpoint, survey):
            reporter.note(
                f"note: {folder} is an unfinished run of this corpus; to go on with it: "
                f"{_command_to_resume(corpus, folder)}"
            )


def _command_to_resume(corpus: Corpus, folder: Path) -> str:
    paths = map(str, corpus.paths)
    return shlex.join(["charlm", "train", *paths, "--out", str(folder), "--resume"])


def _new(
    corpus: Corpus,
    survey: Survey,
    options: TrainOptions,
    out: Path | None,
    force: bool,
    reporter: Reporter,
) -> Run:
    device = machine.choose_device(options.device)
    width = _width(options)
    network(options, 4, options.hidden or 1, width=width)  # refused before the text is encoded
    # A budget in steps or epochs gives the same model each time; other threads might not.
    fewer_threads = not (options.threads or options.steps or options.epochs)
    precision, threads, rate = machine.choose_precision(
        options.precision, device, probe(options), fewer_threads
    )
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
        reporter.note("note: something keeps this machine busy: one thread is faster than more")
    parts = split(corpus, survey, options, reporter.warn)
    tokenizer = train_tokenizer(
        options.level, parts.training, options.vocab_size, options.split, options.normalize
    )
    folder = _make_folder(out, corpus.name, force)
    try:
        data = encode(parts, tokenizer, folder, corpus, survey)
        vectors = _start_vectors(options, data, reporter)
        alphabet = Letters(data.tokenizer).size if options.characters else 0
        recipe = choose(
            options, counts=data.training.counts(data.tokenizer.size), alphabet=alphabet,
            width=width, chars=survey.chars, rate=rate,
            device=str(device), precision=precision,
        )  # fmt: skip
        return Run(folder, options, recipe, data, vectors)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _width(options: TrainOptions) -> int | None:
    """Features of the word vectors to start from, if there are such."""
    if options.embeddings is None:
        return None
    width = word_vectors.width(options.embeddings)
    if options.embedding not in (None, width):
        raise OptionError(
            f"--embedding {options.embedding}: the vectors of {options.embeddings} have {width} "
            "features; leave the option out"
        )
    return width


def _start_vectors(
    options: TrainOptions, data: Data, reporter: Reporter
) -> word_vectors.WordVectors | None:
    if options.embeddings is None:
        return None
    vectors = word_vectors.read(options.embeddings, data.tokenizer)
    counts = data.training.counts(data.tokenizer.size)
    share = counts[vectors.ids].sum() / counts.sum()
    reporter.note(
        f"embeddings: {len(vectors.ids):,} of {data.tokenizer.size:,} tokens have a vector in "
        f"{options.embeddings}: {share:.1%} of the text"
    )
    return vectors


def _resumed(
    paths: Sequence[str | Path], given: dict[str, Any], target: Path | None
) -> tuple[Corpus, Run]:
    """The run to go on with, and its corpus, read as the run's own options say."""
    folder = target or _run_of(paths)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    corpus = open_corpus(paths, TrainOptions(**checkpoint.values["options"]))
    if not _is_of(checkpoint, corpus.survey()):
        raise InputError(
            f"{folder} was trained on another text than {', '.join(map(str, paths))}; "
            "name that one, or train anew without --resume"
        )
    _check_unchanged(given, checkpoint.values["options"])
    recipe = _with_budget(checkpoint, given)
    machine.choose_device(recipe.device)
    return corpus, Run.resumed(folder, checkpoint, recipe)


def _run_of(paths: Sequence[str | Path]) -> Path:
    """The newest run of this corpus, an unfinished one first."""
    name = Corpus(paths).name
    found = [(folder, c) for folder in runs.runs_of(name) if (c := _checkpoint_in(folder))]
    for folder, checkpoint in sorted(found, key=lambda pair: pair[1].values["finished"]):
        options = TrainOptions(**checkpoint.values["options"])
        if _is_of(checkpoint, open_corpus(paths, options).survey()):
            return folder
    raise ModelError(
        f"no run of {name} to resume in {runs.RUNS.resolve()}; name it with --out, or train "
        "without --resume"
    )


def _checkpoint_in(folder: Path) -> Checkpoint | None:
    try:
        return Checkpoint.load(folder / CHECKPOINT, values_only=True)
    except CharlmError:
        return None


def _is_of(checkpoint: Checkpoint, survey: Survey) -> bool:
    return bool(checkpoint.values["facts"]["sha256"] == survey.sha256)


def _check_unchanged(given: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Options that are given have to be those of the run."""
    for name, value in given.items():
        if name not in MAY_CHANGE and value != earlier[name]:
            raise OptionError(
                f"--{name.replace('_', '-')} {value}: the run was started with {earlier[name]}; "
                "leave the option out, or train anew without --resume"
            )


def _with_budget(checkpoint: Checkpoint, given: dict[str, Any]) -> Recipe:
    """The run's recipe, with a larger budget if one is given."""
    earlier = recipe = Recipe.from_json(checkpoint.values["recipe"])
    for name in BUDGETS:
        budget, before = given.get(name), getattr(earlier, name)
        if budget is None:
            continue
        if before is None or budget < before:
            raise OptionError(
                f"--{name} {budget:g}: the run's budget is {earlier.budget}; give as much or more "
                "of the same"
            )
        recipe = replace(recipe, **{name: budget})
    if checkpoint.values["finished"] and recipe == earlier:
        raise OptionError(f"the run is finished; to train on, give it more than {earlier.budget}")
    return recipe
