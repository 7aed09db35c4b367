"""Models with two halves: a network, and a model that is counted and not trained.

Their log-probabilities are added up, with weights that predict the held-out examples best:
log p = a·log p_network + b·log p_counted − log Z, the powers (a, b).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from charlm.corpus.examples import Examples
from charlm.model.file import Storable
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Companions, N, Validation

PROBED_TOKENS = 8192  # of the validation part, to estimate the time for all of it
POWERS_OF, WEIGHINGS = 8192, 30  # tokens on which the two halves are weighed, and how often
PRIOR = 1.0  # nats for a power of 1


class Counted(Storable, Protocol):
    """A model that is counted.

    powers:  (of the network, of this model)
    """

    @property
    def powers(self) -> tuple[float, float]: ...

    def with_powers(self, powers: tuple[float, float]) -> Self:
        """The same model with other `powers`."""


C = TypeVar("C", bound=Counted)


def weighed(model: C, nats: Callable[[C], float]) -> C:
    """The model with the powers that make the loss least, by a search in smaller and smaller steps.

    nats:  the loss of held-out examples by both halves together; called about `WEIGHINGS` times
    """

    def loss(model: C) -> float:
        # Of few examples that are all right there is no evidence for great certainty.
        return nats(model) + PRIOR * sum(power * power for power in model.powers)

    best, lowest = model, loss(model)
    step = 0.4
    while step > 0.04:
        a, b = best.powers
        around = [(a + step, b), (a - step, b), (a, b + step), (a, b - step)]
        tried = [model.with_powers((max(a, 0.0), max(b, 0.0))) for a, b in around]
        losses = [loss(other) for other in tried]
        k = int(np.argmin(losses))
        if losses[k] < lowest:
            best, lowest = tried[k], losses[k]
        else:
            step /= 2
    return best


class HalvesValidation(Validation[N]):
    """Held-out examples of a model with two halves.

    half:  the name of the other half among the companions
    """

    half: ClassVar[str]
    fewest: ClassVar[int] = 1 << 15

    def __init__(self, data: Examples) -> None:
        self.data = data

    def first(self, tokens: int) -> Self:
        if tokens >= self.data.tokens:
            return self
        return type(self)(self.data.sample(tokens))

    def total(self, network: N, part: Part = WHOLE) -> float:
        return self.totals(network, {}, part)[0]

    @abstractmethod
    def totals(self, network: N, companions: Companions, part: Part = WHOLE) -> Sequence[float]:
        """See `Validation`."""

    def fitted(self, network: N, companions: Companions) -> Companions:
        model: Any = companions.get(self.half)
        if model is None or not self.predicted:
            return companions
        return {**companions, self.half: weighed(model, self.first(POWERS_OF).loss(network, model))}

    @abstractmethod
    def loss(self, network: N, model: Any) -> Callable[[Any], float]:
        """The loss of these examples as a function of the powers of the other half, in nats."""

    def seconds(self, network: N, companions: Companions) -> float:
        part = self.first(PROBED_TOKENS)
        part.total(network)  # the first call builds the kernels
        start = time.perf_counter()
        part.totals(network, companions)
        tokens = time.perf_counter() - start
        seconds = 1.2 * tokens * self.data.tokens / max(part.data.tokens, 1)
        model: Any = companions.get(self.half)
        if model is not None and part.predicted:
            loss = part.loss(network, model)
            start = time.perf_counter()
            loss(model)
            seconds += 1.2 * tokens + WEIGHINGS * (time.perf_counter() - start)
        return seconds
