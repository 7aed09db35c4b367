"""What each cell learns, and how far back its gradients reach."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cells.variants import CELLS
from benchmarks.project import ROOT, charlm

PLOT = ROOT / "docs/gradients.svg"
HIDDEN, DROPOUT = 256, 0.1  # the same for all cells
COMPARED, SEEDS = ("rnn", "lstm"), (1, 2, 3)  # in `measure_gradients`


def measure_learning(text: Path, minutes: float) -> dict[str, Any]:
    """The validation loss of each cell, and the tokens per second of its training."""
    results: dict[str, Any] = {"minutes": minutes, "text": text.name, "cells": {}}
    with tempfile.TemporaryDirectory() as folder:
        for k, (name, options) in enumerate(CELLS.items()):
            run = train(text, minutes, Path(folder) / f"run{k}", *options.split())
            info = json.loads(charlm(folder, "info", str(run), "--json"))
            metrics = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            speeds = [json.loads(line)["tokens_per_second"] for line in metrics]
            results["cells"][name] = {
                "nats": info["card"]["valid_nats"],
                "weights": info["weights"],
                "tokens_per_second": median(speeds),
                "trained": info["card"]["trained"],
            }
            print(name, results["cells"][name], flush=True)
    return results


def measure_gradients(text: Path, minutes: float) -> dict[str, Any]:
    """The decay of the gradients of each compared cell, for several seeds.

    Also draws the plot of the page, of the first seed.
    """
    results: dict[str, Any] = {"minutes": minutes, "text": text.name, "decay": {}}
    with tempfile.TemporaryDirectory() as folder:
        for cell in COMPARED:
            runs = [
                train(text, minutes, Path(folder) / f"{cell}{seed}", "--cell", cell, seed=seed)
                for seed in SEEDS
            ]
            lines = charlm(folder, "gradients", *map(str, runs), str(text), "--format", "json")
            records = [json.loads(line) for line in lines.splitlines()]
            results["decay"][cell] = [record["decay_nats_per_step"] for record in records]
            runs[0].rename(Path(folder) / cell)
        plot = ("--plot", str(PLOT), "--format", "json")
        charlm(folder, "gradients", *COMPARED, str(text), *plot)
    return results


def train(text: Path, minutes: float, run: Path, *options: str, seed: int = 1) -> Path:
    """Train a network in a run folder, without n-grams. Returns the folder."""
    size = ("--hidden", str(HIDDEN), "--dropout", str(DROPOUT), "--minutes", str(minutes))
    run_options = ("--ngram", "none", "--seed", str(seed), "--quiet", "--out", str(run))
    charlm(run.parent, "train", str(text), *size, *run_options, *options)
    return run
