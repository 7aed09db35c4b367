"""The model file: everything that scoring and sampling need, in one file without pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from charlm.errors import CharlmError, ModelError
from charlm.files import replacing
from charlm.model.config import StackConfig
from charlm.model.equations import CELLS
from charlm.model.names import add_prefix, strip_prefix

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 5
MODEL_FILE = "model.safetensors"
FIGURE = "valid_"  # how the names of figures begin
PARTS = "parts"  # before the names of the arrays of parts

C = TypeVar("C", bound=StackConfig)
P = TypeVar("P")
V = TypeVar("V", bound="Sized")
Settings: TypeAlias = Mapping[str, Any]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
State: TypeAlias = tuple[Settings, Arrays]


class Storable(Protocol):
    """A part of a model file beside the network: a vocabulary, an n-gram model, a lexicon.

    It is restored by its own class, from what `state` returns.
    """

    def state(self) -> State:
        """Small settings, which JSON can hold, and arrays."""


class Sized(Protocol):
    """A vocabulary of `size` ids."""

    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class Card:
    """Where a model comes from, and how good it is.

    corpus, corpus_sha256:  name of the corpus, and the hash of its text
    train_tokens:     tokens of the training part
    valid_tokens:     predicted tokens, or labels, of the validation part that were measured
    valid_nats:       validation loss, nats for each of them
    valid_is_held_out:    False if the corpus was too small to hold a part out
    trained:          the recipe, in one line
    seconds:          time that training took
    charlm_version:   version of the program
    lines:            its lines are independent of each other; otherwise it is one document
    unit:             "line" or "paragraph"
    longest_line:     characters of the longest line of the corpus; None if unknown
    started_from:     the same of the model that the training started from; None if from nothing
    figures:          further ones that the task has measured, by name, see its `Validation`. They
                      are attributes, too: `card.valid_bits_per_char`; None where it is unknown
    """

    corpus: str
    corpus_sha256: str
    train_tokens: int
    valid_tokens: int
    valid_nats: float
    valid_is_held_out: bool
    trained: str
    seconds: float
    charlm_version: str
    lines: bool = True
    unit: str = "line"
    longest_line: int | None = None
    started_from: Mapping[str, Any] | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)

    def __getattr__(self, name: str) -> float | None:
        if not name.startswith(FIGURE):
            raise AttributeError(name)
        return self.figures.get(name)

    def to_json(self) -> dict[str, Any]:
        """The values, with each figure under its own name."""
        values = dataclasses.asdict(self)
        figures = values.pop("figures")
        if self.started_from is None:
            del values["started_from"]
        return values | figures

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        """The card with these values of `to_json`. What is no field is a figure."""
        known = known_fields(cls, values)
        figures = {n: v for n, v in values.items() if n not in known and n.startswith(FIGURE)}
        return cls(**known, figures=figures)


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file.

    task:     what the network was trained for, a name in `charlm.tasks.TASKS`
    config:   its shape: the fields of the task's configuration
    weights:  under the names of `StackConfig.shapes`, float32
    parts:    the state of each `Storable`, by name; a vocabulary has the name of its field
    card:     where the model comes from
    path:     of the file that was read
    """

    task: str
    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[np.float32]]
    parts: Mapping[str, State]
    card: Card
    path: Path | None = None

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        header = {
            "format": FORMAT,
            "task": self.task,
            "model": self.config,
            "parts": {name: settings for name, (settings, _) in self.parts.items()},
            "card": self.card.to_json(),
        }
        tensors = dict(self.weights)
        for part, (_, arrays) in self.parts.items():
            tensors |= add_prefix(f"{PARTS}.{part}", arrays)
        with replacing(path) as beside:
            save_file(tensors, beside, {"charlm": json.dumps(header, ensure_ascii=False)})

    @classmethod
    def load(cls, path: Path) -> ModelFile:
        """Read a file of this format or an earlier one.

        Raises ModelError for a file that is missing, damaged, foreign or too new.
        """
        header, tensors = _upgraded(path, *_read(path))
        try:
            parts = {
                name: (settings, strip_prefix(f"{PARTS}.{name}", tensors))
                for name, settings in header["parts"].items()
            }
            weights = {n: t for n, t in tensors.items() if not n.startswith(f"{PARTS}.")}
            card = Card.from_json(header["card"])
            return cls(str(header["task"]), dict(header["model"]), weights, parts, card, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, str(error)) from None

    def network(self, kind: type[C]) -> tuple[C, dict[str, NDArray[np.float32]]]:
        """The configuration of the network, of this class, and its weights.

        Raises ModelError for a damaged file, and for a cell that this charlm does not have.
        """
        cell = self.config.get("cell")
        if cell is not None and cell not in CELLS:
            raise ModelError(
                f"{self.path}: its cell, {cell}, is not one of charlm's; enter it in "
                "charlm.model.equations.CELLS before you load the model"
            )
        try:
            config = kind(**known_fields(kind, self.config))
            weights = {name: self.weights[name] for name in config.shapes()}
        except (KeyError, TypeError, ValueError, CharlmError) as error:
            raise _damaged(self.path, str(error)) from None
        for name, shape in config.shapes().items():
            if weights[name].shape != shape:
                raise _damaged(self.path, name)
            if not np.isfinite(weights[name]).all():
                raise _damaged(self.path, f"{name} holds values that are not numbers")
        return config, weights

    def part(self, name: str, restore: Callable[[Settings, Arrays], P]) -> P | None:
        """A part, restored by a function of its settings and arrays; None without such a part.

        Raises ModelError for a damaged file.
        """
        if name not in self.parts:
            return None
        try:
            return restore(*self.parts[name])
        except (KeyError, TypeError, ValueError, CharlmError) as error:
            raise _damaged(self.path, f"{name}: {error}") from None

    def vocabulary(self, field: str, restore: Callable[[Settings, Arrays], V], size: int) -> V:
        """The vocabulary of a field. Raises ModelError if there is none of this size."""
        vocabulary = self.part(field, restore)
        if vocabulary is None or vocabulary.size != size:
            raise _damaged(self.path, f"{field}: not a vocabulary of {size:,}")
        return vocabulary


def known_fields(kind: type[DataclassInstance], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass: later versions may write more."""
    return {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}


def _damaged(path: Path | None, what: str) -> ModelError:
    return ModelError(f"{path}: the model file is damaged ({what}); copy or train it again")


# Names of format 1 that have changed.
_RENAMED = {"spelling.": "characters.", "spelled": "char_features"}
# Parts of formats 1 to 3, whose settings were in the header itself: the old name and the new one.
_PARTS_OF_3 = {"tokenizer": "text", "ngram": "ngram", "lexicon": "lexicon"}


def _upgraded(
    path: Path, header: dict[str, Any], tensors: dict[str, NDArray[Any]]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The content of a file of any format, as this format has it."""
    version = header.get("format")
    if version in (4, FORMAT):  # a file of format 4 has no contexts beside n-grams
        return header, tensors
    if version not in range(1, FORMAT):
        raise ModelError(
            f"{path}: a model of format {version}, and this charlm reads formats up to {FORMAT}; "
            "upgrade charlm, or train the model again"
        )
    model = {**header.get("model", {})}
    renamed = {f"{old}.": f"{PARTS}.{new}." for old, new in _PARTS_OF_3.items()}
    if version == 1:
        if "spelled" in model:
            model["char_features"] = model.pop("spelled")
        renamed |= _RENAMED
        header["task"] = "fill" if model.get("bidirectional") else "lm"
    for old, new in renamed.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: tensor
            for name, tensor in tensors.items()
        }
    parts = {new: header[old] for old, new in _PARTS_OF_3.items() if old in header}
    if "ngram" in parts:
        parts["ngram"] = {**parts["ngram"], "vocab": model.get("vocab")}
    return {**header, "model": model, "parts": parts}, tensors


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "charlm" not in metadata:
                raise ModelError(f"{path}: not a charlm model; name a {MODEL_FILE} of charlm")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return json.loads(metadata["charlm"]), tensors
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model; train one with `charlm train CORPUS`") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: not a charlm model, or a damaged one ({error}); name a {MODEL_FILE} of "
            "charlm, or its folder"
        ) from None
