"""The task `classify`: find the label of a text. Its models label texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets, by_length
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.labelled import STANDARD, ColumnOptions, labelled_texts
from charlm.corpus.stats import CorpusInfo
from charlm.engines.activations import Reading
from charlm.engines.label_scores import LabelScore
from charlm.engines.scores import in_groups
from charlm.model.activations import ObservedStack
from charlm.model.backend import Twins
from charlm.model.file import ModelFile
from charlm.model.linear import LinearModel
from charlm.model.names import strip_prefix
from charlm.model.numpy_sequences import NumpyClassifier
from charlm.model.sequence_config import ClassifierConfig
from charlm.options import ANSWERS
from charlm.pages.predicted import Looked
from charlm.parts import WHOLE, Part, Share, in_groups_of
from charlm.tasks.base import Companions, Defaults, Rows, Sizes, stack_options
from charlm.tasks.halves import HalvesValidation
from charlm.tasks.labelled import (
    LINEAR,
    LabelModel,
    LabelTask,
    label_defaults,
    label_notes,
    train_labels,
)
from charlm.tasks.source import completed_by_source, rows_of_source, source_of
from charlm.tasks.trained import LoadOptions, one_line, one_line_end, several
from charlm.tokenizer import (
    SPECIALS,
    Blocks,
    Symbols,
    TextFeatures,
    Tokenizer,
    Vocabularies,
    Vocabulary,
    load_tokenizer,
)

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.model.classifier import Classifier
    from charlm.model.layers import States
    from charlm.training.options import TrainOptions

    Network = Classifier | NumpyClassifier

LABEL = "label"
ACCURACY = "valid_accuracy"
TEXTS_AT_ONCE = 4096  # read before the first one is labelled
MOST_SHOWN = 8  # labels
ENOUGH_TOKENS, RATE = 800_000, 3e-3  # see `label_defaults`
FEWEST = 16  # texts of a training step


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


class TextClassifier(LabelModel):
    """A model that finds the label of a text.

    See `LabelModel`.
    """

    task = "classify"
    purpose = "labels texts (charlm predict)"
    predicted = "label"
    shape, labels_field = ClassifierConfig, LABEL
    twins = Twins(NumpyClassifier, "charlm.model.classifier", "Classifier")
    numbered = "rank"
    page_shows = (
        "The stronger the colour and the thicker the line, the more the network looked at a word: "
        "the share of its features that come from there. Point at it for the share."
    )
    next_commands = ('charlm predict "a text"', "charlm evaluate FILE")
    config: ClassifierConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self.tokenizer: Tokenizer = file.vocabulary(TEXT, load_tokenizer, self.config.vocab)

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of the alphabet."""
        return self._labels.names

    @property
    def page_note(self) -> str:
        if not self.linear:
            return self.page_shows
        return (
            f"{super().page_note} The colours show the network alone, not the words and n-grams "
            "that decide in the linear part. Behind the label is its probability by each part."
        )

    def predict(self, texts: str | Iterable[str], *, k: int = 1) -> list[list[Label]]:
        """The k most probable labels of each text, the best first, with their probabilities.

        texts:  one text, or several
        """
        return list(self.iter_predict([texts] if isinstance(texts, str) else texts, k=k))

    def iter_predict(self, texts: Iterable[str], *, k: int = 1) -> Iterator[list[Label]]:
        """`predict` for any number of texts, in input order and in bounded memory."""
        ANSWERS.check("k", k)
        for group in in_groups(map(one_line, several(texts)), TEXTS_AT_ONCE):
            for row in self._logprobs(self._examples(group)):
                best = np.argsort(-row, kind="stable")[:k].tolist()
                yield [Label(self.labels[j], math.exp(row[j])) for j in best]

    def evaluate(self, text: str | Iterable[str], **options: Any) -> LabelScore:
        """How well the labels of a text are found.

        text:  lines with a text and its label, as in training: a string, or blocks of it

        options:  text_column, label_column; without them those of the training

        Raises ExampleError, an InputError, for another line, and OptionError for options of a
        language model.
        """
        score = LabelScore({})
        blocks = [text] if isinstance(text, str) else text
        columns = self._columns(options)
        read = labelled_texts(blocks, columns)
        lines = chain.from_iterable(zip(*block, strict=True) for block in read)
        for group in in_groups_of(lines, TEXTS_AT_ONCE):
            score += self._measured(*zip(*group, strict=True))
        return score

    def _measured(self, texts: Sequence[str], labels: Sequence[str]) -> LabelScore:
        data = self._examples(texts, labels)
        logprobs = self._logprobs(data)
        known = _labels(data, np.arange(len(data)))
        answers = logprobs.argmax(axis=1)
        confidences = np.exp(logprobs.max(axis=1)).tolist()
        nats = _nats(logprobs, known)
        named = [self.labels[k] for k in answers.tolist()]
        unseen = int(np.count_nonzero(known < 0))
        return LabelScore.of(labels, named, confidences, nats, unseen)

    def warning(self, measure: LabelScore, **options: Any) -> str | None:
        """How many labels of a text training has not seen."""
        if not measure.unseen:
            return None
        return (
            f"{measure.unseen:,} of {measure.examples:,} texts have a label that the model does "
            "not know; none of them can be right"
        )

    def looked(self, text: str) -> list[tuple[list[Looked], str]]:
        """The pieces of a text, each with its share in what the network looked at: 1 in all.

        See `charlm.model.numpy_sequences.looked_at`. The answer is the label, in words.
        """
        answer = self._answer(self._examples([one_line(text)]))
        encoding = self.tokenizer.encode(text)
        ids = encoding.ids[:, None]
        if not len(ids):
            return [([], answer)]
        shares = self.backends.for_tokens(len(ids)).attention_weights(ids)[:, 0].tolist()
        starts = [0, *encoding.spans[1:, 0].tolist(), len(text)]
        pieces = (text[a:b] for a, b in pairwise(starts))
        looked = [
            Looked(piece, share, title=f"{share:.1%}")
            for piece, share in zip(pieces, shares, strict=True)
        ]
        return [(looked, answer)]

    def _answer(self, data: Examples) -> str:
        """The label of an example, with its probability, and that by each part of the model."""
        network = self._of_network(data)
        mixed = self._mixed(network, data)
        best = int(mixed[0].argmax())
        answer = f"{self.labels[best]} {math.exp(mixed[0, best]):.1%}"
        if not self.linear:
            return answer
        linear = self.linear.logprobs(*_features(data))
        p, q = (math.exp(logprobs[0, best]) for logprobs in (network, linear))
        return f"{answer} (network alone {p:.1%}, linear part alone {q:.1%})"

    def reading(self, text: str) -> Reading:
        """The text as the recurrent layers read it, each line by itself; see `Reading`."""
        weights, text = self.backends.numpy.weights, one_line_end(text)
        layers = strip_prefix("layers", weights)
        stack = ObservedStack.of(self.config, layers, weights["embedding"])
        return Reading.of(text, self.tokenizer.encode(text), [stack])

    def _examples(self, texts: Sequence[str], labels: Sequence[str] = ()) -> Examples:
        """Examples in memory. labels: one for each text; empty for none"""
        block, of_labels = _block(texts), _block(labels)
        vocabularies = {TEXT: self.tokenizer, LABEL: self._labels, FEATURES: self._features}
        fields = {TEXT: block, LABEL: of_labels, FEATURES: block if self.linear else ""}
        encoded = {n: TokenFile.of(vocabularies[n].encode_ids(b)) for n, b in fields.items()}
        return Examples(encoded, vocabularies)

    def _logprobs(self, data: Examples) -> NDArray[np.floating]:
        """(n, K) log p of the labels of each example."""
        return self._mixed(self._of_network(data), data)

    def _of_network(self, data: Examples) -> NDArray[np.floating]:
        """`_logprobs` by the network alone."""
        logprobs = np.empty((len(data), len(self.labels)), np.float32)
        for which in by_length(data.lengths(TEXT)):
            text = data.padded(TEXT, which)
            logprobs[which] = self.backends.for_tokens(text.size).logprobs(text)
        return logprobs

    def _mixed(self, network: NDArray[np.floating], data: Examples) -> NDArray[np.floating]:
        """`_logprobs`, from those by the network."""
        if not self.linear or not len(data):
            return network
        return self.linear.mixed(network, self.linear.logprobs(*_features(data)))

    def validation(self) -> str:
        accuracy = self.card.figures.get(ACCURACY)
        shown = "" if accuracy is None else f"accuracy {accuracy:.2%}, "
        return f"{shown}{super().validation()}"

    def about(self) -> dict[str, str]:
        few = ", ".join(self.labels[:MOST_SHOWN]) + (", …" if len(self.labels) > MOST_SHOWN else "")
        return {
            "labels": f"{len(self.labels):,}: {few}",
            "tokens": f"{self.tokenizer.level}, a vocabulary of {self.config.vocab:,}",
        } | super().about()

    def record(self) -> dict[str, Any]:
        return {"level": self.tokenizer.level, "labels": self.labels}


class ClassifyTask(LabelTask["Classifier", LabelBatch]):
    """Prediction of the label of a text."""

    name = "classify"
    model = TextClassifier
    config = ClassifierConfig
    fields = (TEXT, LABEL, FEATURES)
    counted = "n-grams"

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        for texts, labels in labelled_texts(blocks, columns):
            text = _block(texts)
            yield text, _block(labels), text

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        if field == FEATURES:
            return TextFeatures()
        if field == LABEL:
            return train_labels(blocks)
        source = source_of(options)
        return source.tokenizer if source else super().vocabulary(field, blocks, options)

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        labels = data.vocabularies[LABEL]
        assert isinstance(labels, Symbols)
        training, validation = (_labels(d, np.arange(len(d))) for d in (data, held_out))
        yield from label_notes(training + len(SPECIALS), validation + len(SPECIALS), labels)

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        large = super().defaults(options, train_tokens).large_vocabulary
        if not large:
            return Defaults(large)
        return label_defaults(train_tokens, ENOUGH_TOKENS, RATE)

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> ClassifierConfig:
        return ClassifierConfig(
            vocab=sizes.vocabularies[TEXT],
            labels=sizes.vocabularies[LABEL] - len(SPECIALS),
            embedding=options.embedding or sizes.vectors or min(128, hidden),
            hidden=hidden,
            bidirectional=options.directions == 2,
            readout=options.readout or "max",
            **stack_options(options),
        )

    def completed(self, options: TrainOptions) -> TrainOptions:
        return completed_by_source(options, [options.level])

    def initial(
        self, config: Any, vocabularies: Vocabularies, options: TrainOptions
    ) -> dict[str, Rows]:
        source = source_of(options)
        return rows_of_source(config, source) if source else {}

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[LabelBatch]:
        tokenizer = data.vocabularies[TEXT]
        assert isinstance(tokenizer, Tokenizer)
        rare = find_rare(data.fields[TEXT], tokenizer.size, tokenizer.has_unknown)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> LabelBatch:
            text, own = data.padded(TEXT, which), shape.part.every
            replace_rare(text, rare, rng.random(text.shape))
            share = Share(shape.part, len(which), len(which))
            return LabelBatch(text[:, own], _labels(data, which[own]), share)

        return Buckets(np.maximum(data.lengths(TEXT), 1), collate, shape, FEWEST)

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
    ) -> TextLabelValidation:
        return TextLabelValidation(data)

    def labelled(
        self, data: Examples
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
        return *_features(data), _labels(data, np.arange(len(data)))


class TextLabelValidation(HalvesValidation["Classifier"]):
    """Held-out texts. A label that training has not seen counts as a wrong answer, and as much as
    a guess."""

    half = LINEAR

    def __init__(self, data: Examples) -> None:
        super().__init__(data)
        self.chance = math.log(data.vocabularies[LABEL].size - len(SPECIALS))

    @property
    def predicted(self) -> int:
        return len(self.data)

    def totals(
        self, network: Classifier, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p(label), and the number of right answers; with a linear model then the same of
        the network alone and of the linear model alone."""
        which, of_network = self._of_network(network, part)
        labels = _labels(self.data, which)
        linear = companions.get(LINEAR)
        if not isinstance(linear, LinearModel) or not len(which):
            return _nats(of_network, labels), _right(of_network, labels)
        of_linear = linear.logprobs(*_features(self.data))[which]
        logprobs = linear.mixed(of_network, of_linear), of_network, of_linear
        return [total for p in logprobs for total in (_nats(p, labels), _right(p, labels))]

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        figures: dict[str, float | None] = {ACCURACY: None}
        names = (ACCURACY, f"{ACCURACY}_network", f"{ACCURACY}_linear")
        shares = (right / max(self.predicted, 1) for right in totals[1::2])
        return figures | dict(zip(names, shares, strict=False))

    def loss(self, network: Classifier, model: LinearModel) -> Callable[[LinearModel], float]:
        which, of_network = self._of_network(network, WHOLE)
        labels = _labels(self.data, which)
        of_linear = model.logprobs(*_features(self.data))[which]
        return lambda m: _nats(m.mixed(of_network, of_linear), labels)

    def _of_network(
        self, network: Classifier, part: Part
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers of examples (n,), and log p of their labels (n, K)."""
        batches = list(by_length(self.data.lengths(TEXT), part))
        of_all = [network.logprobs(self.data.padded(TEXT, which)) for which in batches]
        labels = self.data.vocabularies[LABEL].size - len(SPECIALS)
        none = np.empty(0, np.int64), np.empty((0, labels), np.float32)
        return np.concatenate([none[0], *batches]), np.concatenate([none[1], *of_all])


def _block(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _labels(data: Examples, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the columns of the labels of examples; below 0 for one that training has not seen."""
    return data.single(LABEL, which) - len(SPECIALS)


def _features(data: Examples) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The features of all examples, and where those of each begin; see `LinearModel.logprobs`."""
    return data.flat(FEATURES), np.append(0, data.lengths(FEATURES).cumsum())


def _nats(logprobs: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Σ −log p(label). An unseen label counts as a guess among all."""
    of_label = np.minimum(logprobs[np.arange(len(labels)), labels], 0.0)
    guess = -math.log(logprobs.shape[1])
    return -float(np.where(labels < 0, guess, of_label).sum(dtype=np.float64))


def _right(logprobs: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    return float(np.count_nonzero(logprobs.argmax(axis=1) == labels))


TASK = ClassifyTask()
