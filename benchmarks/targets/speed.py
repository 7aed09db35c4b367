"""The speed of encoder–decoders, beside a plain loop of torch.nn over the same batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import charlm
from benchmarks.labels.speed import DROPOUT, LINES, examples, fastest, own_steps, plain_steps, steps
from benchmarks.project import command, cost
from benchmarks.targets.quality import trained
from charlm import Transducer
from charlm.model.seq2seq_config import Seq2SeqConfig
from charlm.tasks import seq2seq

HIDDEN, EMBEDDING, BATCH = 256, 64, 16


class PlainSeq2Seq(nn.Module):
    """The shapes of the encoder–decoder with global attention in torch's own layers."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.sources = nn.Embedding(config.source_vocab, config.embedding)
        self.encoder = nn.LSTM(config.embedding, hidden, bidirectional=True)
        self.start = nn.Linear(2 * hidden, 2 * hidden)
        self.targets = nn.Embedding(config.vocab, config.embedding)
        self.decoder = nn.LSTM(config.embedding, hidden)
        self.keys, self.values = nn.Linear(2 * hidden, hidden), nn.Linear(2 * hidden, hidden)
        self.own = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(hidden, config.vocab)

    def forward(self, batch: seq2seq.PairBatch) -> Tensor:
        """The logits (T, B, V)."""
        source = torch.from_numpy(batch.source)
        y, (last, _) = self.encoder(self.dropout(self.sources(source)))
        h, c = self.start(torch.cat([last[0], last[1]], dim=1)).tanh().chunk(2, dim=1)
        inputs = self.dropout(self.targets(torch.from_numpy(batch.inputs)))
        states, _ = self.decoder(inputs, (h.contiguous()[None], c.contiguous()[None]))
        y = self.dropout(y)
        scores = torch.einsum("tbh,sbh->tbs", states, self.keys(y)) / states.shape[2] ** 0.5
        weights = scores.masked_fill((source == 0).T, -torch.inf).softmax(dim=2)
        context = torch.einsum("tbs,sbh->tbh", weights, self.values(y))
        logits: Tensor = self.output(self.dropout((context + self.own(states)).tanh()))
        return logits

    def loss(self, batch: seq2seq.PairBatch) -> Tensor:
        """The mean loss of a token, in nats."""
        targets = torch.from_numpy(batch.targets)
        return nn.functional.cross_entropy(self(batch)[targets > 0], targets[targets > 0])


def speed(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Pairs a second to train, sources a second to predict, and seconds of whole processes."""
    run, _ = trained(data, 1)
    words = sorted({row.split("\t")[0] for row in _lines(data / "g2p.test.tsv")})
    Path("words.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    processes: dict[str, list[str]] = {
        "import torch": [sys.executable, "-c", "import torch"],
        "predict one word": command("predict", words[0], "--model", run),
        f"predict {len(words):,} words": command(
            "predict", "--file", "words.txt", "--model", run
        ),
    }  # fmt: skip
    seconds = {n: min(cost(a).seconds for _ in range(LINES)) for n, a in processes.items()}
    return {
        "pairs a second": _trained(data),
        "words a second": _predicted(run, words),
        "seconds": seconds,
    }


def _trained(data: Path) -> dict[str, float]:
    read = examples(seq2seq.TASK, data / "g2p.train.tsv", target_level="word", split="whitespace")
    made: Sequence[Any] = steps(seq2seq.TASK, read, BATCH, 64)
    sizes = {name: v.size for name, v in read.vocabularies.items()}
    work = {}
    for attention in ("monotonic", "global"):
        config = Seq2SeqConfig(
            source_vocab=sizes["text"], vocab=sizes["target"], hidden=HIDDEN, embedding=EMBEDDING,
            attention=attention,
        )  # fmt: skip
        network = seq2seq.TASK.network(config, {}, DROPOUT).train()
        work[f"charlm, {attention} attention"] = own_steps(seq2seq.TASK, network, made)
    work["plain torch, global attention"] = plain_steps(PlainSeq2Seq(config).train(), made)
    pairs = sum(batch.source.shape[1] for batch in made)
    return {name: pairs / least for name, least in fastest(work).items()}


def _predicted(run: Path, words: list[str]) -> dict[str, float]:
    found = {}
    for name, alone in (("both halves", False), ("the network alone", True)):
        model = charlm.load(run, kind=Transducer, network_only=alone)
        model.predict(words[:50])
        start = time.perf_counter()
        model.predict(words)
        found[name] = len(words) / (time.perf_counter() - start)
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
