"""The equations of every recurrent cell.

A cell's step is a pure function

    step(p, x, state) -> state'

    p       the layer's parameters, see `Parameters`; p.U(h) is the recurrent product U h. A step
            passes the value of each gate through p.gate, so that it can be observed
    x       the input part of the gates, W x + b, shape (B, G·H)
    state   a tuple of arrays (B, H); the first is the hidden state h, the layer's output

B is the batch size, H the hidden size and G the number of gates. The gates are packed in the
order that `torch.nn` uses. A step uses only operators and the functions of this module, so
NumPy and torch run the same code. It is the reference: every fast path is tested equal to it.

To add a cell, write a function that returns its `Cell` and add it to `CELLS`. The cell then
trains, scores and samples, with or without layer normalisation. The function's arguments are
the variants of the cell; an option of `charlm train` with the same name sets each of them.

Notation: σ is the logistic function, ⊙ the elementwise product; h and c are the state before
the step, h' and c' the state after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.errors import OptionError

Array = Any  # numpy.ndarray or torch.Tensor
LayerState = tuple[Array, ...]
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Cell:
    """A recurrent cell: its step and the layout of its weights.

    step:      the step function, see the module
    gates:     one letter per gate, in the order of the rows of W and b; the biases of forget
               gates, "f" and "F", start at the forget bias, all other biases at 0
    state:     one letter per state vector; the first is the output
    products:  (name, gates) of each recurrent matrix; () means one matrix U for all gates
    vectors:   names of further parameters of shape (H,), initialised to 0
    gains:     names of the layer normalisation gains of shape (G·H,), initialised to 1
    fused:     name of the torch kernel that computes the same equations, or None
    identity:  recurrent matrices start as half the identity instead of orthogonal
    """

    step: Callable[[Any, Array, LayerState], LayerState]
    gates: str
    state: str = "h"
    products: tuple[tuple[str, str], ...] = ()
    vectors: tuple[str, ...] = ()
    gains: tuple[str, ...] = ("gain",)
    fused: str | None = None
    identity: bool = False

    @property
    def matrices(self) -> tuple[tuple[str, str], ...]:
        """(name, gates) of each recurrent matrix."""
        return self.products or (("U", self.gates),)

    def shapes(self, inputs: int, hidden: int, layer_norm: bool) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights of a layer with `inputs` input features."""
        rows = len(self.gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"W": (rows, inputs)}
        shapes |= {name: (len(gates) * hidden, hidden) for name, gates in self.matrices}
        shapes |= {"b": (rows,)} | dict.fromkeys(self.vectors, (hidden,))
        return shapes | (dict.fromkeys(self.gains, (rows,)) if layer_norm else {})


class Parameters:
    """The weights of a layer, as the step functions use them.

    Vectors are attributes. A recurrent matrix is a function: p.U(h) = U h. p.norm(a) applies
    layer normalisation if the layer has it, and returns a unchanged otherwise.

    weights:  arrays under the names of `Cell.shapes`
    mask:     dropout mask m (B, H) of the hidden state: p.U(h) = U (m⊙h); None for no dropout
    """

    def __init__(self, cell: Cell, weights: Mapping[str, Array], mask: Array | None = None) -> None:
        self._weights, self._gates, self._mask = weights, cell.gates, mask
        self.layer_norm = "gain" in weights
        self._slices: dict[tuple[str, str], tuple[Array, Array | None]] = {}
        vectors = {name: weights[name] for name in cell.vectors}
        products = {name: self.product(weights[name]) for name, _ in cell.matrices}
        self.__dict__.update(vectors | products)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the cell has no parameter {name}")

    def product(self, matrix: Array) -> Callable[[Array], Array]:
        """The function h (B, H) -> U h, (B, rows of U)."""
        return lambda h: self._masked(h) @ matrix.T

    def _masked(self, h: Array) -> Array:
        return h if self._mask is None else h * self._mask

    def gate(self, name: str, value: Array) -> Array:
        """The value (B, H) of a gate, unchanged. A subclass observes it.

        name:  its letter
        """
        return value

    def norm(self, a: Array, gates: str = "", gain: str = "gain") -> Array:
        """Layer normalisation (Ba et al. 2016) of the pre-activations of some gates.

        y = γ⊙(a−μ)/√(σ²+ε) + β for each gate. μ and σ² are the mean and variance over the H
        features of one example. β is the bias b; with layer normalisation x does not include b.

        a:      (B, k·H), pre-activations of `gates`
        gates:  k gates that are adjacent in the cell's order; "" means all gates
        gain:   name of the gain γ; only the cell's first gain is used with a bias β
        """
        if not self.layer_norm:
            return a
        gates = gates or self._gates
        return self.normalised(a, len(gates), *self._gain_and_bias(gates, gain))

    def _gain_and_bias(self, gates: str, gain: str) -> tuple[Array, Array | None]:
        """γ and β of some gates, cached because every step uses them."""
        if (gates, gain) not in self._slices:
            size = self._weights[gain].shape[0] // len(self._gates)
            first = self._gates.index(gates) * size
            rows = slice(first, first + len(gates) * size)
            bias = self._weights["b"][rows] if gain == "gain" else None
            self._slices[gates, gain] = self._weights[gain][rows], bias
        return self._slices[gates, gain]

    def normalised(self, a: Array, gates: int, gain: Array, bias: Array | None) -> Array:
        """γ⊙(a−μ)/√(σ²+ε) + β for a (B, gates·H), with μ and σ² of each gate."""
        parts = a.reshape(*a.shape[:-1], gates, -1)
        centred = parts - parts.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        y = (centred / (variance + NORM_EPSILON) ** 0.5).reshape(a.shape) * gain
        return y if bias is None else y + bias


def tanh(a: Array) -> Array:
    return np.tanh(a) if isinstance(a, np.ndarray) else a.tanh()


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + e⁻ᵃ). The NumPy version uses tanh, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5 if isinstance(a, np.ndarray) else a.sigmoid()


def relu(a: Array) -> Array:
    return np.maximum(a, 0) if isinstance(a, np.ndarray) else a.relu()


def split(a: Array, *gates: int) -> Sequence[Array]:
    """Splits a packed array (B, G·H) into arrays of gates[0], gates[1], … gates each."""
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

    activation:  g, "tanh" or "relu"; OptionError for any other
    """
    functions = {"tanh": tanh, "relu": relu}
    if activation not in functions:
        raise OptionError(f"`activation={activation}`: choose tanh or relu")
    g = functions[activation]

    def step(p: Any, x: Array, state: LayerState) -> LayerState:
        (h,) = state
        return (g(p.norm(x + p.U(h))),)

    return Cell(step, gates="n", fused=f"rnn_{activation}", identity=activation == "relu")


def lstm(forget_gate: bool = True, peepholes: str = "") -> Cell:
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    i, f, o = σ(W x + U h + b) each;  g = tanh(W x + U h + b)
    c' = f⊙c + i⊙g;  h' = o⊙tanh(c')

    forget_gate:  False gives the cell of 1997, f = 1
    peepholes:    gates with a peephole connection to the cell (Gers and Schmidhuber 2000), a
                  subset of "ifo", else OptionError. The pre-activations of i and f get + p⊙c,
                  that of o gets + p⊙c'; each gate has its own vector p.
    """
    gates = "ifgo" if forget_gate else "igo"
    allowed = gates.replace("g", "")
    if not set(peepholes) <= set(allowed) or len(set(peepholes)) < len(peepholes):
        raise OptionError(f"`peepholes={peepholes}`: choose some of the letters {allowed}")

    def step(p: Any, x: Array, state: LayerState) -> LayerState:
        h, c = state
        a = dict(zip(gates, split(x + p.U(h), *[1] * len(gates)), strict=True))

        def gate(name: str, c: Array) -> Array:
            total = a[name] + getattr(p, f"p_{name}") * c if name in peepholes else a[name]
            return p.gate(name, sigmoid(p.norm(total, name)))

        remembered = gate("f", c) * c if forget_gate else c
        c = remembered + gate("i", c) * p.gate("g", tanh(p.norm(a["g"], "g")))
        return gate("o", c) * tanh(c), c

    fused = "lstm" if forget_gate and not peepholes else None
    return Cell(step, gates, "hc", vectors=tuple(f"p_{k}" for k in peepholes), fused=fused)


def tree_lstm() -> Cell:
    """Tai et al. (2015), for a node with two children, whose states are h, c and h_r, c_r.

    x is W h_r + b: the state of the right child is read like the input of a sequence. In addition
    to the gates of `lstm` there is a second forget gate, "F":

    c' = f⊙c + F⊙c_r + i⊙g;  h' = o⊙tanh(c')
    """

    def step(p: Any, x: Array, state: LayerState) -> LayerState:
        h, c, right_c = state
        i, f, g, o, right_f = split(p.norm(x + p.U(h)), 1, 1, 1, 1, 1)
        c = sigmoid(f) * c + sigmoid(right_f) * right_c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    return Cell(step, "ifgoF", "hc")


def gru(reset: str = "after") -> Cell:
    """Cho et al. (2014).

    r, u = σ(W x + U h + b) each;  h' = u⊙h + (1−u)⊙ĥ

    reset:  "after": the reset gate follows the product, as in cuDNN and `torch.nn.GRU`:
            ĥ = tanh(W x + b + r⊙(U h + b_u)); W x and U h have separate layer normalisations.
            "before": it precedes the product, as in the paper: ĥ = tanh(W x + U (r⊙h) + b).
            OptionError for any other.
    """

    def before(p: Any, x: Array, state: LayerState) -> LayerState:
        (h,) = state
        xru, xn = split(x, 2, 1)
        r, u = split(sigmoid(p.norm(xru + p.U(h), "ru")), 1, 1)
        r, u = p.gate("r", r), p.gate("u", u)
        candidate = p.gate("n", tanh(p.norm(xn + p.U_n(r * h), "n")))
        return (u * h + (1 - u) * candidate,)

    def after(p: Any, x: Array, state: LayerState) -> LayerState:
        (h,) = state
        xr, xu, xn = split(p.norm(x), 1, 1, 1)
        hr, hu, hn = split(p.norm(p.U(h), gain="gain_u"), 1, 1, 1)
        r, u = p.gate("r", sigmoid(xr + hr)), p.gate("u", sigmoid(xu + hu))
        candidate = p.gate("n", tanh(xn + r * (hn + p.b_u)))
        return (u * h + (1 - u) * candidate,)

    if reset == "before":
        return Cell(before, gates="run", products=(("U", "ru"), ("U_n", "n")))
    if reset == "after":
        return Cell(after, gates="run", vectors=("b_u",), gains=("gain", "gain_u"), fused="gru")
    raise OptionError(f"`reset={reset}`: choose before or after")


def gru_simple() -> Cell:
    """A GRU without a reset gate.

    u = σ(W x + U h + b);  ĥ = tanh(W x + U h + b);  h' = u⊙h + (1−u)⊙ĥ
    """

    def step(p: Any, x: Array, state: LayerState) -> LayerState:
        (h,) = state
        u, n = split(p.norm(x + p.U(h)), 1, 1)
        u, candidate = p.gate("u", sigmoid(u)), p.gate("n", tanh(n))
        return (u * h + (1 - u) * candidate,)

    return Cell(step, gates="un")


CELLS: dict[str, Callable[..., Cell]] = {
    "lstm": lstm,
    "gru": gru,
    "gru-simple": gru_simple,
    "rnn": rnn,
}
