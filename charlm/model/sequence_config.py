"""The shapes of networks that read a whole sequence: classifiers and taggers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from charlm.errors import OptionError
from charlm.model.config import CHARACTERS, FEATURES, Shapes, StackConfig, character_shapes
from charlm.model.names import add_prefix
from charlm.options import Choices

READOUTS = Choices(("last", "mean", "max", "attention"))


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(StackConfig):
    """The shape of a network over whole sequences: vectors, recurrent layers, an output layer.

    vocab:          number of token ids V, the three special ones included
    embedding:      features E of a token's vector
    bidirectional:  each layer reads in both directions
    characters:     a word's vector also comes from its characters: "recurrent" or "convolutional"
    char_features:  features of that part of a word's vector
    alphabet:       number of different characters

    See `StackConfig` for the recurrent layers. Raises OptionError, naming the option and the value.
    """

    vocab: int
    embedding: int = 128
    bidirectional: bool = True
    characters: str | None = None
    char_features: int = 0
    alphabet: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        FEATURES.check("embedding", self.embedding)
        if self.characters is not None:
            CHARACTERS.check("characters", self.characters)
        if self.residual and self.layers == 1 and self.inputs != self.states:
            raise OptionError(
                "`residual=True`: the only layer has a different number of features than its "
                "input; use `layers=2` or more"
            )

    @property
    def inputs(self) -> int:
        """Features of the first layer's input."""
        return self.embedding + self.char_features

    @property
    def states(self) -> int:
        """Features of the top layer's output: H for each direction."""
        return self.hidden * (1 + self.bidirectional)

    @property
    def reads_both_ways(self) -> bool:
        return self.bidirectional

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The number of labels or tags."""

    def shapes(self) -> Shapes:
        shapes: Shapes = {"embedding": (self.vocab, self.embedding)}
        if self.characters:
            shapes |= character_shapes(self.characters, self.alphabet, self.char_features)
        for k in range(self.layers):
            inputs = self.states if k else self.inputs
            layer = self.recurrence.shapes(inputs, self.hidden, self.layer_norm)
            directions = (".forwards", ".backwards") if self.bidirectional else ("",)
            for direction in directions:
                shapes |= add_prefix(f"layers.{k}{direction}", layer)
        shapes["output.weight"] = (self.outputs, self.states)
        shapes["output.bias"] = (self.outputs,)
        return shapes

    def multiplied_weights(self, output_rows: float | None = None) -> float:
        # The embedding is looked up; the output layer and the characters are small beside the rest.
        layers = (s for name, s in self.shapes().items() if name.startswith("layers."))
        return sum(prod(shape) for shape in layers if len(shape) > 1)

    @property
    def kept_floats(self) -> int:
        layers = self.layers * (1 + self.bidirectional) * self.kept_layer_floats
        return 2 * self.inputs + layers + 2 * self.states

    def _described_parts(self) -> Iterator[str]:
        if self.characters:
            yield f"{self.characters} characters"


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(SequenceConfig):
    """The shape of a classifier.

    labels:   number of labels K
    readout:  what the label is read off: the last state of each direction ("last"), or the "mean",
              the maximum ("max") or the "attention" over the states after all tokens
    """

    labels: int
    readout: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        READOUTS.check("readout", self.readout)

    @property
    def outputs(self) -> int:
        return self.labels

    def shapes(self) -> Shapes:
        shapes = super().shapes()
        if self.readout == "attention":
            shapes |= {"attention.W": (self.hidden, self.states), "attention.b": (self.hidden,)}
            shapes |= {"attention.v": (self.hidden,)}
        return shapes

    def _described_parts(self) -> Iterator[str]:
        yield from super()._described_parts()
        yield "last states" if self.readout == "last" else f"{self.readout} over the text"


@dataclass(frozen=True, kw_only=True)
class TaggerConfig(SequenceConfig):
    """The shape of a tagger.

    tags:  number of tags K
    crf:   the tags of neighbours depend on each other: a conditional random field
    """

    tags: int
    crf: bool = True

    @property
    def outputs(self) -> int:
        return self.tags

    def shapes(self) -> Shapes:
        shapes = super().shapes()
        if self.crf:
            shapes |= {"crf.start": (self.tags,), "crf.end": (self.tags,)}
            shapes["crf.transitions"] = (self.tags, self.tags)
        return shapes

    def _described_parts(self) -> Iterator[str]:
        yield from super()._described_parts()
        if self.crf:
            yield "CRF"
