"""The networks that are timed. Random weights are as fast as trained ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import charlm
from benchmarks.project import SENTENCES
from charlm import LanguageModel
from charlm.corpus.examples import TEXT
from charlm.model.config import ModelConfig
from charlm.model.file import Card, ModelFile
from charlm.model.network import Network
from charlm.model.numpy_network import NumpyNetwork
from charlm.tokenizer import train_tokenizer

VOCAB, EMBEDDING = 66, 128


def character_network(layers: int, hidden: int, cell: str = "lstm") -> ModelConfig:
    """The shape of a network of characters."""
    return ModelConfig(VOCAB, cell=cell, layers=layers, hidden=hidden, embedding=EMBEDDING)


def random_numpy_network(config: ModelConfig) -> NumpyNetwork:
    """A network with random weights, in NumPy."""
    return NumpyNetwork(config, Network(config).weights())


def random_model(folder: str, hidden: int) -> LanguageModel:
    """A model of characters with one layer and random weights, and its file in a folder."""
    text = SENTENCES.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("char", lambda: [text])
    config = ModelConfig(tokenizer.size, cell="lstm", layers=1, hidden=hidden, embedding=EMBEDDING)
    card = Card("random", "", 0, 0, 0.0, False, "not trained", 0.0, "", lines=False)
    path = Path(folder) / f"{hidden}.safetensors"
    weights, parts = Network(config).weights(), {TEXT: tokenizer.state()}
    ModelFile("lm", dataclasses.asdict(config), weights, parts, card).save(path)
    return charlm.load(path, kind=LanguageModel)
