"""The task `tag`: find a tag for every word of a sentence. Its models tag words.

The lecture's architecture: the vector of a word is its own embedding joined with one made from its
characters, by a recurrent network in both directions. Two bidirectional layers read the sentence,
with a residual connection around the second. The tags of neighbours depend on each other: a
conditional random field (`charlm.model.crf`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus import conll
from charlm.corpus.batches import BatchShape, find_rare, replace_rare
from charlm.corpus.buckets import Buckets
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import TEXT, Examples
from charlm.corpus.labelled import COLUMNS, STANDARD, ColumnOptions
from charlm.corpus.reading import Corpus
from charlm.corpus.spellings import Spellings, spelt
from charlm.corpus.stats import CorpusInfo
from charlm.engines.chunks import ChunkCounts, are_chunk_tags, count_chunks
from charlm.engines.tag_scores import TagScore
from charlm.errors import InputError, OptionError
from charlm.model import crf
from charlm.model.backend import Backends, Twins
from charlm.model.config import Dropout
from charlm.model.file import ModelFile, Storable
from charlm.model.linear import LinearModel
from charlm.model.numpy_sequences import NumpyTagger
from charlm.model.sequence_config import TaggerConfig
from charlm.options import argument
from charlm.parts import WHOLE, Part, Share
from charlm.tasks.base import Companions, Defaults, Rows, Sizes, Task, stack_options
from charlm.tasks.labelled import (
    FEATURES,
    LINEAR,
    LabelValidation,
    by_length,
    completed_by_source,
    fit_linear_model,
    label_defaults,
    label_notes,
    rows_of_source,
    source_of,
    train_labels,
)
from charlm.tasks.trained import LoadOptions, Looked, TrainedModel, one_line
from charlm.tokenizer import (
    SPECIALS,
    UNK,
    Blocks,
    Characters,
    Symbols,
    Vocabularies,
    Vocabulary,
    VocabularyOptions,
    WindowFeatures,
)
from charlm.tokenizer.features import PER_WORD
from charlm.tokenizer.symbols import SEPARATOR
from charlm.tokenizer.words import split_words

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from charlm.model.layers import States
    from charlm.model.tagger import Tagger
    from charlm.training.options import TrainOptions

LETTERS, TAGS = "letters", "tags"
ACCURACY, F1 = "valid_accuracy", "valid_f1"
SENTENCES_AT_ONCE = 1024
MOST_SHOWN = 12  # tags
MOST_WORDS = 50_000
LAYERS = 2
EMBEDDING, CHAR_FEATURES = 100, 90  # filters of five widths share a multiple of 15
HIDDEN, HIDDEN_UP_TO = 128, 1_000_000  # features, and the tokens of a corpus for them
BATCH, ENOUGH_TOKENS, RATE = 12, 4_000_000, 4e-3  # see `label_defaults`
COLUMN_SUFFIXES = (".conll", ".conllu", ".iob", ".bio", ".col", ".tsv")


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


class TaggedWord(NamedTuple):
    """A word, its tag, and the probability that it has this tag."""

    word: str
    tag: str
    probability: float


class _Found(NamedTuple):
    """What is known about a batch of sentences before tags are chosen.

    which:      (B,) their numbers
    lengths:    (B,) their words
    emissions:  (T, B, K) of both halves together
    """

    which: NDArray[np.int64]
    lengths: NDArray[np.int64]
    emissions: NDArray[np.floating]


class WordTagger(TrainedModel):
    """A model that finds a tag for every word of a sentence.

    backends:  what runs the network
    linear:    the other half of the model; None for the network alone
    """

    task = "tag"
    purpose = "tags words (charlm predict)"
    predicted = "tag"
    reads_columns = True
    numbered = "position"
    page_note = "Each word in the colour of its tag. Point at it for the probability."
    next_commands = ('charlm predict "a sentence"', "charlm predict --file FILE.conll")
    config: TaggerConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self.config, weights = file.network(TaggerConfig)
        self._words: Symbols = file.vocabulary(TEXT, Symbols.from_state, self.config.vocab)
        size = self.config.tags + len(SPECIALS)
        self._tags: Symbols = file.vocabulary(TAGS, Symbols.from_state, size)
        letters = file.part(LETTERS, Characters.from_state)
        assert letters is not None
        self.tokenizer = letters
        self.backends = Backends(
            self.config, weights, options.backend, options.device, options.threads, TWINS
        )
        self.columns = file.part(COLUMNS, ColumnOptions.from_state) or STANDARD
        linear = None if options.network_only else file.part(LINEAR, LinearModel.from_state)
        self.linear: LinearModel | None = linear

    @property
    def tags(self) -> list[str]:
        """All tags, in the order of the alphabet."""
        return self._tags.names

    @cached_property
    def are_chunks(self) -> bool:
        """Whether the tags mark chunks, such as B-NP and I-NP."""
        return are_chunk_tags(self.tags)

    def predict(self, sentences: Iterable[str | Sequence[str]]) -> list[list[TaggedWord]]:
        """The words of each sentence with their tags: the most probable sequence of tags.

        sentences:  texts, or lists of words. A text is split at spaces; what is then no word of
                    the training text is split at punctuation, too
        """
        return list(self.iter_predict(sentences))

    def iter_predict(
        self, texts: Iterable[str | Sequence[str]], *, k: int = 1
    ) -> Iterator[list[TaggedWord]]:
        """`predict` for any number of sentences, in input order and in bounded memory."""
        if k != 1:
            raise OptionError(f"{argument('k', k)}: is not for `task={self.task}`")
        group: list[Sequence[str]] = []
        for text in texts:
            group.append(self._split(text) if isinstance(text, str) else text)
            if len(group) == SENTENCES_AT_ONCE:
                yield from self._tagged(group)
                group = []
        yield from self._tagged(group)

    def _split(self, text: str) -> list[str]:
        words = []
        for piece in one_line(text).split():
            known = int(self._words.encode_ids(piece)[0]) != UNK
            words += [piece] if known else split_words(piece)
        return words

    def _tagged(self, sentences: Sequence[Sequence[str]]) -> Iterator[list[TaggedWord]]:
        tagged: list[list[TaggedWord]] = [[] for _ in sentences]
        data = self._examples(sentences)
        numbers = [k for k, words in enumerate(sentences) if words]
        for found in self._found(data):
            tags = crf.best_tags(found.emissions, found.lengths, self._transitions)
            logprobs = crf.log_marginals(found.emissions, found.lengths, self._transitions)
            for column, k in enumerate(found.which.tolist()):
                words = sentences[numbers[k]]
                own = tags[: len(words), column]
                p = np.exp(logprobs[np.arange(len(words)), column, own])
                names = (self.tags[tag] for tag in own.tolist())
                zipped = zip(words, names, p.tolist(), strict=True)
                tagged[numbers[k]] = [TaggedWord(*each) for each in zipped]
        yield from tagged

    def are_columns(self, path: str) -> bool:
        """Whether a file looks like one of columns: by its suffix, or a TAB in its first line."""
        if Path(path).suffix.lower() in COLUMN_SUFFIXES:
            return True
        for block in Corpus([path]).blocks():
            return "\t" in block.lstrip().split("\n", 1)[0]
        return False

    def annotate(self, blocks: Iterable[str], **columns: str | None) -> Iterator[str]:
        """The sentences of a file of columns, with the tags as a further column.

        columns:  text_column, the number of the words' column; without it that of the training

        Raises ExampleError, an InputError, for a line without that column.
        """
        own = ColumnOptions(**columns) if columns else self.columns
        column = _number("text_column", own.text_column)
        for group in _groups(conll.sentences(blocks), SENTENCES_AT_ONCE):
            words = [conll.words(s, column) if s.rows else [] for s in group]
            for sentence, tagged in zip(group, self._tagged(words), strict=True):
                yield conll.with_column(sentence, [each.tag for each in tagged])

    def evaluate(self, text: str | Iterable[str], **options: Any) -> TagScore:
        """How well the tags of a text are found.

        text:     sentences in columns, as in training: a string, or blocks of it
        options:  text_column, label_column; without them those of the training

        Raises ExampleError, an InputError, for a line without these columns, and OptionError for
        options of a language model.
        """
        options.pop("progress", None)
        for name, value in options.items():
            if name not in ("text_column", "label_column"):
                raise OptionError(f"{argument(name, value)}: is not for `task={self.task}`")
        score = TagScore(chunks={} if self.are_chunks else None)
        blocks = [text] if isinstance(text, str) else text
        columns = ColumnOptions(**options) if options else self.columns
        read = _tagged_sentences(blocks, columns)
        for group in _groups(read, SENTENCES_AT_ONCE):
            score += self._measured([w for w, _ in group], [t for _, t in group])
        return score

    def _measured(self, words: Sequence[list[str]], tags: Sequence[list[str]]) -> TagScore:
        data = self._examples(words, tags)
        answers: list[list[str]] = [[] for _ in words]
        unseen: list[list[bool]] = [[] for _ in words]
        nats, unseen_tags = 0.0, 0
        for found in self._found(data):
            truth, best = _padded_tags(data, found), _best(found, self._transitions)
            nats += _nats(found, truth, best, self._transitions)
            unseen_tags += int(np.count_nonzero(truth == UNSEEN))
            for column, k in enumerate(found.which.tolist()):
                n = len(words[k])
                answers[k] = [self.tags[tag] for tag in best[:n, column].tolist()]
                unseen[k] = (self._words.encode_ids(SEPARATOR.join(words[k])) == UNK).tolist()
        return TagScore.of(
            tags, answers, unseen, nats, are_chunks=self.are_chunks, unseen_tags=unseen_tags
        )

    def warning(self, measure: TagScore, **options: Any) -> str | None:
        """How many tags of a text training has not seen."""
        if not measure.unseen_tags:
            return None
        return (
            f"{measure.unseen_tags:,} of {measure.tokens:,} words have a tag that the model does "
            "not know; none of them can be right"
        )

    def looked(self, text: str) -> tuple[list[Looked], str]:
        """The words of a text with their tags, and what stands between them."""
        (tagged,) = self.predict([text])
        pieces, done = [], 0
        for word, tag, p in tagged:
            start = text.index(word, done)
            pieces += [Looked(text[done:start], tag="")] if start > done else []
            shown = "" if tag == "O" and self.are_chunks else tag
            pieces.append(Looked(word, tag=shown, title=f"{tag} {p:.1%}"))
            done = start + len(word)
        return pieces, ""

    def _examples(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]] = ()
    ) -> Examples:
        """Those sentences that have words, in memory."""
        block = _block(filter(None, words))
        vocabularies: dict[str, Vocabulary] = {
            TEXT: self._words, LETTERS: self.tokenizer, TAGS: self._tags,
            FEATURES: WindowFeatures(),
        }  # fmt: skip
        fields = {
            TEXT: block, LETTERS: block, TAGS: _block(tags), FEATURES: block if self.linear else ""
        }  # fmt: skip
        encoded = {n: TokenFile.of(vocabularies[n].encode_ids(b)) for n, b in fields.items()}
        return Examples(encoded, vocabularies)

    @cached_property
    def _transitions(self) -> crf.Transitions:
        own = self.backends.numpy.transitions
        return own.times(self.linear.powers[0]) if self.linear else own

    def _found(self, data: Examples) -> Iterator[_Found]:
        tokens = int(data.lengths(TEXT).sum())
        network = self.backends.for_tokens(tokens) if tokens else None
        return _emissions(network, data, self.linear)

    def validation(self) -> str:
        figures = self.card.figures
        shown = [f"F1 {figures[F1]:.2%}"] if figures.get(F1) is not None else []
        if figures.get(ACCURACY) is not None:
            shown.append(f"accuracy {figures[ACCURACY]:.2%}")
        return ", ".join([*shown, super().validation()])

    def about(self) -> dict[str, str]:
        few = ", ".join(self.tags[:MOST_SHOWN]) + (", …" if len(self.tags) > MOST_SHOWN else "")
        about = {
            "tags": f"{len(self.tags):,}: {few}",
            "tokens": f"words, a vocabulary of {self.config.vocab:,}",
        }
        if self.linear:
            a, b = self.linear.powers
            features = f"{len(self.linear.ids):,} features of words, p ∝ network^{a:.2g}"
            about["linear part"] = f"{features} · linear^{b:.2g}"
        return about

    def record(self) -> dict[str, Any]:
        return {"level": "word", "tags": self.tags}


def _network(config: TaggerConfig) -> Tagger:
    from charlm.model.tagger import Tagger

    return Tagger(config)


TWINS = Twins(NumpyTagger, _network)


class TagTask(Task["Tagger", TagBatch]):
    """Prediction of the tag of every word of a sentence."""

    name = "tag"
    model = WordTagger
    config = TaggerConfig
    fields = (TEXT, LETTERS, TAGS, FEATURES)

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        for group in _groups(_tagged_sentences(blocks, columns), SENTENCES_AT_ONCE):
            words, tags = (_block(lists) for lists in zip(*group, strict=True))
            yield words, words, tags, words

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        if field == TEXT:
            return Symbols.train(blocks, options.vocab_size or MOST_WORDS, folded=True)
        if field == LETTERS:
            return Characters.train(blocks, VocabularyOptions())
        return train_labels(blocks) if field == TAGS else WindowFeatures()

    def notes(self, data: Examples, held_out: Examples) -> Iterator[str]:
        tags = data.vocabularies[TAGS]
        assert isinstance(tags, Symbols)
        yield from label_notes(_flat_tags(data), _flat_tags(held_out), tags)

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

    def network(
        self,
        config: TaggerConfig,
        vocabularies: Vocabularies,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> Tagger:
        from charlm.model.tagger import Tagger

        return Tagger(config, dropout, generator, forget_bias=forget_bias)

    def batches(self, data: Examples, shape: BatchShape) -> Buckets[TagBatch]:
        rare = find_rare(data.fields[TEXT], data.vocabularies[TEXT].size, True)
        lengths = data.lengths(TEXT)

        def collate(which: NDArray[np.int64], rng: np.random.Generator) -> TagBatch:
            words, own = data.padded(TEXT, which), shape.part.every
            replace_rare(words, rare, rng.random(words.shape))
            share = Share(shape.part, len(which), int(lengths[which].sum()))
            tags = np.maximum(data.padded(TAGS, which[own]) - len(SPECIALS), 0)
            spellings = _spelt(data, which[own], len(words))
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

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """The linear model of the training examples, and the columns that they were in."""
        tags = data.vocabularies[TAGS].size - len(SPECIALS)
        linear = fit_linear_model(
            data, tags, options, lambda d: (*_features(d), _flat_tags(d) - len(SPECIALS))
        )
        return linear | options.part

    def described_companions(self, options: TrainOptions) -> str:
        return "" if options.ngram == "none" else "a linear model of words and their neighbours"


class TagValidation(LabelValidation["Tagger"]):
    """Held-out sentences. A tag that training has not seen counts as a guess."""

    def __init__(self, data: Examples) -> None:
        super().__init__(data)
        self.chance = math.log(data.vocabularies[TAGS].size - len(SPECIALS))

    @property
    def predicted(self) -> int:
        return int(self.data.lengths(TEXT).sum())

    def total(self, network: Tagger, part: Part = WHOLE) -> float:
        transitions = network.transitions
        nats = 0.0
        for found in _emissions(network, self.data, None, part):
            truth = _padded_tags(self.data, found)
            nats += _nats(found, truth, np.maximum(truth, 0), transitions)
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
        for found in _emissions(network, self.data, linear, part):
            truth, best = _padded_tags(self.data, found), _best(found, transitions)
            nats += _nats(found, truth, best, transitions)
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
            (found, _placed(model, self.data, found), _padded_tags(self.data, found))
            for found in _emissions(network, self.data, None)
        ]

        def nats(model: LinearModel) -> float:
            scores = transitions.times(model.powers[0])
            total = 0.0
            for found, of_linear, truth in halves:
                both = model.combined(found.emissions, of_linear)
                known = np.maximum(truth, 0)
                total += _nats(found._replace(emissions=both), known, known, scores)
            return total

        return nats


UNSEEN = -1  # the column of a tag that training has not seen


def _emissions(
    network: Any, data: Examples, linear: LinearModel | None, part: Part = WHOLE
) -> Iterator[_Found]:
    """The emissions of sentences, in batches from short to long ones.

    network:  either twin
    linear:   None for the network alone
    """
    lengths = data.lengths(TEXT)
    for which in by_length(lengths, part):
        words = data.padded(TEXT, which)[: int(lengths[which].max(initial=1))]
        rows, numbers = _spelt(data, which, len(words))
        spellings = (rows, numbers) if network.config.characters else (None, None)
        found = _Found(which, lengths[which], network.emissions(words, *spellings))
        if linear:
            both = linear.combined(found.emissions, _placed(linear, data, found))
            found = found._replace(emissions=both)
        yield found


def _placed(linear: LinearModel, data: Examples, found: _Found) -> NDArray[np.floating]:
    """(T, B, K) log p of the tags by the linear model."""
    logprobs = linear.logprobs(*_features(data, found.which))
    placed = np.zeros(found.emissions.shape)
    real = np.arange(len(placed))[:, None] < found.lengths
    placed.swapaxes(0, 1)[real.T] = logprobs
    return placed


def _spelt(data: Examples, which: NDArray[np.int64], steps: int) -> Spellings:
    separator = int(data.vocabularies[LETTERS].encode_ids(SEPARATOR)[0])
    return spelt(data.fields[LETTERS], which, separator, steps)


def _best(found: _Found, transitions: crf.Transitions) -> NDArray[np.int64]:
    return crf.best_tags(found.emissions, found.lengths, transitions)


def _padded_tags(data: Examples, found: _Found) -> NDArray[np.int64]:
    """(T, B) the columns of the tags; `UNSEEN` for one that training has not seen."""
    padded = data.padded(TAGS, found.which)[: len(found.emissions)]
    return np.where(padded == 0, 0, padded - len(SPECIALS))


def _nats(
    found: _Found,
    truth: NDArray[np.int64],
    otherwise: NDArray[np.int64],
    transitions: crf.Transitions,
) -> float:
    """Σ −log p(tags). An unseen tag counts as a guess among all, beside the tag `otherwise`."""
    unseen = truth == UNSEEN
    known = np.where(unseen, otherwise, truth)
    emissions = found.emissions.astype(np.float64)
    logprobs = crf.scores(emissions, found.lengths, known, transitions)
    logprobs = logprobs - crf.log_partition(emissions, found.lengths, transitions)
    guesses = np.count_nonzero(unseen) * math.log(found.emissions.shape[2])
    return float(guesses - np.minimum(logprobs, 0.0).sum())


def _flat_tags(data: Examples) -> NDArray[np.int64]:
    """(n,) the ids of all tags, one sentence after the other."""
    file = data.fields[TAGS]
    return np.delete(file.ids, np.asarray(file.bounds[1:]) - 1).astype(np.int64)


def _features(
    data: Examples, which: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The features of the words of sentences, and where those of each begin."""
    file = data.fields[FEATURES]
    file = file if which is None else file.lines(which)
    ids = np.delete(file.ids, np.asarray(file.bounds[1:]) - 1)
    return ids, np.arange(0, len(ids) + 1, PER_WORD)


def _block(sentences: Iterable[Sequence[str]]) -> str:
    """A line for each sentence. A line end or a TAB within a word becomes a space."""
    return "".join(f"{SEPARATOR.join(map(_clean, words))}\n" for words in sentences)


def _clean(word: str) -> str:
    if not word:
        raise InputError("a word is empty; leave it out")
    return " ".join(word.replace(SEPARATOR, " ").split("\n")) if word else word


def _groups(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def _tagged_sentences(
    blocks: Iterable[str], columns: ColumnOptions
) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each sentence. Raises ExampleError, naming the line."""
    word = _number("text_column", columns.text_column)
    tag = _number("label_column", columns.label_column)
    for sentence in conll.sentences(blocks):
        if sentence.rows:
            yield conll.words_and_tags(sentence, word, tag)


def _number(name: str, column: str | None) -> int | None:
    """The number of a column. Raises OptionError for a name."""
    try:
        return None if column is None else int(column)
    except ValueError:
        raise OptionError(f"{argument(name, column)}: give a number, from 1") from None


TASK = TagTask()
