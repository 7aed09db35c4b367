"""The functions of the package: `load` a model, `train` one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack, overload

from charlm.errors import ModelError, OptionError
from charlm.model.backend import Backend
from charlm.model.file import ModelFile
from charlm.options import check_keywords, options_of
from charlm.runs import find_model
from charlm.tasks import load_task
from charlm.tasks.trained import LoadOptions, TrainedModel

if TYPE_CHECKING:
    from charlm.keywords import TrainKeywords
    from charlm.tasks.language_model import LanguageModel
    from charlm.training.reporter import Reporter
    from charlm.training.saver import Callback

    class RunKeywords(TrainKeywords, total=False):
        """The keywords of `train`."""

        start: TrainedModel | str | Path | None
        out: str | Path | None
        force: bool
        tensorboard: bool
        callbacks: Sequence[Callback]
        quiet: bool
        started: float | None
        reporter: Reporter | None


# Of `train`, beside its options.
KEYWORDS = ("kind", "start", "out", "resume", "force", "tensorboard", "callbacks", "quiet")

M = TypeVar("M", bound=TrainedModel)


@overload
def load(
    model: str | Path | None = ...,
    *,
    backend: str | Backend = ...,
    device: str = ...,
    threads: int | None = ...,
    network_only: bool = ...,
    ngram_only: bool = ...,
    precision: str = ...,
) -> TrainedModel: ...


@overload
def load(
    model: str | Path | None = ...,
    *,
    kind: type[M],
    backend: str | Backend = ...,
    device: str = ...,
    threads: int | None = ...,
    network_only: bool = ...,
    ngram_only: bool = ...,
    precision: str = ...,
) -> M: ...


def load(
    model: str | Path | None = None,
    *,
    kind: type[TrainedModel] = TrainedModel,
    backend: str | Backend = "auto",
    device: str = "auto",
    threads: int | None = None,
    network_only: bool = False,
    ngram_only: bool = False,
    precision: str = "fp32",
) -> TrainedModel:
    """Load a model, of the class of the task that it was trained for.

    model:    a model file or its run folder; None for $CHARLM_MODEL, then the run that was trained
              last from this directory
    kind:     the class that the model must be
    backend:  "numpy", "torch", or "auto" for the faster one; or a `charlm.model.backend.Backend`
    device:   where torch computes: "cpu", "cuda", "mps", or "auto" for the best of this machine
    threads:  of torch on the CPU; None for torch's own choice
    network_only:  leave the n-gram model out
    ngram_only:    the n-gram model of a language model alone, which is many times as fast and never
                   loads torch

    precision:     of the products of a language model's network in torch: "fp32", "bf16", which is
                   less exact, or "auto" for the faster one

    Raises ModelError if there is no model, if the file is damaged or foreign, or if it is a model
    of another kind, and OptionError for a device or cores that this machine does not have.
    """
    path = find_model(model)
    file = ModelFile.load(path)
    options = LoadOptions(backend, device, threads, network_only, ngram_only, precision)
    loaded = _as_kind(load_task(file.task).model(file, path, options), kind)
    if precision != "fp32" and not hasattr(loaded, "mixture"):
        raise OptionError(f"`precision={precision}`: is for language models")
    if ngram_only and not getattr(loaded, "mixture", None):
        raise ModelError(f"{path}: `ngram_only`: the model has no n-grams; leave the option out")
    return loaded


Paths = str | Path | Sequence[str | Path]


@overload
def train(
    corpus: Paths, *, resume: Literal[False] = ..., **keywords: Unpack[RunKeywords]
) -> LanguageModel: ...


@overload
def train(
    corpus: Paths, *, kind: type[M], resume: bool = ..., **keywords: Unpack[RunKeywords]
) -> M: ...


@overload
def train(
    corpus: Paths, *, task: str | None = ..., resume: bool = ..., **keywords: Unpack[RunKeywords]
) -> TrainedModel: ...


def train(
    corpus: Paths,
    *,
    task: str | None = None,
    kind: type[TrainedModel] = TrainedModel,
    start: TrainedModel | str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    started: float | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[TrainKeywords],
) -> TrainedModel:
    """Train a model of a text, and write it to a run folder.

    corpus:    a text file, or several that are read one after the other; "-" for standard input
    task:      what the model is for, a name in `charlm.tasks.TABLE`; None for the task of `kind`,
               then for that of a resumed run, then for "lm"
    kind:      the class that the model must be, such as `FillModel`
    start:     a model to start from, or its file or run folder: the option `from_`
    out:       the run folder; None for runs/NAME, or the next free runs/NAME-2 …
    resume:    continue the run in `out`, or the last one of this corpus
    force:     replace `out` if it exists, when training is complete
    tensorboard:  also write the metrics for TensorBoard into the run folder
    callbacks:  functions that are called after each evaluation with a dictionary, the line of
               metrics.jsonl. If one returns True, training ends there, and the model is written as
               at the end of the budget. Of several processes, the first one calls its own
    quiet:     write nothing to stderr but warnings
    started:   `time.monotonic()` from which a budget in minutes counts; None for now
    reporter:  writes notes and progress; None for the default one
    options:   of `charlm.training.options.TrainOptions`: minutes, level, cell, hidden, …

    Returns the model with the best validation loss, of the class of its task. Under `torchrun` each
    process calls this and gets the model; the first one writes it. Raises InputError, OptionError
    or ModelError for what cannot be used, and Stopped, after saving, on Ctrl-C or
    SIGTERM.

    >>> model = charlm.train("corpus.txt", out="small", steps=5, hidden=16, quiet=True)
    >>> model.card.corpus
    'corpus'
    """
    started = time.monotonic() if started is None else started
    from charlm.training.options import RunOptions, TrainOptions
    from charlm.training.reporter import Reporter
    from charlm.training.train import train as train_run

    names = [field.name for field, _ in options_of(TrainOptions)]
    check_keywords("train", options, [*names, *KEYWORDS])
    if callable(callbacks) or not all(map(callable, callbacks := [*callbacks])):
        raise TypeError("train() takes a list of functions as `callbacks`, such as [print]")
    overrides = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    if task or kind is not TrainedModel:
        overrides["task"] = task or kind.task
    if start is not None:
        overrides["from_"] = str(start.path if isinstance(start, TrainedModel) else start)
    path, file = train_run(
        [corpus] if isinstance(corpus, str | Path) else list(corpus),
        overrides,
        RunOptions(None if out is None else str(out), resume, force, tensorboard),
        started,
        reporter or Reporter(quiet),
        callbacks,
    )
    return _as_kind(load_task(file.task).model(file, path, LoadOptions()), kind)


def _as_kind(model: TrainedModel, kind: type[M]) -> M:
    """The model. Raises ModelError if it is of another class."""
    if not isinstance(model, kind):
        raise ModelError(
            f"{model.path} was trained with `task={model.task}`: it {model.purpose}; to do this, "
            f"train a model with `task={kind.task}`"
        )
    return model
