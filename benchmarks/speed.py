"""How fast charlm starts, samples, scores and reads, beside what it is compared with.

    python benchmarks/speed.py

Everything is measured in turns within this one run, so that the ratios hold on a noisy machine;
the figures are medians. A model of 1 × 512 and one of 2 × 512 with random weights stand in for
trained ones, which are as fast.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from charlm.language_model import LanguageModel
from charlm.model.config import ModelConfig
from charlm.model.file import Card, ModelFile
from charlm.model.network import Network, as_arrays
from charlm.tokenizer import train_tokenizer

TEXT = Path(__file__).parent.parent / "corpora" / "tales.txt"
ROUNDS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, two = (random_model(Path(folder) / f"{k}.safetensors", k) for k in (1, 2))
        start_up(one)
        for model in (one, two):
            sampling(model)
        scoring(one)
    reading()


def random_model(path: Path, layers: int) -> LanguageModel:
    text = TEXT.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("char", lambda: [text])
    config = ModelConfig(tokenizer.size, "lstm", layers, hidden=512, embedding=128)
    card = Card("random", "", False, "line", 0, 0, 0.0, None, 0.0, False, "not", 0.0, "")
    ModelFile(config, as_arrays(Network(config).state_dict()), tokenizer, card).save(path)
    return LanguageModel(path)


def in_turns(runs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median seconds of each, run one after the other, round after round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


def start_up(model: LanguageModel) -> None:
    def command(*arguments: str) -> Callable[[], object]:
        environment = {**os.environ, "CHARLM_MODEL": str(model.path)}
        full = [sys.executable, *arguments]
        return lambda: subprocess.run(full, env=environment, capture_output=True, check=True)

    charlm = ("-m", "charlm")
    found = in_turns(
        {
            "python -c 'import torch'": command("-c", "import torch"),
            "python -c 'import numpy'": command("-c", "import numpy"),
            "charlm --help": command(*charlm, "--help"),
            "charlm score SENTENCE": command(*charlm, "score", "The harbour was quiet."),
            "charlm sample --length 500": command(*charlm, "sample", "--length", "500"),
        }
    )
    print("Seconds for a whole command, LSTM of 512")
    for name, seconds in found.items():
        print(f"  {name:<30}{seconds:6.2f}")


def sampling(model: LanguageModel) -> None:
    layers, hidden = model.config.layers, model.config.hidden
    reference = torch.nn.LSTM(128, hidden, layers)
    x = torch.zeros(1, 1, 128)

    def step_torch(steps: int = 100) -> None:
        state = None
        with torch.no_grad():
            for _ in range(steps):
                _, state = reference(x, state)

    def step_numpy(steps: int = 100) -> None:
        state, ids = model.stepper.initial_state(1), np.array([3])
        for _ in range(steps):
            _, state = model.stepper.step(ids, state)

    found = in_turns(
        {
            "nn.LSTM, one step at a time": step_torch,
            "charlm's step": step_numpy,
            "charlm sampling": lambda: model.sample(length=100, seed=1),
        }
    )
    print(f"Characters a second, {layers} × {hidden}, one stream")
    for name, seconds in found.items():
        print(f"  {name:<30}{100 / seconds:8,.0f}")


def scoring(model: LanguageModel) -> None:
    lines = TEXT.read_text(encoding="utf-8").replace(". ", ".\n").split("\n")[:400]
    found = in_turns(
        {
            "one call a sentence": lambda: [model.score(line) for line in lines],
            "all in one call": lambda: model.score(lines),
        },
        rounds=3,
    )
    print(f"Sentences a second, 1 × {model.config.hidden}")
    for name, seconds in found.items():
        print(f"  {name:<30}{len(lines) / seconds:8,.0f}")


def reading() -> None:
    text = TEXT.read_text(encoding="utf-8") * 40
    blocks = [text[start : start + 2**20] for start in range(0, len(text), 2**20)]
    tokenizers = {
        level: train_tokenizer(level, lambda: blocks[:1])
        for level in ("char", "byte", "word", "subword")
    }
    runs: dict[str, Callable[[], object]] = {
        level: lambda t=t: [t.encode_ids(block) for block in blocks]  # type: ignore[misc]
        for level, t in tokenizers.items()
    }
    print("Megabytes of text encoded a second")
    for name, seconds in in_turns(runs, rounds=3).items():
        print(f"  {name:<30}{len(text) / 1e6 / seconds:8,.0f}")


if __name__ == "__main__":
    main()
