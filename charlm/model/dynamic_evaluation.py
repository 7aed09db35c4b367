"""Dynamic evaluation: a network that keeps learning from the text that it measures."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import ModelError
from charlm.model.layers import States
from charlm.model.network import Network

SMOOTHING = 0.01  # of the running mean of the squared gradient, m
FLOOR = 1e-3  # ε, in nats: entries with smaller gradients take smaller steps
TOKENS = 32  # predicted between two steps


class DynamicEvaluation:
    """Dynamic evaluation (Mikolov et al. 2010, Krause et al. 2018) of one text, from its start.

    After every `TOKENS` predicted tokens, every parameter θ takes a step against the gradient g of
    their summed loss, divided by the root of the running mean m of its square. It is also drawn
    back to its trained value θ₀:

    θ ← θ − η g / (√m + ε) + δ (θ₀ − θ)

    Krause et al. take m from the training text; here it comes from the measured text.

    network:  it is copied, and does not change
    rate:     η
    decay:    δ

    Raises ModelError for a character-aware network, whose word features come from a table.
    """

    def __init__(self, network: Network, rate: float, decay: float = 0.02) -> None:
        if network.config.characters:
            raise ModelError(
                "`adapt=True`: the word features of a character-aware model come from a table that "
                "cannot learn; leave the option out"
            )
        self.rate, self.decay = rate, decay
        self.network = Network(network.config)
        self.network.load_state_dict(network.state_dict())
        self.network.to(network.device)
        self.trained = [p.detach().clone() for p in self.network.parameters()]
        self.squares = [torch.zeros_like(p) for p in self.trained]
        self.steps = 0

    def predict_and_learn(
        self, inputs: NDArray[np.integer], targets: NDArray[np.integer], state: States
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], States]:
        """A `likelihood.Predict`: predict the targets (B, T), then take a step."""
        device = self.network.device
        x, target_ids = (
            torch.from_numpy(ids.T.astype(np.int64)).to(device) for ids in (inputs, targets)
        )
        y, state = self.network.encoder(x, state)
        outputs = y.detach().transpose(0, 1).cpu().numpy()
        logprobs = self.network.logprobs(outputs, targets)
        self.network.loss(y, target_ids).backward()  # type: ignore[no-untyped-call]
        self._step()
        return outputs, logprobs, [tuple(s.detach() for s in layer) for layer in state]

    @torch.no_grad()
    def _step(self) -> None:
        self.steps += 1
        share = max(SMOOTHING, 1 / self.steps)
        for p, trained, square in zip(
            self.network.parameters(), self.trained, self.squares, strict=True
        ):
            assert isinstance(p.grad, Tensor)
            square.lerp_(p.grad.square(), share)
            p.addcdiv_(p.grad, square.sqrt().add_(FLOOR), value=-self.rate)
            p.lerp_(trained, self.decay)
            p.grad = None
