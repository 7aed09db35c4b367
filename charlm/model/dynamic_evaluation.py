"""Dynamic evaluation: a network that keeps learning from the text that it measures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from charlm.errors import ModelError
from charlm.model import several
from charlm.model.backend import Ids
from charlm.model.network import Network
from charlm.model.prediction import NetworkPrediction, State
from charlm.tokenizer import EOS, START

SMOOTHING = 0.01  # of the running mean of the squared gradient, m
FLOOR = 1e-3  # ε, in nats: entries with smaller gradients take smaller steps
TOKENS = 32  # predicted between two steps


class DynamicEvaluation:
    """Dynamic evaluation (Mikolov et al. 2010, Krause et al. 2018) of one text, from its start.

    It is a `Predictor` of that text alone: `read` changes its weights. After every `TOKENS`
    predicted tokens, every parameter θ takes a step against the gradient g of their summed loss,
    divided by the root of the running mean m of its square. It is also drawn back to its trained
    value θ₀:

    θ ← θ − η g / (√m + ε) + δ (θ₀ − θ)

    Krause et al. take m from the training text; here it comes from the measured text.

    network:  it is copied, and does not change
    rate:     η
    decay:    δ

    Raises ModelError for a character-aware network, whose word features come from a table.
    """

    at_once, one_text = TOKENS, True

    def __init__(self, network: Network, rate: float, decay: float = 0.02) -> None:
        if network.config.characters:
            raise ModelError(
                "`adapt=True`: the word features of a character-aware model come from a table that "
                "cannot learn; leave the option out"
            )
        self.rate, self.decay = rate, decay
        self.network = several.network(network.config)
        self.network.load_state_dict(network.state_dict())
        self.network.to(network.device)
        self.trained = [p.detach().clone() for p in self.network.parameters()]
        self.squares = [torch.zeros_like(p) for p in self.trained]
        self.steps = 0
        # The last outputs (T, B, H), with their graph, and ids (T, B): not learnt from yet.
        self._unlearnt: tuple[Tensor, Tensor] | None = None

    def initial_state(self, batch: int) -> State:
        """The zero state of the network, and nothing to learn from yet."""
        self._unlearnt = None
        return list(self.network.initial_state(batch))

    def read(self, ids: Ids, state: State) -> tuple[NetworkPrediction, State]:
        """See `Predictor.read`. Learns from what was read before, then predicts."""
        x = torch.from_numpy(ids.T.astype(np.int64)).to(self.network.device)
        if self._unlearnt:
            y, read = self._unlearnt
            targets = torch.cat([read[1:], x[:1]])
            self._learn(y, torch.where(targets == START, EOS, targets))
        y, after = self.network.encoder(x, state)
        self._unlearnt = y, x
        outputs = y.detach().transpose(0, 1).cpu().numpy()
        detached: State = [tuple(s.detach() for s in layer) for layer in after]
        return NetworkPrediction(self.network, outputs), detached

    def _learn(self, outputs: Tensor, targets: Tensor) -> None:
        self.network.loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
        self._step()

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
