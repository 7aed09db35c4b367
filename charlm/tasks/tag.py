"""The task `tag`: find a tag for every word of a sentence. Its models tag words.

The lecture's architecture: the vector of a word is its own embedding joined with one made from its
characters, by a recurrent network in both directions. Two bidirectional layers read the sentence,
with a residual connection around the second. The tags of neighbours depend on each other: a
conditional random field (`charlm.model.crf`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus import conll
from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.labelled import STANDARD, ColumnOptions
from charlm.corpus.spellings import Spellings
from charlm.corpus.stats import CorpusInfo
from charlm.engines.chunks import ChunkCounts, are_chunk_tags, count_chunks
from charlm.engines.tagging import (
    LETTERS,
    TAGS,
    UNSEEN,
    best_tags,
    emissions,
    of_linear_half,
    padded_tags,
    sequence_nats,
    spellings_of,
    word_features,
)
from charlm.model.linear import LinearModel
from charlm.model.sequence_config import TaggerConfig
from charlm.parts import WHOLE, Part, Share, in_groups_of
from charlm.tasks.base import Companions, Defaults, Rows, Sizes, stack_options
from charlm.tasks.halves import HalvesValidation
from charlm.tasks.labelled import (
    LINEAR,
    LabelTask,
    label_defaults,
    label_notes,
    train_labels,
)
from charlm.tasks.source import completed_by_source, rows_of_source, source_of
from charlm.tasks.word_tagger import ACCURACY, F1, SENTENCES_AT_ONCE, WordTagger
from charlm.tokenizer import (
    SPECIALS,
    Blocks,
    Characters,
    Symbols,
    Vocabularies,
    Vocabulary,
    VocabularyOptions,
    WindowFeatures,
)

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.model.layers import States
    from charlm.model.tagger import Tagger
    from charlm.training.options import TrainOptions

MOST_WORDS = 50_000
LAYERS = 2
EMBEDDING, CHAR_FEATURES = 100, 90  # filters of five widths share a multiple of 15
HIDDEN, HIDDEN_UP_TO = 128, 1_000_000  # features, and the tokens of a corpus for them
BATCH, ENOUGH_TOKENS, RATE = 12, 4_000_000, 4e-3  # see `label_defaults`


class TagBatch(NamedTuple):
    """B sentences and their tags.

    words:      (T, B) int64, filled up with `<START>`
    spellings:  of the words
    tags:       (T, B) int64, from 0; 0 where there is no word
    share:      which sentences of the batch these are; None for all
    """

    words: NDArray[np.int64]
    spellings: Spellings
    tags: NDArray[np.int64]
    share: Share | None = None

    @property
    def predicted(self) -> int:
        """Number of tokens, in all processes."""
        return self.share.predicted if self.share else int(np.count_nonzero(self.words))


class TagTask(LabelTask["Tagger", TagBatch]):
    """Prediction of the tag of every word of a sentence."""

    name = "tag"
    model = WordTagger
    config = TaggerConfig
    fields = (TEXT, LETTERS, TAGS, FEATURES)
    counted = "words and their neighbours"

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        for group in in_groups_of(conll.tagged_sentences(blocks, columns), SENTENCES_AT_ONCE):
            words, tags = (conll.as_lines(lists) for lists in zip(*group, strict=True))
            yield words, words, tags, words

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        if field == TEXT:
            return Symbols.train(blocks, options.vocab_size or MOST_WORDS, folded=True)
        if field == LETTERS:
            return Characters.train(blocks, VocabularyOptions())
        return train_labels(blocks) if field == TAGS else WindowFeatures()

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        tags = data.vocabularies[TAGS]
        assert isinstance(tags, Symbols)
        yield from label_notes(data.flat(TAGS), held_out.flat(TAGS), tags)

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        hidden = HIDDEN if train_tokens < HIDDEN_UP_TO else 2 * HIDDEN
        return label_defaults(train_tokens, ENOUGH_TOKENS, RATE, hidden, BATCH)

    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> TaggerConfig:
        characters = options.characters or "recurrent"
        with_characters = characters != "none"
        layers = options.layers or LAYERS
        residual = layers > 1 if options.residual is None else options.residual
        return TaggerConfig(
            vocab=sizes.vocabularies[TEXT],
            tags=sizes.vocabularies[TAGS] - len(SPECIALS),
            embedding=options.embedding or sizes.vectors or EMBEDDING,
            hidden=hidden,
            bidirectional=options.directions == 2,
            characters=characters if with_characters else None,
            char_features=CHAR_FEATURES if with_characters else 0,
            alphabet=sizes.vocabularies[LETTERS] if with_characters else 0,
            crf=options.crf,
            **{**stack_options(options), "layers": layers, "residual": residual},
        )

    def completed(self, options: TrainOptions) -> TrainOptions:
        return completed_by_source(options, ["word"])

    def initial(
        self, config: Any, vocabularies: Vocabularies, options: TrainOptions
    ) -> dict[str, Rows]:
        """See `Task.initial`. Of the first layer, the columns for characters start as usual."""
        source, words = source_of(options), vocabularies[TEXT]
        if not source:
            return {}
        ids = [source.word_id(words.token(id)) for id in range(len(SPECIALS), words.size)]
        known = np.array([*range(len(SPECIALS)), *(UNSEEN if id is None else id for id in ids)])
        return rows_of_source(config, source, known)

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[TagBatch]:
        rare = find_rare(data.fields[TEXT], data.vocabularies[TEXT].size, True)
        lengths = data.lengths(TEXT)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> TagBatch:
            words, own = data.padded(TEXT, which), shape.part.every
            replace_rare(words, rare, rng.random(words.shape))
            share = Share(shape.part, len(which), int(lengths[which].sum()))
            tags = np.maximum(data.padded(TAGS, which[own]) - len(SPECIALS), 0)
            spellings = spellings_of(data, which[own], len(words))
            return TagBatch(words[:, own], spellings, tags[: len(words)], share)

        return Buckets(np.maximum(lengths, 1), collate, shape)

    def probe_batch(self, length: int, batch: int) -> TagBatch:
        words = np.ones((length, batch), np.int64)
        rows = np.ones((min(words.size, 512), 8), np.int64)
        which = np.arange(words.size).reshape(words.shape) % len(rows)
        return TagBatch(words, Spellings(rows, which), np.zeros_like(words))

    def loss(self, network: Tagger, batch: TagBatch, state: States) -> tuple[Tensor, States]:
        """Σ −log p(tags | words) of the sentences, in nats; see `Task.loss`."""
        import torch

        words, rows, which, tags = (
            torch.from_numpy(array).to(network.device)
            for array in (batch.words, *batch.spellings, batch.tags)
        )
        spellings = (rows, which) if network.config.characters else (None, None)
        emissions = network(words, *spellings, network.masks(batch.share))
        with torch.autocast(words.device.type, enabled=False):
            return network.loss(emissions.float(), tags, words != 0), []

    def validation(self, data: Examples, info: CorpusInfo, options: TrainOptions) -> TagValidation:
        return TagValidation(data)

    def labelled(
        self, data: Examples
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
        return *word_features(data), data.flat(TAGS).astype(np.int64) - len(SPECIALS)


class TagValidation(HalvesValidation["Tagger"]):
    """Held-out sentences. A tag that training has not seen counts as a guess."""

    half = LINEAR

    def __init__(self, data: Examples) -> None:
        super().__init__(data)
        self.chance = math.log(data.vocabularies[TAGS].size - len(SPECIALS))

    @property
    def predicted(self) -> int:
        return int(self.data.lengths(TEXT).sum())

    def total(self, network: Tagger, part: Part = WHOLE) -> float:
        transitions = network.transitions
        nats = 0.0
        for found in emissions(network, self.data, None, part):
            truth = padded_tags(self.data, found)
            nats += sequence_nats(found, truth, np.maximum(truth, 0), transitions)
        return nats

    def totals(
        self, network: Tagger, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p(tags), the number of right tags, and of chunks that are found, correct, and
        there."""
        linear = companions.get(LINEAR)
        linear = linear if isinstance(linear, LinearModel) else None
        transitions = network.transitions
        if linear:
            transitions = transitions.times(linear.powers[0])
        nats, right, chunks = 0.0, 0.0, ChunkCounts()
        tags = self.data.vocabularies[TAGS]
        assert isinstance(tags, Symbols)
        for found in emissions(network, self.data, linear, part):
            truth, best = padded_tags(self.data, found), best_tags(found, transitions)
            nats += sequence_nats(found, truth, best, transitions)
            real = np.arange(len(best))[:, None] < found.lengths
            right += float(np.count_nonzero((truth == best) & real))
            named = (
                [
                    [tags.token(id + len(SPECIALS)) for id in column[:n]]
                    for column, n in zip(array.T.tolist(), found.lengths.tolist(), strict=True)
                ]
                for array in (best, np.where(truth == UNSEEN, -1, truth))
            )
            chunks = sum(count_chunks(*named).values(), chunks)
        return nats, right, chunks.found, chunks.correct, chunks.true

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        if len(totals) == 1:
            return {ACCURACY: None, F1: None}
        _, right, *chunks = totals
        tags = self.data.vocabularies[TAGS]
        assert isinstance(tags, Symbols)
        f1 = ChunkCounts(*map(int, chunks)).f1 if are_chunk_tags(tags.names) else None
        return {ACCURACY: right / max(self.predicted, 1), F1: f1}

    def loss(self, network: Tagger, model: LinearModel) -> Callable[[LinearModel], float]:
        transitions = network.transitions
        halves = [
            (found, of_linear_half(model, self.data, found), padded_tags(self.data, found))
            for found in emissions(network, self.data, None)
        ]

        def nats(model: LinearModel) -> float:
            scores = transitions.times(model.powers[0])
            total = 0.0
            for found, of_linear, truth in halves:
                both = model.combined(found.emissions, of_linear)
                known = np.maximum(truth, 0)
                total += sequence_nats(found._replace(emissions=both), known, known, scores)
            return total

        return nats


TASK = TagTask()
