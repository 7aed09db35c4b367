"""How long people wait: scoring and filtering in bulk, one long line, and sampling.

    python -m benchmarks.bulk DATA [--before CHECKOUT]

DATA has ptb.train.txt and ptb.test.txt. Commands run as whole processes, by turns of this version
and of another checkout of the project, whose figures are those before. Writes benchmarks/bulk.json
and docs/bulk.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks/bulk.json", ROOT / "docs/bulk.md"
REPEATS = 3
MODEL = ("--level", "char", "--steps", "400", "--layers", "1", "--quiet")
SAMPLED = 20_000  # characters
STEPPED = """
import sys, time, torch
hidden, n = int(sys.argv[1]), int(sys.argv[2])
embedding, lstm = torch.nn.Embedding(52, 128), torch.nn.LSTM(128, hidden)
output, token, state = torch.nn.Linear(hidden, 51), torch.tensor([3]), None
with torch.inference_mode():
    for step in range(n + 100):
        if step == 100:
            start = time.perf_counter()
        y, state = lstm(embedding(token)[None], state)
        token = torch.multinomial(torch.softmax(output(y[0, 0]) / 0.8, -1), 1)
print(n / (time.perf_counter() - start))
"""


def run(checkout: Path, arguments: Sequence[object], output: Path) -> float:
    """The seconds of a command of a checkout, whose stdout goes to a file."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "charlm", *map(str, arguments)]
    start = time.perf_counter()
    with output.open("wb") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def medians(
    commands: Mapping[str, tuple[Path, Sequence[object]]], folder: Path, repeats: int = REPEATS
) -> dict[str, float]:
    """The median seconds of commands that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (checkout, arguments) in commands.items():
            seconds[name].append(run(checkout, arguments, folder / f"{name}.out"))
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(data: Path, before: Path | None, folder: Path) -> dict[str, Any]:
    """All figures."""
    test = (data / "ptb.test.txt").read_text(encoding="utf-8")
    texts = {"1 MB": test * 3, "4 MB": test * 10, "line": test.replace("\n", " ") * 3}
    sizes = {"1 MB": 1_000_000, "4 MB": 4_000_000, "line": 1_000_000}
    for name, text in texts.items():
        (folder / name).write_text(text[: sizes[name]] + "\n", encoding="utf-8")
    train = data / "ptb.train.txt"
    for hidden in (256, 512):
        options = ["--hidden", hidden, "--out", folder / str(hidden), *MODEL]
        run(ROOT, ["train", train, *options], folder / "train.out")
    model = ["-m", folder / "256"]
    filtering = ["filter", folder / "1 MB", "--max", 2, *model]
    large = ["filter", folder / "4 MB", "--max", 2, *model]
    scoring = ["score", "--file", folder / "1 MB", *model]
    line = ["score", "--file", folder / "line", "--format", "json", *model]
    results: dict[str, Any] = {"cores": os.cpu_count(), "repeats": REPEATS}

    def turns(name: str, old: Sequence[object] | None, new: dict[str, Sequence[object]]) -> None:
        commands = {f"after, {key}" if key else "after": (ROOT, c) for key, c in new.items()}
        if before and old:
            commands = {"before": (before, old)} | commands
        results[name] = medians(commands, folder)

    turns("filter, 1 MB", filtering, {
        "": filtering, "fp32": [*filtering, "--precision", "fp32"],
        "n-grams": [*filtering, "--ngram-only"],
    })  # fmt: skip
    turns("score, 1 MB", scoring, {
        "": scoring, "bf16": [*scoring, "--precision", "bf16"],
        "n-grams": [*scoring, "--ngram-only"],
    })  # fmt: skip
    turns("score, one line of 1 MB", line, {
        "": line, "bf16": [*line, "--precision", "bf16"], "n-grams": [*line, "--ngram-only"],
    })  # fmt: skip
    turns("filter, 4 MB", None, {
        "1 job": [*large, "--jobs", 1], "2 jobs": [*large, "--jobs", 2],
        "n-grams": [*large, "--ngram-only"],
    })  # fmt: skip
    for hidden in (256, 512):
        sample = ["sample", "-m", folder / str(hidden), "--seed", 1, "--length"]
        for name, more in (("network", ["--network-only"]), ("mixture", [])):
            commands = {"after": (ROOT, [*sample, SAMPLED, *more])}
            starts = {"after": (ROOT, [*sample, 1, *more])}
            if before:
                commands["before"] = (before, [*sample, SAMPLED, *more])
                starts["before"] = (before, [*sample, 1, *more])
            whole, start = medians(commands, folder), medians(starts, folder)
            results[f"sample, 1 × {hidden}, {name}"] = {
                key: SAMPLED / (whole[key] - start[key]) for key in sorted(whole, reverse=True)
            }
        stepped = [sys.executable, "-c", STEPPED, str(hidden), "2000"]
        speeds = [float(subprocess.check_output(stepped)) for _ in range(REPEATS)]
        results[f"nn.LSTM, 1 × {hidden}"] = {"stepped": statistics.median(speeds)}
    results["bf16"] = difference(folder)
    return results


def difference(folder: Path) -> dict[str, float]:
    """The greatest difference between scores in bf16 and in fp32, in nats per token."""
    import charlm
    from charlm import LanguageModel

    lines = (folder / "1 MB").read_text(encoding="utf-8").splitlines()[:4000]
    exact, low = (
        charlm.load(folder / "256", kind=LanguageModel, backend="torch", precision=p).score(lines)
        for p in ("fp32", "bf16")
    )
    pairs = list(zip(exact, low, strict=True))
    of_lines = [abs(a.logprob - b.logprob) / a.tokens for a, b in pairs]
    of_tokens = [float(np.abs(a.logprobs - b.logprobs).max()) for a, b in pairs]
    total = sum(a.logprob - b.logprob for a, b in pairs) / sum(a.tokens for a, _ in pairs)
    return {"line": max(of_lines), "token": max(of_tokens), "whole text": abs(total)}


def page(results: dict[str, Any]) -> str:
    """The figures as a page."""
    waits = [
        [name, variant, f"{seconds:.1f}"]
        for name, values in results.items()
        if name.startswith(("filter", "score"))
        for variant, seconds in values.items()
    ]
    speeds = [
        [name, variant, f"{speed:,.0f}"]
        for name, values in results.items()
        if name.startswith(("sample", "nn.LSTM"))
        for variant, speed in values.items()
    ]
    jobs = results["filter, 4 MB"]
    ratio = jobs["after, 1 job"] / jobs["after, 2 jobs"]
    grams = results["filter, 4 MB"]["after, n-grams"]
    mixture, network = (
        results[f"sample, 1 × 256, {name}"]["after"] for name in ("mixture", "network")
    )
    low = results["bf16"]
    return (
        "# Waiting\n\n"
        "How long commands take on text in bulk, and how fast they write. This page is written\n"
        f"by `python -m benchmarks.bulk DATA`, on {results['cores']} cores. The model is an LSTM "
        "of 256 features\nover the characters of Penn Treebank, with n-grams. Seconds are those "
        f"of whole commands,\nthe median of {results['repeats']}; *before* is an earlier version "
        "in the same run.\n\n"
        + table("command | version | seconds", waits)
        + f"\nTwo jobs are {ratio:.2f} times as fast as one. The n-gram model alone filters "
        f"{4 / grams:.2f} MB/s,\nstart included. In bf16 the score of a line differs by "
        f"{low['line']:.4f} nats per token at the most, that of\na token by {low['token']:.3f}, "
        f"and that of the whole text by {low['whole text']:.6f}.\n\n"
        "Characters a second, without the start; `nn.LSTM` is stepped in torch with a softmax and "
        "a draw:\n\n"
        + table("sampling | version | characters/s", speeds)
        + f"\nThe mixture has {mixture / network:.2f} of the speed of the network alone, at 256 "
        "features.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments.data, arguments.before, Path(folder))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
