"""Several networks in torch that are trained apart and predict together, as one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlm.model.config import Dropout, ModelConfig
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.layers import States
from charlm.model.loss import Softmax
from charlm.model.names import add_prefix
from charlm.model.network import Network, Trainable


def network(
    config: ModelConfig,
    dropout: Dropout | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Network:
    """The network of this shape, or the networks as one; see `Network` for the arguments."""
    return (SeveralNetworks if config.networks > 1 else Network)(
        config, dropout, generator, **options
    )


class SeveralNetworks(Network):
    """Networks of one shape as one network; `SeveralNumpyNetworks` is its twin.

    Each of its members is trained by itself. Together they predict by the mean of their logits. The
    state has the layers of the first network, then those of the next one, and so on. The output of
    the encoder has their outputs side by side, (T, B, networks·H).

    generator:  of the first network; the seeds of the others follow from its seed
    """

    vectors = "networks.0.encoder.embedding"

    def __init__(
        self,
        config: ModelConfig,
        dropout: Dropout | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        Trainable.__init__(self, dropout, generator)
        self.config = config
        seeds = np.random.SeedSequence(self.generator.initial_seed()).generate_state(
            config.networks - 1
        )
        generators = [self.generator, *(torch.Generator().manual_seed(int(s)) for s in seeds)]
        self.networks = nn.ModuleList(
            Network(config.one, dropout, own, **options) for own in generators
        )
        # No modules: the weights belong to the networks.
        object.__setattr__(self, "encoder", _Encoders(config, self.members))
        object.__setattr__(self, "head", _Heads(config, self.members))

    @property
    def members(self) -> Sequence[Network]:
        return cast(Sequence[Network], self.networks)

    def move_to(self, device: torch.device) -> Self:
        for member in self.members:
            member.move_to(device)
        return self

    def weights(self) -> dict[str, NDArray[np.float32]]:
        each = (add_prefix(f"networks.{k}", m.weights()) for k, m in enumerate(self.members))
        return {name: values for member in each for name, values in member.items()}

    def load_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> Self:
        for member, own in zip(self.members, self.config.by_network(weights), strict=True):
            member.load_weights(own)
        return self.eval()

    def softmax(self) -> Softmax:
        cutoffs, *_ = (each := [member.softmax() for member in self.members])[0]

        def joined(of_each: Sequence[Tensor]) -> Tensor:
            """The weights of the mean of the logits, which read the features of all networks."""
            if of_each[0].ndim == 1:
                return torch.stack(list(of_each)).mean(dim=0)
            return torch.cat(list(of_each), dim=-1) / len(of_each)

        return Softmax(cutoffs, *map(joined, zip(*(s[1:] for s in each), strict=True)))

    def initial_state(self, batch: int) -> States:
        return [layer for member in self.members for layer in member.initial_state(batch)]

    @torch.no_grad()
    def word_features(self, spellings: NDArray[np.integer]) -> NDArray[np.float32]:
        """The character features of words by all networks, (N, networks·char_features)."""
        each = [member.word_features(spellings) for member in self.members]
        return np.concatenate(each, axis=-1)


class _Encoders:
    """The encoders of several networks as one."""

    def __init__(self, config: ModelConfig, networks: Sequence[Network]) -> None:
        self.layers, self.networks = config.layers, networks

    def __call__(self, ids: Tensor, state: States, reverse: bool = False) -> tuple[Tensor, States]:
        """See `Encoder.forward`."""
        outputs: list[Tensor] = []
        after: States = []
        for network in self.networks:
            own = state[len(after) : len(after) + self.layers]
            y, own = network.encoder(ids, own, reverse=reverse)
            outputs.append(y)
            after += own
        return torch.cat(outputs, dim=-1), after


class _Heads:
    """The heads of several networks as one."""

    def __init__(self, config: ModelConfig, networks: Sequence[Network]) -> None:
        self.directions, self.networks = len(config.directions), networks

    def __call__(self, y: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        """The encoder's output (…, S) -> the softmax's input (…, networks·H)."""
        # (…, directions, networks, H): each direction has the outputs of all networks.
        shape = (self.directions, len(self.networks), -1)
        own = y.reshape(*y.shape[:-1], *shape).unbind(-2)
        return torch.cat(
            [n.head(o.flatten(-2), masks) for n, o in zip(self.networks, own, strict=True)], dim=-1
        )
