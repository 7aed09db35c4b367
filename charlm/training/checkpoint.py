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
from charlm.tokenizer import Tokenizer, load_tokenizer
from charlm.training.data import CorpusInfo
from charlm.training.options import TrainOptions
from charlm.training.recipe import Recipe
from charlm.training.trainer import Tensors, TrainerState

VERSION = 2
SCALARS = ("step", "seconds", "start_up", "best_loss", "train_loss")


@dataclass(frozen=True)
class RunInfo:
    """What a run is. It is read without the tensors of a checkpoint, which takes no time.

    finished:  the budget is used
    options:   as the user gave them
    recipe:    as it was chosen
    corpus:    what the run was trained on
    """

    finished: bool
    options: TrainOptions
    recipe: Recipe
    corpus: CorpusInfo

    @classmethod
    def load(cls, path: Path) -> RunInfo:
        """Read the information from a checkpoint; see `Checkpoint.load` for errors."""
        return cls._from_json(_read(path, tensors=False)[0]["run"])

    def to_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {
            "finished": self.finished,
            "options": dataclasses.asdict(self.options),
            "recipe": self.recipe.to_json(),
            "corpus": dataclasses.asdict(self.corpus),
        }

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> RunInfo:
        return cls(
            values["finished"],
            TrainOptions(**values["options"]),
            Recipe.from_json(values["recipe"]),
            CorpusInfo(**values["corpus"]),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A run and the state of its trainer."""

    run: RunInfo
    tokenizer: Tokenizer
    trainer: TrainerState

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        settings, arrays = self.tokenizer.state()
        state = self.trainer
        header = {
            "version": VERSION,
            "run": self.run.to_json(),
            "tokenizer": settings,
            "cursor": dataclasses.asdict(state.cursor),
            "trainer": {name: getattr(state, name) for name in SCALARS},
        }
        carried = {
            f"{k}.{j}": s for k, layer in enumerate(state.carried) for j, s in enumerate(layer)
        }
        groups: dict[str, Mapping[str, Tensor]] = {
            "tokenizer": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            "weights": state.weights,
            "average": state.average,
            "best": state.best,
            "carried": carried,
            "random": {"generator": state.generator},
            "embedding": {"frozen": state.frozen},
        }
        groups |= {f"moments.{kind}": tensors for kind, tensors in state.moments.items()}
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
            arrays = {n: t.numpy() for n, t in strip_prefix("tokenizer", tensors).items()}
            moments = strip_prefix("moments", tensors)
            state = TrainerState(
                cursor=Cursor(**header["cursor"]),
                weights=strip_prefix("weights", tensors),
                average=strip_prefix("average", tensors),
                best=strip_prefix("best", tensors),
                moments={kind: strip_prefix(kind, moments) for kind in _heads(moments)},
                carried=_layers(strip_prefix("carried", tensors)),
                generator=tensors["random.generator"],
                frozen=tensors["embedding.frozen"],
                **header["trainer"],
            )
            tokenizer = load_tokenizer(header["tokenizer"], arrays)
            return cls(RunInfo._from_json(header["run"]), tokenizer, state)
        except (KeyError, TypeError) as error:
            raise _damaged(path, error) from None


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Any], Tensors]:
    """The header of a checkpoint and, if wanted, its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["charlm"])
            names = file.keys() if tensors else []
            content = {name: file.get_tensor(name) for name in names}
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


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors with a prefix and a dot before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors whose names start with `prefix` and a dot, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _heads(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names before the first dot, each once, in order."""
    return list(dict.fromkeys(name.split(".")[0] for name in tensors))


def _layers(states: Mapping[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """The state by layer, from tensors named "layer.vector"."""
    layers = sorted({int(name.split(".")[0]) for name in states})
    parts = [strip_prefix(str(k), states) for k in layers]
    return [tuple(part[str(j)] for j in range(len(part))) for part in parts]
