"""The task `tree`: find a label for every node of a tree. Its models are recursive networks.

The same weights compute the state of each parent from those of its two children, from the words up
to the root, and the label of each node is read off its state (Socher et al. 2013, Tai et al. 2015).
A text without brackets is a tree whose left children are all the text so far; there the network is
a recurrent one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.labelled import STANDARD, ColumnOptions
from charlm.corpus.stats import CorpusInfo
from charlm.corpus.trees import EMPTY, JOIN, MOVES, trees
from charlm.engines.tree_labels import (
    LABELS,
    OF_MOVES,
    PER_WORD,
    STEPS,
    TreeBatch,
    batch_of,
    batches_of,
    found_at_labels,
    logprobs_of,
    of_linear_half,
    span_features,
)
from charlm.errors import OptionError
from charlm.model.linear import LinearModel
from charlm.model.tree_config import TreeConfig
from charlm.model.tree_levels import arrange
from charlm.parts import WHOLE, Part, Share, in_groups_of
from charlm.tasks.base import Companions, Defaults, Sizes, stack_options
from charlm.tasks.halves import HalvesValidation
from charlm.tasks.labelled import LINEAR, LabelTask, label_defaults, label_notes, train_labels
from charlm.tasks.tree_labeller import NODE_ACCURACY, ROOT_ACCURACY, TREES_AT_ONCE, TreeLabeller
from charlm.tokenizer import (
    SPECIALS,
    Blocks,
    SpanFeatures,
    Symbols,
    Vocabulary,
)
from charlm.tokenizer.symbols import SEPARATOR

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.model.layers import States
    from charlm.model.tree_network import TreeNetwork
    from charlm.training.options import TrainOptions

MOST_WORDS = 50_000
HIDDEN = 128
FEWEST = 16  # trees of a training step
BATCH, ENOUGH_TOKENS, RATE = 10, 1_600_000, 4e-3  # see `label_defaults`
TOKEN_DROPOUT = 0.1
SCRAMBLER = np.uint64(0x9E3779B97F4A7C15)  # see `charlm.tokenizer.features`


class LabelledTrees(NamedTuple):
    """Trees of a training step.

    trees:  with their labels
    share:  which of the batch these are; None for all
    """

    trees: TreeBatch
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of labelled nodes, in all processes."""
        return self.share.predicted if self.share else len(self.trees.labelled[0])


class TreeTask(LabelTask["TreeNetwork", LabelledTrees]):
    """Prediction of the label of every node of a tree."""

    name = "tree"
    model = TreeLabeller
    config = TreeConfig
    fields = (TEXT, STEPS, LABELS, FEATURES)
    counted = "words and pairs of words"

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        for group in in_groups_of(trees(blocks), TREES_AT_ONCE):
            words, moves, labels = (
                "".join(f"{SEPARATOR.join(line)}\n" for line in lines)
                for lines in zip(*group, strict=True)
            )
            yield words, moves, labels, words

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        if field == TEXT:
            return Symbols.train(blocks, options.vocab_size or MOST_WORDS, folded=True)
        if field == STEPS:
            return OF_MOVES
        return train_labels(blocks) if field == LABELS else SpanFeatures()

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        counts = data.fields[STEPS].counts(OF_MOVES.size)
        single, several = (int(counts[len(SPECIALS) + MOVES.index(m)]) for m in (EMPTY, JOIN))
        if single or several:
            yield (
                "note: the trees are made binary: an empty node beside a single child "
                f"({single:,}), and nodes without a label that join several from left to right "
                f"({several:,})"
            )
        labels = data.vocabularies[LABELS]
        assert isinstance(labels, Symbols)
        yield from label_notes(data.flat(LABELS), held_out.flat(LABELS), labels)

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        defaults = label_defaults(train_tokens, ENOUGH_TOKENS, RATE, HIDDEN, BATCH)
        return defaults._replace(token_dropout=TOKEN_DROPOUT)

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> TreeConfig:
        features = sizes.vectors or options.embedding
        if features and options.hidden not in (None, features):
            raise OptionError(
                f"`hidden={options.hidden}`: the vector of a word is its hidden state, and has "
                f"{features} features; leave the option out"
            )
        return TreeConfig(
            vocab=sizes.vocabularies[TEXT],
            labels=sizes.vocabularies[LABELS] - len(SPECIALS),
            hidden=features or hidden,
            **stack_options(options),
        )

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[LabelledTrees]:
        rare = find_rare(data.fields[TEXT], data.vocabularies[TEXT].size, True)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> LabelledTrees:
            own = shape.part.every
            batch = batch_of(data, which, own)
            draws = rng.random((len(batch.words), len(which)))
            replace_rare(batch.words, rare, draws[:, own])
            share = Share(shape.part, len(which), int(data.lengths(LABELS)[which].sum()))
            return LabelledTrees(batch, share)

        return Buckets(np.maximum(data.lengths(TEXT), 1), collate, shape, FEWEST)

    def probe_batch(self, length: int, batch: int) -> LabelledTrees:
        is_word: list[bool] = []  # of a tree with two equal halves, which are such trees again
        for n in range(1, length + 1):
            is_word += [True] + [False] * ((n & -n).bit_length() - 1)
        is_word += [False] * (2 * length - 1 - len(is_word))
        moves = np.repeat(np.array(is_word)[:, None], batch, axis=1)
        words, which = np.ones((length, batch), np.int64), np.arange(batch)
        lengths, labels = np.full(batch, len(moves)), np.zeros(moves.shape, np.int64)
        levels = arrange(moves, ~moves, length)
        return LabelledTrees(TreeBatch(which, words, lengths, levels, labels))

    def loss(
        self, network: TreeNetwork, batch: LabelledTrees, state: States
    ) -> tuple[Tensor, States]:
        """Σ −log p(label) of the nodes, in nats; see `Task.loss`."""
        import torch

        words, labels = (
            torch.from_numpy(array).to(network.device)
            for array in (batch.trees.words, batch.trees.labels)
        )
        logits = network(words, batch.trees.levels, network.masks(batch.share))
        known = labels >= 0
        return torch.nn.functional.cross_entropy(
            logits[known].float(), labels[known], reduction="sum"
        ), []

    def validation(self, data: Examples, info: CorpusInfo, options: TrainOptions) -> TreeValidation:
        return TreeValidation(data)

    def labelled(
        self, data: Examples
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
        """The labelled nodes. The same words with the same label are there once."""
        from charlm.model.linear_fit import Counted

        batches = list(batches_of(data))
        features = [span_features(data, batch, *batch.labelled) for batch in batches]
        labels = np.concatenate([batch.labels[batch.labelled] for batch in batches])
        sizes = np.concatenate([np.diff(bounds) for _, bounds in features])
        ids = np.concatenate([ids for ids, _ in features])
        bounds = np.append(0, sizes.cumsum())
        sums = np.append(np.uint64(0), (ids.astype(np.uint64) * SCRAMBLER).cumsum())
        keys = sums[bounds[1:]] - sums[bounds[:-1]] + labels.astype(np.uint64)
        _, first = np.unique(keys, return_index=True)
        return Counted(ids, bounds, labels).taken(first[labels[first] >= 0])

    def count_features(self, data: Examples) -> int:
        return sum(
            PER_WORD * int(np.diff(batch.levels.spans, axis=0)[0][batch.labelled].sum())
            for batch in batches_of(data)
        )


class TreeValidation(HalvesValidation["TreeNetwork"]):
    """Held-out trees. A label that training has not seen counts as a guess."""

    half = LINEAR

    def __init__(self, data: Examples) -> None:
        super().__init__(data)
        self.chance = math.log(data.vocabularies[LABELS].size - len(SPECIALS))

    @property
    def predicted(self) -> int:
        return int(self.data.lengths(LABELS).sum())

    def totals(
        self, network: TreeNetwork, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p(label) of the nodes, the right nodes, the roots, and the right ones."""
        linear = companions.get(LINEAR)
        linear = linear if isinstance(linear, LinearModel) else None
        totals = np.zeros(4, np.float64)
        for batch in batches_of(self.data, part):
            found = found_at_labels(batch, logprobs_of(network, self.data, linear, batch))
            right, root = found.right, found.is_root
            counts = [int(np.count_nonzero(which)) for which in (right, root, right & root)]
            totals += np.array([found.nats, *counts])
        return tuple(totals.tolist())

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        if len(totals) == 1:
            return {ROOT_ACCURACY: None, NODE_ACCURACY: None}
        _, right, roots, right_roots = totals
        return {
            ROOT_ACCURACY: right_roots / max(roots, 1),
            NODE_ACCURACY: right / max(self.predicted, 1),
        }

    def loss(self, network: TreeNetwork, model: LinearModel) -> Callable[[LinearModel], float]:
        halves = [
            (
                batch,
                network.logprobs(batch.words, batch.levels),
                of_linear_half(model, self.data, batch),
            )
            for batch in batches_of(self.data)
        ]

        def nats(model: LinearModel) -> float:
            found = (found_at_labels(batch, model.mixed(*both)) for batch, *both in halves)
            return sum(each.nats for each in found)

        return nats


TASK = TreeTask()
