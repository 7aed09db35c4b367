"""The saved state of a run, to resume it exactly: one file, without pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from charlm.corpus.batches import Cursor
from charlm.errors import ModelError
from charlm.files import replacing
from charlm.model.names import add_prefix, strip_prefix
from charlm.tokenizer import Vocabularies, load_vocabulary
from charlm.training.loop import LoopState, Tensors

VERSION = 3
SCALARS = ("step", "seconds", "start_up", "best_loss", "train_loss")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run: the vocabularies of its fields, and the state of its loop.

    What the run does is in its plan, see `charlm.training.plan`.
    """

    vocabularies: Vocabularies
    state: LoopState

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        state, vocabularies = self.state, {n: v.state() for n, v in self.vocabularies.items()}
        header = {
            "version": VERSION,
            "vocabularies": {name: settings for name, (settings, _) in vocabularies.items()},
            "cursor": dataclasses.asdict(state.cursor),
            "scalars": {name: getattr(state, name) for name in SCALARS},
        }
        carried = {
            f"{k}.{j}": s for k, layer in enumerate(state.carried) for j, s in enumerate(layer)
        }
        groups: dict[str, Mapping[str, Tensor]] = {
            "weights": state.weights,
            "average": state.average,
            "best": state.best,
            "carried": carried,
            "random": {"generator": state.generator},
            "frozen": state.frozen,
        }
        groups |= {f"moments.{kind}": tensors for kind, tensors in state.moments.items()}
        for field, (_, arrays) in vocabularies.items():
            of_field = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
            groups[f"vocabularies.{field}"] = of_field
        tensors = {
            name: tensor.contiguous()
            for prefix, group in groups.items()
            for name, tensor in add_prefix(prefix, group).items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            save_file(tensors, beside, {"charlm": json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises ModelError for a file that is missing, damaged, or of another version.
        """
        header, tensors = _read(path)
        try:
            moments = strip_prefix("moments", tensors)
            state = LoopState(
                cursor=Cursor(**header["cursor"]),
                weights=strip_prefix("weights", tensors),
                average=strip_prefix("average", tensors),
                best=strip_prefix("best", tensors),
                moments={kind: strip_prefix(kind, moments) for kind in _heads(moments)},
                carried=_layers(strip_prefix("carried", tensors)),
                generator=tensors["random.generator"],
                frozen=strip_prefix("frozen", tensors),
                **header["scalars"],
            )
            vocabularies = {
                field: load_vocabulary(
                    settings, _arrays(strip_prefix(f"vocabularies.{field}", tensors))
                )
                for field, settings in header["vocabularies"].items()
            }
            return cls(vocabularies, state)
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from None


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """The header of a checkpoint, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["charlm"])
            content = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent.parent}: no run to resume in this folder; name another or train anew"
        ) from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise _damaged(path, error) from None
    if header.get("version") != VERSION:
        raise ModelError(
            f"{path}: the checkpoint is of another version of charlm; resume it with that version, "
            "or train anew"
        )
    return header, content


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: the checkpoint cannot be read ({error}); train anew")


def _arrays(tensors: Tensors) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _heads(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names before the first dot, each once, in order."""
    return list(dict.fromkeys(name.split(".")[0] for name in tensors))


def _layers(states: Mapping[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """The state by layer, from tensors named "layer.vector"."""
    layers = sorted({int(name.split(".")[0]) for name in states})
    parts = [strip_prefix(str(k), states) for k in layers]
    return [tuple(part[str(j)] for j in range(len(part))) for part in parts]
