"""The shapes of encoder–decoders: networks that write a target for a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from charlm.model.config import FEATURES, Shapes, StackConfig
from charlm.model.names import add_prefix
from charlm.model.sequence_config import SequenceConfig
from charlm.options import Choices

ATTENTIONS = Choices(("global", "monotonic"))
JUMPS = 8  # a monotonic attention knows how probable moves of 0, 1, … 6 and more tokens are


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig(StackConfig):
    """The shape of an encoder–decoder.

    source_vocab:   number of ids of the source
    vocab:          number of ids V of the target, the three special ones included
    embedding:      features E of a token's vector, on both sides
    bidirectional:  the encoder reads in both directions
    attention:      "global" or "monotonic", see `charlm.model.attention`; None: the decoder knows
                    of the source only the state that it starts with

    Encoder and decoder have the same number of layers. See `StackConfig` for these.
    """

    source_vocab: int
    vocab: int
    embedding: int = 64
    bidirectional: bool = True
    attention: str | None = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        FEATURES.check("embedding", self.embedding)
        if self.attention is not None:
            ATTENTIONS.check("attention", self.attention)

    @cached_property
    def source(self) -> SourceConfig:
        """The shape of the encoder."""
        own = {name: getattr(self, name) for name in StackConfig.__dataclass_fields__}
        return SourceConfig(
            **own, vocab=self.source_vocab, embedding=self.embedding,
            bidirectional=self.bidirectional,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in super().__getstate__().items() if n != "source"}

    @property
    def inputs(self) -> int:
        """Features of the decoder's input."""
        return self.embedding

    @property
    def reads_both_ways(self) -> bool:
        return self.bidirectional

    @property
    def start_states(self) -> int:
        """Features of the states that the decoder starts with, all layers together."""
        return self.layers * len(self.recurrence.state) * self.hidden

    def shapes(self) -> Shapes:
        hidden, states = self.hidden, self.source.states
        shapes = add_prefix("source", self.source.shapes())
        shapes |= {"start.weight": (self.start_states, states), "start.bias": (self.start_states,)}
        shapes["embedding"] = (self.vocab, self.embedding)
        shapes |= add_prefix("layers", self.stack_shapes(self.inputs))
        if self.attention:
            shapes |= {"attention.keys": (hidden, states), "attention.values": (hidden, states)}
            shapes |= {"attention.own": (hidden, hidden), "attention.bias": (hidden,)}
        if self.attention == "monotonic":
            shapes["attention.jumps"] = (JUMPS,)
        return shapes | {
            "output.weight": (self.vocab - 1, hidden),
            "output.bias": (self.vocab - 1,),
        }

    def multiplied_weights(self, output_rows: float | None = None) -> float:
        # For each token of the source. A target has about as many.
        looked_up = ("embedding", "source.embedding", "output.")
        shapes = (s for name, s in self.shapes().items() if not name.startswith(looked_up))
        rows = self.vocab - 1 if output_rows is None else output_rows
        return sum(prod(shape) for shape in shapes if len(shape) > 1) + rows * self.hidden

    @property
    def kept_floats(self) -> int:
        return self.source.kept_floats + self.layers * self.kept_layer_floats + 6 * self.hidden

    def _described_parts(self) -> Iterator[str]:
        yield f"{self.attention} attention" if self.attention else "no attention"


@dataclass(frozen=True, kw_only=True)
class SourceConfig(SequenceConfig):
    """The shape of an encoder: a network over the source, whose output is its states."""

    @property
    def outputs(self) -> int:
        return 0

    def shapes(self) -> Shapes:
        return {n: s for n, s in super().shapes().items() if not n.startswith("output.")}
