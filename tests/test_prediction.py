"""The contract of predictors: a state is a list of tuples of arrays with the batch first."""

from __future__ import annotations

import numpy as np
import pytest

from charlm import LanguageModel
from charlm.model.cache import Cache
from charlm.model.dynamic_evaluation import DynamicEvaluation
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import NetworkPredictor, Predictor, Reader, take, zero
from charlm.tokenizer import EOS, START

IDS = np.array([[START, 3, 4, 5], [START, 6, 3, 3], [START, 5, 5, 4]])


@pytest.fixture(params=["mixture", "numpy", "torch", "cache", "adapt"])
def predictor(request: pytest.FixtureRequest, model: LanguageModel) -> Predictor:
    predictors: dict[str, Predictor] = {
        "mixture": model.predictors.numpy,
        "numpy": NetworkPredictor(model.backends.numpy),
        "torch": NetworkPredictor(model.backends.torch),
        "cache": Cache(model.predictors.numpy, 3, 1.0, 0.1),
        "adapt": model.predictors.with_network(DynamicEvaluation(model.backends.torch, 1e-3)),
    }
    return predictors[request.param]


def test_every_array_of_a_state_has_the_batch_first(predictor: Predictor) -> None:
    batch = 1 if predictor.one_text else 3
    state = predictor.initial_state(batch)
    for _ in range(3):
        assert isinstance(state, list) and all(isinstance(layer, tuple) for layer in state)
        assert {len(s) for layer in state for s in layer} == {batch}
        _, state = predictor.read(IDS[:batch], state)


@pytest.mark.parametrize("rows", [[1], [2, 0], [1, 1, 0, 2]])
def test_rows_of_a_state_go_on_as_their_sequences_do(model: LanguageModel, rows: list[int]) -> None:
    for predictor in (model.predictors.numpy, NetworkPredictor(model.backends.torch)):
        _, state = predictor.read(IDS, predictor.initial_state(3))
        whole, _ = predictor.read(IDS[:, 1:], state)
        some, _ = predictor.read(IDS[rows, 1:], take(state, rows))
        np.testing.assert_allclose(some.logits(), whole.logits()[rows], atol=1e-5)


def test_rows_that_are_zero_begin_again(model: LanguageModel) -> None:
    predictor = model.predictors.numpy
    _, state = predictor.read(IDS, predictor.initial_state(3))
    state = zero(state, np.array([False, True, False]))
    for layer, initial in zip(state, predictor.initial_state(3), strict=True):
        for s, s0 in zip(layer, initial, strict=True):
            np.testing.assert_array_equal(s[1], s0[1])
            assert s[0].any() and s[2].any()


@pytest.mark.parametrize("independent_lines", [False, True])
def test_a_reader_reads_rows_side_by_side(model: LanguageModel, independent_lines: bool) -> None:
    predictor = model.predictors.numpy
    reader = Reader(predictor, np.array([START, 3]), independent_lines=independent_lines)
    texts = [[START, 3]]
    for rows, ids in (([0, 0], [4, 5]), ([0, 1], [EOS, 3]), ([1, 0, 1], [6, 4, EOS])):
        reader.extend(rows, ids)
        inputs = [START if id == EOS else id for id in ids]
        texts = [[*texts[row], id] for row, id in zip(rows, inputs, strict=True)]
        for text, logits, logprobs in zip(texts, reader.logits(), reader.logprobs(), strict=True):
            line = len(text) - 1 - text[::-1].index(START) if independent_lines else 0
            prediction, _ = predictor.read(np.array([text[line:]]), predictor.initial_state(1))
            expected = log_softmax(prediction.logits()[0, -1])
            np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-5)
            assert logprobs[START] == -np.inf
            assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-5)
