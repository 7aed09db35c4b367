"""What runs a network: NumPy, which starts at once, or torch, which is faster for much text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.model.config import ModelConfig, StackConfig
from charlm.model.devices import DEVICES, check_threads, choose_device, survive_forks
from charlm.model.numpy_network import numpy_network
from charlm.options import Choices

Floats = NDArray[np.float32]
Ids = NDArray[np.integer]
BACKENDS = Choices(("auto", "numpy", "torch"))
PRECISIONS = Choices(("fp32", "bf16", "auto"))
# Importing torch takes as long as NumPy needs for about 10 GFLOP. Beyond that torch is faster.
TORCH_PAYS_FROM = 1e10


class Backend(Protocol):
    """A network that measures tokens: `NumpyNetwork` or `Network`, which give the same numbers.

    Shapes: B sequences of T tokens, H features of the hidden state, S features of the encoder's
    output (H for each direction of each network), V token ids. States are the backend's own.
    """

    config: ModelConfig

    def initial_state(self, batch: int) -> Any:
        """The zero state of one direction, for `batch` sequences."""
        ...

    def read(self, ids: Ids, state: Any, reverse: bool = False) -> tuple[Floats, Any]:
        """The top layer's output after each of the ids (B, T), (B, T, H), and the state after.

        Of several networks, the outputs stand side by side.

        reverse:  run the layers that read from the end; the ids come in that order
        """
        ...

    def logits(self, y: Floats) -> Floats:
        """The logits (…, V−1) after y (…, S). Column k belongs to id k + 1.

        The logits of a split softmax are log-probabilities.
        """
        ...

    def logprobs(self, y: Floats, targets: Ids) -> Floats:
        """log p(targets[b, t]) in nats, (B, T), after y (B, T, S)."""
        ...


class Twins(NamedTuple):
    """The two classes of a network, or functions that make them.

    numpy:         makes it in NumPy, of its shape and its weights
    module, name:  of the class in torch, which is imported when it is needed
    """

    numpy: Callable[[Any, Mapping[str, Floats]], Any]
    module: str
    name: str

    def torch(self, *arguments: Any, **keywords: Any) -> Any:
        """Make the network in torch, of its shape and the other arguments of its class."""
        return getattr(import_module(self.module), self.name)(*arguments, **keywords)


OF_TOKENS = Twins(numpy_network, "charlm.model.several", "network")


class Backends:
    """The backends of one model, each made when it is first used.

    config, weights:  the network, as the model file holds it
    backend:          "numpy", "torch" or a `Backend` to use for all work; "auto" starts with NumPy
                      and changes to torch once the work so far would have paid for loading it
    device:           where torch computes: "cpu", "cuda" or "mps"; "auto" for the best there is
    threads:          of torch on the CPU; None for torch's own choice
    twins:            the classes of the network
    precision:        of what torch reads: "fp32", "bf16", or "auto" for the faster one

    Raises OptionError for an unknown name, for a device that this machine does not have, and for
    more threads than it has cores.
    """

    def __init__(
        self,
        config: StackConfig,
        weights: Mapping[str, Floats],
        backend: str | Backend = "auto",
        device: str = "auto",
        threads: int | None = None,
        twins: Twins = OF_TOKENS,
        precision: str = "fp32",
    ) -> None:
        if isinstance(backend, str):
            BACKENDS.check("backend", backend)
        DEVICES.check("device", device)
        PRECISIONS.check("precision", precision)
        check_threads(threads)
        self.config, self.backend, self.device = config, backend, device
        self.threads, self._twins, self.precision = threads, twins, precision
        self._weights = weights
        self._flop = 0.0  # of all work so far
        self._flop_per_token = 2 * config.multiplied_weights()

    def for_tokens(self, tokens: int) -> Any:
        """The backend for the next `tokens` tokens, whose work this counts.

        Called before every batch.
        """
        self._flop += self._flop_per_token * tokens
        if not isinstance(self.backend, str):
            return self.backend
        if self.backend == "torch" or self.device in ("cuda", "mps"):
            return self.torch
        if self.backend == "numpy" or self._flop < TORCH_PAYS_FROM:
            return self.numpy
        return self.torch

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without the networks, which are made again."""
        return {name: v for name, v in vars(self).items() if name not in ("numpy", "torch")}

    @cached_property
    def numpy(self) -> Any:
        """The network in NumPy."""
        return self._twins.numpy(self.config, self._weights)

    @cached_property
    def torch(self) -> Any:
        """The network in torch, which this imports."""
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        survive_forks()
        network = self._twins.torch(self.config).load_weights(self._weights)
        network = network.to(choose_device(self.device))
        if self.precision != "fp32":
            network.set_precision(self.precision)
        return network
