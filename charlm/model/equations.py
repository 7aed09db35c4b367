"""The equations of every recurrent cell, once.

A cell is one pure function

    step(p, x, state) -> state'

    p       the layer's parameters: p.U (G·H, H), and further vectors (H,) of the cell's own
    x       the input's share of the gates, W·x + b, shape (B, G·H)
    state   a tuple of arrays (B, H); the first is the hidden state h, the layer's output

where B is the batch, H the hidden size and G the number of gates, packed one after the other
in the order that `torch.nn` uses. NumPy and torch run the same function: it uses operators,
`tanh`, and nothing else. This is the reference; a faster kernel is optional beside it, and
tested equal to it.

To add a cell, write its step and enter it in `CELLS`: it then trains, scores and samples.

Notation: σ is the logistic function, ⊙ the elementwise product; h, c are the state before the
step, h', c' after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # a numpy.ndarray or a torch.Tensor: the equations do not ask which
State = tuple[Array, ...]


class Parameters:
    """A layer's weights as attributes, so that the equations read as they are written."""

    def __init__(self, **weights: Array) -> None:
        self.__dict__.update(weights)

    def __getattr__(self, name: str) -> Array:
        raise AttributeError(f"this layer has no parameter {name}")


@dataclass(frozen=True)
class Cell:
    """A cell's step and what its weights look like.

    gates:    one letter per gate, in the order of the rows of W, U and b
    state:    one letter per state vector; the first is the output
    vectors:  names of further parameters (H,), zero at first
    """

    step: Callable[[Any, Array, State], State]
    gates: str
    state: str
    vectors: tuple[str, ...] = ()


def tanh(a: Array) -> Array:
    return np.tanh(a) if isinstance(a, np.ndarray) else a.tanh()


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + e⁻ᵃ), by tanh, which never overflows."""
    return 0.5 * tanh(0.5 * a) + 0.5


def split(a: Array, parts: int) -> list[Array]:
    """The gates of a packed array (B, parts·H), each (B, H)."""
    size = a.shape[-1] // parts
    return [a[..., k * size : (k + 1) * size] for k in range(parts)]


def rnn(p: Any, x: Array, state: State) -> State:
    """Elman (1990): h' = tanh(W x + U h + b)."""
    (h,) = state
    return (tanh(x + h @ p.U.T),)


def lstm(p: Any, x: Array, state: State) -> State:
    """Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    i, f, o = σ(W x + U h + b) each;  g = tanh(W x + U h + b)
    c' = f⊙c + i⊙g;  h' = o⊙tanh(c')
    """
    h, c = state
    i, f, g, o = split(x + h @ p.U.T, 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru(p: Any, x: Array, state: State) -> State:
    """Cho et al. (2014), the reset gate after the product, as in cuDNN and `torch.nn.GRU`.

    r, u = σ(W x + U h + b) each;  ĥ = tanh(W x + b + r⊙(U h + b_u))
    h' = u⊙h + (1−u)⊙ĥ
    """
    (h,) = state
    xr, xu, xn = split(x, 3)
    hr, hu, hn = split(h @ p.U.T, 3)
    r, u = sigmoid(xr + hr), sigmoid(xu + hu)
    candidate = tanh(xn + r * (hn + p.b_u))
    return (u * h + (1 - u) * candidate,)


def gru_simple(p: Any, x: Array, state: State) -> State:
    """A GRU without reset gate: u = σ(W x + U h + b);  ĥ = tanh(W x + U h + b)

    h' = u⊙h + (1−u)⊙ĥ
    """
    (h,) = state
    u, n = split(x + h @ p.U.T, 2)
    u = sigmoid(u)
    return (u * h + (1 - u) * tanh(n),)


CELLS = {
    "lstm": Cell(lstm, gates="ifgo", state="hc"),
    "gru": Cell(gru, gates="run", state="h", vectors=("b_u",)),
    "gru-simple": Cell(gru_simple, gates="un", state="h"),
    "rnn": Cell(rnn, gates="n", state="h"),
}
