"""The speed of training steps, beside torch's own modules and the step's matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from benchmarks.speed.harness import Row, in_turns, repeated
from benchmarks.speed.limits import PRECISIONS, product_rate
from benchmarks.speed.networks import character_network
from charlm.corpus.batches import BatchShape, find_rare
from charlm.corpus.encoding import TokenFile
from charlm.corpus.streams import StreamBatches
from charlm.model.config import Dropout, ModelConfig
from charlm.model.devices import autocast
from charlm.model.network import Network
from charlm.tasks import load_task
from charlm.tasks.lm import TextValidation
from charlm.training.clock import Clock
from charlm.training.distributed import Ranks
from charlm.training.loop import Loop
from charlm.training.member import CLIP
from charlm.training.recipe import Recipe

SHAPES = ((2, 512, 128, 128), (1, 320, 32, 32))  # layers, features, streams, tokens of a stream
TOKENS = 16_384  # of a run: a single small step would mostly wait for threads to wake up
MODULES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
CPU = torch.device("cpu")


def training() -> Iterator[Row]:
    torch.set_flush_denormal(True)
    for (layers, hidden, batch, length), cell in product(SHAPES, MODULES):
        config = character_network(layers, hidden, cell)
        steps = max(TOKENS // (batch * length), 1)
        runs = {
            f"{name} {precision}": repeated(steps, step(config, batch, length, precision))
            for precision in PRECISIONS
            for name, step in (("charlm", charlm_step), ("plain", plain_step))
        }
        seconds = in_turns(runs)
        tokens = steps * batch * length
        for precision in PRECISIONS:
            yield Row(
                f"{cell} {layers} × {hidden}, {batch} × {length}, {precision}",
                "tokens/s",
                tokens / seconds[f"charlm {precision}"],
                plain=tokens / seconds[f"plain {precision}"],
                limit=batch * length / product_seconds(config, batch, length, precision),
            )


def charlm_step(
    config: ModelConfig, batch: int, length: int, precision: str
) -> Callable[[], object]:
    """A step of charlm's training loop, with everything but evaluation."""
    ids = zipfian(config.vocab, 400_000)
    bounds = np.arange(0, len(ids) + 1, 40)
    recipe = Recipe(
        model=config,
        dropout=Dropout(),
        minutes=None,
        epochs=None,
        steps=10**9,
        batch=batch,
        bptt=length,
        lr=1e-3,
        weight_decay=0.05,
        device="cpu",
        precision=precision,
        tokens=10**6,
        threads=torch.get_num_threads(),
    )
    tokens = TokenFile(ids, bounds)
    batches = StreamBatches(
        tokens, BatchShape(batch, length, False, 1), find_rare(tokens, config.vocab, True)
    )
    validation = TextValidation(ids[:4096], bounds[:100], independent_lines=False)
    loop = Loop(load_task("lm"), recipe, Network(config), batches, validation, Ranks())
    steps = loop.run(Clock(recipe, batches.steps_per_epoch, started=time.monotonic()))
    return partial(next, steps)


def zipfian(vocab: int, tokens: int) -> NDArray[np.integer]:
    """Random ids with the frequencies of words: the k-th id has a probability of about 1/k."""
    p = 1 / np.arange(1, vocab - 2)
    ids = np.arange(3, vocab, dtype=np.uint16)
    return np.random.default_rng(0).choice(ids, tokens, p=p / p.sum())


def plain_step(
    config: ModelConfig, batch: int, length: int, precision: str
) -> Callable[[], object]:
    """A step in the usual way: torch's modules, loss and fused optimizer."""
    embedding = nn.Embedding(config.vocab, config.embedding)
    layers = MODULES[config.cell](config.embedding, config.hidden, config.layers)
    norm, output = nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.vocab - 1)
    parameters = list(nn.ModuleList([embedding, layers, norm, output]).parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True)
    ids = torch.randint(config.vocab - 1, (length, batch))

    def step() -> None:
        optimizer.zero_grad()
        with autocast(precision, CPU):
            logits = output(norm(layers(embedding(ids))[0]))
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        loss.item()

    return step


def product_seconds(config: ModelConfig, batch: int, length: int, precision: str) -> float:
    """The time of a step's matrix products alone, each measured in its own shape.

    The backward pass has two products for each product of the forward pass.
    """
    gates, tokens = len(config.recurrence.gates) * config.hidden, batch * length
    inputs = [config.embedding] + [config.hidden] * (config.layers - 1)
    products = [(tokens, features, gates, 1) for features in inputs]
    products += [(batch, config.hidden, gates, length * config.layers)]
    products += [(tokens, config.hidden, config.vocab - 1, 1)]
    return sum(
        3 * times * 2 * m * k * n / product_rate(precision, m, k, n) / 1e9
        for m, k, n, times in products
    )
