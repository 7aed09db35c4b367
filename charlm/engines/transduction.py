"""Transduction: from sources to what is predicted of their targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.buckets import by_length
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import TEXT, Examples
from charlm.engines.target_search import Found, best_targets
from charlm.model.backend import Floats, Ids
from charlm.model.joined_prediction import JoinedPredictor
from charlm.model.joint_ngram import JointNgram
from charlm.model.prediction import Prediction, Predictor
from charlm.model.source_prediction import SourcePredictor
from charlm.parts import WHOLE, Part
from charlm.tokenizer import EOS, START, as_inputs

TARGET = "target"  # a field
BEAM = 5
SOURCES_AT_ONCE = 1 << 11  # that are read together, and put into batches of similar length
TOKENS_AT_ONCE = 1 << 15  # of sources that are read side by side
Indices = NDArray[np.int64]


def predictor_of(
    network: Any, weights: Mapping[str, Floats], joint: JointNgram | None, sources: Sequence[Ids]
) -> Predictor:
    """What predicts the targets of these sources. network: either twin; weights: of it"""
    own = SourcePredictor(network, weights, sources)
    if joint is None:
        return own
    return JoinedPredictor(own, joint.lattice(sources, network.config.vocab), joint.powers)


def lines_of(file: TokenFile, which: Indices) -> list[Ids]:
    """The tokens of lines, without their ends."""
    starts, ends = file.bounds[which].tolist(), file.bounds[which + 1].tolist()
    return [file.ids[a : b - 1].astype(np.int64) for a, b in zip(starts, ends, strict=True)]


def forced(predictor: Predictor, targets: Sequence[Ids]) -> tuple[Prediction, Ids, Any]:
    """What is predicted before each token of targets, of all sources of a predictor.

    Returns the prediction (B, T), the tokens (B, T), and which of them there are, (B, T) bool.
    """
    lengths = np.array([len(target) + 1 for target in targets])
    ids = np.full((len(targets), int(lengths.max(initial=1))), EOS)
    for row, target in enumerate(targets):
        ids[row, : len(target)] = target
    inputs = np.concatenate([np.full((len(ids), 1), START), ids[:, :-1]], axis=1)
    prediction, _ = predictor.read(as_inputs(inputs), predictor.initial_state(len(ids)))
    return prediction, ids, np.arange(ids.shape[1]) < lengths[:, None]


def nats_of(predictor: Predictor, targets: Sequence[Ids]) -> float:
    """Σ −log p(target | source)."""
    prediction, ids, real = forced(predictor, targets)
    return -float(prediction.logprobs(ids)[real].sum(dtype=np.float64))


def batches_of(data: Examples, part: Part = WHOLE) -> Iterator[tuple[list[Ids], list[Ids]]]:
    """Sources and targets in batches, from short to long ones."""
    for which in by_length(np.maximum(data.lengths(TEXT), data.lengths(TARGET)), part):
        yield lines_of(data.fields[TEXT], which), lines_of(data.fields[TARGET], which)


def longest_target(source: Ids, longest: int) -> int:
    """The most tokens of the target of a source, so that every search ends.

    longest:  tokens of the longest target of the training
    """
    return 2 * longest + len(source)


def similar(
    sources: Sequence[Ids], targets: Sequence[Ids] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Numbers of sources, or of pairs, in batches of similar length."""
    lengths = [max(map(len, pair)) for pair in zip(sources, targets or sources, strict=True)]
    return by_length(np.array(lengths, np.int64), most=TOKENS_AT_ONCE)


def search(
    predictor: Predictor, sources: Sequence[Ids], longest: int, most: int = 1, width: int = BEAM
) -> list[list[Found]]:
    """The most probable targets of the sources of a predictor, up to `most`; see `best_targets`."""
    limits = np.array([longest_target(source, longest) for source in sources], np.int64)
    return best_targets(predictor, len(sources), max(width, most), limits, most)
