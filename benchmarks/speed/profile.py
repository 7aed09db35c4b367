"""The parts of a training step and of a sampled character, and the time of each."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.speed.harness import Row, in_turns, repeated
from benchmarks.speed.networks import character_network, random_numpy_network
from benchmarks.speed.training import charlm_step
from charlm.engines.sampling import SampleOptions, distribution, draw, random_stream
from charlm.model.config import ModelConfig

# The network and the tokens of a chunk by level.
TRAINED = {
    "characters": (character_network(1, 320), 32),
    "words": (
        ModelConfig(
            10_000, cell="lstm", layers=1, hidden=256, embedding=256, tied=True, cutoffs=(380, 3047)
        ),
        64,
    ),
}
SAMPLED = ((1, 256), (2, 1024))  # layers, features
STREAMS, STEPS = 32, 30
OPERATIONS = 10  # rows of a training profile
WEIGHTS_PER_RUN = 1e9


def profile() -> Iterator[Row]:
    for level, (config, length) in TRAINED.items():
        yield from profile_training(f"training, {level}", config, length)
    for layers, hidden in SAMPLED:
        yield from profile_sampling(character_network(layers, hidden))


def profile_training(name: str, config: ModelConfig, length: int) -> Iterator[Row]:
    """The operations that take most of a bf16 step, by torch's profiler."""
    step = charlm_step(config, STREAMS, length, "bf16")
    run = repeated(STEPS, step)
    run()
    start = time.perf_counter()
    run()
    yield Row(f"{name}: a step", "µs", (time.perf_counter() - start) / STEPS * 1e6)
    with torch.profiler.profile() as profiler:
        run()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in events) / STEPS
    for event in events[:OPERATIONS]:
        yield Row(f"  {event.key}", "µs", event.self_cpu_time_total / STEPS, whole=whole)


def profile_sampling(config: ModelConfig) -> Iterator[Row]:
    """The parts of sampling a character in one stream, each timed alone."""
    network = random_numpy_network(config)
    stack, state, ids = network.encoder.stacks["layers"], network.initial_state(1), np.array([3])
    y, state = stack.step(ids, state)
    logits, generator, options = network.logits(y), random_stream(1, 0), SampleOptions()
    matrices = [w["U"] for w in stack.weights] + [w["W"] for w in stack.weights[1:]]
    calls = {
        "products": lambda: [y @ matrix.T for matrix in matrices],
        "layers": lambda: stack.step(ids, state),
        "logits": lambda: network.logits(y),
        "drawing": lambda: draw(distribution(logits[0], options), generator),
    }
    times = int(WEIGHTS_PER_RUN / config.multiplied_weights())
    seconds = in_turns({part: repeated(times, call) for part, call in calls.items()})
    micros = {part: value / times * 1e6 for part, value in seconds.items()}
    whole = micros["layers"] + micros["logits"] + micros["drawing"]
    yield Row(f"sampling, {config.layers} × {config.hidden}: a character", "µs", whole)
    yield Row("  recurrent products", "µs", micros["products"], whole=whole)
    rest = micros["layers"] - micros["products"]
    yield Row("  the rest of the layers", "µs", rest, whole=whole)
    yield Row("  logits", "µs", micros["logits"], whole=whole)
    yield Row("  drawing", "µs", micros["drawing"], whole=whole)
