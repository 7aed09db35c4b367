"""The contract of tasks, and what all trained models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.engines.embedding import LineVectors, embed_lines
from charlm.errors import InputError
from charlm.model.backend import Backend, Backends
from charlm.model.file import ModelFile
from charlm.model.mixture import Mixture
from charlm.parts import WHOLE, Part
from charlm.tokenizer import UNK, Tokenizer
from charlm.tokenizer.letters import Letters

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.corpus.batches import Batches, BatchShape
    from charlm.corpus.encoding import TokenFile
    from charlm.model.layers import States
    from charlm.model.network import Network


class Task(ABC):
    """What a network is trained for.

    name:   the value of `task` in the options and in the model file
    model:  the class of its trained models
    mixes:  its models combine the network with an n-gram model

    B stands for the type of its batches, which only the task itself looks into.
    """

    name: ClassVar[str]
    model: ClassVar[type[TrainedModel]]
    mixes: ClassVar[bool] = False

    def network_parts(self) -> Mapping[str, Any]:
        """The fields of `ModelConfig` that this task sets; options may raise them."""
        return {}

    @abstractmethod
    def batches(self, tokens: TokenFile, tokenizer: Tokenizer, shape: BatchShape) -> Batches:
        """The training examples, in batches."""

    @abstractmethod
    def loss(self, network: Network, batch: Any, state: States) -> tuple[Tensor, States]:
        """The loss of a batch, summed over the tokens that are predicted here, and the state after.

        network:  in training, it draws its own dropout
        state:    that this function returned for the batch before; empty for the zero state

        Returns the loss in nats, a tensor that can be differentiated.
        """

    @abstractmethod
    def validation(
        self, ids: NDArray[np.integer], bounds: NDArray[np.int64], *, lines: bool
    ) -> Validation:
        """The validation text, ready to be measured; see `Validation` for the arguments."""

    @abstractmethod
    def probe_batch(self, length: int, batch: int) -> Any:
        """A batch of this shape, to measure the speed of training."""

    @abstractmethod
    def described_batch(self, batch: int, bptt: int) -> str:
        """The size of a training step, in words."""


class Validation(ABC):
    """The held-out part of a text.

    ids:     (n,) tokens; every line ends with an `<EOS>`
    bounds:  (lines + 1,) where the lines start
    lines:   the lines are independent: each is read from the zero state
    """

    def __init__(self, ids: NDArray[np.integer], bounds: NDArray[np.int64], *, lines: bool) -> None:
        self.ids, self.bounds, self.lines = ids, bounds, lines

    def first(self, tokens: int) -> Self:
        """The first `tokens` tokens; of independent lines whole lines, if there is a whole one."""
        if self.lines:
            whole = np.searchsorted(self.bounds, tokens, side="right") - 1
            tokens = int(self.bounds[whole]) or tokens
        return type(self)(np.asarray(self.ids[:tokens]), self.bounds, lines=self.lines)

    @property
    @abstractmethod
    def predicted(self) -> int:
        """The number of predicted tokens."""

    @abstractmethod
    def totals(
        self, backend: Backend, mixture: Mixture | None = None, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p of the predicted tokens, in nats. The parts add up to the whole.

        mixture:  what the network is combined with

        Returns the sum for the whole model; with a mixture also for the network and the n-gram
        model alone.
        """

    def total(self, backend: Backend, part: Part = WHOLE) -> float:
        """`totals` of the network alone."""
        return self.totals(backend, part=part)[0]

    def loss(self, backend: Backend) -> float:
        """Nats per predicted token, of the network alone."""
        return self.total(backend) / max(self.predicted, 1)

    def fitted(self, backend: Backend, mixture: Mixture) -> Mixture:
        """The mixture with the weights that predict this text best."""
        return mixture

    def figures(self, backend: Backend, mixture: Mixture | None = None) -> dict[str, Any]:
        """Further figures for the card, by the names of its fields."""
        return {}

    @abstractmethod
    def seconds(self, backend: Backend, mixture: Mixture | None = None) -> float:
        """The time that `fitted`, `totals` and `figures` will take, by a short measurement."""


class TrainedModel:
    """A model in one file: its network, its tokenizer and its card. The base of all models.

    path:       the model file
    config:     the network's shape
    tokenizer:  text to ids and back
    card:       where the model comes from, and how good it is
    backends:   what runs the network
    mixture:    what the network is combined with; None for the network alone
    lexicon:    the words of the training text; None if unknown

    task:             the name of its task
    purpose:          what it does, in words, for messages
    validation_note:  what its validation loss is of, in words
    next_commands:    commands to try after training
    """

    task: ClassVar[str]
    purpose: ClassVar[str]
    validation_note: ClassVar[str] = ""
    next_commands: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        file: ModelFile,
        path: Path,
        *,
        backend: str | Backend = "auto",
        device: str = "auto",
        threads: int | None = None,
        network_only: bool = False,
    ) -> None:
        """See `charlm.load` for the arguments."""
        self.path = path
        self.config, self.tokenizer, self.card = file.config, file.tokenizer, file.card
        self.backends = Backends(file.config, file.weights, backend, device, threads)
        self.mixture = None if network_only else file.mixture
        self.lexicon = file.lexicon
        self._weights = file.weights

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without what is computed when it is first used."""
        return {name: v for name, v in vars(self).items() if name != "_filling"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def independent_lines(self) -> bool:
        """Whether the model reads every line by itself."""
        return self.card.lines

    def example(self) -> str | None:
        """A text that the model writes, to be shown after training; None if it writes none."""
        return None

    def embed(self, lines: Iterable[str]) -> Iterator[LineVectors]:
        """A vector for each token of each line, each line by itself, see `LineVectors`.

        >>> (line,) = model.embed(["the cat"])
        >>> line.vectors.shape == (7, model.config.hidden)
        True
        """
        return embed_lines(self.backends, self.tokenizer, map(one_line, several(lines)))

    def word_vectors(self, words: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The vectors of words or other tokens, as the network reads them, (n, inputs).

        words:  None for the whole vocabulary, in the order of `vocabulary`

        A word that is not in the vocabulary has the vector of `<UNK>`; in a character-aware
        network its character features are computed from its characters.
        """
        table = self._weights["embedding"]
        if self.config.characters:
            table = np.concatenate([table, self._weights["char_features"]], axis=1)
        if words is None:
            return table
        ids = [self.word_id(word) for word in words]
        vectors = table[[UNK if id is None else id for id in ids]]
        unseen = [k for k, id in enumerate(ids) if id is None]
        if unseen and self.config.characters:
            characters = Letters(self.tokenizer).spell([words[k] for k in unseen])
            features = self.backends.torch.word_features(characters)
            vectors[unseen, self.config.embedding :] = features
        return vectors

    @property
    def vocabulary(self) -> list[str]:
        """The printable forms of all tokens, in the order of their ids."""
        return [self.tokenizer.token(id) for id in range(self.tokenizer.size)]

    def word_id(self, word: str) -> int | None:
        """The id of a word; None if it is not in the vocabulary."""
        ids = self.tokenizer.encode(word).ids
        return int(ids[0]) if len(ids) == 1 and ids[0] != UNK else None

    def unknown_in(self, text: str) -> list[str]:
        """The pieces of a text that are not in the vocabulary, each once, in their order."""
        ids, spans = self.tokenizer.encode(text)
        unknown = [text[start:end] for start, end in spans[ids == UNK].tolist()]
        return list(dict.fromkeys(unknown))


def several(texts: object) -> Iterable[str]:
    """The texts. Raises InputError for what is not an iterable."""
    if not isinstance(texts, Iterable):
        raise InputError(f"{texts!r}: is no text; give a string, or several")
    return texts


def one_line_end(text: str) -> str:
    """The text with "\\n" for "\\r\\n", as in training texts. Raises InputError for no text."""
    if not isinstance(text, str):
        raise InputError(f"{text!r}: is no text; give a string, or several")
    return text.replace("\r\n", "\n")


def one_line(text: str) -> str:
    """The text, if it is a single line. Raises InputError otherwise."""
    if "\n" in one_line_end(text):
        raise InputError("a line end in the text; give one line at a time")
    return text
