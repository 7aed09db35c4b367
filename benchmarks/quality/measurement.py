"""The measurement of one training."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import charlm
from benchmarks import project
from benchmarks.fill import fill_accuracy
from benchmarks.quality.trainings import EXTRAS, FILLED, LITTLE, REST, TRAININGS, WITH_EXTRAS
from benchmarks.quality.windows import loss_in_windows
from charlm import LanguageModel

WINDOW = 256  # characters that nanoGPT reads at once
SAMPLED, SCORED = 1000, 2000  # tokens and lines that the speed is measured with
SHAKESPEARE, TEST = "tinyshakespeare.txt", "ptb.test.txt"


def measure(name: str, data: Path, seed: int) -> dict[str, Any]:
    """Train a model and measure it. Returns the figures by name.

    data:  the folder with the texts
    """
    print(f"{name}: charlm train {TRAININGS[name]} --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / name
        if name.startswith("little"):
            text = (data / SHAKESPEARE).read_text(encoding="utf-8")
            run.with_name("little.txt").write_text(text[:LITTLE], encoding="utf-8")
            run.with_name("rest.txt").write_text(text[-REST:], encoding="utf-8")
        start = time.monotonic()
        options = ["--seed", str(seed), "--quiet", "--out", str(run)]
        charlm_on(data, run, "train", *TRAININGS[name].split(), *options)
        figures = {"seconds": time.monotonic() - start}
        figures |= training_figures(data, run) | further_figures(name, data, run)
    for figure, value in figures.items():
        print(f"  {figure}: {value}", flush=True)
    return figures


def training_figures(data: Path, run: Path) -> dict[str, Any]:
    """The figures on the model's card, and in the last line of its metrics."""
    card = json.loads(charlm_on(data, run, "info", str(run), "--json"))["card"]
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {
        "trained": card["trained"],
        "nats": card["valid_nats"],
        "network_nats": card["valid_network"] or card["valid_nats"],
        "ngram_nats": card["valid_ngram"],
        "nats_by_line": card["valid_lines"],
        "bits_per_char": card["valid_bits_per_char"],
        "steps": last["step"],
        "epochs": last["epoch"],
        "train_nats": last["train_nats_per_token"],
    }


def further_figures(name: str, data: Path, run: Path) -> dict[str, Any]:
    """The figures that only some trainings have."""
    figures: dict[str, Any] = {}
    if "-of-" in name:
        figures |= costs(data, run)
    elif name.startswith("shakespeare"):
        for figure, only in (("nats_in_windows", False), ("network_in_windows", True)):
            model = charlm.load(run, kind=LanguageModel, network_only=only)
            figures[figure] = loss_in_windows(model, data / SHAKESPEARE, WINDOW)
    if name.startswith(("ptb", "words")):
        score = evaluate(data, run, TEST)
        figures["test_perplexity"] = score["perplexity"]
        figures["test_bits"] = score["bits_per_char"]
        score = evaluate(data, run, TEST, "--network-only")
        figures["network_test_perplexity"] = score["perplexity"]
        figures["network_test_bits"] = score["bits_per_char"]
    if name in WITH_EXTRAS:
        for extra, options in EXTRAS.items():
            score = evaluate(data, run, TEST, *options.split())
            figures[f"with {extra}"] = score["perplexity"]
    if name in FILLED:
        figures["filled"] = fill_accuracy(run, data / FILLED[name])
    return figures


def costs(data: Path, run: Path) -> dict[str, float]:
    """What a model costs: bytes, tokens a second of one sample, and lines a second of scoring."""
    model = charlm.load(run, kind=LanguageModel)
    lines = (data / SHAKESPEARE).read_text(encoding="utf-8").splitlines()[:SCORED]

    def seconds(call: Callable[[], object]) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        "bytes": model.path.stat().st_size,
        "sampled_per_second": SAMPLED / seconds(lambda: model.sample(length=SAMPLED, seed=1)),
        "scored_per_second": len(lines) / seconds(lambda: model.score(lines)),
    }


def evaluate(data: Path, run: Path, text: str, *options: str) -> dict[str, float]:
    """The record that `charlm evaluate` writes of a text."""
    arguments = ("evaluate", text, *options, "--format", "json", "--model", str(run))
    record: dict[str, float] = json.loads(charlm_on(data, run, *arguments))
    return record


def charlm_on(data: Path, run: Path, *arguments: str) -> str:
    """Run a charlm command in the folder above the run; file names may be those of `data`."""
    paths = [str(data / name) if (data / name).is_file() else name for name in arguments]
    return project.charlm(run.parent, *paths)
