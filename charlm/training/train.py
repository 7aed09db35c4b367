"""From a corpus to a run folder: a new run, a resumed one, or one that replaces another."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from charlm import __version__, runs
from charlm.corpus import word_vectors
from charlm.corpus.reading import Corpus
from charlm.errors import InputError, ModelError, OptionError, Stopped
from charlm.model.devices import choose_device, cores
from charlm.model.file import MODEL_FILE, ModelFile
from charlm.tasks import load_task
from charlm.tokenizer import train_tokenizer
from charlm.tokenizer.letters import Letters
from charlm.training import data
from charlm.training.checkpoint import RunInfo
from charlm.training.distributed import Ranks
from charlm.training.machine import check_processes, choose_precision, cpu_for_training
from charlm.training.options import BUDGETS, TrainOptions
from charlm.training.recipe import Recipe, check_network, choose, probe
from charlm.training.reporter import Reporter
from charlm.training.run import Plan, Run
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
) -> tuple[Path, ModelFile]:
    """Train as `charlm.train` describes, which explains the arguments.

    user_options:  the options of `TrainOptions` that the user gave

    Returns the path of the model file, and what it holds. Each of several processes calls this.
    """
    ranks = Ranks()

    def facts() -> dict[str, Any]:
        TrainOptions(**user_options)
        if force and (resume or out is None):
            raise OptionError("`force`: goes with `out`, and without `resume`")
        Corpus(paths)
        versions = {"charlm": __version__, "torch": str(torch.__version__)}
        return {"version": versions, "options": dict(user_options)}

    with StopSignals() as signals, ranks.joined():
        ranks.check_same(facts)
        options, corpus = TrainOptions(**user_options), Corpus(paths)
        with cpu_for_training(options.threads or ranks.threads):
            begun = ranks.first(
                lambda: _begun(ranks, corpus, user_options, out, resume, force, reporter)
            )
            folder = begun.folder if isinstance(begun, Plan) else begun
            try:
                if isinstance(begun, Plan):
                    if begun.recipe.threads and not options.threads:
                        threads = min(begun.recipe.threads, cores()) // ranks.here
                        torch.set_num_threads(max(threads, 1))
                    _train(begun, ranks, corpus, started, reporter, signals)
                path = ranks.first(folder.complete) / MODEL_FILE
            finally:
                if ranks.is_first:
                    folder.release()
            return path, ranks.first(lambda: ModelFile.load(path))


def _begun(
    ranks: Ranks,
    corpus: Corpus,
    user_options: Mapping[str, Any],
    out: Path | None,
    resume: bool,
    force: bool,
    reporter: Reporter,
) -> Plan | RunFolder:
    """What the run is to do. Rank 0 alone calls this.

    If torchrun has started these processes again, it goes on with the run that they had begun, or
    returns its folder, if the run was finished.
    """
    options = TrainOptions(**user_options)
    if not resume:
        left = _left_by_us(ranks, corpus, options, out)
        if not left:
            return _new(ranks, corpus, options, out, force, reporter)
        if left.is_finished:
            return left
        out = left.path
    return _resumed(ranks, corpus, user_options, out, reporter)


def _left_by_us(
    ranks: Ranks, corpus: Corpus, options: TrainOptions, out: Path | None
) -> RunFolder | None:
    """The run that these processes had begun before torchrun started them again."""
    if not ranks.launch or not (ranks.restarts or ranks.launch_is_unique):
        return None
    for folder in runs_of(corpus.name) if out is None else (RunFolder(out), *attempts(out)):
        start = folder.start
        if not start or (start.launch, start.options) != (ranks.launch, asdict(options)):
            continue
        is_ours = ranks.restarts or not folder.is_finished
        if is_ours and _is_of(corpus, options, start.sha256):
            return folder
    return None


def _train(
    plan: Plan,
    ranks: Ranks,
    corpus: Corpus,
    started: float,
    reporter: Reporter,
    signals: StopSignals,
) -> None:
    """Train until the budget is used. Raises Stopped after a signal."""
    folder = plan.folder
    try:
        with _token_files(ranks, corpus, plan) as tokens:
            run = Run(plan, tokens, ranks)
            if ranks.is_first:
                reporter.note(_described(plan, ranks))
            stopped_by = run.train(started, reporter, signals)
    except BaseException:
        if ranks.is_first and not folder.has_checkpoint:
            folder.remove()
        raise
    finally:
        reporter.close()
    if stopped_by:
        raise Stopped(
            f"stopped; what was learnt is in {folder.path}, and to continue: "
            f"{_command_to_resume(corpus, folder)}",
            stopped_by,
        )


def _described(plan: Plan, ranks: Ranks) -> str:
    place = f"{plan.folder.path}"
    if plan.folder.target:
        place += f", to replace {plan.folder.target}"
    several = f", {ranks.size} processes" if ranks.size > 1 else ""
    return f"{place}: {plan.recipe.described()}{several}"


@contextmanager
def _token_files(ranks: Ranks, corpus: Corpus, plan: Plan) -> Iterator[data.Data]:
    """The encoded corpus, for this context.

    Another machine that does not see the folder of the run reads and encodes the text itself. Its
    first process does so for all there.

    Raises InputError if the text is not the one of rank 0.
    """

    def opened(folder: Path) -> data.Data:
        return data.reopen(folder, plan.tokenizer, plan.corpus)

    def encoded(folder: Path, beside: Path, digest: str) -> Path:
        text = data.read_text(corpus, plan.options, ignore, ignore)
        with suppress(OSError, ValueError):
            if text.stats.sha256 == plan.corpus.sha256 and opened(folder).digest() == digest:
                return folder
        if data.encode(text, plan.tokenizer, beside).digest() != digest:
            raise InputError(
                f"{', '.join(map(str, corpus.paths))} is not the text that rank 0 reads; copy the "
                "same files to all machines"
            )
        return beside

    def ignore(_: str) -> None: ...

    folder = plan.folder.path
    with TemporaryDirectory() as beside:
        if ranks.here < ranks.size:
            digest = ranks.first(lambda: opened(folder).digest())
            leads = ranks.local == 0 and not ranks.is_first
            folders = ranks.each(lambda: encoded(folder, Path(beside), digest) if leads else folder)
            folder = folders[ranks.rank - ranks.local]
        yield opened(folder)


def _new(
    ranks: Ranks,
    corpus: Corpus,
    options: TrainOptions,
    out: Path | None,
    force: bool,
    reporter: Reporter,
    target: Path | None = None,
) -> Plan:
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
    start = Start(asdict(options), text.stats.sha256, launch=ranks.launch)
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
            rate=rate * ranks.size,
            device=str(device),
            precision=precision,
            threads=torch.get_num_threads() * ranks.here,
        )
        check_processes(recipe, device, ranks)
        return Plan(folder, options, recipe, tokenizer, encoded.corpus, vectors)
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
    ranks: Ranks,
    corpus: Corpus,
    user_options: Mapping[str, Any],
    out: Path | None,
    reporter: Reporter,
) -> Plan:
    if out:
        runs.restore(out)
    folder = RunFolder(out) if out else _find_run(corpus)
    if folder.start and not folder.has_checkpoint:
        return _restarted(ranks, corpus, folder, folder.start, user_options, reporter)
    checkpoint = folder.load_checkpoint()
    info = checkpoint.run
    _check_corpus(corpus, folder, info.options, info.corpus.sha256)
    _check_unchanged(user_options, info.options)
    recipe = _with_budget(info, user_options)
    check_processes(recipe, choose_device(recipe.device), ranks)
    folder.lock()
    folder.drop_metrics_after(checkpoint.trainer.step)
    reporter.note(f"note: it goes on after step {checkpoint.trainer.step:,}")
    return Plan(
        folder,
        info.options,
        recipe,
        checkpoint.tokenizer,
        info.corpus,
        state=checkpoint.trainer,
    )


def _restarted(
    ranks: Ranks,
    corpus: Corpus,
    folder: RunFolder,
    start: Start,
    user_options: Mapping[str, Any],
    reporter: Reporter,
) -> Plan:
    """The run of a folder that has no checkpoint yet, from the start."""
    options = TrainOptions(**start.options)
    _check_corpus(corpus, folder, options, start.sha256)
    _check_unchanged(user_options, options)
    if any(user_options.get(name) for name in BUDGETS):
        options = replace(options, minutes=None, epochs=None, steps=None)
    reporter.note(f"note: {folder.path} was stopped before its first checkpoint: it starts anew")
    options = replace(options, **user_options)
    return _new(ranks, corpus, options, folder.path, False, reporter, folder.target)


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
