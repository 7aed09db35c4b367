"""The masks of dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.model.config import Dropout
from charlm.parts import Share


class DropoutMasks:
    """Draws the dropout masks of one training step.

    dropout:    probabilities, see `Dropout`
    generator:  source of the random numbers
    share:      which sequences of a batch there are; None for all. Masks are drawn for all, so that
                every process draws the same random numbers
    """

    def __init__(
        self, dropout: Dropout, generator: torch.Generator, share: Share | None = None
    ) -> None:
        self.dropout, self.generator, self.share = dropout, generator, share

    def of(self, x: Tensor, rate: float, draws: Tensor) -> Tensor:
        """A mask of the shape of `draws`: 0 with probability `rate`, else 1 / (1 − rate).

        The mask has the dtype of x.
        """
        return ((draws >= rate) / (1.0 - rate)).to(x.dtype)

    def draws(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Random numbers from [0, 1), on the device of `like`."""
        return torch.rand(shape, generator=self.generator, device=like.device)

    def sequence_draws(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """`draws` for a shape (…, B, H): these sequences' part of those for the whole batch."""
        if self.share is None:
            return self.draws(like, shape)
        whole = self.draws(like, (*shape[:-2], self.share.columns, shape[-1]))
        return whole[..., self.share.part.every, :]

    def features(self, x: Tensor, rate: float) -> Tensor:
        """Dropout of the features of x (T, B, H): one mask for all steps, or one per step."""
        if not rate:
            return x
        shape = tuple(x.shape if self.dropout.per_step else x.shape[1:])
        return x * self.of(x, rate, self.sequence_draws(x, shape))

    def inputs(self, x: Tensor) -> Tensor:
        """Dropout of the input (T, B, I) of the first layer."""
        return self.features(x, self.dropout.inputs)

    def tokens(self, x: Tensor) -> Tensor:
        """Dropout of whole tokens of the input (T, B, I)."""
        if not (rate := self.dropout.tokens):
            return x
        return x * (self.sequence_draws(x, (*x.shape[:2], 1)) >= rate)

    def outputs(self, x: Tensor) -> Tensor:
        """Dropout of the output (T, B, H) of a layer."""
        return self.features(x, self.dropout.outputs)
