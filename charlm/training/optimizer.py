"""AdamW (Loshchilov and Hutter 2019) with torch's fused kernel.

`torch.optim.AdamW` computes the same. But creating one imports torch's compiler, which takes
longer than everything else before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETAS = (0.9, 0.99)
EPSILON = 1e-8

# By kind ("mean", "square", "updates") and by the parameter's name.
Moments = dict[str, dict[str, Tensor]]


def joined_moments(moments: Sequence[Moments]) -> Moments:
    """The moments of several optimizers as those of one."""
    return {
        kind: {name: tensor for one in moments for name, tensor in one[kind].items()}
        for kind in moments[0]
    }


class AdamW:
    """Updates parameters by their gradients. Weight decay is applied to matrices only.

    moments:  running means of each gradient and of its square, and the number of updates
    """

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.moments: Moments = {
            "mean": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "square": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "updates": {name: torch.zeros((), device=p.device) for name, p in parameters.items()},
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update all parameters by their gradients."""
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
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def load(self, moments: Moments) -> None:
        """Continue with these moments, of these parameters or of more."""
        self.moments = {
            kind: {name: of_kind[name] for name in self.parameters}
            for kind, of_kind in moments.items()
        }

    def _gradient(self, name: str) -> Tensor:
        gradient = self.parameters[name].grad
        assert gradient is not None, name
        return gradient
