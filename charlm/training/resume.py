"""Runs that go on: which one is meant, and what may be different now."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charlm import runs
from charlm.corpus.reading import Corpus
from charlm.errors import InputError, ModelError, OptionError
from charlm.training import dataset
from charlm.training.distributed import Ranks
from charlm.training.folder import Folder, attempts, runs_of
from charlm.training.options import BUDGETS, RunOptions, TrainOptions
from charlm.training.plan import Plan
from charlm.training.recipe import Recipe

# Options that may differ when a run is resumed: the budget, and what does not change the result.
MAY_CHANGE = (*BUDGETS, "threads")


def earlier_run(
    corpus: Corpus, overrides: Mapping[str, Any], place: RunOptions, ranks: Ranks
) -> Folder | None:
    """The folder of the run that goes on, locked; None for a new run."""
    if place.resume:
        return Folder.locked(place.folder or _run_to_resume(corpus))
    path = _run_of_this_launch(corpus, TrainOptions(**overrides), place.folder, ranks)
    return Folder.locked(path) if path else None


def _run_to_resume(corpus: Corpus) -> Path:
    """The newest run of this corpus, an unfinished one first."""
    folders = [f for f in runs_of(corpus.name) if f.plan and _is_of(corpus, f.plan)]
    for folder in (*filter(is_unfinished, folders), *folders):
        return folder.path
    raise ModelError(
        f"no run of {corpus.name} to resume in {runs.RUNS.resolve()}; name it with `out`, or train "
        "without `resume`"
    )


def is_unfinished(folder: Folder) -> bool:
    """Whether its run goes on. Versions before 0.2 wrote no recipe into the plan of a run."""
    plan = folder.plan
    return bool(plan and not plan.finished and (plan.recipe or not folder.has_checkpoint))


def _run_of_this_launch(
    corpus: Corpus, options: TrainOptions, out: Path | None, ranks: Ranks
) -> Path | None:
    """The run that this torchrun launch started before it restarted its processes."""
    if not ranks.launch or not (ranks.restarts or ranks.launch_is_unique):
        return None
    for folder in runs_of(corpus.name) if out is None else (Folder(out), *attempts(out)):
        plan = folder.plan
        if not plan or (plan.launch, plan.options) != (ranks.launch, options):
            continue
        if (ranks.restarts or not plan.finished) and _is_of(corpus, plan):
            return folder.path
    return None


def _is_of(corpus: Corpus, plan: Plan) -> bool:
    return dataset.is_of(corpus, plan.options, plan.sha256)


def check_corpus(corpus: Corpus, folder: Folder, plan: Plan) -> None:
    if not _is_of(corpus, plan):
        raise InputError(
            f"{folder.path} was trained on another text than {', '.join(map(str, corpus.paths))}; "
            "name that one, or train anew without `resume`"
        )


def check_unchanged(overrides: Mapping[str, Any], earlier: TrainOptions) -> None:
    """Raise OptionError for an option that differs from the run's own."""
    options = TrainOptions(**{"task": earlier.task, **overrides})
    for name in overrides:
        value, before = getattr(options, name), getattr(earlier, name)
        if name not in MAY_CHANGE and value != before:
            with_it = "without it" if before in (None, False) else f"with {before}"
            raise OptionError(
                f"`{name}={value}`: the run was started {with_it}; leave the option out, or "
                "train anew without `resume`"
            )


def restarted_options(earlier: TrainOptions, overrides: Mapping[str, Any]) -> TrainOptions:
    """The options of a run that starts anew, with another budget if one is given."""
    if any(overrides.get(name) for name in BUDGETS):
        earlier = dataclasses.replace(earlier, minutes=None, epochs=None, steps=None)
    changed = {name: value for name, value in overrides.items() if name in MAY_CHANGE}
    return dataclasses.replace(earlier, **changed)


def with_budget(plan: Plan, recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The run's recipe, with a larger budget if one is given."""
    larger = recipe
    for name in BUDGETS:
        budget, before = overrides.get(name), getattr(recipe, name)
        if budget is None:
            continue
        if before is None or budget < before:
            raise OptionError(
                f"`{name}={budget:g}`: the run's budget is {recipe.budget}; give as much or "
                "more of the same"
            )
        larger = dataclasses.replace(larger, **{name: budget})
    if plan.finished and larger == recipe:
        raise OptionError(f"the run is finished; to train on, give it more than {recipe.budget}")
    return larger


def command_to_resume(corpus: Corpus, folder: Folder) -> str:
    """The command that continues a run."""
    paths = map(str, corpus.paths)
    return shlex.join(["charlm", "train", *paths, "--out", str(folder.path), "--resume"])
