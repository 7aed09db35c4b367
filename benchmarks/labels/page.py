"""The generated parts of docs/tasks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/tasks.md"
Run = Mapping[str, float]
HALVES = {"whole": "both halves", "network": "the network alone"}
LABEL_FIGURES = ("accuracy", "macro_f1")
TAG_FIGURES = ("f1", "accuracy", "accuracy_unseen_words")
TREE_FIGURES = ("root_accuracy", "root_accuracy_binary", "node_accuracy")
TREES = "model | root, five classes, % | root, two classes, % | all nodes, % | s"
VARIANTS = "five classes | nats per label, validation | nats per label, test | accuracy, %"


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """The generated parts of the page."""
    heading = "model | chunk F1, % | accuracy, % | of unseen words, % | s"
    without = {f"without {name}": runs for name, runs in results.get("without", {}).items()}
    if "without nothing" in without:
        without = {"everything": without.pop("without nothing")} | without
    return {
        "sentiment": table("model | accuracy, % | macro F1, % | s", list(_sentiment(results))),
        "classifiers": table(VARIANTS, _classifiers(results)),
        "trees": table(TREES, list(_trees(results))),
        "compositions": table(
            TREES,
            [_row(n, runs, TREE_FIGURES) for n, runs in results.get("compositions", {}).items()],
        ),
        "chunks": table(heading, list(_chunks(results))),
        "ingredients": table(heading, [_row(*item, TAG_FIGURES) for item in without.items()]),
        "speed": table("what | sentences a second", list(_speed(results))),
        "start-up": table("process | s", _seconds(results)),
    }


def _sentiment(results: Mapping[str, Any]) -> Iterator[list[str]]:
    rivals = results.get("rivals", {}).get("logistic regression", {})
    for classes, runs in results.get("sentiment", {}).items():
        yield from _halves(f"{classes} classes, ", runs, LABEL_FIGURES)
        if classes in rivals:
            name = f"{classes} classes, logistic regression"
            yield _row(name, [rivals[classes]], LABEL_FIGURES)


def _trees(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for minutes, runs in results.get("trees", {}).items():
        yield from _halves(f"{minutes} minutes at most, ", runs, TREE_FIGURES)
    if rivals := results.get("rivals", {}).get("phrases"):
        yield _row("logistic regression on all phrases", [rivals], TREE_FIGURES)


def _chunks(results: Mapping[str, Any]) -> Iterator[list[str]]:
    yield from _halves("", results.get("chunks", []), TAG_FIGURES)
    if rivals := results.get("rivals"):
        yield _row("crfsuite", [rivals["crfsuite"]], TAG_FIGURES)


def _classifiers(results: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            _of_seeds(runs, "valid_nats_per_label", 1, ".3f"),
            _of_seeds(runs, "nats_per_label", 1, ".3f"),
            _of_seeds(runs, "accuracy"),
        ]
        for part in ("readouts", "start")
        for name, runs in results.get(part, {}).items()
    ]


def _speed(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for model in ("tagger", "classifier", "labeller of trees"):
        for name, value in results.get("speed", {}).get(model, {}).items():
            yield [f"{model}: {name}", f"{value:,.0f}"]
    if rivals := results.get("rivals"):
        yield ["crfsuite: predict", f"{rivals['crfsuite']['sentences a second']:,.0f}"]


def _seconds(results: Mapping[str, Any]) -> list[list[str]]:
    seconds = results.get("speed", {}).get("seconds", {})
    return [[name, f"{value:.2f}"] for name, value in seconds.items()]


def _halves(
    prefix: str, runs: Sequence[Mapping[str, Run]], figures: Sequence[str]
) -> Iterator[list[str]]:
    """A row for the model, and one for its network alone."""
    for half, name in HALVES.items():
        if runs:
            yield _row(f"{prefix}{name}", [run[half] for run in runs], figures)


def _row(name: str, runs: Sequence[Run], figures: Sequence[str]) -> list[str]:
    seconds = f"{runs[0]['seconds']:.0f}" if "seconds" in runs[0] else ""
    return [name, *(_of_seeds(runs, figure) for figure in figures), seconds]


def _of_seeds(runs: Sequence[Run], name: str, factor: float = 100, shown: str = ".2f") -> str:
    """The mean, and the figures of all runs if there are several."""
    values = [factor * run[name] for run in runs]
    listed = ", ".join(f"{value:{shown}}" for value in values)
    mean = f"{sum(values) / len(values):{shown}}"
    return f"{mean} ({listed})" if len(values) > 1 else mean
