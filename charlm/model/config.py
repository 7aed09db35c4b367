"""The shapes of networks: everything but their weights."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, Self, TypeVar

from charlm.errors import OptionError
from charlm.model.equations import CELLS, Cell, lstm
from charlm.model.names import add_prefix, strip_prefix
from charlm.options import Choices, Range

# The variants of cells: the arguments of the functions in `equations`.
VARIANTS = ("activation", "forget_gate", "peepholes", "reset")
LAYERS, EXTRA_LAYERS, FEATURES, NETWORKS = Range(1, 4), Range(0, 4), Range(1), Range(1, 16)
CHARACTERS = Choices(("recurrent", "convolutional"))
CHARACTER_EMBEDDING = 16  # features of a character's vector
# Filter widths in characters. Width w has a share w of the features (Kim et al. 2016).
WIDTHS = (1, 2, 3, 4, 5)

Shapes = dict[str, tuple[int, ...]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StackConfig(ABC):
    """The shape of a stack of recurrent layers, and what training needs to know of any network.

    A network of another kind extends it by the sizes of its own parts.

    cell:       a name in `equations.CELLS`
    layers:     recurrent layers, 1 to 4
    hidden:     features H of each layer's hidden state
    activation, forget_gate, peepholes, reset:  variants of the cell; None for its default
    layer_norm:     layer normalisation of the gates within the cell
    residual:       a layer's input is added to its output where both have the same size

    Raises OptionError, naming the option and the value.
    """

    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    activation: str | None = None
    forget_gate: bool | None = None
    peepholes: str | None = None
    reset: str | None = None
    layer_norm: bool = False
    residual: bool = False

    def __post_init__(self) -> None:
        LAYERS.check("layers", self.layers)
        FEATURES.check("hidden", self.hidden)
        _ = self.recurrence  # refuses unknown cells and variants

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the cell's functions, which are found again by its name."""
        return {name: value for name, value in vars(self).items() if name != "recurrence"}

    @cached_property
    def recurrence(self) -> Cell:
        """The cell in its variant."""
        if self.cell not in CELLS:
            raise OptionError(f"`cell={self.cell}`: no such cell; choose {', '.join(CELLS)}")
        known = inspect.signature(CELLS[self.cell]).parameters
        variants = {n: getattr(self, n) for n in VARIANTS if getattr(self, n) is not None}
        for name, value in variants.items():
            if name not in known:
                cells = [c for c in CELLS if name in inspect.signature(CELLS[c]).parameters]
                raise OptionError(
                    f"`{name}={value}`: is not for `cell={self.cell}`, but for "
                    + " or ".join(f"`cell={cell}`" for cell in cells)
                )
        return CELLS[self.cell](**variants)

    @abstractmethod
    def shapes(self) -> Shapes:
        """The name and shape of every weight, in the order of use.

        A layer's matrices hold its G gates one below the other, as `torch.nn` packs them.
        """

    @abstractmethod
    def multiplied_weights(self, output_rows: float | None = None) -> float:
        """The number of weights that multiply each token: 2 FLOP each to run, 6 to train.

        output_rows:  rows of the output layer, on average; None for all of them
        """

    @property
    @abstractmethod
    def kept_floats(self) -> int:
        """Numbers that a training step keeps of each token for the backward pass, about."""

    def described(self) -> str:
        """In words: the size, and what is special about the network."""
        size = f"{self.cell} of {self.hidden}"
        if self.layers > 1:
            size = f"{self.layers} × {self.hidden} {self.cell}"
        variants = ((name, getattr(self, name)) for name in VARIANTS)
        return ", ".join(
            [
                size,
                *(f"{name} {v}" for name, v in variants if v and isinstance(v, str)),
                *["no forget gate"] * (self.forget_gate is False),
                *self._described_parts(),
                *["layer norm"] * self.layer_norm,
                *["residual"] * self.residual,
                *["bidirectional"] * self.reads_both_ways,
            ]
        )

    def _described_parts(self) -> Iterator[str]:
        """The parts of the network beside its recurrent layers, in words."""
        yield from ()

    def several(self, networks: int) -> Self:
        """The shape of this number of such networks, which predict together."""
        assert networks == 1, "options allow more only where the shape does"
        return self

    @property
    def reads_both_ways(self) -> bool:
        """Whether recurrent layers read a sequence from both of its ends."""
        return False

    @property
    def is_tied(self) -> bool:
        """Whether the output layer uses the vectors of the embedding."""
        return False

    def layer_shapes(self, inputs: int, layer: int = 0) -> Shapes:
        """The shapes of the weights of a recurrent layer with this number of input features.

        layer:  its number in the stack; a layer above the first reads the one below it
        """
        features = self.hidden if layer else inputs
        return self.recurrence.shapes(features, self.hidden, self.layer_norm)

    def stack_shapes(self, inputs: int) -> Shapes:
        """The shapes of the weights of a stack, by "layer.weight"."""
        layers = (add_prefix(str(k), self.layer_shapes(inputs, k)) for k in range(self.layers))
        return {name: shape for layer in layers for name, shape in layer.items()}

    @property
    def kept_layer_floats(self) -> int:
        """`kept_floats` of a recurrent layer: gates, state and output."""
        return (len(self.recurrence.gates) + len(self.recurrence.state) + 2) * self.hidden


def character_shapes(kind: str, alphabet: int, features: int) -> Shapes:
    """The weights of the network over a word's characters, see `CharFeatures`.

    kind:      "recurrent" or "convolutional"
    alphabet:  number of different characters
    features:  of a word
    """
    shapes: Shapes = {"letters": (alphabet, CHARACTER_EMBEDDING)}
    if kind == "recurrent":
        layer = lstm().shapes(CHARACTER_EMBEDDING, features // 2, False)
        shapes |= add_prefix("forwards", layer) | add_prefix("backwards", layer)
    else:
        for width in WIDTHS:
            filters = features * width // sum(WIDTHS)
            shapes |= {
                f"filters.{width}.W": (filters, CHARACTER_EMBEDDING, width),
                f"filters.{width}.b": (filters,),
            }
    return add_prefix("characters", shapes)


@dataclass(frozen=True)
class ModelConfig(StackConfig):
    """The shape of a network: an encoder (ids → states) and a head (states → distribution).

    vocab:      number of token ids V, the three special ones included
    embedding:  features E of a token's vector
    tied:       the softmax uses the embedding's vectors (needs E = H)
    cutoffs:    rows of the softmax, ascending, at which its tails start; empty for a plain
                softmax. With tails, p(k) is softmax(head)[k] for the rows before the first tail,
                and softmax(head)[tail j]·softmax(tail j)[k] for the rows of tail j, as Grave et
                al. (2017), but with all features for every row
    feedforward:    feed-forward layers between the top recurrent layer and the softmax
    highway:        highway layers between the embedding and the first recurrent layer
    bidirectional:  a second stack of layers reads the line from its end. The first feed-forward
                    layer joins both directions, so there is at least one
    characters:     a word's vector also comes from its characters: "recurrent" or "convolutional"
    char_features:  features of that part of a word's vector
    alphabet:       number of different characters
    networks:       how many networks of this shape predict together. The logits are the mean of
                    their logits, so p is the geometric mean of their p, normalised. They are one
                    network whose matrices are block diagonal

    See `StackConfig` for the recurrent layers. Raises OptionError, naming the option and the value.
    """

    vocab: int
    embedding: int = 128
    tied: bool = False
    cutoffs: tuple[int, ...] = ()
    feedforward: int = 0
    highway: int = 0
    bidirectional: bool = False
    characters: str | None = None
    char_features: int = 0
    alphabet: int = 0
    networks: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "cutoffs", tuple(self.cutoffs))  # JSON has lists
        edges = (0, *self.cutoffs, self.vocab - 1)
        if self.cutoffs and not all(a < b for a, b in pairwise(edges)):
            raise OptionError(f"cutoffs {self.cutoffs}: must ascend from 1 to {self.vocab - 2}")
        super().__post_init__()
        FEATURES.check("embedding", self.embedding)
        NETWORKS.check("networks", self.networks)
        EXTRA_LAYERS.check("feedforward", self.feedforward)
        EXTRA_LAYERS.check("highway", self.highway)
        if self.characters is not None:
            CHARACTERS.check("characters", self.characters)
        if self.tied and self.embedding != self.hidden:
            raise OptionError(
                f"a tied embedding needs {self.hidden} features, not {self.embedding}"
            )
        if self.residual and self.layers == 1 and self.inputs != self.hidden:
            raise OptionError(
                "`residual=True`: the only layer has a different number of features than its "
                "input; use `layers=2` or more"
            )
        if self.bidirectional and not self.feedforward:
            raise OptionError(
                "`feedforward=0`: a network that reads from both sides needs one such layer or more"
            )

    def described(self) -> str:
        several = f"{self.networks} networks, each " if self.networks > 1 else ""
        return several + super().described()

    def _described_parts(self) -> Iterator[str]:
        if self.characters:
            yield f"{self.characters} characters"
        for count, text in ((self.highway, "highway"), (self.feedforward, "feed-forward")):
            if count:
                yield f"{count} {text} layer{'s' * (count > 1)}"

    @property
    def reads_both_ways(self) -> bool:
        return self.bidirectional

    @property
    def is_tied(self) -> bool:
        return self.tied

    def several(self, networks: int) -> Self:
        return dataclasses.replace(self, networks=networks)

    @property
    def one(self) -> ModelConfig:
        """The shape of each of the networks alone."""
        return self.several(1)

    def by_network(self, weights: Mapping[str, T]) -> list[dict[str, T]]:
        """The weights of each of the networks, from the weights of all."""
        if self.networks == 1:
            return [dict(weights)]
        return [strip_prefix(f"networks.{k}", weights) for k in range(self.networks)]

    @property
    def inputs(self) -> int:
        """Features of the first layer's input."""
        return self.embedding + self.char_features

    @property
    def directions(self) -> tuple[str, ...]:
        """The stacks of recurrent layers, by the name of their weights."""
        return ("layers", "reverse") if self.bidirectional else ("layers",)

    @property
    def states(self) -> int:
        """Features of the encoder's output: H for each direction of each network."""
        return self.hidden * len(self.directions) * self.networks

    def shapes(self) -> Shapes:
        if self.networks == 1:
            return self._encoder_shapes() | self._head_shapes()
        shapes = self.one.shapes()
        each = (add_prefix(f"networks.{k}", shapes) for k in range(self.networks))
        return {name: shape for network in each for name, shape in network.items()}

    def _encoder_shapes(self) -> Shapes:
        shapes: Shapes = {"embedding": (self.vocab, self.embedding)}
        shapes |= self._character_shapes()
        for k in range(self.highway):
            square, vector = (self.inputs, self.inputs), (self.inputs,)
            shapes |= {f"highway.{k}.W": square, f"highway.{k}.b": vector}
            shapes |= {f"highway.{k}.W_T": square, f"highway.{k}.b_T": vector}
        for name in self.directions:
            shapes |= add_prefix(name, self.stack_shapes(self.inputs))
        return shapes

    def _head_shapes(self) -> Shapes:
        shapes: Shapes = {}
        for k in range(self.feedforward):
            inputs = self.hidden if k else self.states
            shapes |= {
                f"feedforward.{k}.W": (self.hidden, inputs),
                f"feedforward.{k}.b": (self.hidden,),
            }
        shapes |= {"norm.gain": (self.hidden,), "norm.bias": (self.hidden,)}
        if not self.tied:
            shapes["output.W"] = (self.vocab - 1, self.hidden)
        shapes["output.b"] = (self.vocab - 1,)
        if self.cutoffs:
            tails = len(self.cutoffs)
            shapes |= {"output.W_tail": (tails, self.hidden), "output.b_tail": (tails,)}
        return shapes

    def _character_shapes(self) -> Shapes:
        """The network over a word's characters, and its output for each word of the vocabulary."""
        if self.characters is None:
            return {}
        shapes = character_shapes(self.characters, self.alphabet, self.char_features)
        return shapes | {"char_features": (self.vocab, self.char_features)}

    def multiplied_weights(self, output_rows: float | None = None) -> float:
        # Embeddings are looked up, and the softmax is counted by its rows.
        others = ("embedding", "char_features", "characters.", "output.")
        matrices = [
            shape
            for name, shape in self.one.shapes().items()
            if len(shape) > 1 and not name.startswith(others)
        ]
        rows = self.vocab - 1 if output_rows is None else output_rows
        return self.networks * (sum(map(prod, matrices)) + rows * self.hidden)

    @property
    def kept_floats(self) -> int:
        layers = self.layers * len(self.directions) * self.kept_layer_floats
        return self.networks * (2 * self.inputs + layers + (self.feedforward + 4) * self.hidden)


@dataclass(frozen=True)
class Dropout:
    """The probabilities with which training sets values to zero.

    outputs:   features of every layer's output
    inputs:    features of the first layer's input
    state:     features of the hidden state in the recurrent product; one mask a sequence (Gal and
               Ghahramani 2016)
    weights:   recurrent weights; one mask a sequence (Merity et al. 2018)
    tokens:    whole vectors of tokens, of networks that read a sequence (Iyyer et al. 2015)
    per_step:  inputs and outputs have a new mask at every step (Zaremba et al. 2014); otherwise
               one mask a sequence, "variational" dropout (Gal and Ghahramani 2016)

    A sequence is a stream's chunk of tokens.
    """

    outputs: float = 0.0
    inputs: float = 0.0
    state: float = 0.0
    weights: float = 0.0
    per_step: bool = False
    tokens: float = 0.0

    def described(self) -> str:
        """In words."""
        rates = {"inputs": self.inputs, "state": self.state, "weights": self.weights}
        rates["tokens"] = self.tokens
        parts = [f"dropout {self.outputs:g}"]
        parts += [f"{rate:g} of {name}" for name, rate in rates.items() if rate]
        return ", ".join(parts + ["per step"] * self.per_step)
