"""The speed of scoring, beside a plain loop over the torch network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.project import SENTENCES
from benchmarks.speed.harness import Row, in_turns
from benchmarks.speed.networks import random_model
from charlm import LanguageModel
from charlm.tokenizer import START

HIDDEN_SIZES = (128, 512)
LINES, FEW_LINES = 10_000, 200


def scoring() -> Iterator[Row]:
    lines = SENTENCES.read_text(encoding="utf-8").split("\n")[:LINES]
    for hidden in HIDDEN_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            seconds = time_scoring(random_model(folder, hidden), lines)
        single, plain = FEW_LINES / seconds["single"], FEW_LINES / seconds["plain"]
        shape = f"1 × {hidden}"
        yield Row(f"{LINES:,} lines at once, {shape}", "lines/s", LINES / seconds["all"], single)
        yield Row(f"a line at a time, {shape}; plain: torch", "lines/s", single, plain)


def time_scoring(model: LanguageModel, lines: Sequence[str]) -> dict[str, float]:
    """The seconds for all lines at once, and for the first ones a line at a time."""
    first = lines[:FEW_LINES]
    return in_turns(
        {
            "plain": lambda: [plain_score(model, line) for line in first],
            "single": lambda: [model.score(line) for line in first],
            "all": lambda: model.score(lines),
        },
        rounds=3,
    )


def plain_score(model: LanguageModel, line: str) -> float:
    """The log-probability of a line in nats, by the torch network as a short script calls it."""
    network, ids = model.backends.torch, model.tokenizer.encode_ids(line + "\n").astype(np.int64)
    inputs = np.concatenate([[START], ids[:-1]])[None]
    y, _ = network.read(inputs, network.initial_state(1))
    return float(network.logprobs(y, ids[None]).sum())
