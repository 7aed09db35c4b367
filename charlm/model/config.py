"""What a network looks like, apart from its weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

from charlm.errors import OptionError
from charlm.model.equations import CELLS, Cell, lstm

# The variants that cells have: the arguments of their functions in `equations`.
VARIANTS = ("activation", "forget_gate", "peepholes", "reset")
CHARACTERS = ("recurrent", "convolutional")
LETTER_FEATURES = 16
# Convolutions over so many letters; w letters have w parts of the features, as in Kim et al.
WIDTHS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a language model: embedding, `layers` recurrent layers, softmax.

    vocab:      number of token ids V, the three special ones included
    cell:       a name in `equations.CELLS`
    layers:     recurrent layers, 1 to 4
    hidden:     features H of each layer's hidden state
    embedding:  features E of a token's vector
    tied:       the softmax uses the embedding's vectors (needs E = H)
    cutoffs:    rows of the softmax, ascending, at which its tails start; none: a plain softmax.
                Else p(k) is softmax(head)[k] for the rows before the first, and
                softmax(head)[tail j]·softmax(tail j)[k] for those of tail j: as Grave et al.
                (2017), but with all features for every row

    activation, forget_gate, peepholes, reset:  variants of the cell; None for its default
    layer_norm:     layer normalisation of the gates within the cell
    residual:       a layer's input is added to its output, where both have as many features
    feedforward:    feed-forward layers between the top recurrent layer and the softmax
    highway:        highway layers between the embedding and the first recurrent layer
    bidirectional:  a second stack of layers reads the line from its end; both are joined by the
                    first feed-forward layer, of which there is at least one
    characters:     a word's vector comes from its letters too, "recurrent" or "convolutional"
    spelled:        features of that part of a word's vector
    alphabet:       different letters

    Raises OptionError, naming the option and the value.
    """

    vocab: int
    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    embedding: int = 128
    tied: bool = False
    cutoffs: tuple[int, ...] = ()
    activation: str | None = None
    forget_gate: bool | None = None
    peepholes: str | None = None
    reset: str | None = None
    layer_norm: bool = False
    residual: bool = False
    feedforward: int = 0
    highway: int = 0
    bidirectional: bool = False
    characters: str | None = None
    spelled: int = 0
    alphabet: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cutoffs", tuple(self.cutoffs))  # JSON has lists
        edges = (0, *self.cutoffs, self.vocab - 1)
        if self.cutoffs and not all(a < b for a, b in pairwise(edges)):
            raise OptionError(f"cutoffs {self.cutoffs}: must ascend from 1 to {self.vocab - 2}")
        if not 1 <= self.layers <= 4:
            raise OptionError(f"--layers {self.layers}: must be 1, 2, 3 or 4")
        for name in ("hidden", "embedding"):
            if getattr(self, name) < 1:
                raise OptionError(f"--{name} {getattr(self, name)}: must be 1 or more")
        for name in ("feedforward", "highway"):
            if not 0 <= getattr(self, name) <= 4:
                raise OptionError(f"--{name} {getattr(self, name)}: must be from 0 to 4")
        if self.tied and self.embedding != self.hidden:
            raise OptionError(
                f"a tied embedding needs {self.hidden} features, not {self.embedding}"
            )
        if self.residual and self.layers == 1 and self.inputs != self.hidden:
            raise OptionError(
                "--residual: the only layer has another number of features than what it reads; "
                "give --layers 2 or more"
            )
        if self.characters not in (None, *CHARACTERS):
            raise OptionError(f"--characters {self.characters}: choose {' or '.join(CHARACTERS)}")
        if self.bidirectional and not self.feedforward:
            raise OptionError("--feedforward 0: --bidirectional needs one such layer or more")
        _ = self.recurrence  # refuses cells and variants that do not exist

    @cached_property
    def recurrence(self) -> Cell:
        """The cell, in the variant that is asked for."""
        if self.cell not in CELLS:
            raise OptionError(
                f"--cell {self.cell}: there is no such cell; choose {', '.join(CELLS)}"
            )
        own = inspect.signature(CELLS[self.cell]).parameters
        asked = {n: getattr(self, n) for n in VARIANTS if getattr(self, n) is not None}
        for name, value in asked.items():
            if name not in own:
                having = [c for c in CELLS if name in inspect.signature(CELLS[c]).parameters]
                raise OptionError(
                    f"{_option(name, value)}: is not for --cell {self.cell}, but for --cell "
                    f"{' or '.join(having)}"
                )
        return CELLS[self.cell](**asked)

    def described(self) -> str:
        """In words: the size, and what is special about it."""
        many = self.layers > 1
        size = (
            f"{self.layers} × {self.hidden} {self.cell}"
            if many
            else f"{self.cell} of {self.hidden}"
        )
        values = {name: getattr(self, name) for name in VARIANTS}
        parts = [size, *(f"{name} {v}" for name, v in values.items() if v and isinstance(v, str))]
        parts += ["no forget gate"] if self.forget_gate is False else []
        parts += [f"{self.characters} spelling"] if self.characters else []
        for name, text in (("highway", "highway"), ("feedforward", "feed-forward")):
            count = getattr(self, name)
            parts += [f"{count} {text} layer{'s' * (count > 1)}"] if count else []
        flags = {
            "layer_norm": "layer norm",
            "residual": "residual",
            "bidirectional": "bidirectional",
        }
        return ", ".join(parts + [text for name, text in flags.items() if getattr(self, name)])

    @property
    def inputs(self) -> int:
        """Features that the first layer reads."""
        return self.embedding + self.spelled

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every weight, in the order in which they are used.

        A layer's matrices hold its G gates one below the other, as `torch.nn` packs them.
        """
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.vocab, self.embedding)}
        shapes |= self._spelling()
        for k in range(self.highway):
            square, vector = (self.inputs, self.inputs), (self.inputs,)
            shapes |= {f"highway.{k}.W": square, f"highway.{k}.b": vector}
            shapes |= {f"highway.{k}.W_T": square, f"highway.{k}.b_T": vector}
        for stack in ("layers", "reverse") if self.bidirectional else ("layers",):
            for k in range(self.layers):
                inputs = self.hidden if k else self.inputs
                layer = self.recurrence.shapes(inputs, self.hidden, self.layer_norm)
                shapes |= _under(f"{stack}.{k}", layer)
        for k in range(self.feedforward):
            inputs = self.hidden * (2 if self.bidirectional and not k else 1)
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

    def _spelling(self) -> dict[str, tuple[int, ...]]:
        """The network over a word's letters, and what it makes of each word of the vocabulary."""
        if self.characters is None:
            return {}
        shapes: dict[str, tuple[int, ...]] = {"letters": (self.alphabet, LETTER_FEATURES)}
        if self.characters == "recurrent":
            layer = lstm().shapes(LETTER_FEATURES, self.spelled // 2, False)
            shapes |= _under("forwards", layer) | _under("backwards", layer)
        else:
            for width in WIDTHS:
                features = self.spelled * width // sum(WIDTHS)
                shapes |= {
                    f"filters.{width}.W": (features, LETTER_FEATURES, width),
                    f"filters.{width}.b": (features,),
                }
        return _under("spelling", shapes) | {"spelled": (self.vocab, self.spelled)}


@dataclass(frozen=True)
class Dropout:
    """The probabilities with which, in training, something is left out (set to zero).

    outputs:   features of every layer's output
    inputs:    features of the vectors that the first layer reads
    state:     features of the hidden state, where the recurrent product reads it; one mask a
               sequence (Gal and Ghahramani 2016)
    weights:   recurrent weights; one mask a sequence (Merity et al. 2018)
    per_step:  of inputs and outputs, a new mask every step (Zaremba et al. 2014); else one mask
               a sequence (Gal and Ghahramani 2016), which is "variational" dropout

    A sequence is a stream's chunk of tokens. Raises OptionError, naming the option and the value.
    """

    outputs: float = 0.0
    inputs: float = 0.0
    state: float = 0.0
    weights: float = 0.0
    per_step: bool = False

    def described(self) -> str:
        """In words."""
        rates = {"inputs": self.inputs, "state": self.state, "weights": self.weights}
        parts = [f"dropout {self.outputs:g}"]
        parts += [f"{rate:g} of {name}" for name, rate in rates.items() if rate]
        return ", ".join(parts + ["per step"] * self.per_step)


def _under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _option(name: str, value: Any) -> str:
    if value is False:
        return f"--no-{name.replace('_', '-')}"
    return f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")


def multiplied_weights(config: ModelConfig, softmax_rows: float | None = None) -> float:
    """How many weights each token is multiplied with: 2 FLOP each to run, 6 to train.

    softmax_rows:  of the softmax, on average; all of them unless it is given
    """
    others = ("embedding", "spelled", "spelling.", "output.")  # the first three are looked up
    matrices = [
        shape
        for name, shape in config.shapes().items()
        if len(shape) > 1 and not name.startswith(others)
    ]
    rows = config.vocab - 1 if softmax_rows is None else softmax_rows
    return sum(map(prod, matrices)) + rows * config.hidden
