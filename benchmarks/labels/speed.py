"""The speed of classifiers and taggers, beside a plain loop of torch.nn over the same batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import charlm
from benchmarks.labels.quality import chunk_files, sentiment_files, tree_files
from benchmarks.project import command
from benchmarks.project import cost as cost_of
from charlm import TextClassifier, TreeLabeller, WordTagger
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.conll import tagged_sentences
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples
from charlm.corpus.labelled import STANDARD, labelled_texts
from charlm.model.config import Dropout
from charlm.model.sequence_config import ClassifierConfig, TaggerConfig
from charlm.model.tree_config import TreeConfig
from charlm.tasks import classify, tag, tree
from charlm.tasks.base import Task
from charlm.training.optimizer import AdamW
from charlm.training.options import TrainOptions

STEPS, ROUNDS, LINES = 60, 5, 3
BATCH = 24
DROPOUT = Dropout(0.5, 0.5, tokens=0.25)
Work = Callable[[], object]


class PlainTagger(nn.Module):
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

    def forward(self, batch: tag.TagBatch) -> Tensor:
        """The logits (T, B, K)."""
        rows, words = map(torch.from_numpy, batch.spellings)
        _, (last, _) = self.spell(self.letters(rows.T))
        spelt = torch.cat([last[0], last[1]], dim=1)
        vectors = self.words(torch.from_numpy(batch.words))
        x = torch.cat([vectors, nn.functional.embedding(words, spelt)], dim=2)
        logits: Tensor = self.output(self.dropout(self.layers(self.dropout(x))[0]))
        return logits

    def loss(self, batch: tag.TagBatch) -> Tensor:
        """The mean loss of a word, in nats."""
        words, tags = torch.from_numpy(batch.words), torch.from_numpy(batch.tags)
        real = words != 0
        return nn.functional.cross_entropy(self(batch)[real], tags[real])


class PlainClassifier(nn.Module):
    """The classifier's shapes in torch's own layers."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab, config.embedding)
        self.layer = nn.LSTM(config.embedding, config.hidden, bidirectional=True)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(config.states, config.labels)

    def forward(self, batch: classify.LabelBatch) -> Tensor:
        """The logits (B, K)."""
        text = torch.from_numpy(batch.text)
        states, _ = self.layer(self.dropout(self.words(text)))
        states = states.masked_fill((text == 0)[:, :, None], -torch.inf)
        logits: Tensor = self.output(self.dropout(states.amax(dim=0)))
        return logits

    def loss(self, batch: classify.LabelBatch) -> Tensor:
        """The mean loss of a text, in nats."""
        return nn.functional.cross_entropy(self(batch), torch.from_numpy(batch.labels))


class PlainTrees(nn.Module):
    """The network over trees, node by node, in torch's own layers."""

    def __init__(self, config: TreeConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab, config.hidden)
        self.dropout = nn.Dropout(0.5)
        self.cell = nn.Linear(2 * config.hidden, 5 * config.hidden)
        self.output = nn.Linear(config.hidden, config.labels)

    def forward(self, batch: tree.LabelledTrees) -> Tensor:
        """The logits (M, B, K) of all nodes, one after the other."""
        words, levels = torch.from_numpy(batch.trees.words), batch.trees.levels
        x = self.dropout(self.words(words)).flatten(0, 1)
        rows = [*x, torch.zeros_like(x[0])]
        cells = [torch.zeros_like(rows[0])] * len(rows)
        for children in levels.children:
            for left, right in children.T.tolist():
                both = torch.cat([rows[left], rows[right]])
                i, f, f_right, g, o = self.cell(both).chunk(5)
                kept = f.sigmoid() * cells[left] + f_right.sigmoid() * cells[right]
                cells.append(kept + i.sigmoid() * g.tanh())
                rows.append(o.sigmoid() * cells[-1].tanh())
        logits: Tensor = self.output(self.dropout(torch.stack(rows)))
        return logits[torch.from_numpy(levels.rows)]

    def loss(self, batch: tree.LabelledTrees) -> Tensor:
        """The mean loss of a node, in nats."""
        labels = torch.from_numpy(batch.trees.labels)
        return nn.functional.cross_entropy(self(batch)[labels >= 0], labels[labels >= 0])


class Case(NamedTuple):
    """What is measured: a task, its networks, and what its model is asked.

    networks:   by their names
    questions:  texts or sentences, none of them in the batches
    """

    task: Task[Any, Any]
    networks: dict[str, nn.Module]
    plain: Any
    batches: Sequence[Any]
    sentences: int
    training: Path
    questions: list[Any]


def speed(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Sentences a second of taggers and classifiers, and seconds of whole processes."""
    tagger, classifier = _tagger(chunk_files(data)), _classifier(sentiment_files(data)["five"])
    labeller = _labeller(tree_files(data))
    line = command("predict", "The cat sat .", "--model")
    whole: dict[str, list[str]] = {"import torch": [sys.executable, "-c", "import torch"]}
    result: dict[str, dict[str, float]] = {}
    for name, case, kind in (
        ("tagger", tagger, WordTagger), ("classifier", classifier, TextClassifier),
        ("labeller of trees", labeller, TreeLabeller),
    ):  # fmt: skip
        path = Path(name)
        charlm.train(case.training, kind=kind, out=path, steps=20, hidden=128, quiet=True)
        result[name] = _trained(case) | _predicted(case, path, kind)
        whole[f"predict one line, {name}"] = [*line, str(path)]
    seconds = {
        name: min(cost_of(arguments).seconds for _ in range(LINES))
        for name, arguments in whole.items()
    }
    return result | {"seconds": seconds}


def _tagger(files: dict[str, Path]) -> Case:
    read = examples(tag.TASK, files["train"])
    sizes = {name: v.size for name, v in read.vocabularies.items()}
    config = TaggerConfig(
        vocab=sizes["text"], tags=sizes["tags"] - 3, embedding=100, hidden=128, layers=2,
        residual=True, characters="recurrent", char_features=90, alphabet=sizes["letters"],
    )  # fmt: skip
    configs = {"charlm": config, "charlm without CRF": replace(config, crf=False)}
    networks = {n: tag.TASK.network(c, {}, DROPOUT).train() for n, c in configs.items()}
    asked = tagged_sentences(iter([files["test"].read_text(encoding="utf-8")]), STANDARD)
    questions = [words for words, _ in asked]
    return _case(tag.TASK, networks, PlainTagger(config), read, files["train"], questions)


def _classifier(files: dict[str, Path]) -> Case:
    read = examples(classify.TASK, files["train"])
    sizes = {name: v.size for name, v in read.vocabularies.items()}
    config = ClassifierConfig(
        vocab=sizes["text"], labels=sizes["label"] - 3, embedding=128, hidden=128, layers=1,
        readout="max",
    )  # fmt: skip
    networks = {"charlm": classify.TASK.network(config, {}, DROPOUT).train()}
    asked = labelled_texts(iter([files["test"].read_text(encoding="utf-8")]), STANDARD)
    questions = [text for texts, _ in asked for text in texts]
    plain = PlainClassifier(config)
    return _case(classify.TASK, networks, plain, read, files["train"], questions)


def _labeller(files: tuple[Path, Path, Path]) -> Case:
    train, _, test = files
    read = examples(tree.TASK, train)
    sizes = {name: v.size for name, v in read.vocabularies.items()}
    config = TreeConfig(vocab=sizes["text"], labels=sizes["labels"] - 3, hidden=128)
    networks = {"charlm": tree.TASK.network(config, {}, DROPOUT).train()}
    questions = test.read_text(encoding="utf-8").splitlines()
    return _case(tree.TASK, networks, PlainTrees(config), read, train, questions)


def _case(
    task: Task[Any, Any],
    networks: dict[str, Any],
    plain: nn.Module,
    read: Examples,
    training: Path,
    questions: list[Any],
) -> Case:
    batches = steps(task, read, BATCH, 32)
    sentences = sum(_sentences(batch) for batch in batches)
    return Case(task, networks, plain.train(), batches, sentences, training, questions)


def _sentences(batch: tag.TagBatch | classify.LabelBatch | tree.LabelledTrees) -> int:
    if isinstance(batch, tree.LabelledTrees):
        return len(batch.trees.which)
    texts = batch.words if isinstance(batch, tag.TagBatch) else batch.text
    return int(texts.shape[1])


def _trained(case: Case) -> dict[str, float]:
    work: dict[str, Work] = {
        name: own_steps(case.task, network, case.batches) for name, network in case.networks.items()
    }
    work["plain torch"] = plain_steps(case.plain, case.batches)
    return {f"train, {name}": case.sentences / least for name, least in fastest(work).items()}


def _predicted(case: Case, path: Path, kind: Any) -> dict[str, float]:
    model, alone = charlm.load(path, kind=kind), charlm.load(path, kind=kind, network_only=True)
    case.plain.eval()

    def forward() -> None:
        with torch.no_grad():
            for batch in case.batches:
                case.plain(batch)

    work: dict[str, Work] = {
        "charlm": lambda: model.predict(case.questions),
        "charlm, the network alone": lambda: alone.predict(case.questions),
        "plain torch, of ids": forward,
    }
    numbers = {**dict.fromkeys(work, len(case.questions)), "plain torch, of ids": case.sentences}
    return {f"predict, {name}": numbers[name] / least for name, least in fastest(work).items()}


def steps(task: Task[Any, Any], read: Examples, batch: int, length: int) -> list[Any]:
    """The first batches of a training."""
    made = task.batches(read, BatchShape(batch, length, True, 1))
    return list(islice(made.iterate(Cursor()), STEPS))


def fastest(work: dict[str, Work]) -> dict[str, float]:
    """The least seconds of each, in turns. The first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(ROUNDS + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in times.items()}


def own_steps(task: Task[Any, Any], network: Any, batches: Sequence[Any]) -> Work:
    """Training steps as the trainer takes them."""
    parameters = dict(network.named_parameters())
    optimizer = AdamW(parameters, 0.05)

    def run() -> None:
        for batch in batches:
            for parameter in parameters.values():
                parameter.grad = None
            loss, _ = task.loss(network, batch, [])
            (loss / batch.predicted).backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
            optimizer.step(1e-3)

    return run


def plain_steps(network: Any, batches: Sequence[Any]) -> Work:
    """Training steps of a plain loop."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def run() -> None:
        for batch in batches:
            optimizer.zero_grad()
            network.loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return run


def examples(task: Task[Any, Any], path: Path, **choices: Any) -> Examples:
    """The examples of a file, in memory. choices: options of training"""
    blocks = task.parse(iter([path.read_text(encoding="utf-8")]))
    fields = dict(zip(task.fields, map("".join, zip(*blocks, strict=True)), strict=True))
    options = TrainOptions(task=task.name, **(choices or {"level": "word"}))
    vocabularies = {
        name: task.vocabulary(name, partial(iter, [text]), options) for name, text in fields.items()
    }
    encoded = {n: TokenFile.of(vocabularies[n].encode_ids(text)) for n, text in fields.items()}
    return Examples(encoded, vocabularies)
