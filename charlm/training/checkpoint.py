"""Saving training whole and going on from it exactly: one file, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from charlm.errors import ModelError
from charlm.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """Where training stands: named tensors, and everything else as JSON."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
            save_file(tensors, beside, {"charlm": json.dumps(self.values)})

    @classmethod
    def load(cls, path: Path, *, values_only: bool = False) -> Checkpoint:
        """Read a checkpoint, or its values alone, which takes no time.

        Raises ModelError for a file that is missing or damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                names = [] if values_only else file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
                return cls(tensors, json.loads(file.metadata()["charlm"]))
        except FileNotFoundError:
            raise ModelError(
                f"{path.parent.parent}: no run to resume in this folder; name another or train anew"
            ) from None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise ModelError(
                f"{path}: the checkpoint cannot be read ({error}); train anew"
            ) from None


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix` and a dot, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `below`."""
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in tensors.items()}
