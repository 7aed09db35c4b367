"""What an n-gram model costs: bytes, seconds and memory."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import charlm
from benchmarks.mixture.texts import text_of
from benchmarks.project import command, cost, trained
from charlm import LanguageModel

SIZES = {"20 KB": 20_000, "1 MB": 1_000_000, "5 MB": 5_000_000, "100 MB": 100_000_000}
GIGABYTE = 1_000_000_000
REPEATS = 9
SHAPES = ((1, 256), (1, 512), (2, 512))  # layers, features
SECONDS = 5.0  # of sampling


def files(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Size of the model file, and seconds of a score, with and without an n-gram model."""
    results = []
    for name, characters in SIZES.items():
        corpus = text_of(characters, text)
        options = ("--steps", 2, "--hidden", 256)
        runs = {
            "mixture": trained(corpus, f"mixture {name}", *options),
            "network": trained(corpus, f"network {name}", *options, "--ngram", "none"),
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(REPEATS):
            for kind, run in runs.items():
                start = time.perf_counter()
                score = command("score", "the cat", "--model", run)
                subprocess.run(score, check=True, capture_output=True)
                seconds[kind].append(time.perf_counter() - start)
        sizes = {k: (run / "model.safetensors").stat().st_size for k, run in runs.items()}
        ngram = charlm.load(runs["mixture"], kind=LanguageModel).mixture
        assert ngram
        results.append(
            {
                "text": name,
                "characters": corpus.stat().st_size,
                "ngrams": len(ngram.ngram),
                "bytes": sizes,
                "seconds": {kind: statistics.median(s) for kind, s in seconds.items()},
            }
        )
    return results


def large(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Time and memory of a training of three minutes, of a long text."""
    results = []
    for size in (SIZES["100 MB"], GIGABYTE):
        corpus = text_of(size, text)
        training = command("train", corpus, "--minutes", 3, "--out", f"large {size}", "--quiet")
        seconds, megabytes, _ = cost(training)
        card = charlm.load(f"large {size}").card
        results.append(
            {
                "characters": size,
                "seconds": seconds,
                "megabytes": megabytes,
                "mixture": card.valid_nats,
                "network": card.valid_network,
            }
        )
    return results


def sampling(folder: Path, text: Path) -> dict[str, dict[str, float]]:
    """Tokens a second of one sample, by a network alone and by a mixture."""
    cases: dict[str, tuple[object, ...]] = {
        f"characters, {layers} × {hidden}": ("--layers", layers, "--hidden", hidden)
        for layers, hidden in SHAPES
    }
    words = ("--level", "word", "--vocab-size", 10_000)
    cases |= {f"10,000 words, 1 × {h}": (*words, "--hidden", h) for h in (128, 256)}
    results = {}
    for name, options in cases.items():
        run = trained(text, f"sampling {name}", "--steps", 300, *options)
        speeds: dict[str, list[float]] = {"network": [], "mixture": []}
        for _ in range(3):
            for kind, rates in speeds.items():
                model = charlm.load(run, kind=LanguageModel, network_only=kind == "network")
                rates.append(tokens_per_second(model))
        results[name] = {kind: max(rates) for kind, rates in speeds.items()}
    return results


def tokens_per_second(model: LanguageModel) -> float:
    pieces = model.stream(length=10**9, seed=1)
    for _ in range(20):
        next(pieces)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + SECONDS:
        next(pieces)
        count += 1
    return count / (time.perf_counter() - start)
