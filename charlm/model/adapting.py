"""Dynamic evaluation: a network that goes on learning from the text that it measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import ModelError, OptionError
from charlm.model.layers import States
from charlm.model.loss import summed_cross_entropy
from charlm.model.network import Network

SMOOTHING = 0.01  # of the running mean of the squared gradient, m
FLOOR = 1e-3  # ε, in nats: entries with smaller gradients take smaller steps


@dataclass(frozen=True)
class AdaptOptions:
    """Dynamic evaluation (Mikolov et al. 2010, Krause et al. 2018).

    Once so many tokens are predicted, every parameter θ takes a step against the gradient g of
    their summed loss, divided by the root of the running mean m of its square, and is drawn back
    to what it was trained to be, θ₀, entry by entry:

    θ ← θ − η g / (√m + ε) + δ (θ₀ − θ)

    Krause et al. take m from the training text; here it comes from the text that is measured.

    rate:    η
    decay:   δ
    tokens:  that are predicted between two steps

    Raises OptionError, naming the option and the value.
    """

    rate: float = 4e-4  # these suit characters and words on tiny-shakespeare and Penn Treebank
    decay: float = 0.02
    tokens: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise OptionError(f"--adapt-rate {self.rate:g}: must be above 0, and below 1")


class Adapting:
    """A `likelihood.Backend` for one stream of text, from its beginning to its end.

    network:  it is copied, and stays as it is
    """

    def __init__(self, network: Network, options: AdaptOptions) -> None:
        self.config, self.options = network.config, options
        if self.config.characters:
            raise ModelError(
                "--adapt: a character-aware model has its words' vectors from a table that cannot "
                "learn; leave it out"
            )
        self.network = Network(network.config)
        self.network.load_state_dict(network.state_dict())
        self.network.to(network.embedding.device)
        self.trained = [p.detach().clone() for p in self.network.parameters()]
        self.squares = [torch.zeros_like(p) for p in self.trained]
        self.steps = 0

    def initial_state(self, batch: int) -> States:
        return self.network.initial_state(batch)

    def read(
        self, ids: NDArray[np.integer], state: States, reverse: bool = False
    ) -> tuple[NDArray[np.float32], States]:
        x = torch.from_numpy(ids.T.astype(np.int64)).to(self.network.embedding.device)
        self.y, state = self.network.layers(self.network.vectors(x), state)
        after = [tuple(s.detach() for s in layer) for layer in state]
        return self.y.detach().transpose(0, 1).cpu().numpy(), after

    def logprobs(self, y: NDArray[np.float32], targets: NDArray[np.integer]) -> NDArray[np.float32]:
        """log p of the targets that follow what was read last; then a step."""
        found = self.network.logprobs(y, targets)
        rows = torch.from_numpy(targets.T.astype(np.int64)).to(self.y.device).flatten() - 1
        features = self.network.top(self.y).flatten(0, 1)
        summed_cross_entropy(features, rows, self.network.softmax()).backward()  # type: ignore[no-untyped-call]
        self._step()
        return found

    @torch.no_grad()
    def _step(self) -> None:
        self.steps += 1
        share = max(SMOOTHING, 1 / self.steps)
        rate, decay = self.options.rate, self.options.decay
        for p, trained, square in zip(
            self.network.parameters(), self.trained, self.squares, strict=True
        ):
            assert isinstance(p.grad, Tensor)
            square.lerp_(p.grad.square(), share)
            p.addcdiv_(p.grad, square.sqrt().add_(FLOOR), value=-rate).lerp_(trained, decay)
            p.grad = None
