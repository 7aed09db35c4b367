"""The contract of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    Self,
    TypeVar,
)

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import TEXT
from charlm.corpus.labelled import STANDARD, ColumnOptions
from charlm.model.config import VARIANTS, Dropout, StackConfig
from charlm.model.file import Storable
from charlm.parts import WHOLE, Part
from charlm.tasks.trained import TrainedModel
from charlm.tokenizer import TOKENIZERS, Blocks, Vocabularies, Vocabulary, train_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from charlm.corpus.batches import Batch, Batches, BatchShape
    from charlm.corpus.examples import Examples
    from charlm.corpus.stats import CorpusInfo
    from charlm.model.layers import States
    from charlm.model.network import Trainable
    from charlm.training.options import TrainOptions

N = TypeVar("N", bound="Trainable")
B = TypeVar("B", bound="Batch")
# What a model has beside its network, counted and not trained, by name: n-grams, a lexicon.
Companions = Mapping[str, Storable]


class Sizes(NamedTuple):
    """What the shape of a network depends on, beside options.

    vocabularies:  the number of ids of each field
    alphabet:      different characters in the words of the text
    vectors:       features of the word vectors to start from; None without any
    """

    vocabularies: Mapping[str, int]
    alphabet: int = 0
    vectors: int | None = None


class Defaults(NamedTuple):
    """What the recipe takes where options leave it open. None: its own rule.

    large_vocabulary:  the tokens are words or the like, thousands of different ones
    hidden:            features of the hidden state
    most_epochs:       more of them teach nothing
    batch, bptt:       tokens of a training step are batch · bptt
    lr:                highest learning rate
    dropout:           of inputs and outputs
    token_dropout:     of whole tokens
    weight_decay:      of AdamW
    rate:              factor on the learning rate that the recipe chooses
    several:           networks may be trained, where one would see the text too often
    """

    large_vocabulary: bool
    hidden: int | None = None
    most_epochs: float | None = None
    batch: int | None = None
    bptt: int | None = None
    lr: float | None = None
    dropout: float | None = None
    token_dropout: float = 0.0
    weight_decay: float | None = None
    rate: float = 1.0
    several: bool = False


VECTORS = "vectors"  # in place of the name of the parameter that has the vectors of tokens


class Rows(NamedTuple):
    """Values of a parameter to start from: rows, or the first columns of them.

    ids:     (n,) the numbers of the rows
    values:  (n, …) float32
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Rows:
        """All rows."""
        return cls(np.arange(len(values)), values)


class Candidate(NamedTuple):
    """A network that the recipe may choose.

    work:  weights that multiply each token, on average: it is the time of a step
    """

    config: StackConfig
    work: float


class Task(ABC, Generic[N, B]):
    """What a network is trained for.

    N is the type of its networks, and B that of its batches, which only the task itself looks into.

    name:    the value of `task` in the options and in the model file
    model:   the class of its trained models
    config:  the class of the shapes of its networks
    fields:  the names of the fields of an example. The first one has the text that is read
    """

    name: ClassVar[str]
    model: ClassVar[type[TrainedModel]]
    config: ClassVar[type[StackConfig]]
    fields: ClassVar[tuple[str, ...]] = (TEXT,)

    # --- from a corpus to examples ---

    def parse(
        self, blocks: Iterable[str], columns: ColumnOptions = STANDARD
    ) -> Iterator[tuple[str, ...]]:
        """Blocks of a corpus -> blocks of each field, with a line for each example.

        A line of a field is text, which its vocabulary turns into ids.

        columns:  where the text and what is said of it stand

        A block may end within a long line: see `whole_lines`. Raises ExampleError for an example
        that cannot be read.
        """
        return ((block,) for block in blocks)

    def independent_lines(self, options: TrainOptions) -> bool:
        """Whether examples have nothing to do with each other, so that any may be held out."""
        return True

    def vocabulary(self, field: str, blocks: Blocks, options: TrainOptions) -> Vocabulary:
        """Learn the vocabulary of a field. Raises OptionError and InputError.

        It is a tokenizer, `Symbols`, or a new kind that `charlm.tokenizer.VOCABULARIES` knows.
        """
        o = options.vocabulary
        return train_tokenizer(options.level, blocks, o.vocab_size, o.split, o.normalize)

    def notes(self, data: Examples, held_out: Examples, options: TrainOptions) -> Iterator[str]:
        """What a user should know about the training examples and the held-out ones."""
        yield from ()

    # --- the network ---

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        """What the recipe takes where the options leave it open."""
        return Defaults(TOKENIZERS[options.level].large_vocabulary)

    @abstractmethod
    def shape(self, options: TrainOptions, sizes: Sizes, hidden: int) -> StackConfig:
        """The network of these options, with this hidden size.

        Raises OptionError for options that do not go together.
        """

    def candidates(
        self, options: TrainOptions, data: Examples, sizes: Sizes, hidden: Sequence[int]
    ) -> list[Candidate]:
        """The networks of these hidden sizes.

        What a network needs to know of the training examples goes into its shape here.
        """
        shapes = [self.shape(options, sizes, size) for size in hidden]
        return [Candidate(shape, shape.multiplied_weights()) for shape in shapes]

    def network(
        self,
        config: Any,
        vocabularies: Vocabularies,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        *,
        forget_bias: float = 1.0,
    ) -> N:
        """A network of this shape, of the class `config`, with initial weights.

        Parameters are saved with a run, and buffers are not.

        vocabularies:        empty if weights are loaded later, or the speed is measured
        dropout, generator:  see `charlm.model.network.Trainable`
        forget_bias:         initial bias of forget gates
        """
        network: N = self.model.twins.torch(config, dropout, generator, forget_bias=forget_bias)
        return network

    def completed(self, options: TrainOptions) -> TrainOptions:
        """The options, with those that the model of `from_` decides.

        Raises ModelError for a model that this task cannot start from, and OptionError for options
        that it does not allow.
        """
        return options

    def initial(
        self, config: Any, vocabularies: Vocabularies, options: TrainOptions
    ) -> dict[str, Rows]:
        """The weights that are taken from the model of `from_`, by the names of parameters."""
        return {}

    # --- training ---

    @abstractmethod
    def batches(self, data: Examples, shape: BatchShape) -> Batches:
        """The training examples, in batches."""

    @abstractmethod
    def probe_batch(self, length: int, batch: int) -> B:
        """A batch of this shape, to measure the speed of training."""

    @abstractmethod
    def loss(self, network: N, batch: B, state: States) -> tuple[Tensor, States]:
        """The loss of a batch, summed over what is predicted here, and the state after.

        network:  in training, it draws its own dropout
        state:    that this function returned for the batch before; empty for the zero state

        Returns the loss in nats, a tensor that can be differentiated.
        """

    # --- what is measured and counted ---

    @abstractmethod
    def validation(self, data: Examples, info: CorpusInfo, options: TrainOptions) -> Validation[N]:
        """The held-out examples, ready to be measured."""

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """What the models have beside the network, counted in the training part.

        text:  the first field of that part
        """
        return {}

    def described_batch(self, batch: int, bptt: int) -> str:
        """The size of a training step, in words."""
        return f"{batch * bptt} tokens a step"

    def described_companions(self, options: TrainOptions) -> str:
        """The companions in a few words, for the description of a run."""
        return ""


class Validation(ABC, Generic[N]):
    """The held-out examples of a task.

    chance:  the loss of a model that reads nothing, such as a guess among all labels, in nats
    """

    chance: float
    fewest: ClassVar[int] = 4096  # tokens that are measured during training, at the least

    @property
    @abstractmethod
    def predicted(self) -> int:
        """The number of tokens, or labels, that are predicted."""

    @abstractmethod
    def first(self, tokens: int) -> Self:
        """The first examples, or a sample of them, with about this many tokens."""

    @abstractmethod
    def total(self, network: N, part: Part = WHOLE) -> float:
        """Σ −log p of what is predicted, by the network alone, in nats. The parts add up."""

    def totals(self, network: N, companions: Companions, part: Part = WHOLE) -> Sequence[float]:
        """What the model is measured by: sums, so that those of all parts add up.

        The first is Σ −log p by the whole model, in nats. `figures` names the others.
        """
        return [self.total(network, part)]

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        """Figures for the card, by name, from the sums of `totals`, or from the first one alone.

        The names begin with "valid_". A figure that the first sum does not tell is then None.
        """
        return {}

    def fitted(self, network: N, companions: Companions) -> Companions:
        """The companions with the settings that predict these examples best."""
        return companions

    @abstractmethod
    def seconds(self, network: N, companions: Companions) -> float:
        """The time that `fitted` and `totals` will take, by a short measurement."""


def stack_options(options: TrainOptions) -> dict[str, Any]:
    """The fields of `StackConfig` that options set, but for the hidden size."""
    return {
        "cell": options.cell,
        "layers": options.layers or 1,
        **{name: getattr(options, name) for name in VARIANTS},
        "forget_gate": None if options.forget_gate else False,
        "layer_norm": options.layer_norm,
        "residual": bool(options.residual),
    }
