"""The generated parts of docs/tasks.md that are about encoder–decoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.markdown import table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/tasks.md"
HEADING = "model | words wrong, % | phonemes wrong, % | s"
Run = Mapping[str, float]


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """The generated parts of the page."""
    speed = results.get("speed", {})
    return {
        "pronunciations": table(HEADING, list(_pronunciations(results))),
        "without": table(
            f"{HEADING} | network alone: words wrong, %", list(_without(results))
        ),
        "beams": table(
            "beam | words wrong, % | phonemes wrong, % | s for the test part",
            [[str(width), *_wrong([run]), f"{run['seconds']:.1f}"]
             for width, run in results.get("beams", {}).items()],
        ),
        "target-speed": table("what | a second", list(_a_second(speed))),
        "target-seconds": table(
            "process | s", [[n, f"{s:.2f}"] for n, s in speed.get("seconds", {}).items()]
        ),
        "kinds": table(
            "label | held-out texts, % | samples, %", list(_kinds(results.get("kinds", {})))
        ),
    }  # fmt: skip


def _pronunciations(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for minutes, runs in results.get("pronunciations", {}).items():
        for half in ("whole", "network", "joint n-grams"):
            name = {"whole": "both halves", "network": "the network alone"}.get(half, half)
            of_seeds = [run[half] for run in runs]
            seconds = f"{of_seeds[0]['seconds']:.0f}" if "seconds" in of_seeds[0] else ""
            yield [f"{minutes} minutes, {name}", *_wrong(of_seeds), seconds]
    if rival := results.get("rivals"):
        yield ["phonetisaurus", *_wrong([rival]), f"{rival['seconds']:.0f}"]


def _without(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, runs in results.get("without", {}).items():
        seconds = f"{runs[0]['whole']['seconds']:.0f}"
        alone = _wrong([run["network"] for run in runs])[0]
        yield [name, *_wrong([run["whole"] for run in runs]), seconds, alone]


def _wrong(runs: Sequence[Run]) -> list[str]:
    """The mean of both errors, and those of all runs if there are several."""
    return [
        _of_seeds([100 * (1 - run["exact_match"]) for run in runs]),
        _of_seeds([100 * run["token_error_rate"] for run in runs]),
    ]


def _of_seeds(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.2f}"
    listed = ", ".join(f"{value:.2f}" for value in values)
    return f"{mean} ({listed})" if len(values) > 1 else mean


def _a_second(speed: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, value in speed.get("pairs a second", {}).items():
        yield [f"pairs to train, {name}", f"{value:,.0f}"]
    for name, value in speed.get("words a second", {}).items():
        yield [f"words to predict, {name}", f"{value:,.0f}"]


def _kinds(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for label, share in found.get("held-out texts", {}).items():
        values = [100 * seed[label] for seed in found["samples"]]
        yield [label, f"{100 * share:.1f}", _of_seeds(values)]
