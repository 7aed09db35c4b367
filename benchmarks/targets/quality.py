"""How good encoder–decoders are at pronunciations, and what each ingredient brings."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import charlm
from benchmarks.project import charlm as command
from charlm import Transducer
from charlm.engines.target_scores import TargetScore

SEEDS = (1, 2, 3)
MINUTES, FEWER_MINUTES = 10, 2
WIDTHS = (1, 2, 5, 10)
Scores = dict[str, float]


def pronunciations(folder: Path, data: Path) -> Any:
    """Three seeds, and a longer training; the whole model and each half alone."""
    runs: dict[int, list[dict[str, Scores]]] = {}
    for minutes, seeds in ((MINUTES, SEEDS), (3 * MINUTES, SEEDS[:1])):
        runs[minutes] = []
        for seed in seeds:
            run, seconds = trained(data, minutes, "--seed", seed)
            halves = {
                "whole": evaluated(run, data) | {"seconds": seconds},
                "network": evaluated(run, data, network_only=True),
                "joint n-grams": evaluated(run, data, powers=(0.0, 1.0)),
            }
            runs[minutes].append(halves)
    return runs


WITHOUT: dict[str, Sequence[object]] = {
    "global attention": (),
    "monotonic attention": ("--monotonic",),
    "no attention": ("--no-attention",),
    "one direction": ("--directions", 1),
    "without joint n-grams": ("--ngram", "none"),
}


def without(folder: Path, data: Path) -> Any:
    """Each ingredient taken away in turn, in fewer minutes."""

    def measured(seed: int, options: Sequence[object]) -> dict[str, Scores]:
        run, seconds = trained(data, FEWER_MINUTES, "--seed", seed, *options)
        network = evaluated(run, data, network_only=True)
        return {"whole": evaluated(run, data) | {"seconds": seconds}, "network": network}

    return {name: [measured(seed, options) for seed in SEEDS] for name, options in WITHOUT.items()}


def beams(folder: Path, data: Path) -> Any:
    """Searches of other widths, with one model."""
    run, _ = trained(data, FEWER_MINUTES)
    found = {}
    for width in WIDTHS:
        start = time.perf_counter()
        scores = evaluated(run, data, beam=width)
        found[width] = scores | {"seconds": time.perf_counter() - start}
    return found


def trained(data: Path, minutes: float, *options: object) -> tuple[Path, float]:
    """Train a model of pronunciations. Returns its folder and the seconds of the command."""
    start = time.monotonic()
    command(
        ".", "train", data / "g2p.train.tsv", "--task", "seq2seq", "--target-level", "word",
        "--split", "whitespace", "--valid", data / "g2p.valid.tsv", "--minutes", minutes,
        "--out", "run", "--force", "--quiet", *options,
    )  # fmt: skip
    return Path("run").resolve(), time.monotonic() - start


def evaluated(
    run: Path,
    data: Path,
    *,
    network_only: bool = False,
    powers: tuple[float, float] | None = None,
    beam: int | None = None,
) -> Scores:
    """The figures of the test part. powers: in place of those of the two halves"""
    model = charlm.load(run, kind=Transducer, network_only=network_only)
    if powers and model.joint:
        model.joint = model.joint.with_powers(powers)
    model.beam = beam or model.beam
    with (data / "g2p.test.tsv").open(encoding="utf-8") as file:
        score: TargetScore = model.evaluate(file)
    figures: dict[str, Any] = json.loads(json.dumps(score.figures()))
    return {name: value for name, value in figures.items() if isinstance(value, float)}
