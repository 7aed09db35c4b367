"""How far back gradients reach: the norm of ∂L_t/∂h_{t−k} against k.

L_t = −log p(y_t | before) is the loss of one predicted token, and h_{t−k} what the recurrent
layers hold k steps before the state that predicts it. If the norms fall like e^(−λk), what
stood 1/λ steps before hardly teaches the network anything (Bengio et al. 1994); if they grow,
gradients explode (Pascanu et al. 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import InputError
from charlm.model.layers import States
from charlm.model.network import Network
from charlm.tokenizer import START, IntArray, as_inputs

WINDOWS = 128
# A window starts from the state after so many tokens before it, or after fewer in a short text.
WARM_UP = 128
STATE_VALUES_AT_ONCE = 1 << 21  # windows × steps × layers × features: the graph takes 15 × as much


@dataclass(frozen=True)
class GradientNorms:
    """The norms of ∂L_t/∂h_{t−k}, k = 0 … K, in nats; mean over `windows` places t of a text.

    dh:     (K + 1,) over the hidden states of all layers together
    dc:     (K + 1,) the same of an LSTM's cells; None for a cell that has none
    decay:  λ of the line log‖∂L_t/∂h_{t−k}‖ ≈ a − λk, in nats per step: least squares over all
            windows and the k where none of them is zero or overflows; negative if gradients
            grow, NaN if there are fewer than two such k
    """

    dh: NDArray[np.float64]
    dc: NDArray[np.float64] | None
    decay: float
    windows: int

    @property
    def steps(self) -> int:
        """K, the steps back."""
        return len(self.dh) - 1

    @property
    def half_life(self) -> float:
        """Steps in which the norm halves; infinite if it does not fall."""
        return math.log(2) / self.decay if self.decay > 0 else math.inf


def gradient_norms(network: Network, ids: IntArray, steps: int) -> GradientNorms:
    """How far back the gradients of a network in evaluation reach, on a text.

    ids:    (n,) the text, from its beginning
    steps:  K; the whole text if that is shorter

    The windows of K + 1 tokens are spread evenly over the text. Each is read from the state
    after the tokens before it, through which no gradient flows. All of it is in float64, in
    which a gradient can vanish a long way before it is rounded to zero.

    Raises InputError for a text of less than 2 tokens, ModelError for a bidirectional network.
    """
    if len(ids) < 2:
        raise InputError(
            f"the text is too short ({len(ids)} of the 2 tokens that are needed); give a longer one"
        )
    steps = min(steps, len(ids) - 1)
    inputs, targets = _windows(ids, steps)
    size = (steps + 1) * network.config.layers * network.config.hidden
    at_once = max(STATE_VALUES_AT_ONCE // size, 1)
    reference = _reference(network)
    parts = [
        _norms(reference, inputs[:, k : k + at_once], targets[k : k + at_once], steps)
        for k in range(0, len(targets), at_once)
    ]
    norms = np.concatenate(parts, axis=-1)
    dh, *dc = norms.mean(axis=-1)
    return GradientNorms(dh, dc[0] if dc else None, _decay(norms[0]), len(targets))


def _windows(ids: IntArray, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is read, (warm-up + steps + 1, B), and the token to be predicted after it, (B,)."""
    spare = len(ids) - 1 - steps
    warm_up = min(WARM_UP, spare // 2)
    starts = np.unique(np.linspace(warm_up, spare, WINDOWS).round().astype(np.int64))
    read = np.concatenate([[START], as_inputs(ids[:-1])])
    return read[starts + np.arange(-warm_up, steps + 1)[:, None]], ids[starts + steps].astype(int)


def _reference(network: Network) -> Network:
    """The network with layers whose next state is made of the very tensors of the last one."""
    copy = Network(network.config, reference=True)
    copy.load_state_dict(network.state_dict())
    return copy.to(network.device, torch.float64).eval()


def _norms(
    network: Network, inputs: NDArray[np.int64], targets: NDArray[np.int64], steps: int
) -> NDArray[np.float64]:
    """‖∂L/∂s‖ for each letter s of the cell's state, k = 0 … steps, and window: (S, K + 1, B).

    The windows do not touch each other, so that the gradients of their losses' sum are those
    of each.
    """
    x = torch.from_numpy(inputs).to(network.device)
    wanted = torch.from_numpy(targets).to(x.device)
    state, before = network.initial_state(len(targets)), len(x) - 1 - steps
    with torch.no_grad():
        for token in x[:before]:
            state = _step(network, token, state)
    reached: list[States] = []
    for token in x[before:-1]:
        state = _step(network, token, state)
        reached.append(state)
    y, state = network.encoder(x[-1:], state)
    loss = network.loss(y, wanted[None])
    reached.append(state)
    tensors = [s for states in reversed(reached) for layer in states for s in layer]
    found = torch.stack(torch.autograd.grad(loss, tensors))
    letters = len(network.config.recurrence.state)
    found = found.view(steps + 1, network.config.layers, letters, len(targets), -1)
    norms = torch.linalg.vector_norm(found, dim=(1, 4))  # (K + 1, S, B)
    return norms.transpose(0, 1).cpu().numpy()


def _step(network: Network, token: Tensor, state: States) -> States:
    """The state after one more token (B,)."""
    after: States = network.encoder(token[None], state)[1]
    return after


def _decay(norms: NDArray[np.float64]) -> float:
    """Minus the slope of log(norms), (K + 1, B), against k, where all of them are finite."""
    with np.errstate(divide="ignore"):
        logs = np.log(norms).mean(axis=1)
    k = np.flatnonzero(np.isfinite(logs))
    if len(k) < 2:
        return math.nan
    return -float(np.polyfit(k, logs[k], 1)[0])
