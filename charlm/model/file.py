"""The model file: everything that scoring and sampling need, in one file without pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from charlm.errors import CharlmError, ModelError
from charlm.files import replacing
from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.model.lexicon import Lexicon, strip_prefix
from charlm.model.mixture import Mixture
from charlm.model.ngram import Ngram
from charlm.model.ngram_tables import NgramTables
from charlm.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 3
MODEL_FILE = "model.safetensors"
_TOKENIZER, _NGRAM, _LEXICON = "tokenizer.", "ngram.", "lexicon."


@dataclass(frozen=True)
class Card:
    """Where a model comes from, and how good it is.

    corpus, corpus_sha256:  name of the corpus, and the hash of its text
    lines:            its lines are independent of each other; otherwise it is one document
    unit:             "line" or "paragraph"
    train_tokens:     tokens of the training part
    valid_tokens:     tokens of the validation part that were measured
    valid_nats:       validation loss, nats per token: with the state carried from line to line, or
                      with each line from the zero state where lines are independent
    valid_network, valid_ngram:  the same of the network alone, and of the n-gram model alone. None
                      without an n-gram model; None, too, while training is unfinished: valid_nats
                      is then of the network alone
    valid_carried, valid_lines:  the loss measured in these two ways on the same first part of the
                      validation text, of `valid_both_tokens`; None if unknown
    valid_bits_per_char:  the same as valid_nats, in bits per character
    valid_is_held_out:    False if the corpus was too small to hold a part out
    trained:          the recipe, in one line
    seconds:          time that training took
    charlm_version:   version of the program
    longest_line:     characters of the longest line of the corpus; None if unknown
    """

    corpus: str
    corpus_sha256: str
    lines: bool
    unit: str
    train_tokens: int
    valid_tokens: int
    valid_nats: float
    valid_carried: float | None
    valid_lines: float | None
    valid_bits_per_char: float
    valid_is_held_out: bool
    trained: str
    seconds: float
    charlm_version: str
    valid_both_tokens: int | None = None
    longest_line: int | None = None
    valid_network: float | None = None
    valid_ngram: float | None = None


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file.

    config:     the network's shape
    weights:    under the names of `ModelConfig.shapes`, float32
    tokenizer:  text to ids and back
    card:       where the model comes from
    task:       what it was trained for, a name in `charlm.tasks.TASKS`
    mixture:    the n-gram model that the network is combined with; None for the network alone
    lexicon:    the words of the training text; None if unknown
    """

    config: ModelConfig
    weights: Mapping[str, NDArray[np.float32]]
    tokenizer: Tokenizer
    card: Card
    task: str = "lm"
    mixture: Mixture | None = None
    lexicon: Lexicon | None = None

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        settings, arrays = self.tokenizer.state()
        header = {
            "format": FORMAT,
            "task": self.task,
            "model": dataclasses.asdict(self.config),
            "tokenizer": settings,
            "card": dataclasses.asdict(self.card),
        }
        tensors = dict(self.weights) | {_TOKENIZER + name: a for name, a in arrays.items()}
        if self.mixture:
            header["ngram"] = {"mixture": self.mixture.combination.weights.tolist()}
            tensors |= {
                _NGRAM + name: a for name, a in self.mixture.ngram.tables.to_arrays().items()
            }
        if self.lexicon:
            header["lexicon"], arrays = self.lexicon.state()
            tensors |= {_LEXICON + name: a for name, a in arrays.items()}
        with replacing(path) as beside:
            save_file(tensors, beside, {"charlm": json.dumps(header, ensure_ascii=False)})

    @classmethod
    def load(cls, path: Path) -> ModelFile:
        """Read a file of this format or an earlier one.

        Raises ModelError for a file that is missing, damaged, foreign or too new.
        """
        header, tensors = _upgraded(path, *_read(path))
        cell = header.get("model", {}).get("cell")
        if cell is not None and cell not in CELLS:
            raise ModelError(
                f"{path}: its cell, {cell}, is not one of charlm's; enter it in "
                "charlm.model.equations.CELLS before you load the model"
            )
        try:
            config = ModelConfig(**known_fields(ModelConfig, header["model"]))
            tokenizer = load_tokenizer(header["tokenizer"], strip_prefix(_TOKENIZER, tensors))
            weights = {name: tensors[name] for name in config.shapes()}
            card, task = Card(**known_fields(Card, header["card"])), str(header["task"])
            mixture = lexicon = None
            if "ngram" in header:
                tables = NgramTables.from_arrays(strip_prefix(_NGRAM, tensors), config.vocab)
                ngram = Ngram(tables, config.vocab)
                mixture = Mixture(ngram, np.array(header["ngram"]["mixture"], np.float64))
            if "lexicon" in header:
                of_lexicon = strip_prefix(_LEXICON, tensors)
                lexicon = Lexicon.from_state(header["lexicon"], of_lexicon)
        except (KeyError, TypeError, ValueError, CharlmError) as error:
            raise _damaged(path, str(error)) from None
        for name, shape in config.shapes().items():
            if weights[name].shape != shape or tokenizer.size != config.vocab:
                raise _damaged(path, name)
            if not np.isfinite(weights[name]).all():
                raise _damaged(path, f"{name} holds values that are not numbers")
        return cls(config, weights, tokenizer, card, task, mixture, lexicon)


def known_fields(kind: type[DataclassInstance], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass: later versions may write more."""
    return {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: the model file is damaged ({what}); copy or train it again")


# Names of format 1 that have changed.
_RENAMED = {"spelling.": "characters.", "spelled": "char_features"}


def _upgraded(
    path: Path, header: dict[str, Any], tensors: dict[str, NDArray[Any]]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The content of a file of any format, as this format has it."""
    version = header.get("format")
    if version in (2, FORMAT):
        return header, tensors
    if version != 1:
        raise ModelError(
            f"{path}: a model of format {version}, and this charlm reads formats up to {FORMAT}; "
            "upgrade charlm, or train the model again"
        )
    model = {**header.get("model", {})}
    if "spelled" in model:
        model["char_features"] = model.pop("spelled")
    for old, new in _RENAMED.items():
        tensors = {
            new + name.removeprefix(old) if name.startswith(old) else name: tensor
            for name, tensor in tensors.items()
        }
    task = "fill" if model.get("bidirectional") else "lm"
    return {**header, "model": model, "task": task}, tensors


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
