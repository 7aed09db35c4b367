"""The task `classify`: find the label of a text. Its models label texts.

An example is a line of the corpus: a text, a TAB and a label.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import TEXT, ExampleError, Examples, whole_lines
from charlm.corpus.stats import CorpusInfo
from charlm.engines.scores import in_groups
from charlm.errors import OptionError
from charlm.model.config import FEATURES, Dropout, Shapes, StackConfig
from charlm.model.devices import choose_device
from charlm.model.file import ModelFile
from charlm.model.names import add_prefix
from charlm.options import argument
from charlm.parts import WHOLE, Part, Share
from charlm.tasks.base import Companions, Sizes, Task, Validation, stack_options
from charlm.tasks.trained import LoadOptions, TrainedModel, one_line, several
from charlm.tokenizer import (
    SPECIALS,
    Blocks,
    Labels,
    Tokenizer,
    Vocabularies,
    Vocabulary,
    load_tokenizer,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from charlm.model.classifier import Classifier
    from charlm.model.layers import States
    from charlm.training.options import TrainOptions

LABEL = "label"
ACCURACY = "valid_accuracy"
EXAMPLES_AT_ONCE = 256  # in a batch
TOKENS_AT_ONCE = 1 << 18  # in a batch, the filling included
TEXTS_AT_ONCE = 4096  # read before the first one is labelled
MOST_SHOWN = 8  # labels
PROBED_TOKENS = 16384  # of the validation part, to estimate the time for all of it


@dataclass(frozen=True)
class ClassifierConfig(StackConfig):
    """The shape of a classifier: embedding, layers of two directions, softmax over labels.

    vocab:      number of token ids V, the three special ones included
    labels:     number of labels K
    embedding:  features E of a token's vector
    """

    vocab: int
    labels: int
    embedding: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        FEATURES.check("embedding", self.embedding)

    def shapes(self) -> Shapes:
        shapes: Shapes = {"embedding": (self.vocab, self.embedding)}
        for k in range(self.layers):
            inputs = 2 * self.hidden if k else self.embedding
            layer = self.recurrence.shapes(inputs, self.hidden, self.layer_norm)
            for direction in ("forwards", "backwards"):
                shapes |= add_prefix(f"layers.{k}.{direction}", layer)
        shapes["output.weight"] = (self.labels, 2 * self.hidden)
        shapes["output.bias"] = (self.labels,)
        return shapes

    def multiplied_weights(self, output_rows: float | None = None) -> float:
        # The output layer is used once for a text, and the embedding is looked up.
        layers = (s for name, s in self.shapes().items() if name.startswith("layers."))
        return sum(prod(shape) for shape in layers if len(shape) > 1)

    @property
    def kept_floats(self) -> int:
        return 2 * self.embedding + 2 * self.layers * self.kept_layer_floats

    @property
    def reads_both_ways(self) -> bool:
        return True


class LabelBatch(NamedTuple):
    """B texts and their labels.

    text:    (T, B) int64, filled up with `<START>`
    labels:  (B,) int64, from 0
    share:   which examples of the batch these are; None for all
    """

    text: NDArray[np.int64]
    labels: NDArray[np.int64]
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of examples, in all processes."""
        return self.share.predicted if self.share else len(self.labels)


class Label(NamedTuple):
    """A label, and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class LabelScore:
    """How well the labels of texts are found. The scores of several texts add up.

    examples:  texts with a label
    right:     texts whose most probable label is their own
    nats:      Σ −log p(label); a label that training has not seen counts as much as a guess
    unseen:    texts with such a label
    """

    examples: int
    right: int
    nats: float

    unseen: int = 0

    columns: ClassVar = {"examples": ",", "accuracy": ".4f", "nats_per_label": ".4f"}

    @property
    def predicted(self) -> int:
        """The number of examples."""
        return self.examples

    def figures(self) -> dict[str, Any]:
        """The measures under their names in JSON output."""
        examples = max(self.examples, 1)
        return {
            "examples": self.examples,
            "accuracy": self.right / examples,
            "nats_per_label": self.nats / examples,
        }

    def __add__(self, other: LabelScore) -> LabelScore:
        both = zip(astuple(self), astuple(other), strict=True)
        return LabelScore(*(a + b for a, b in both))


class TextClassifier(TrainedModel):
    """A model that finds the label of a text. Its network runs in torch.

    labels:  from the first id on
    """

    task = "classify"
    purpose = "labels texts (charlm predict)"
    predicted = "label"
    next_commands = ('charlm predict "a text"', "charlm evaluate FILE")
    config: ClassifierConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self.config, self._weights = file.network(ClassifierConfig)
        self.tokenizer: Tokenizer = file.vocabulary(TEXT, load_tokenizer, self.config.vocab)
        size = self.config.labels + len(SPECIALS)
        self._labels: Labels = file.vocabulary(LABEL, Labels.from_state, size)
        self._device, self._threads = options.device, options.threads

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of their columns."""
        return self._labels.names

    @cached_property
    def network(self) -> Classifier:
        """The network in torch, which this imports."""
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        network = TASK.network(self.config, {}).load_weights(self._weights)
        return network.to(choose_device(self._device))

    def predict(self, texts: str | Iterable[str], *, k: int = 1) -> list[list[Label]]:
        """The k most probable labels of each text, the best first, with their probabilities.

        texts:  one text, or several
        """
        return list(self.iter_predict([texts] if isinstance(texts, str) else texts, k=k))

    def iter_predict(self, texts: Iterable[str], *, k: int = 1) -> Iterator[list[Label]]:
        """`predict` for any number of texts, in input order and in bounded memory."""
        for group in in_groups(map(one_line, several(texts)), TEXTS_AT_ONCE):
            data = self._examples(group)
            logprobs = np.empty((len(group), len(self.labels)), np.float32)
            for which, of_batch in label_logprobs(self.network, data):
                logprobs[which] = of_batch
            for row in logprobs:
                best = np.argsort(-row, kind="stable")[:k].tolist()
                yield [Label(self.labels[j], math.exp(row[j])) for j in best]

    def evaluate(self, text: str | Iterable[str], **options: Any) -> LabelScore:
        """How well the labels of a text are found.

        text:  lines with a text, a TAB and a label: a string, or blocks of it

        Raises ExampleError, an InputError, for another line, and OptionError for options of a
        language model.
        """
        for name, value in options.items():
            if name != "progress":
                raise OptionError(f"{argument(name, value)}: is not for `task={self.task}`")
        score = LabelScore(0, 0, 0.0)
        for texts, labels in TASK.parse([text] if isinstance(text, str) else text):
            data = self._examples(texts.removesuffix("\n").split("\n"), labels)
            nats, right = LabelValidation(data).totals(self.network, {})
            unseen = int(np.count_nonzero(_labels(data, np.arange(len(data))) < 0))
            score += LabelScore(len(data), int(right), nats, unseen)
        return score

    def warning(self, measure: LabelScore, **options: Any) -> str | None:
        """How many labels of a text training has not seen."""
        if not measure.unseen:
            return None
        return (
            f"{measure.unseen:,} of {measure.examples:,} texts have a label that the model does "
            "not know; none of them can be right"
        )

    def _examples(self, texts: Sequence[str], labels: str = "") -> Examples:
        """Examples in memory. labels: a line for each text; empty for none"""
        text = self.tokenizer.encode_ids("".join(f"{text}\n" for text in texts))
        fields = {TEXT: TokenFile.of(text), LABEL: TokenFile.of(self._labels.encode_ids(labels))}
        return Examples(fields, {TEXT: self.tokenizer, LABEL: self._labels})

    def validation(self) -> str:
        accuracy = self.card.figures.get(ACCURACY)
        shown = "" if accuracy is None else f"accuracy {accuracy:.2%}, "
        return f"{shown}{super().validation()}"

    def about(self) -> dict[str, str]:
        few = ", ".join(self.labels[:MOST_SHOWN]) + (", …" if len(self.labels) > MOST_SHOWN else "")
        return {
            "labels": f"{len(self.labels):,}: {few}",
            "tokens": f"{self.tokenizer.level}, a vocabulary of {self.config.vocab:,}",
        }

    def record(self) -> dict[str, Any]:
        return {"level": self.tokenizer.level, "labels": self.labels}


class ClassifyTask(Task["Classifier", LabelBatch]):
    """Prediction of the label of a text."""

    name = "classify"
    model = TextClassifier
    config = ClassifierConfig
    fields = (TEXT, LABEL)

    def parse(self, blocks: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Lines "text TAB label" -> texts and labels. A text may hold TABs, a label none."""
        number = 0
        for block in whole_lines(blocks):
            texts, labels = [], []
            for line in block.removesuffix("\n").split("\n"):
                number += 1
                if not line.strip():
                    continue
                text, tab, label = line.rpartition("\t")
                if not tab or not label.strip():
                    raise ExampleError(number, "should be a text, a TAB and a label")
                texts.append(f"{text}\n")
                labels.append(f"{unicodedata.normalize('NFC', label.strip())}\n")
            if texts:
                yield "".join(texts), "".join(labels)

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        if field == LABEL:
            return Labels.train(blocks)
        return super().vocabulary(field, blocks, options)

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> ClassifierConfig:
        return ClassifierConfig(
            sizes.vocabularies[TEXT],
            sizes.vocabularies[LABEL] - len(SPECIALS),
            options.embedding or sizes.vectors or min(128, hidden),
            hidden=hidden,
            **stack_options(options),
        )

    def network(
        self,
        config: ClassifierConfig,
        vocabularies: Vocabularies,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> Classifier:
        from charlm.model.classifier import Classifier

        return Classifier(
            config,
            config.vocab,
            config.embedding,
            config.labels,
            dropout,
            generator,
            forget_bias=forget_bias,
        )

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[LabelBatch]:
        tokenizer = data.vocabularies[TEXT]
        assert isinstance(tokenizer, Tokenizer)
        rare = find_rare(data.fields[TEXT], tokenizer.size, tokenizer.has_unknown)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> LabelBatch:
            text, own = data.padded(TEXT, which), shape.part.every
            replace_rare(text, rare, rng.random(text.shape))
            share = Share(shape.part, len(which), len(which))
            return LabelBatch(text[:, own], _labels(data, which[own]), share)

        return Buckets(np.maximum(data.lengths(TEXT), 1), collate, shape)

    def probe_batch(self, length: int, batch: int) -> LabelBatch:
        return LabelBatch(np.ones((length, batch), np.int64), np.zeros(batch, np.int64))

    def loss(self, network: Classifier, batch: LabelBatch, state: States) -> tuple[Tensor, States]:
        """Σ −log p(label | text), in nats; see `Task.loss`."""
        import torch

        text, labels = (
            torch.from_numpy(array).to(network.device) for array in (batch.text, batch.labels)
        )
        logits = network(text, network.masks(batch.share))
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum"), []

    def validation(
        self, data: Examples, info: CorpusInfo, options: TrainOptions
    ) -> LabelValidation:
        return LabelValidation(data)


class LabelValidation(Validation["Classifier"]):
    """Held-out examples. A label that training has not seen counts as a wrong answer, and as much
    as a guess."""

    def __init__(self, data: Examples) -> None:
        self.data = data
        self.chance = math.log(data.vocabularies[LABEL].size - len(SPECIALS))

    @property
    def predicted(self) -> int:
        return len(self.data)

    def first(self, tokens: int) -> Self:
        return type(self)(self.data.sample(tokens))

    def total(self, network: Classifier, part: Part = WHOLE) -> float:
        return self.totals(network, {}, part)[0]

    def totals(
        self, network: Classifier, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p(label), and the number of right answers."""
        nats = right = 0.0
        for which, logprobs in label_logprobs(network, self.data, part):
            labels = _labels(self.data, which)
            of_label = logprobs[np.arange(len(which)), labels]
            nats -= float(np.where(labels < 0, -self.chance, of_label).sum(dtype=np.float64))
            right += float(np.count_nonzero(logprobs.argmax(axis=1) == labels))
        return nats, right

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        right = totals[1] if len(totals) > 1 else None
        return {ACCURACY: None if right is None else right / max(self.predicted, 1)}

    def seconds(self, network: Classifier, companions: Companions) -> float:
        part = self.first(PROBED_TOKENS)
        part.total(network)  # the first call builds the kernels
        start = time.perf_counter()
        part.total(network)
        return 1.2 * (time.perf_counter() - start) * self.data.tokens / part.data.tokens


def label_logprobs(
    network: Classifier, data: Examples, part: Part = WHOLE
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Numbers of examples (n,) and log p of each label (n, K) in nats, from short to long texts."""
    import torch

    lengths = data.lengths(TEXT)
    order = np.argsort(lengths, kind="stable")[part.every]
    start = 0
    while start < len(order):
        which = order[start : start + EXAMPLES_AT_ONCE]
        # The n shortest texts have n · length of the last of them tokens, when they are filled up.
        tokens = np.arange(1, len(which) + 1) * lengths[which]
        which = which[: max(int(np.searchsorted(tokens, TOKENS_AT_ONCE, side="right")), 1)]
        start += len(which)
        with torch.no_grad():
            text = torch.from_numpy(data.padded(TEXT, which)).to(network.device)
            yield which, network(text).float().log_softmax(dim=1).cpu().numpy()


def _labels(data: Examples, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the columns of the labels of examples; below 0 for one that training has not seen."""
    return data.single(LABEL, which) - len(SPECIALS)


TASK = ClassifyTask()
