"""What the tasks share whose models give labels: `classify` and `tag`.

Their models have two halves: a network, and a linear model over features of the text
(`charlm.model.linear`). The log-probabilities of both are added up with weights that are fitted on
the validation part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import FEATURES, Examples
from charlm.corpus.labelled import COLUMNS, STANDARD, ColumnOptions
from charlm.errors import InputError
from charlm.model.backend import Backends
from charlm.model.file import ModelFile, Storable
from charlm.model.linear import LinearModel
from charlm.model.ngram import NO_NGRAM
from charlm.model.sequence_config import SequenceConfig
from charlm.model.tree_config import TreeConfig
from charlm.tasks.base import B, Defaults, N, Task
from charlm.tasks.trained import LoadOptions, TrainedModel
from charlm.tokenizer import SPECIALS, Blocks, Symbols, TextFeatures, load_vocabulary

if TYPE_CHECKING:
    from charlm.corpus.stats import CorpusInfo
    from charlm.training.options import TrainOptions

LINEAR = "linear"  # a part of a model file
MOST_LABELS = 10_000  # more different ones are no labels, but text
MOST_COUNTED_LABELS = 500  # by a linear model
MOST_FITTED = 1 << 24  # features of the examples that the linear model is made of
FITTED_PER_MINUTE = 1 << 27  # features times labels; about a tenth of the time
FEWEST_EPOCHS = 4
TOKEN_DROPOUT, WEIGHT_DECAY = 0.25, 0.05
DROPOUT, DROPOUT_UP_TO = 0.5, 500_000  # a corpus of more tokens needs less


def train_labels(blocks: Blocks) -> Symbols:
    """The labels of a corpus. Raises InputError for a single one, and for too many."""
    labels = Symbols.train(blocks)
    if len(labels.names) > MOST_LABELS:
        raise InputError(
            f"{len(labels.names):,} different labels: does each example end with a label?"
        )
    if len(labels.names) < 2:
        raise InputError(
            f"all examples have the label {''.join(labels.names)!r}: there is nothing to learn"
        )
    return labels


def label_notes(
    training: NDArray[np.integer], held_out: NDArray[np.integer], labels: Symbols
) -> Iterator[str]:
    """What a user should know about the labels of the training and the held-out examples.

    training, held_out:  their ids, without line ends
    """
    by_folded: dict[str, str] = {}
    for name in labels.names:
        if (other := by_folded.setdefault(name.casefold(), name)) != name:
            yield f"note: the labels {other!r} and {name!r} differ only in upper and lower case"
    counts = np.bincount(training, minlength=labels.size)
    if np.count_nonzero(counts == 1) > len(training) / 2:
        yield "warning: most labels are on one training example only: are they labels?"
    if len(labels.names) > MOST_COUNTED_LABELS:
        yield (
            f"note: {len(labels.names):,} labels are too many for a linear model, so the model is "
            "the network alone"
        )
    share = counts.max() / max(counts.sum(), 1)
    yield (
        f"note: {len(labels.names)} labels; the most frequent one, "
        f"{labels.token(int(counts.argmax()))!r}, is on {share:.1%} of the training examples"
    )
    unseen = int(np.count_nonzero(held_out < len(SPECIALS)))
    if unseen:
        yield (
            f"warning: {unseen:,} of {len(held_out):,} labels for validation do not occur in "
            "training; none of them can be right"
        )


def label_defaults(
    train_tokens: int,
    enough_tokens: int,
    lr: float,
    hidden: int | None = None,
    batch: int | None = None,
) -> Defaults:
    """What the recipe takes for networks that give labels.

    They learn fast and then learn by heart. So they need much dropout, and a schedule that ends
    early; more minutes bring nothing.

    enough_tokens:  to train on, if the corpus is small
    hidden, batch:  see `Defaults`
    """
    epochs = max(FEWEST_EPOCHS, round(enough_tokens / max(train_tokens, 1)))
    dropout = DROPOUT * min(DROPOUT_UP_TO / max(train_tokens, 1), 1.0) ** 0.2
    return Defaults(
        True,
        hidden=hidden,
        most_epochs=epochs,
        batch=batch,
        bptt=32,
        lr=lr,
        dropout=round(dropout, 2),
        token_dropout=TOKEN_DROPOUT,
        weight_decay=WEIGHT_DECAY,
    )


class LabelModel(TrainedModel):
    """A model with two halves that gives labels: the base of classifiers and taggers.

    backends:  what runs the network
    linear:    the other half of the model; None for the network alone

    shape:         the class of its configuration
    labels_field:  the field whose vocabulary has the labels
    page_shows:    what a page of predictions shows, in words
    """

    reads_columns = True
    shape: ClassVar[type[SequenceConfig | TreeConfig]]
    labels_field: ClassVar[str]
    page_shows: ClassVar[str]

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        config, weights = file.network(self.shape)
        self.config, size = config, config.outputs + len(SPECIALS)
        self._labels: Symbols = file.vocabulary(self.labels_field, Symbols.from_state, size)
        self.backends = Backends(
            self.config, weights, options.backend, options.device, options.threads, self.twins
        )
        # The first models of labels had no linear half, and no features.
        self._features = file.part(FEATURES, load_vocabulary) or TextFeatures()
        self.columns = file.part(COLUMNS, ColumnOptions.from_state) or STANDARD
        self.linear: LinearModel | None = None
        if not options.network_only:
            self.linear = file.part(LINEAR, LinearModel.from_state)

    @property
    def page_note(self) -> str:
        """See `charlm.tasks.trained.Predicts`."""
        if not self.linear:
            return self.page_shows
        return (
            f"{self.page_shows} The answers and their probabilities are those of the network and "
            f"the linear part together, {_mixture(self.linear)}."
        )

    def about(self) -> dict[str, str]:
        if not self.linear:
            return {}
        return {"linear part": f"{len(self.linear.ids):,} features, {_mixture(self.linear)}"}


def _mixture(linear: LinearModel) -> str:
    """How the two halves are combined, in words."""
    a, b = linear.powers
    return f"p ∝ network^{a:.2g} · linear^{b:.2g}"


class LabelTask(Task[N, B]):
    """A task whose models give labels: the base of `classify` and `tag`.

    counted:  what the linear half counts, in words
    """

    model: ClassVar[type[LabelModel]]
    counted: ClassVar[str]

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """The linear model of the training examples, and the columns that they were in."""
        if options.ngram == NO_NGRAM:
            return {**options.part}
        from charlm.model.linear_fit import Counted, fit_linear

        labels = data.vocabularies[self.model.labels_field].size - len(SPECIALS)
        if labels > MOST_COUNTED_LABELS:
            return {**options.part}
        most = MOST_FITTED
        if options.minutes:
            most = min(most, int(FITTED_PER_MINUTE * options.minutes / labels))
        features = self.count_features(data)
        if features > most:
            data = data.sample(data.tokens * most // features)
        return {LINEAR: fit_linear(Counted(*self.labelled(data)), labels), **options.part}

    @abstractmethod
    def labelled(
        self, data: Examples
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
        """Features, bounds and labels of what is labelled in the examples: see `Counted`."""

    def count_features(self, data: Examples) -> int:
        """About how many features `labelled` returns."""
        return len(data.fields[FEATURES].ids)

    def described_companions(self, options: TrainOptions) -> str:
        return "" if options.ngram == NO_NGRAM else f"a linear model of {self.counted}"
