"""AdamW (Loshchilov and Hutter 2019) by torch's own fused kernel.

`torch.optim.AdamW` computes the same; but making one loads torch's compiler, which takes longer
than all else that training has to do before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETAS = (0.9, 0.99)
EPSILON = 1e-8


class AdamW:
    """Updates parameters by their gradients; only matrices decay.

    moments:  the running means of each gradient and of its square, and the number of updates,
              by kind and name
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.moments: dict[str, dict[str, Tensor]] = {
            "mean": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "square": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "updates": {name: torch.zeros((), device=p.device) for name, p in parameters.items()},
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update, by the gradients that the parameters hold."""
        matrices = [name for name, p in self.parameters.items() if p.ndim > 1]
        vectors = [name for name, p in self.parameters.items() if p.ndim <= 1]
        for names, decay in ((matrices, self.weight_decay), (vectors, 0.0)):
            adamw(
                [self.parameters[name] for name in names],
                [self._gradient(name) for name in names],
                [self.moments["mean"][name] for name in names],
                [self.moments["square"][name] for name in names],
                [],
                [self.moments["updates"][name] for name in names],
                fused=True, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=learning_rate,
                weight_decay=decay, eps=EPSILON, maximize=False,
            )  # fmt: skip

    def _gradient(self, name: str) -> Tensor:
        gradient = self.parameters[name].grad
        assert gradient is not None, name
        return gradient
