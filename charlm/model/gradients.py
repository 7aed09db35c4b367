"""Gradient norms over time: ‖∂L_t/∂h_{t−k}‖ as a function of k.

L_t = −log p(y_t | y_1 … y_{t−1}) is the loss of one token. h_t is the hidden state that predicts
y_t, and h_{t−k} the hidden state k steps earlier. Norms that decay like e^(−λk) mean that the
network learns little from tokens more than 1/λ steps back (vanishing gradients, Bengio et al.
1994). Norms that grow with k are exploding gradients (Pascanu et al. 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import InputError
from charlm.model import several
from charlm.model.layers import States
from charlm.model.network import Network
from charlm.tokenizer import START, IntArray, as_inputs

MAX_WINDOWS = 128
WARM_UP = 128  # tokens read before each window, fewer in a short text
# Windows × steps × layers × features per batch. The autograd graph holds about 15 times as many.
STATE_VALUES_PER_BATCH = 1 << 21


@dataclass(frozen=True)
class GradientNorms:
    """The norms ‖∂L_t/∂h_{t−k}‖ for k = 0 … K, averaged over several positions t of a text.

    dh:       (K + 1,), in nats; one norm over the hidden states of all layers
    dc:       (K + 1,), the same for the cell states c of an LSTM; None for other cells
    decay:    λ in nats per step, from the least-squares fit log‖∂L_t/∂h_{t−k}‖ ≈ a − λk. The fit
              uses the k at which the norm of every window is positive and finite, among those
              whose line begins earlier if lines are independent; NaN if there are fewer than two.
              Negative if the gradients grow.
    windows:  number of positions t
    """

    dh: NDArray[np.float64]
    dc: NDArray[np.float64] | None
    decay: float
    windows: int

    @property
    def steps(self) -> int:
        """K, the largest number of steps back."""
        return len(self.dh) - 1

    @property
    def half_life(self) -> float:
        """Number of steps in which the norm halves; infinite if it does not decay."""
        return math.log(2) / self.decay if self.decay > 0 else math.inf


def gradient_norms(
    network: Network, ids: IntArray, steps: int, independent_lines: bool = False
) -> GradientNorms:
    """Measures the gradient norms of a language model on a text, without dropout.

    ids:    (N,), token ids of the text from its beginning
    steps:  K; reduced to N − 1 if the text is shorter
    independent_lines:  every line starts from the zero state, which no gradient leaves

    The windows of K + 1 tokens are spread evenly over the text. A window starts from the state
    after the tokens before it; gradients do not flow into that state. Computation is in float64,
    so that small gradients are not rounded to zero.

    Raises InputError for a text of fewer than 2 tokens.
    """
    if len(ids) < 2:
        raise InputError(
            f"the text is too short ({len(ids)} of at least 2 tokens); use a longer one"
        )
    steps = min(steps, len(ids) - 1)
    inputs, targets = _windows(ids, steps)
    size = (steps + 1) * network.config.layers * network.config.states
    batch = max(STATE_VALUES_PER_BATCH // size, 1)
    reference = _reference(network)
    batches = [
        _norms(
            reference, inputs[:, k : k + batch], targets[k : k + batch], steps, independent_lines
        )
        for k in range(0, len(targets), batch)
    ]
    norms = np.concatenate(batches, axis=-1)
    dh, *dc = norms.mean(axis=-1)
    first = norms[0]
    if independent_lines:
        # The states before the start of the last line, k steps back.
        starts = np.cumsum(inputs[: -steps - 1 : -1] == START, axis=0)[:steps]
        first[1:][starts > 0] = np.nan
    return GradientNorms(dh, dc[0] if dc else None, _decay(first), len(targets))


def _windows(ids: IntArray, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs (warm-up + steps + 1, B) of B windows and the target after each, (B,)."""
    last_start = len(ids) - 1 - steps
    warm_up = min(WARM_UP, last_start // 2)
    starts = np.unique(np.linspace(warm_up, last_start, MAX_WINDOWS).round().astype(np.int64))
    inputs = np.concatenate([[START], as_inputs(ids[:-1])])
    return inputs[starts + np.arange(-warm_up, steps + 1)[:, None]], ids[starts + steps].astype(int)


def _reference(network: Network) -> Network:
    """A float64 copy without fast paths: autograd sees the state of every step."""
    copy = several.network(network.config, reference=True)
    copy.load_state_dict(network.state_dict())
    return copy.to(network.device, torch.float64).eval()


def _norms(
    network: Network,
    inputs: NDArray[np.int64],
    targets: NDArray[np.int64],
    steps: int,
    independent_lines: bool,
) -> NDArray[np.float64]:
    """‖∂L/∂s‖ for each state vector s of the cell, k = 0 … K, and each window: (S, K + 1, B).

    The windows are independent, so one backward pass of the summed loss gives the gradients of
    every window.
    """
    x = torch.from_numpy(inputs).to(network.device)
    y = torch.from_numpy(targets).to(x.device)
    state, warm_up = network.initial_state(len(targets)), len(x) - 1 - steps
    with torch.no_grad():
        for token in x[:warm_up]:
            _, state = _step(network, token, state, independent_lines)
    history: list[States] = []
    for token in x[warm_up:-1]:
        _, state = _step(network, token, state, independent_lines)
        history.append(state)
    output, state = _step(network, x[-1], state, independent_lines)
    loss = network.loss(output, y[None])
    history.append(state)
    tensors = [s for states in reversed(history) for layer in states for s in layer]
    gradients = torch.stack(torch.autograd.grad(loss, tensors))
    vectors = len(network.config.recurrence.state)
    gradients = gradients.view(steps + 1, len(state), vectors, len(targets), -1)
    norms = torch.linalg.vector_norm(gradients, dim=(1, 4))  # (K + 1, S, B)
    return norms.transpose(0, 1).cpu().numpy()


def _step(
    network: Network, token: Tensor, state: States, independent_lines: bool
) -> tuple[Tensor, States]:
    """The output and the state after one token per window (B,)."""
    if independent_lines:
        goes_on = (token != START).to(state[0][0].dtype)[:, None]
        state = [tuple(s * goes_on for s in layer) for layer in state]
    output, last = network.encoder(token[None], state)
    return output, last


def _decay(norms: NDArray[np.float64]) -> float:
    """Minus the slope of log(norms), (K + 1, B), over the k where all logarithms are finite.

    NaN stands for what does not count.
    """
    counts = ~np.isnan(norms)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counts, np.log(norms), 0.0).sum(axis=1) / counts.sum(axis=1)
    k = np.flatnonzero(np.isfinite(logs))
    if len(k) < 2:
        return math.nan
    return -float(np.polyfit(k, logs[k], 1)[0])
