"""What a network looks like, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass

from charlm.errors import OptionError
from charlm.model.equations import CELLS


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a language model: embedding, `layers` recurrent layers, softmax.

    vocab:      number of token ids V, the three special ones included
    cell:       a name in `equations.CELLS`
    layers:     recurrent layers, 1 to 4
    hidden:     features H of each layer's hidden state
    embedding:  features E of a token's vector
    tied:       the softmax uses the embedding's vectors (needs E = H)

    Raises OptionError, naming the option and the value.
    """

    vocab: int
    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    embedding: int = 128
    tied: bool = False

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise OptionError(
                f"--cell {self.cell}: there is no such cell; choose {', '.join(CELLS)}"
            )
        if not 1 <= self.layers <= 4:
            raise OptionError(f"--layers {self.layers}: must be 1, 2, 3 or 4")
        if self.hidden < 1:
            raise OptionError(f"--hidden {self.hidden}: must be 1 or more")
        if self.tied and self.embedding != self.hidden:
            raise OptionError(
                f"a tied embedding needs {self.hidden} features, not {self.embedding}"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every weight, in the order in which they are used.

        A layer's matrices hold its G gates one below the other, as `torch.nn` packs them.
        """
        cell = CELLS[self.cell]
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.vocab, self.embedding)}
        for layer in range(self.layers):
            inputs = self.hidden if layer else self.embedding
            rows = len(cell.gates) * self.hidden
            shapes |= {
                f"layers.{layer}.W": (rows, inputs),
                f"layers.{layer}.U": (rows, self.hidden),
                f"layers.{layer}.b": (rows,),
            }
            shapes |= {f"layers.{layer}.{name}": (self.hidden,) for name in cell.vectors}
        shapes |= {"norm.gain": (self.hidden,), "norm.bias": (self.hidden,)}
        if not self.tied:
            shapes["output.W"] = (self.vocab - 1, self.hidden)
        shapes["output.b"] = (self.vocab - 1,)
        return shapes


def multiplied_weights(config: ModelConfig) -> int:
    """How many weights each token is multiplied with: 2 FLOP each to run, 6 to train."""
    matrices = [s for name, s in config.shapes().items() if name.endswith((".W", ".U"))]
    tied = (config.vocab - 1) * config.hidden if config.tied else 0
    return sum(rows * columns for rows, columns in matrices) + tied
