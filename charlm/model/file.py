"""One file that holds all that is needed to score and sample: weights, vocabulary, card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from charlm.errors import CharlmError, ModelError
from charlm.files import replacing
from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.tokenizer import Tokenizer, load_tokenizer

FORMAT = 1
MODEL_FILE = "model.safetensors"
_TOKENIZER = "tokenizer."


@dataclass(frozen=True)
class Card:
    """Where a model comes from and how good it is.

    corpus, corpus_sha256:  name of the corpus, and the hash of its text
    lines:            its lines are independent of each other; else it is one document
    unit:             "line" or "paragraph"
    train_tokens:     of the training part
    valid_tokens:     of the validation part, as many as were measured
    valid_nats:       validation loss, nats per token: the state carried from line to line, or each
                      line from the zero state where they are independent
    valid_carried, valid_lines:  the one and the other, of the same first part of the text; None
                      if unknown
    valid_bits_per_char:  of valid_nats
    valid_is_held_out:    false if the corpus was too small to hold a part out
    trained:          how, in one line
    seconds:          what it took
    charlm_version:   of the program that trained it
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


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: weights under the names of `ModelConfig.shapes`, float32."""

    config: ModelConfig
    weights: Mapping[str, NDArray[np.float32]]
    tokenizer: Tokenizer
    card: Card

    def save(self, path: Path) -> None:
        settings, arrays = self.tokenizer.state()
        about = {
            "format": FORMAT,
            "model": dataclasses.asdict(self.config),
            "tokenizer": settings,
            "card": dataclasses.asdict(self.card),
        }
        tensors = dict(self.weights) | {_TOKENIZER + name: a for name, a in arrays.items()}
        with replacing(path) as beside:
            save_file(tensors, beside, {"charlm": json.dumps(about, ensure_ascii=False)})

    @classmethod
    def load(cls, path: Path) -> ModelFile:
        """Raises ModelError for a file that is missing, damaged, foreign or too new."""
        about, tensors = _read(path)
        if about.get("format") != FORMAT:
            raise ModelError(
                f"{path}: a model of format {about.get('format')}, and this charlm reads format "
                f"{FORMAT}; upgrade charlm, or train the model anew"
            )
        cell = about.get("model", {}).get("cell")
        if cell is not None and cell not in CELLS:
            raise ModelError(
                f"{path}: its cell, {cell}, is none of charlm's; enter it in "
                "charlm.model.equations.CELLS before the model is loaded"
            )
        try:
            config = ModelConfig(**about["model"])
            arrays = {
                n.removeprefix(_TOKENIZER): a
                for n, a in tensors.items()
                if n.startswith(_TOKENIZER)
            }
            tokenizer = load_tokenizer(about["tokenizer"], arrays)
            weights = {name: tensors[name] for name in config.shapes()}
            card = Card(**about["card"])
        except (KeyError, TypeError, CharlmError) as error:
            raise ModelError(
                f"{path}: the model file is damaged ({error}); copy or train it again"
            ) from None
        for name, shape in config.shapes().items():
            if weights[name].shape != shape or tokenizer.size != config.vocab:
                raise ModelError(
                    f"{path}: the model file is damaged ({name}); copy or train it again"
                )
        return cls(config, weights, tokenizer, card)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "charlm" not in metadata:
                raise ModelError(
                    f"{path}: not a charlm model; name a {MODEL_FILE} that charlm wrote"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return json.loads(metadata["charlm"]), tensors
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model; train one with `charlm train CORPUS`") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: not a charlm model, or a damaged one ({error}); name a {MODEL_FILE} that "
            "charlm wrote, or its folder"
        ) from None
