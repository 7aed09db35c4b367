"""The networks that are timed. Random weights are as fast as trained ones."""

from __future__ import annotations

from pathlib import Path

import charlm
from benchmarks.project import SENTENCES
from charlm import LanguageModel
from charlm.model.config import ModelConfig
from charlm.model.file import Card, ModelFile
from charlm.model.network import Network
from charlm.model.numpy_network import NumpyNetwork
from charlm.tokenizer import train_tokenizer

VOCAB, EMBEDDING = 66, 128


def character_network(layers: int, hidden: int, cell: str = "lstm") -> ModelConfig:
    """The shape of a network of characters."""
    return ModelConfig(VOCAB, cell, layers, hidden, EMBEDDING)


def random_numpy_network(config: ModelConfig) -> NumpyNetwork:
    """A network with random weights, in NumPy."""
    return NumpyNetwork(config, Network(config).weights())


def random_model(folder: str, hidden: int) -> LanguageModel:
    """A model of characters with one layer and random weights, and its file in a folder."""
    text = SENTENCES.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("char", lambda: [text])
    config = ModelConfig(tokenizer.size, "lstm", 1, hidden, EMBEDDING)
    card = Card(
        corpus="random",
        corpus_sha256="",
        lines=False,
        unit="line",
        train_tokens=0,
        valid_tokens=0,
        valid_nats=0.0,
        valid_carried=None,
        valid_lines=None,
        valid_bits_per_char=0.0,
        valid_is_held_out=False,
        trained="not trained",
        seconds=0.0,
        charlm_version="",
    )
    path = Path(folder) / f"{hidden}.safetensors"
    ModelFile(config, Network(config).weights(), tokenizer, card).save(path)
    return charlm.load(path, kind=LanguageModel)
