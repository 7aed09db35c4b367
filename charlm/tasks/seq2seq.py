"""The task `seq2seq`: write a target for a source. Its models are encoder–decoders.

P(y | x) = Π_t p(y_t | y_<t, x), the end of the target counted: the encoder reads the source, and
the decoder is a language model of the target that starts where the encoder ended (Sutskever et al.
2014). With attention it looks back at the source before each token, see `charlm.model.attention`.
Joint n-grams (`charlm.model.joint_ngram`) are the other half, where source and target have the same
order and their vocabularies are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.examples import TEXT, Examples
from charlm.corpus.labelled import SOURCE_AND_TARGET, STANDARD, ColumnOptions, labelled_texts
from charlm.corpus.stats import CorpusInfo
from charlm.engines.target_scores import errors_of
from charlm.engines.transduction import (
    TARGET,
    batches_of,
    forced,
    lines_of,
    nats_of,
    predictor_of,
    search,
)
from charlm.errors import OptionError
from charlm.model.file import Storable
from charlm.model.joined_prediction import JoinedPrediction
from charlm.model.joint_ngram import ALIGNED, LONGEST_RATIO, JointNgram
from charlm.model.ngram import NO_NGRAM
from charlm.model.numpy_seq2seq import NumpySeq2Seq
from charlm.model.seq2seq_config import Seq2SeqConfig
from charlm.parts import WHOLE, Part, Share
from charlm.tasks.base import Companions, Defaults, Sizes, Task, stack_options
from charlm.tasks.halves import HalvesValidation
from charlm.tasks.transducer import ERRORS, EXACT, JOINT, LIMITS, Limits, Transducer
from charlm.tokenizer import (
    EOS,
    START,
    TOKENIZERS,
    Blocks,
    Symbols,
    Tokenizer,
    Vocabulary,
    train_tokenizer,
)

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.model.layers import States
    from charlm.model.seq2seq import Seq2Seq
    from charlm.training.options import TrainOptions

LABEL_LEVEL = "label"
FEWEST = 16  # pairs of a training step
HIDDEN, HIDDEN_UP_TO = 128, 200_000  # features, and the tokens of the sources for them
BATCH, RATE, DROPOUT = 16, 5e-3, 0.2
MULTIPLE = 4  # padded lengths are multiples of it: many texts are single words
MOST_SYMBOLS = 1000  # of a vocabulary, for joint n-grams
MEASURED, DECODED = 5000, 2000  # held-out pairs that are scored, and decoded, at the most


class PairBatch(NamedTuple):
    """B sources and their targets.

    source:   (S, B) int64, filled up with `<START>`
    inputs:   (T, B) `<START>` and the target
    targets:  (T, B) the target and its end, filled up with `<START>`
    share:    which examples of the batch these are; None for all
    """

    source: NDArray[np.int64]
    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of tokens, in all processes."""
        return self.share.predicted if self.share else int(np.count_nonzero(self.targets))


class Seq2SeqTask(Task["Seq2Seq", PairBatch]):
    """Prediction of the target of a source."""

    name = "seq2seq"
    model = Transducer
    config = Seq2SeqConfig
    fields = (TEXT, TARGET)

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        for sources, targets in labelled_texts(blocks, columns, SOURCE_AND_TARGET):
            yield tuple("".join(f"{line}\n" for line in lines) for lines in (sources, targets))

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        level = _level(field, options)
        if level == LABEL_LEVEL:
            return Symbols.train(blocks)
        known = TOKENIZERS[level].options  # the other side may have another level
        chosen = {n: v for n, v in vars(options.vocabulary).items() if n in known}
        return train_tokenizer(level, blocks, **chosen)

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        if isinstance(data.vocabularies[TEXT], Symbols):  # labels are not cut into chunks
            if np.count_nonzero(np.bincount(data.flat(TEXT)) == 1) > len(data) / 2:
                yield "warning: most sources are there only once: are they labels?"
            return
        size = max(data.vocabularies[field].size for field in self.fields)
        long = data.lengths(TARGET) > LONGEST_RATIO * data.lengths(TEXT)
        problem = ""
        if size > MOST_SYMBOLS:
            problem = f"a vocabulary of {size:,} tokens is too large"
        elif np.count_nonzero(long) > (1 - ALIGNED) * len(data):
            problem = f"{np.mean(long):.0%} of the targets are too long for their sources"
        if problem:
            yield f"note: {problem} for joint n-grams, so the model is the network alone"

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        return Defaults(
            True,
            hidden=HIDDEN if train_tokens < HIDDEN_UP_TO else 2 * HIDDEN,
            batch=BATCH,
            bptt=64,
            lr=RATE,
            dropout=DROPOUT,
            weight_decay=0.05,
        )

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> Seq2SeqConfig:
        return Seq2SeqConfig(
            source_vocab=sizes.vocabularies[TEXT],
            vocab=sizes.vocabularies[TARGET],
            embedding=options.embedding or min(64, hidden),
            hidden=hidden,
            bidirectional=options.directions == 2,
            attention=_attention(options),
            **stack_options(options),
        )

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[PairBatch]:
        rare = {field: _rare(data, field) for field in self.fields}
        lengths = np.maximum(data.lengths(TEXT), data.lengths(TARGET) + 1)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> PairBatch:
            source, target = (data.padded(field, which, MULTIPLE) for field in self.fields)
            replace_rare(source, rare[TEXT], rng.random(source.shape))
            replace_rare(target, rare[TARGET], rng.random(target.shape))
            inputs, targets = _shifted(target, data.lengths(TARGET)[which])
            share = Share(shape.part, len(which), int(np.count_nonzero(targets)))
            own = shape.part.every
            return PairBatch(source[:, own], inputs[:, own], targets[:, own], share)

        return Buckets(np.maximum(lengths, 1), collate, shape, FEWEST, MULTIPLE)

    def probe_batch(self, length: int, batch: int) -> PairBatch:
        ones = np.ones((length, batch), np.int64)
        return PairBatch(ones, ones, ones)

    def loss(self, network: Seq2Seq, batch: PairBatch, state: States) -> tuple[Tensor, States]:
        """Σ −log p(target | source), in nats; see `Task.loss`."""
        import torch

        source, inputs, targets = (
            torch.from_numpy(array).to(network.device)
            for array in (batch.source, batch.inputs, batch.targets)
        )
        logprobs = network(source, inputs, targets, network.masks(batch.share))
        return -(logprobs * (targets != START)).sum(), []

    def validation(
        self, data: Examples, info: CorpusInfo, options: TrainOptions
    ) -> TargetValidation:
        if len(data) > MEASURED:
            data = data.sample(data.tokens * MEASURED // len(data))
        return TargetValidation(data)

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """Joint n-grams of the training pairs, the longest target, and the columns."""
        limits = Limits(int(data.lengths(TARGET).max(initial=1)))
        others: dict[str, Storable] = {LIMITS: limits, **options.part}
        sizes = [data.vocabularies[field].size for field in self.fields]
        if not len(data) or options.ngram == NO_NGRAM or max(sizes) > MOST_SYMBOLS:
            return others
        every = np.arange(len(data))
        sources, targets = (lines_of(data.fields[field], every) for field in self.fields)
        joint = JointNgram.count(sources, targets)
        return {JOINT: joint, **others} if joint else others


class TargetValidation(HalvesValidation["Seq2Seq"]):
    """Held-out pairs.

    every:  one pair of so many is decoded for the figures
    """

    half = JOINT

    def __init__(self, data: Examples, every: int | None = None) -> None:
        super().__init__(data)
        self.chance = math.log(data.vocabularies[TARGET].size)
        self.every = every or -(-len(data) // DECODED) or 1

    def first(self, tokens: int) -> Self:
        part = super().first(tokens)
        return part if part is self else type(self)(part.data, self.every)

    @property
    def predicted(self) -> int:
        return len(self.data.fields[TARGET].ids)

    def total(self, network: Seq2Seq, part: Part = WHOLE) -> float:
        weights = network.weights()
        return sum(
            nats_of(predictor_of(network, weights, None, sources), targets)
            for sources, targets in batches_of(self.data, part)
        )

    def totals(
        self, network: Seq2Seq, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p(target | source); and of those pairs that are decoded their number, the exact
        ones, the errors, and the tokens."""
        joint: Any = companions.get(JOINT)
        weights, nats = network.weights(), 0.0
        decoded, exact, errors, tokens = 0, 0, 0, 0
        in_numpy = NumpySeq2Seq(network.config, weights)
        longest = int(self.data.lengths(TARGET).max(initial=1))
        every = slice(None, None, self.every)
        for sources, targets in batches_of(self.data, part):
            nats += nats_of(predictor_of(network, weights, joint, sources), targets)
            sources, targets = sources[every], targets[every]
            predictor = predictor_of(in_numpy, weights, joint, sources)
            answers = search(predictor, sources, longest)
            for found, target in zip(answers, targets, strict=True):
                wrong, length = errors_of(found[0].ids, [target.tolist()])
                decoded, exact = decoded + 1, exact + (not wrong)
                errors, tokens = errors + wrong, tokens + length
        return nats, decoded, exact, errors, tokens

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        if len(totals) == 1:
            return {EXACT: None, ERRORS: None}
        _, decoded, exact, errors, tokens = totals
        return {EXACT: exact / max(decoded, 1), ERRORS: errors / max(tokens, 1)}

    def loss(self, network: Seq2Seq, model: JointNgram) -> Callable[[JointNgram], float]:
        weights = network.weights()
        predicted = [
            forced(predictor_of(network, weights, model, sources), targets)
            for sources, targets in batches_of(self.data)
        ]

        def nats(model: JointNgram) -> float:
            total = 0.0
            for prediction, ids, real in predicted:
                assert isinstance(prediction, JoinedPrediction)
                logprobs = prediction.with_powers(model.powers).logprobs(ids)
                total -= float(logprobs[real].sum(dtype=np.float64))
            return total

        return nats


def _level(field: str, options: TrainOptions) -> str:
    own = options.source_level if field == TEXT else options.target_level
    return own or options.level


def _attention(options: TrainOptions) -> str | None:
    if not options.attention or _level(TEXT, options) == LABEL_LEVEL:
        if options.monotonic:
            raise OptionError("`monotonic=True`: there is no attention here; leave it out")
        return None
    return "monotonic" if options.monotonic else "global"


def _rare(data: Examples, field: str) -> NDArray[np.bool_]:
    vocabulary = data.vocabularies[field]
    has_unknown = isinstance(vocabulary, Tokenizer) and vocabulary.has_unknown
    return find_rare(data.fields[field], vocabulary.size, has_unknown)


def _shifted(
    target: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The inputs and the targets of a decoder, for targets (T, B) without their ends."""
    steps = int(lengths.max(initial=0)) + 1
    targets = np.zeros((steps, target.shape[1]), np.int64)
    targets[: len(target)] = target[:steps]
    targets[lengths, np.arange(target.shape[1])] = EOS
    inputs = np.zeros_like(targets)
    inputs[1:] = targets[:-1]
    inputs[inputs == EOS] = START
    return inputs, targets


TASK = Seq2SeqTask()
