"""What the tasks share whose models give labels: `classify` and `tag`.

Their models have two halves: a network, and a linear model over features of the text
(`charlm.model.linear`). The log-probabilities of both are added up with weights that are fitted on
the validation part.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import FEATURES, Examples
from charlm.corpus.labelled import COLUMNS, STANDARD, ColumnOptions
from charlm.errors import InputError, OptionError
from charlm.model.backend import Backends, Twins
from charlm.model.config import Dropout
from charlm.model.file import ModelFile, Storable
from charlm.model.linear import LinearModel
from charlm.model.ngram import NO_NGRAM
from charlm.model.sequence_config import SequenceConfig
from charlm.options import argument
from charlm.parts import WHOLE, Part
from charlm.tasks.base import B, Companions, Defaults, N, Task, Validation
from charlm.tasks.trained import LoadOptions, TrainedModel
from charlm.tokenizer import SPECIALS, Blocks, Symbols, Vocabularies

if TYPE_CHECKING:
    import torch

    from charlm.corpus.stats import CorpusInfo
    from charlm.training.options import TrainOptions

LINEAR = "linear"  # a part of a model file
MOST_LABELS = 10_000  # more different ones are no labels, but text
PROBED_TOKENS = 8192  # of the validation part, to estimate the time for all of it
MOST_FITTED = 1 << 24  # features of the examples that the linear model is made of
FITTED_PER_MINUTE = 1 << 27  # features times labels; about a tenth of the time
POWERS_OF, WEIGHINGS = 8192, 30  # tokens on which the two halves are weighed, and how often
FEWEST_EPOCHS = 4
PRIOR = 1.0  # nats for a power of 1
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


def weighed(model: LinearModel, nats: Callable[[LinearModel], float]) -> LinearModel:
    """The model with the powers that make the loss least, by a search in smaller and smaller steps.

    nats:  the loss of held-out examples by both halves together; called about `WEIGHINGS` times
    """

    def loss(model: LinearModel) -> float:
        # Of few examples that are all right there is no evidence for great certainty.
        return nats(model) + PRIOR * sum(power * power for power in model.powers)

    best, lowest = model, loss(model)
    step = 0.4
    while step > 0.04:
        a, b = best.powers
        around = [(a + step, b), (a - step, b), (a, b + step), (a, b - step)]
        tried = [model.with_powers(p) for p in around if min(p) >= 0]
        losses = [loss(other) for other in tried]
        k = int(np.argmin(losses))
        if losses[k] < lowest:
            best, lowest = tried[k], losses[k]
        else:
            step /= 2
    return best


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
    columns:   where the examples stood that it was trained on

    shape:         the class of its configuration
    twins:         the classes of its network
    labels_field:  the field whose vocabulary has the labels
    """

    reads_columns = True
    shape: ClassVar[type[SequenceConfig]]
    twins: ClassVar[Twins]
    labels_field: ClassVar[str]

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        config, weights = file.network(self.shape)
        self.config, size = config, config.outputs + len(SPECIALS)
        self._labels: Symbols = file.vocabulary(self.labels_field, Symbols.from_state, size)
        self.backends = Backends(
            self.config, weights, options.backend, options.device, options.threads, self.twins
        )
        self.columns = file.part(COLUMNS, ColumnOptions.from_state) or STANDARD
        self.linear: LinearModel | None = None
        if not options.network_only:
            self.linear = file.part(LINEAR, LinearModel.from_state)

    def _columns(self, options: dict[str, Any]) -> ColumnOptions:
        """The columns that these options of `evaluate` name; without any, those of the training.

        Raises OptionError for options of a language model.
        """
        named = {name: value for name, value in options.items() if name != "progress"}
        for name, value in named.items():
            if name not in ("text_column", "label_column"):
                raise OptionError(f"{argument(name, value)}: is not for `task={self.task}`")
        return ColumnOptions(**named) if named else self.columns

    def about(self) -> dict[str, str]:
        if not self.linear:
            return {}
        a, b = self.linear.powers
        features = f"{len(self.linear.ids):,} features, p ∝ network^{a:.2g} · linear^{b:.2g}"
        return {"linear part": features}


class LabelTask(Task[N, B]):
    """A task whose models give labels: the base of `classify` and `tag`.

    counted:  what the linear half counts, in words
    """

    model: ClassVar[type[LabelModel]]
    counted: ClassVar[str]

    def network(
        self,
        config: Any,
        vocabularies: Vocabularies,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> N:
        return self.model.twins.torch(config, dropout, generator, forget_bias=forget_bias)

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """The linear model of the training examples, and the columns that they were in."""
        if options.ngram == NO_NGRAM:
            return {**options.part}
        from charlm.model.linear_fit import Counted, fit_linear

        labels = data.vocabularies[self.model.labels_field].size - len(SPECIALS)
        most = MOST_FITTED
        if options.minutes:
            most = min(most, int(FITTED_PER_MINUTE * options.minutes / labels))
        features = len(data.fields[FEATURES].ids)
        if features > most:
            data = data.sample(data.tokens * most // features)
        return {LINEAR: fit_linear(Counted(*self.labelled(data)), labels), **options.part}

    @abstractmethod
    def labelled(
        self, data: Examples
    ) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.int64]]:
        """Features, bounds and labels of what is labelled in the examples: see `Counted`."""

    def described_companions(self, options: TrainOptions) -> str:
        return "" if options.ngram == NO_NGRAM else f"a linear model of {self.counted}"


class LabelValidation(Validation[N]):
    """Held-out examples with labels."""

    fewest: ClassVar[int] = 1 << 15

    def __init__(self, data: Examples) -> None:
        self.data = data

    def first(self, tokens: int) -> Self:
        if tokens >= self.data.tokens:
            return self
        return type(self)(self.data.sample(tokens))

    def total(self, network: N, part: Part = WHOLE) -> float:
        return self.totals(network, {}, part)[0]

    @abstractmethod
    def totals(self, network: N, companions: Companions, part: Part = WHOLE) -> Sequence[float]:
        """See `Validation`."""

    def fitted(self, network: N, companions: Companions) -> Companions:
        model = companions.get(LINEAR)
        if not isinstance(model, LinearModel) or not self.predicted:
            return companions
        return {**companions, LINEAR: weighed(model, self.first(POWERS_OF).loss(network, model))}

    @abstractmethod
    def loss(self, network: N, model: LinearModel) -> Callable[[LinearModel], float]:
        """The loss of these examples as a function of the powers of the linear model, in nats."""

    def seconds(self, network: N, companions: Companions) -> float:
        part = self.first(PROBED_TOKENS)
        part.total(network)  # the first call builds the kernels
        start = time.perf_counter()
        part.totals(network, companions)
        tokens = time.perf_counter() - start
        seconds = 1.2 * tokens * self.data.tokens / max(part.data.tokens, 1)
        model = companions.get(LINEAR)
        if isinstance(model, LinearModel) and part.predicted:
            loss = part.loss(network, model)
            start = time.perf_counter()
            loss(model)
            seconds += 1.2 * tokens + WEIGHINGS * (time.perf_counter() - start)
        return seconds
