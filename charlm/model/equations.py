"""The equations of every recurrent cell, once.

A cell's step is one pure function

    step(p, x, state) -> state'

    p       the layer's parameters, see `Parameters`: p.U(h) is the recurrent product U h
    x       the input's share of the gates, W·x + b, shape (B, G·H)
    state   a tuple of arrays (B, H); the first is the hidden state h, the layer's output

where B is the batch, H the hidden size and G the number of gates, packed one after the other
in the order that `torch.nn` uses. NumPy and torch run the same function: it uses operators and
the functions below, and nothing else. This is the reference; a faster way is optional beside
it, and tested equal to it.

To add a cell, write a function that returns its `Cell` and enter it in `CELLS`: it then trains,
scores and samples, with layer normalisation too. The function's arguments are the cell's
variants; an option of `charlm train` of the same name chooses among them.

Notation: σ is the logistic function, ⊙ the elementwise product; h, c are the state before the
step, h', c' after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.errors import OptionError

Array = Any  # a numpy.ndarray or a torch.Tensor: the equations do not ask which
State = tuple[Array, ...]
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Cell:
    """A cell's step and what its weights look like.

    gates:     one letter per gate, in the order of the rows of W and b; the bias of a gate "f"
               starts at the forget bias, every other at 0
    state:     one letter per state vector; the first is the output
    products:  the recurrent matrices, each with the gates that its rows belong to; () for one
               matrix U over all gates
    vectors:   names of further parameters (H,), zero at first
    gains:     with layer normalisation, the names of the gains (G·H,), one at first
    fused:     the name of torch's own kernel for exactly these equations, if it has one
    identity:  recurrent matrices start as half the identity, else orthogonal
    """

    step: Callable[[Any, Array, State], State]
    gates: str
    state: str = "h"
    products: tuple[tuple[str, str], ...] = ()
    vectors: tuple[str, ...] = ()
    gains: tuple[str, ...] = ("gain",)
    fused: str | None = None
    identity: bool = False

    @property
    def matrices(self) -> tuple[tuple[str, str], ...]:
        """The recurrent matrices and the gates of their rows."""
        return self.products or (("U", self.gates),)

    def shapes(self, inputs: int, hidden: int, layer_norm: bool) -> dict[str, tuple[int, ...]]:
        """The name and shape of every weight of a layer that reads vectors of `inputs` features."""
        rows = len(self.gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"W": (rows, inputs)}
        shapes |= {name: (len(gates) * hidden, hidden) for name, gates in self.matrices}
        shapes |= {"b": (rows,)} | dict.fromkeys(self.vectors, (hidden,))
        return shapes | (dict.fromkeys(self.gains, (rows,)) if layer_norm else {})


class Parameters:
    """A layer's weights as the equations see them.

    Vectors are attributes. A recurrent matrix is a function: p.U(h) = U h. With layer
    normalisation p.norm(a) normalises the gates' pre-activations a, else it leaves them alone.

    mask:  (B, H), of the dropout of the state that the recurrent products read: p.U(h) = U (m⊙h)
    """

    def __init__(self, cell: Cell, weights: Mapping[str, Array], mask: Array | None = None) -> None:
        self._weights, self._gates, self._mask = weights, cell.gates, mask
        self.layer_norm = "gain" in weights
        self._rows: dict[tuple[str, str], tuple[Array, Array | None]] = {}
        vectors = {name: weights[name] for name in cell.vectors}
        products = {name: self.product(weights[name]) for name, _ in cell.matrices}
        self.__dict__.update(vectors | products)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this cell has no parameter {name}")

    def product(self, matrix: Array) -> Callable[[Array], Array]:
        """The function h -> U h, for a batch of rows h."""
        return lambda h: self._read(h) @ matrix.T

    def _read(self, h: Array) -> Array:
        return h if self._mask is None else h * self._mask

    def norm(self, a: Array, gates: str = "", gain: str = "gain") -> Array:
        """Layer normalisation (Ba et al. 2016) of the pre-activations of some gates.

        a:      (B, k·H), those of `gates`, k neighbours in the cell's order; "" for all of them
        gain:   the gain to use; only the first of a cell's gains has the bias b beside it

        y = γ⊙(a−μ)/√(σ²+ε) + β for each gate, where μ, σ² are over the H features of one
        example and β is b, which is not in x then.
        """
        if not self.layer_norm:
            return a
        gates = gates or self._gates
        return self.normalised(a, len(gates), *self._gain_and_bias(gates, gain))

    def _gain_and_bias(self, gates: str, gain: str) -> tuple[Array, Array | None]:
        """Of these gates; made once, since every step asks for them."""
        if (gates, gain) not in self._rows:
            size = self._weights[gain].shape[0] // len(self._gates)
            first = self._gates.index(gates) * size
            rows = slice(first, first + len(gates) * size)
            bias = self._weights["b"][rows] if gain == "gain" else None
            self._rows[gates, gain] = self._weights[gain][rows], bias
        return self._rows[gates, gain]

    def normalised(self, a: Array, gates: int, gain: Array, bias: Array | None) -> Array:
        """γ⊙(a−μ)/√(σ²+ε) + β, where a (B, gates·H) is normalised gate by gate."""
        parts = a.reshape(*a.shape[:-1], gates, -1)
        centred = parts - parts.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        y = (centred / (variance + NORM_EPSILON) ** 0.5).reshape(a.shape) * gain
        return y if bias is None else y + bias


def tanh(a: Array) -> Array:
    return np.tanh(a) if isinstance(a, np.ndarray) else a.tanh()


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + e⁻ᵃ); in NumPy by tanh, which never overflows."""
    return 0.5 * np.tanh(0.5 * a) + 0.5 if isinstance(a, np.ndarray) else a.sigmoid()


def relu(a: Array) -> Array:
    return np.maximum(a, 0) if isinstance(a, np.ndarray) else a.relu()


def split(a: Array, *gates: int) -> Sequence[Array]:
    """The parts of a packed array (B, G·H), in the order and with as many gates as given."""
    size = a.shape[-1] // sum(gates)
    if not isinstance(a, np.ndarray):
        return a.split([size * count for count in gates], dim=-1)
    parts, start = [], 0
    for count in gates:
        end = start + size * count
        parts.append(a[..., start:end])
        start = end
    return parts


def rnn(activation: str = "tanh") -> Cell:
    """Elman (1990): h' = g(W x + U h + b).

    activation:  g, "tanh" or "relu"
    """
    functions = {"tanh": tanh, "relu": relu}
    if activation not in functions:
        raise OptionError(f"`activation={activation}`: choose tanh or relu")
    g = functions[activation]

    def step(p: Any, x: Array, state: State) -> State:
        (h,) = state
        return (g(p.norm(x + p.U(h))),)

    return Cell(step, gates="n", fused=f"rnn_{activation}", identity=activation == "relu")


def lstm(forget_gate: bool = True, peepholes: str = "") -> Cell:
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    i, f, o = σ(W x + U h + b) each;  g = tanh(W x + U h + b)
    c' = f⊙c + i⊙g;  h' = o⊙tanh(c')

    forget_gate:  False for the first of these papers: f ≡ 1
    peepholes:    gates that see the cell too (Gers and Schmidhuber 2000), any of "ifo": i and f
                  have + p⊙c in their pre-activation, o has + p⊙c', each its own vector p
    """
    gates = "ifgo" if forget_gate else "igo"
    allowed = gates.replace("g", "")
    if not set(peepholes) <= set(allowed) or len(set(peepholes)) < len(peepholes):
        raise OptionError(f"`peepholes={peepholes}`: choose some of the letters {allowed}")

    def step(p: Any, x: Array, state: State) -> State:
        h, c = state
        a = dict(zip(gates, split(x + p.U(h), *[1] * len(gates)), strict=True))

        def gate(name: str, c: Array) -> Array:
            seen = a[name] + getattr(p, f"p_{name}") * c if name in peepholes else a[name]
            return sigmoid(p.norm(seen, name))

        kept = gate("f", c) * c if forget_gate else c
        c = kept + gate("i", c) * tanh(p.norm(a["g"], "g"))
        return gate("o", c) * tanh(c), c

    fused = "lstm" if forget_gate and not peepholes else None
    return Cell(step, gates, "hc", vectors=tuple(f"p_{k}" for k in peepholes), fused=fused)


def gru(reset: str = "after") -> Cell:
    """Cho et al. (2014).

    r, u = σ(W x + U h + b) each;  h' = u⊙h + (1−u)⊙ĥ

    reset:  "after" the product, as in cuDNN and `torch.nn.GRU`: ĥ = tanh(W x + b + r⊙(U h + b_u));
            W x and U h are then normalised each by itself.
            "before" it, as in the paper: ĥ = tanh(W x + U (r⊙h) + b)
    """

    def before(p: Any, x: Array, state: State) -> State:
        (h,) = state
        xru, xn = split(x, 2, 1)
        r, u = split(sigmoid(p.norm(xru + p.U(h), "ru")), 1, 1)
        candidate = tanh(p.norm(xn + p.U_n(r * h), "n"))
        return (u * h + (1 - u) * candidate,)

    def after(p: Any, x: Array, state: State) -> State:
        (h,) = state
        xr, xu, xn = split(p.norm(x), 1, 1, 1)
        hr, hu, hn = split(p.norm(p.U(h), gain="gain_u"), 1, 1, 1)
        r, u = sigmoid(xr + hr), sigmoid(xu + hu)
        candidate = tanh(xn + r * (hn + p.b_u))
        return (u * h + (1 - u) * candidate,)

    if reset == "before":
        return Cell(before, gates="run", products=(("U", "ru"), ("U_n", "n")))
    if reset == "after":
        return Cell(after, gates="run", vectors=("b_u",), gains=("gain", "gain_u"), fused="gru")
    raise OptionError(f"`reset={reset}`: choose before or after")


def gru_simple() -> Cell:
    """A GRU without reset gate: u = σ(W x + U h + b);  ĥ = tanh(W x + U h + b)

    h' = u⊙h + (1−u)⊙ĥ
    """

    def step(p: Any, x: Array, state: State) -> State:
        (h,) = state
        u, n = split(p.norm(x + p.U(h)), 1, 1)
        u = sigmoid(u)
        return (u * h + (1 - u) * tanh(n),)

    return Cell(step, gates="un")


CELLS: dict[str, Callable[..., Cell]] = {
    "lstm": lstm,
    "gru": gru,
    "gru-simple": gru_simple,
    "rnn": rnn,
}
