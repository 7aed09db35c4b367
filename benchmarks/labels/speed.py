"""The speed of a tagger, beside a plain loop of torch.nn over the same batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import charlm
from benchmarks.labels.quality import chunk_files
from benchmarks.project import command
from benchmarks.project import cost as cost_of
from charlm import WordTagger
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.conll import tagged_sentences
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples
from charlm.corpus.labelled import STANDARD
from charlm.model.config import Dropout
from charlm.model.sequence_config import TaggerConfig
from charlm.tasks.tag import TASK, TagBatch
from charlm.training.optimizer import AdamW
from charlm.training.options import TrainOptions

STEPS, ROUNDS, LINES = 60, 5, 3
DROPOUT = Dropout(0.5, 0.5, tokens=0.25)


class Plain(nn.Module):
    """The tagger's shapes in torch's own layers, without residual connection and CRF."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        self.letters = nn.Embedding(config.alphabet, 16, padding_idx=0)
        self.spell = nn.LSTM(16, config.char_features // 2, bidirectional=True)
        self.words = nn.Embedding(config.vocab, config.embedding)
        self.layers = nn.LSTM(
            config.inputs, config.hidden, config.layers, bidirectional=True, dropout=0.5
        )
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(config.states, config.tags)

    def forward(self, batch: TagBatch) -> Tensor:
        """The logits (T, B, K)."""
        rows, words = map(torch.from_numpy, batch.spellings)
        _, (last, _) = self.spell(self.letters(rows.T))
        spelt = torch.cat([last[0], last[1]], dim=1)
        vectors = self.words(torch.from_numpy(batch.words))
        x = torch.cat([vectors, nn.functional.embedding(words, spelt)], dim=2)
        logits: Tensor = self.output(self.dropout(self.layers(self.dropout(x))[0]))
        return logits


def speed(folder: Path, data: Path) -> dict[str, float]:
    """Sentences a second, and seconds."""
    files = chunk_files(data)
    examples = _examples(files["train"])
    sizes = {name: v.size for name, v in examples.vocabularies.items()}
    config = TaggerConfig(
        vocab=sizes["text"], tags=sizes["tags"] - 3, embedding=100, hidden=128, layers=2,
        residual=True, characters="recurrent", char_features=90, alphabet=sizes["letters"],
    )  # fmt: skip
    shape = BatchShape(24, 32, True, 1)
    batches = list(islice(TASK.batches(examples, shape).iterate(Cursor()), STEPS))
    sentences = sum(batch.words.shape[1] for batch in batches)
    own, plain = TASK.network(config, {}, DROPOUT).train(), Plain(config).train()
    without_crf = TASK.network(_without_crf(config), {}, DROPOUT).train()
    steps: dict[str, Callable[[], None]] = {
        "own": _own_epoch(own, batches),
        "own without CRF": _own_epoch(without_crf, batches),
        "plain": _plain_epoch(plain, batches),
    }
    seconds = {name: min(times) for name, times in _interleaved(steps).items()}
    result = {f"train {name}": sentences / s for name, s in seconds.items()}
    return result | _prediction(files, plain.eval(), batches, sentences)


def _without_crf(config: TaggerConfig) -> TaggerConfig:
    from dataclasses import replace

    return replace(config, crf=False)


def _prediction(
    files: dict[str, Path], plain: Plain, batches: list[TagBatch], sentences: int
) -> dict[str, float]:
    model = charlm.train(
        files["train"], kind=WordTagger, out="speed", steps=20, hidden=128, quiet=True
    )
    alone = charlm.load(model.path, kind=WordTagger, network_only=True)
    read = tagged_sentences(iter([files["test"].read_text(encoding="utf-8")]), STANDARD)
    words = [sentence for sentence, _ in read]

    def forward() -> None:
        with torch.no_grad():
            for batch in batches:
                plain(batch)

    timed: dict[str, Callable[[], Any]] = {
        "both halves": lambda: model.predict(words),
        "network alone": lambda: alone.predict(words),
    }
    result = {
        f"predict {name}": len(words) / min(times) for name, times in _interleaved(timed).items()
    }
    result["predict plain"] = sentences / min(_interleaved({"plain": forward})["plain"])
    line = command("predict", "The cat sat .", "--model", model.path)
    torch_alone = [sys.executable, "-c", "import torch"]
    result["one line, s"] = min(cost_of(line).seconds for _ in range(LINES))
    result["import torch, s"] = min(cost_of(torch_alone).seconds for _ in range(LINES))
    return result


def _interleaved(work: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """The seconds of each, in turns. The first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(ROUNDS + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def _own_epoch(network: Any, batches: list[TagBatch]) -> Callable[[], None]:
    parameters = dict(network.named_parameters())
    optimizer = AdamW(parameters, 0.05)

    def run() -> None:
        for batch in batches:
            for parameter in parameters.values():
                parameter.grad = None
            loss, _ = TASK.loss(network, batch, [])
            (loss / batch.predicted).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step(1e-3)

    return run


def _plain_epoch(network: Plain, batches: list[TagBatch]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def run() -> None:
        for batch in batches:
            optimizer.zero_grad()
            words, tags = torch.from_numpy(batch.words), torch.from_numpy(batch.tags)
            real = words != 0
            loss = nn.functional.cross_entropy(network(batch)[real], tags[real])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return run


def _examples(path: Path) -> Examples:
    """The examples of a file, in memory."""
    blocks: Iterator[tuple[str, ...]] = TASK.parse(iter([path.read_text(encoding="utf-8")]))
    fields = dict(zip(TASK.fields, map("".join, zip(*blocks, strict=True)), strict=True))
    options = TrainOptions(task="tag")
    vocabularies = {
        name: TASK.vocabulary(name, partial(iter, [text]), options) for name, text in fields.items()
    }
    encoded = {n: TokenFile.of(vocabularies[n].encode_ids(text)) for n, text in fields.items()}
    return Examples(encoded, vocabularies)
