"""The keywords of the Python functions, one typed dictionary for each options class.

Written by docs/generate.py from the options; do not edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class TrainKeywords(TypedDict, total=False):
    """See `charlm.training.options.TrainOptions`."""

    text_column: str | None
    label_column: str | None
    minutes: float | None
    epochs: float | None
    steps: int | None
    level: str
    target: str | Path | None
    source_level: str | None
    target_level: str | None
    lines: bool
    unit: str
    vocab_size: int | None
    split: str
    normalize: str
    encoding: str
    valid: str | Path | None
    valid_target: str | Path | None
    valid_fraction: float
    networks: int | None
    cell: str
    layers: int | None
    hidden: int | None
    embedding: int | None
    activation: str | None
    forget_gate: bool
    forget_bias: float
    peepholes: str | None
    reset: str | None
    layer_norm: bool
    residual: bool | None
    directions: int
    readout: str | None
    feedforward: int | None
    highway: int | None
    characters: str | None
    crf: bool
    attention: bool
    monotonic: bool
    embeddings: str | Path | None
    freeze_embeddings: bool
    from_: str | None
    freeze: bool
    ngram: int | str | None
    lr: float | None
    batch: int | None
    bptt: int | None
    weight_decay: float | None
    dropout: float | None
    input_dropout: float | None
    state_dropout: float
    weight_dropout: float | None
    token_dropout: float | None
    dropout_per_step: bool
    seed: int
    device: str
    precision: str
    threads: int | None


class ScoreKeywords(TypedDict, total=False):
    """See `charlm.engines.scoring.ScoreOptions`."""

    cache: int | None
    cache_flatness: float | None
    cache_weight: float | None
    adapt: bool
    adapt_rate: float | None
    unknown: str | None
    unseen: int | None
    context: str
    eos: bool
    document: bool


class SentenceKeywords(TypedDict, total=False):
    """See `charlm.engines.scoring.SentenceOptions`."""

    unknown: str | None
    unseen: int | None
    context: str
    eos: bool


class EvaluateKeywords(TypedDict, total=False):
    """See `charlm.engines.evaluation.EvaluateOptions`."""

    cache: int | None
    cache_flatness: float | None
    cache_weight: float | None
    adapt: bool
    adapt_rate: float | None
    unknown: str | None
    unseen: int | None
    reset_lines: bool | None
    shard: str | None


class SampleKeywords(TypedDict, total=False):
    """See `charlm.engines.sampling.SampleOptions`."""

    length: int | None
    min_length: int
    max_lines: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    beam: int | None
    seed: int | None
    stop: str | Sequence[str] | None


class FillKeywords(TypedDict, total=False):
    """See `charlm.engines.filling.FillOptions`."""

    k: int
    blank: str
