"""The generated parts of docs/tasks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/tasks.md"


def _of_seeds(runs: Sequence[Mapping[str, float]], name: str, factor: float = 100) -> str:
    values = [factor * run[name] for run in runs if run.get(name) is not None]
    mean = sum(values) / len(values)
    listed = ", ".join(f"{value:.2f}" for value in values)
    return f"{mean:.2f} ({listed})" if len(values) > 1 else f"{mean:.2f}"


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """The generated parts of the page."""
    made: dict[str, str] = {}
    rows: list[list[str]] = []
    for classes in ("five", "two"):
        for half in ("whole", "network"):
            runs = [run[half] for run in results.get("sentiment", {}).get(classes, [])]
            if runs:
                name = "both halves" if half == "whole" else "the network alone"
                accuracy, f1 = (_of_seeds(runs, key) for key in ("accuracy", "macro_f1"))
                seconds = f"{runs[0]['seconds']:.0f}" if half == "whole" else ""
                rows.append([f"{classes} classes, {name}", accuracy, f1, seconds])
    made["sentiment"] = table("model | accuracy, % | macro F1, % | s", rows)
    rows = []
    for half in ("whole", "network"):
        runs = [run[half] for run in results.get("chunks", [])]
        if runs:
            name = "both halves" if half == "whole" else "the network alone"
            seconds = f"{runs[0]['seconds']:.0f}" if half == "whole" else ""
            of_run = [_of_seeds(runs, key) for key in ("f1", "accuracy", "accuracy_unseen_words")]
            rows.append([name, *of_run, seconds])
    for name, runs in results.get("without", {}).items():
        of_run = [_of_seeds(runs, key) for key in ("f1", "accuracy", "accuracy_unseen_words")]
        rows.append([f"without {name}", *of_run, f"{runs[0]['seconds']:.0f}"])
    made["chunks"] = table("model | chunk F1, % | accuracy, % | of unseen words, % | s", rows)
    rows = [
        [name, _of_seeds(runs, "accuracy"), _of_seeds(runs, "nats_per_label", 1)]
        for part in ("readouts", "start")
        for name, runs in results.get(part, {}).items()
    ]
    if figures := results.get("speed"):
        rows = [
            [name, f"{value:,.2f}" if value < 10 else f"{value:,.0f}"]
            for name, value in figures.items()
        ]
        made["speed"] = table("sentences a second | ", rows)
    made["classifiers"] = table("five classes | accuracy, % | nats per label", rows)
    return made
