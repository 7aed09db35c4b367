"""The cells' equations against torch's own modules, finite differences, and each other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from charlm.model.config import ModelConfig
from charlm.model.equations import CELLS
from charlm.model.loss import summed_cross_entropy
from charlm.model.network import FUSED, Layer, Network, as_arrays, network_from
from charlm.model.stepper import Stepper

TORCH_CELLS = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
HIDDEN, INPUTS, BATCH, STEPS = 5, 3, 2, 4


def layer_of(cell: str, fused: bool = False, hidden: int = HIDDEN) -> Layer:
    """A layer whose every parameter is random, so that none can be left out unseen."""
    torch.manual_seed(0)
    layer = Layer(ModelConfig(10, cell, hidden=hidden), INPUTS, fused)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def random_states(layer: Layer, hidden: int = HIDDEN, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(BATCH, hidden, generator=generator, dtype=dtype) for _ in layer.cell.state
    )


@pytest.mark.parametrize("cell", TORCH_CELLS)
def test_a_step_is_that_of_torchs_own_cell(cell: str) -> None:
    layer = layer_of(cell).double()
    theirs = TORCH_CELLS[cell](INPUTS, HIDDEN).double()
    recurrent_bias = torch.zeros_like(layer.b)
    if cell == "gru":
        recurrent_bias[2 * HIDDEN :] = layer.b_u
    theirs.load_state_dict(
        {"weight_ih": layer.W, "weight_hh": layer.U, "bias_ih": layer.b, "bias_hh": recurrent_bias}
    )
    x, state = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_states(layer)
    expected = theirs(x[0], state if cell == "lstm" else state[0])
    _, found = layer.scan(x, state)
    for a, b in zip(found, expected if cell == "lstm" else (expected,), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_gru_simple_is_its_equation_written_out() -> None:
    layer = layer_of("gru-simple").double()
    x, (h,) = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_states(layer)
    (wu, wn), (uu, un), (bu, bn) = layer.W.chunk(2), layer.U.chunk(2), layer.b.chunk(2)
    u = torch.sigmoid(x[0] @ wu.T + h @ uu.T + bu)
    candidate = torch.tanh(x[0] @ wn.T + h @ un.T + bn)
    _, (found,) = layer.scan(x, (h,))
    torch.testing.assert_close(found, u * h + (1 - u) * candidate, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell: str) -> None:
    layer = layer_of(cell).double()
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_states(layer))
    names = [name for name, _ in layer.named_parameters()]

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        state, weights = rest[: len(layer.cell.state)], rest[len(layer.cell.state) :]
        y, after = torch.func.functional_call(
            layer, dict(zip(names, weights, strict=True)), (x, state)
        )
        return torch.cat([y.flatten(), *(s.flatten() for s in after)])

    assert torch.autograd.gradcheck(run, (x, *state, *layer.parameters()))


def gradients(layer: Layer, dtype: torch.dtype, autocast: bool = False) -> list[torch.Tensor]:
    """Output, last state, and the gradient of everything that it depends on."""
    generator = torch.Generator().manual_seed(2)
    hidden = layer.U.shape[1]
    x = torch.randn(STEPS, BATCH, INPUTS, generator=generator, dtype=dtype, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_states(layer, hidden, dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, after = layer(x, state)
    weight = torch.randn(y.shape, generator=generator, dtype=dtype)
    ((y.to(dtype) * weight).sum() + sum(s.to(dtype).square().sum() for s in after)).backward()
    leaves = [x, *state, *layer.parameters()]
    found = [y.detach(), *(s.detach() for s in after), *(leaf.grad for leaf in leaves)]
    for parameter in layer.parameters():
        parameter.grad = None
    return found


@pytest.mark.parametrize("cell", FUSED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_fused_kernels_compute_the_equations(
    cell: str, dtype: torch.dtype, tolerance: float
) -> None:
    fused, reference = layer_of(cell, fused=True).to(dtype), layer_of(cell).to(dtype)
    for a, b in zip(gradients(fused, dtype), gradients(reference, dtype), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("autocast", [False, True])
def test_onednns_lstm_really_runs_and_computes_the_equations(autocast: bool) -> None:
    if autocast and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bf16 on this processor")
    fused, reference = (layer_of("lstm", f, hidden=32) for f in (True, False))
    with torch.profiler.profile() as profile:
        ours = gradients(fused, torch.float32, autocast)
    ran = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_rnn_layer" in ran
    tolerance = 1e-2 if autocast else 1e-5
    for a, b in zip(ours, gradients(reference, torch.float32), strict=True):
        scale = b.abs().max().item()
        torch.testing.assert_close(a.float(), b, rtol=0, atol=tolerance * max(scale, 1))


@pytest.mark.parametrize(("cell", "layers", "tied"), list(product(CELLS, (1, 3), (False, True))))
def test_numpy_and_torch_give_the_same_logprobs(cell: str, layers: int, tied: bool) -> None:
    config = ModelConfig(40, cell, layers, hidden=24, embedding=24, tied=tied)
    network = Network(config, generator=torch.Generator().manual_seed(3)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stepper = Stepper(config, as_arrays(network.state_dict()))
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(40, size=(3, 30)), rng.integers(1, 40, size=(3, 30))
    ours, _ = stepper.logprobs(inputs, targets, stepper.initial_state(3))
    theirs, _ = network.logprobs(inputs, targets, network.initial_state(3))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.std(ours) > 0.1


def test_the_stepper_needs_no_table_of_the_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(ModelConfig(30, hidden=16, embedding=8)).eval()
    tabulated = Stepper(network.config, as_arrays(network.state_dict()))
    monkeypatch.setattr("charlm.model.stepper.TABLE_ENTRIES", 0)
    plain = Stepper(network.config, as_arrays(network.state_dict()))
    ids = np.array([3, 7])
    np.testing.assert_allclose(
        tabulated.step(ids, tabulated.initial_state(2))[0],
        plain.step(ids, plain.initial_state(2))[0],
        atol=1e-6,
    )


def test_a_network_starts_as_it_should() -> None:
    network = Network(ModelConfig(30, "lstm", 2, 16, 8))
    for layer in network.layers:
        i, f, g, o = layer.b.detach().chunk(4)
        assert f.eq(1).all() and not i.any() and not g.any() and not o.any()
        for gate in layer.U.detach().chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)


def test_weights_survive_the_way_through_numpy() -> None:
    network = Network(ModelConfig(30, "gru", 2, 16, 8))
    again = network_from(network.config, as_arrays(network.state_dict()))
    assert {n: w.shape for n, w in as_arrays(again.state_dict()).items()} == network.config.shapes()
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])


def test_dropout_masks_are_constant_over_time_and_differ_over_streams() -> None:
    network = Network(ModelConfig(30, hidden=64, embedding=64), dropout=0.5)
    ones = torch.ones(7, 3, 64)
    dropped = network.train()._drop(ones)
    assert torch.equal(dropped[0], dropped[6]) and not torch.equal(dropped[:, 0], dropped[:, 1])
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(network.eval()._drop(ones), ones)


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("tied", [False, True])
def test_the_loss_and_its_gradients_are_those_of_torchs_cross_entropy(
    rows: int, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.loss.ENTRIES_AT_ONCE", rows * 7)
    torch.manual_seed(0)
    y, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((10, 4), (7 + tied, 4), (7,))
    )
    targets = torch.randint(7, (10,))
    ours = summed_cross_entropy(y, weight, bias, targets)
    logits = torch.nn.functional.linear(y, weight[tied:], bias)
    theirs = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    found, expected = (torch.autograd.grad(2 * t, (y, weight, bias)) for t in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_the_loss_in_bf16_is_near_that_in_float32() -> None:
    torch.manual_seed(0)
    y, weight = torch.randn(50, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    bias, targets = torch.zeros(30, requires_grad=True), torch.randint(30, (50,))
    exact = summed_cross_entropy(y, weight, bias, targets)
    with torch.autocast("cpu", torch.bfloat16):
        near = summed_cross_entropy(y, weight, bias, targets)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=1e-2, atol=0)
    gradients = (torch.autograd.grad(loss, (y, weight, bias)) for loss in (near, exact))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.02 * b.norm()
