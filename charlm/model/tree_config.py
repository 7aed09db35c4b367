"""The shape of a network over trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from charlm.errors import OptionError
from charlm.model.config import VARIANTS, Shapes, StackConfig
from charlm.model.equations import Cell, tree_lstm
from charlm.model.names import add_prefix


@dataclass(frozen=True, kw_only=True)
class TreeConfig(StackConfig):
    """The shape of a recursive network: one composition of two children, used at every node.

    vocab:   number of word ids V, the three special ones included; a word has a vector of `hidden`
             features
    labels:  number of labels K

    The composition is a recurrent cell that reads the right child's h as its input, from the left
    child's state on: p = g(W h_r + U h + b) for `cell=rnn` (Socher et al. 2013), and `tree_lstm`
    for `cell=lstm`. See `StackConfig`; there is one layer.
    """

    vocab: int
    labels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("layers", self.layers > 1), ("residual", self.residual)):
            if value:
                raise OptionError(
                    f"`{name}={getattr(self, name)}`: a network over trees has a single layer; "
                    "leave the option out"
                )

    @cached_property
    def recurrence(self) -> Cell:
        """The composition."""
        cell = super().recurrence
        if self.cell != "lstm":
            return cell
        for name in VARIANTS:
            if (value := getattr(self, name)) is not None:
                raise OptionError(f"`{name}={value}`: is not for trees; leave the option out")
        return tree_lstm()

    @property
    def outputs(self) -> int:
        """The number of labels."""
        return self.labels

    def shapes(self) -> Shapes:
        shapes: Shapes = {"embedding": (self.vocab, self.hidden)}
        shapes |= add_prefix("composition", self.layer_shapes(self.hidden))
        shapes["output.weight"] = (self.labels, self.hidden)
        shapes["output.bias"] = (self.labels,)
        return shapes

    def multiplied_weights(self, output_rows: float | None = None) -> float:
        # For each word: a tree of n words has n − 1 other nodes.
        composition = add_prefix("composition", self.layer_shapes(self.hidden))
        return sum(prod(shape) for shape in composition.values() if len(shape) > 1)

    @property
    def kept_floats(self) -> int:
        return 4 * self.hidden + 2 * self.kept_layer_floats
