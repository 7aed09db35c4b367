"""From a corpus to a model: the one function that `charlm train` calls."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from charlm import runs
from charlm.corpus.reading import Corpus, Survey
from charlm.errors import CharlmError, InputError, ModelError, OptionError, Stopped
from charlm.language_model import LanguageModel
from charlm.model.file import MODEL_FILE
from charlm.training import machine
from charlm.training.checkpoint import Checkpoint
from charlm.training.data import open_corpus, prepare
from charlm.training.recipe import Recipe, TrainOptions, choose
from charlm.training.reporter import Reporter
from charlm.training.run import CHECKPOINT, Run
from charlm.training.stopping import StopSignals

BUDGETS = ("minutes", "epochs", "steps")
# What may differ when a run is resumed: the budget, and what does not change the result.
MAY_CHANGE = (*BUDGETS, "threads")


def train(
    corpus: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    quiet: bool = False,
    started: float | None = None,
    **options: Any,
) -> LanguageModel:
    """Train a language model of a text, and write it to a run folder.

    corpus:   a text file, or several that are read one after the other; "-" is standard input
    out:      the run folder; None: runs/NAME, or the next free runs/NAME-2 …
    resume:   go on with the run in `out`, or with the last one of this corpus
    force:    replace `out` if it exists, once training is complete
    quiet:    say nothing on stderr but warnings
    started:  `time.monotonic()` from which a budget in minutes counts; None: now
    options:  of `charlm.training.recipe.TrainOptions`: minutes, level, cell, hidden, …

    Returns the model with the weights that validated best. Raises InputError, OptionError or
    ModelError for what cannot be used, and Stopped, after saving, on Ctrl-C or SIGTERM.

    >>> model = charlm.train("corpus.txt", out="small", steps=5, hidden=16, quiet=True)
    >>> model.card.corpus
    'corpus'
    """
    started = time.monotonic() if started is None else started
    paths = [str(corpus)] if isinstance(corpus, str | Path) else [str(path) for path in corpus]
    wanted = TrainOptions(**options)
    reporter = Reporter(quiet)
    target = None if out is None else Path(out)
    with StopSignals() as signals, machine.cpu_for_training(wanted.threads):
        text = open_corpus(paths, wanted)
        if not resume:
            _check_target(target, force)
        survey = text.survey()
        if resume:
            run = _resumed(text, survey, wanted, target)
        else:
            _advise(text, survey, wanted, reporter)
            run = _new(text, survey, wanted, _folder(target, text.name), reporter)
        reporter.note(f"{target or run.folder}: {run.recipe.described()}")
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
    return LanguageModel(_settled(run.folder, target if force else None) / MODEL_FILE)


def _check_target(target: Path | None, force: bool) -> None:
    if target is None or not target.exists():
        return
    if not force:
        raise InputError(
            f"{target} exists; add --force to replace it, --resume to go on with it, or name "
            "another --out"
        )
    if not (target / MODEL_FILE).is_file() and not (target / CHECKPOINT).is_file():
        raise InputError(f"{target} is no run folder and is not replaced; name another --out")


def _folder(target: Path | None, name: str) -> Path:
    """Where to write: a folder that takes the target's place later, if there is one already."""
    if target is None:
        return runs.free_folder(name)
    if not target.exists():
        return target
    beside = target.with_name(f"{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    return beside


def _settled(folder: Path, target: Path | None) -> Path:
    """Put a complete run in the place of the one that it replaces, and remember it."""
    if target is not None and folder != target:
        shutil.rmtree(target)
        folder.rename(target)
        folder = target
    runs.remember(folder)
    return folder


def _advise(corpus: Corpus, survey: Survey, options: TrainOptions, reporter: Reporter) -> None:
    """Notes on a text that seems not to be what the options take it for, and on older runs."""
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
    corpus: Corpus, survey: Survey, options: TrainOptions, folder: Path, reporter: Reporter
) -> Run:
    device = machine.choose_device(options.device)
    precision, rate = machine.choose_precision(options.precision, device)
    try:
        data = prepare(corpus, survey, options, folder, reporter.warn)
        recipe = choose(
            options, vocab=data.tokenizer.size, chars=survey.chars,
            train_tokens=len(data.training.ids), rate=rate, device=str(device),
            precision=precision,
        )  # fmt: skip
        return Run(folder, options, recipe, data)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _resumed(corpus: Corpus, survey: Survey, options: TrainOptions, target: Path | None) -> Run:
    folder = target or _run_of(corpus, survey)
    checkpoint = Checkpoint.load(folder / CHECKPOINT)
    if not _is_of(checkpoint, survey):
        raise InputError(
            f"{folder} was trained on another text than {', '.join(map(str, corpus.paths))}; "
            "name that one, or train anew without --resume"
        )
    _check_unchanged(options, checkpoint.values["options"])
    return Run.resumed(folder, checkpoint, _with_budget(checkpoint, options))


def _run_of(corpus: Corpus, survey: Survey) -> Path:
    """The newest run of this corpus, an unfinished one first."""
    found = [(f, c) for f in runs.runs_of(corpus.name) if (c := _checkpoint_in(f))]
    found = [(f, c) for f, c in found if _is_of(c, survey)]
    if not found:
        raise ModelError(
            f"no run of {corpus.name} to resume in {runs.RUNS.resolve()}; name it with --out, or "
            "train without --resume"
        )
    return min(found, key=lambda pair: pair[1].values["finished"])[0]


def _checkpoint_in(folder: Path) -> Checkpoint | None:
    try:
        return Checkpoint.load(folder / CHECKPOINT, values_only=True)
    except CharlmError:
        return None


def _is_of(checkpoint: Checkpoint, survey: Survey) -> bool:
    return bool(checkpoint.values["facts"]["sha256"] == survey.sha256)


def _check_unchanged(options: TrainOptions, earlier: dict[str, Any]) -> None:
    """Options that are given have to be those of the run; those left out are."""
    for field in fields(TrainOptions):
        given = getattr(options, field.name)
        if field.name in MAY_CHANGE or given in (field.default, earlier[field.name]):
            continue
        option = field.name.replace("_", "-")
        raise OptionError(
            f"--{option} {given}: the run was started with {earlier[field.name]}; leave the "
            "option out, or train anew without --resume"
        )


def _with_budget(checkpoint: Checkpoint, options: TrainOptions) -> Recipe:
    """The run's recipe, with a larger budget if one is given."""
    recipe = Recipe.from_json(checkpoint.values["recipe"])
    for name in BUDGETS:
        given, earlier = getattr(options, name), getattr(recipe, name)
        if given is None:
            continue
        if earlier is None or given < earlier:
            raise OptionError(
                f"--{name} {given:g}: the run's budget is {recipe.budget}; give as much or more "
                "of the same"
            )
        recipe = replace(recipe, **{name: given})
    if (
        checkpoint.values["finished"]
        and recipe.budget == Recipe.from_json(checkpoint.values["recipe"]).budget
    ):
        raise OptionError(f"the run is finished; to train on, give it more than {recipe.budget}")
    return recipe
