"""Dynamic evaluation: against an independent implementation, and its effect on a new text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlm import LanguageModel
from charlm.errors import ModelError, OptionError
from charlm.model.config import ModelConfig
from charlm.model.dynamic_evaluation import FLOOR, SMOOTHING, DynamicEvaluation
from charlm.model.likelihood import text_logprob
from charlm.model.network import Network
from charlm.model.prediction import NetworkPredictor
from charlm.tokenizer import EOS, START

IDS = np.array([3, 4, 5, 6, 7, 1] * 40)


def small_network(**fields: Any) -> Network:
    config = ModelConfig(9, **{"hidden": 12, "embedding": 8, **fields})
    return Network(config, generator=torch.Generator().manual_seed(0)).eval()


def reference_logprob(
    network: Network, ids: NDArray[np.integer], rate: float, decay: float, tokens: int
) -> float:
    """Dynamic evaluation with torch's own LSTM and loss."""
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in network.weights().items()}
    trained = {n: w.detach().clone() for n, w in weights.items()}
    means = dict.fromkeys(weights, torch.zeros(()))
    lstm = torch.nn.LSTM(8, 12)
    names = {"weight_ih_l0": "W", "weight_hh_l0": "U", "bias_ih_l0": "b"}
    inputs = torch.tensor([START, *np.where(ids == EOS, START, ids)[:-1]])
    total, state = 0.0, (torch.zeros(1, 1, 12), torch.zeros(1, 1, 12))
    for step, start in enumerate(range(0, len(ids), tokens), 1):
        chunk = slice(start, start + tokens)
        lstm_weights = {n: weights[f"layers.0.{w}"] for n, w in names.items()}
        lstm_weights["bias_hh_l0"] = torch.zeros(48)
        x = weights["embedding"][inputs[chunk]][:, None]
        y, (h, c) = torch.func.functional_call(lstm, lstm_weights, (x, state))
        state = h.detach(), c.detach()
        y = F.layer_norm(y[:, 0], (12,), weights["norm.gain"], weights["norm.bias"])
        logits = F.linear(y, weights["output.W"], weights["output.b"])
        loss = F.cross_entropy(logits, torch.tensor(ids[chunk]) - 1, reduction="sum")
        total -= loss.item()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for (name, w), g in zip(weights.items(), gradients, strict=True):
                weight = 1 / step if step < 1 / SMOOTHING else SMOOTHING
                means[name] = (1 - weight) * means[name] + weight * g**2
                w -= rate * g / (means[name] ** 0.5 + FLOOR)
                w += decay * (trained[name] - w)
    return total


def adapted_logprob(network: Network, tokens: int) -> float:
    dynamic = DynamicEvaluation(network, 0.01)
    dynamic.at_once = tokens
    return text_logprob(dynamic, IDS)


def plain_logprob(network: Network) -> float:
    return text_logprob(NetworkPredictor(network), IDS)


@pytest.mark.parametrize("tokens", [2, 7, 16])
def test_each_part_is_predicted_before_it_is_learnt(tokens: int) -> None:
    network = small_network()
    adapted = adapted_logprob(network, tokens)
    assert adapted == pytest.approx(reference_logprob(network, IDS, 0.01, 0.02, tokens), rel=1e-5)
    plain = plain_logprob(network)
    assert adapted > plain + 100
    assert plain_logprob(network) == plain  # the network itself does not change


@pytest.mark.parametrize(
    "shape", [{"tied": True, "embedding": 12}, {"cutoffs": (3,)}, {"layers": 2}]
)
def test_networks_of_other_shapes_learn_too(shape: dict[str, Any]) -> None:
    network = small_network(**shape)
    assert adapted_logprob(network, 16) > plain_logprob(network) + 50


def test_a_model_that_adapts_predicts_a_new_text_better(model: LanguageModel) -> None:
    text = "a zebra in a zoo\n" * 30
    plain, adapted = (model.evaluate(text, reset_lines=False, adapt=a) for a in (False, True))
    assert adapted.logprob > plain.logprob + 15
    assert adapted.tokens == plain.tokens
    assert model.evaluate(text, reset_lines=False).logprob == plain.logprob


def test_invalid_options_and_networks_are_refused(model: LanguageModel) -> None:
    for rate in (0.0, -1.0, 1.0):
        with pytest.raises(OptionError, match="`adapt_rate="):
            model.evaluate("the cat\n", adapt=True, adapt_rate=rate)
    with pytest.raises(OptionError, match=r"`adapt_rate=0\.1`: goes with `adapt`"):
        model.evaluate("the cat\n", adapt_rate=0.1)
    with pytest.raises(OptionError, match="`adapt`: needs a running text"):
        model.evaluate("the cat\n", reset_lines=True, adapt=True)
    config = ModelConfig(
        9, hidden=4, embedding=4, characters="recurrent", char_features=4, alphabet=5
    )
    with pytest.raises(ModelError, match="the word features of a character-aware model"):
        DynamicEvaluation(Network(config), 0.01)
