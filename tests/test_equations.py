"""Cell equations, compared with torch cells, finite differences and each other."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from charlm.errors import OptionError
from charlm.model.config import Dropout, ModelConfig
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.equations import CELLS, Parameters
from charlm.model.layers import Layer
from charlm.model.network import Network
from charlm.model.numpy_network import NumpyNetwork, log_softmax
from charlm.model.recurrence import FUSED

# Fields of `ModelConfig` for every variant of every cell.
VARIANTS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "rnn relu": {"cell": "rnn", "activation": "relu"},
    "lstm": {"cell": "lstm"},
    "lstm no forget gate": {"cell": "lstm", "forget_gate": False},
    "lstm no forget gate, peepholes io": {"forget_gate": False, "peepholes": "io"},
    **{f"lstm peepholes {p}": {"peepholes": p} for p in ("i", "f", "o", "if", "io", "fo", "ifo")},
    "gru": {"cell": "gru"},
    "gru reset before": {"cell": "gru", "reset": "before"},
    "gru-simple": {"cell": "gru-simple"},
}
VARIANTS |= {f"{name} layer norm": {**v, "layer_norm": True} for name, v in VARIANTS.items()}
TORCH_CELLS = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}
HIDDEN, INPUTS, BATCH, STEPS = 5, 3, 2, 4

Tensors = tuple[torch.Tensor, ...]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def layer_of(variant: str, reference: bool = True, hidden: int = HIDDEN) -> Layer:
    """A layer with random values in every parameter."""
    torch.manual_seed(0)
    config = ModelConfig(10, hidden=hidden, **VARIANTS[variant])
    layer = Layer(config.recurrence, INPUTS, hidden, config.layer_norm, reference)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def random_state(layer: Layer, hidden: int = HIDDEN, dtype: torch.dtype = torch.float64) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(BATCH, hidden, generator=generator, dtype=dtype) for _ in layer.cell.state
    )


@pytest.mark.parametrize("cell", [*TORCH_CELLS, "rnn relu"])
def test_step_equals_torch_cell(cell: str) -> None:
    layer = layer_of(cell).double()
    kind, *activation = cell.split()
    options = {"nonlinearity": activation[0]} if activation else {}
    torch_cell = TORCH_CELLS[kind](INPUTS, HIDDEN, **options).double()
    recurrent_bias = torch.zeros_like(layer.b)
    if cell == "gru":
        recurrent_bias[2 * HIDDEN :] = layer.get_parameter("b_u")
    torch_cell.load_state_dict(
        {"weight_ih": layer.W, "weight_hh": layer.U, "bias_ih": layer.b, "bias_hh": recurrent_bias}
    )
    x, state = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_state(layer)
    expected = torch_cell(x[0], state if cell == "lstm" else state[0])
    _, last = layer(x, state)
    for a, b in zip(last, expected if cell == "lstm" else (expected,), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# --- an independent implementation, gate by gate ---


def oracle_step(variant: str, layer: Layer, x: torch.Tensor, state: Tensors) -> Tensors:
    """One step for x (B, I), without packed gates and without code of the package."""
    options = VARIANTS[variant]
    cell, size = options.get("cell", "lstm"), layer.size
    rows = {g: slice(k * size, (k + 1) * size) for k, g in enumerate(layer.cell.gates)}

    def norm(a: torch.Tensor, gate: str, gain: str = "gain") -> torch.Tensor:
        if not options.get("layer_norm"):
            return a + (layer.b[rows[gate]] if gain == "gain" else 0)
        deviation = (a.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = (a - a.mean(dim=1, keepdim=True)) / deviation * layer.get_parameter(gain)[rows[gate]]
        return y + (layer.b[rows[gate]] if gain == "gain" else 0)

    def wx(gate: str) -> torch.Tensor:
        return x @ layer.W[rows[gate]].T

    def uh(gate: str, h: torch.Tensor) -> torch.Tensor:
        if options.get("reset") == "before":
            return h @ (layer.get_parameter("U_n").T if gate == "n" else layer.U[rows[gate]].T)
        return h @ layer.U[rows[gate]].T

    def a(gate: str, h: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        peephole = layer.get_parameter(f"p_{gate}") * c if c is not None else 0
        return norm(wx(gate) + uh(gate, h) + peephole, gate)

    h = state[0]
    if cell == "rnn":
        activation = torch.relu if options.get("activation") == "relu" else torch.tanh
        return (activation(a("n", h)),)
    if cell == "gru-simple":
        u = torch.sigmoid(a("u", h))
        return (u * h + (1 - u) * torch.tanh(a("n", h)),)
    if cell == "gru" and options.get("reset") == "before":
        r, u = torch.sigmoid(a("r", h)), torch.sigmoid(a("u", h))
        return (u * h + (1 - u) * torch.tanh(a("n", r * h)),)
    if cell == "gru":

        def parts(gate: str) -> tuple[torch.Tensor, torch.Tensor]:
            product = uh(gate, h)
            if options.get("layer_norm"):
                product = norm(product, gate, "gain_u")
            return norm(wx(gate), gate), product

        (xr, hr), (xu, hu), (xn, hn) = parts("r"), parts("u"), parts("n")
        r, u = torch.sigmoid(xr + hr), torch.sigmoid(xu + hu)
        return (u * h + (1 - u) * torch.tanh(xn + r * (hn + layer.get_parameter("b_u"))),)
    c, peepholes = state[1], options.get("peepholes", "")
    i = torch.sigmoid(a("i", h, c if "i" in peepholes else None))
    f = torch.ones_like(i)
    if options.get("forget_gate", True):
        f = torch.sigmoid(a("f", h, c if "f" in peepholes else None))
    c = f * c + i * torch.tanh(a("g", h))
    o = torch.sigmoid(a("o", h, c if "o" in peepholes else None))
    return o * torch.tanh(c), c


@every_variant
def test_step_equals_independent_implementation(variant: str) -> None:
    layer = layer_of(variant).double()
    x, state = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_state(layer)
    _, last = layer(x, state)
    for a, b in zip(last, oracle_step(variant, layer, x[0], state), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@every_variant
def test_numpy_and_torch_steps_are_equal(variant: str) -> None:
    layer = layer_of(variant).double()
    x, state = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64), random_state(layer)
    weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    p = Parameters(layer.cell, weights)
    numpy_state = tuple(s.numpy() for s in state)
    outputs = []
    for x_t in x.numpy():
        gates = x_t @ weights["W"].T + (0 if layer.layer_norm else weights["b"])
        numpy_state = layer.cell.step(p, gates, numpy_state)
        outputs.append(numpy_state[0])
    expected, last = layer(x, state)
    np.testing.assert_allclose(np.stack(outputs), expected.detach().numpy(), rtol=0, atol=1e-10)
    for a, b in zip(numpy_state, last, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-10)


@every_variant
@pytest.mark.parametrize("reference", [True, False])
def test_gradients_equal_finite_differences(variant: str, reference: bool) -> None:
    layer = layer_of(variant, reference).double()
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_state(layer))
    names = [name for name, _ in layer.named_parameters()]

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        state, weights = rest[: len(layer.cell.state)], rest[len(layer.cell.state) :]
        y, last = torch.func.functional_call(
            layer, dict(zip(names, weights, strict=True)), (x, state)
        )
        return torch.cat([y.flatten(), *(s.flatten() for s in last)])

    # By random directions; the test below compares both ways element by element.
    assert torch.autograd.gradcheck(run, (x, *state, *layer.parameters()), fast_mode=True)


def gradients(
    layer: Layer, dtype: torch.dtype, autocast: bool = False, masks: DropoutMasks | None = None
) -> list[torch.Tensor]:
    """Outputs, last state, and the gradients of input, first state and parameters."""
    generator = torch.Generator().manual_seed(2)
    hidden = layer.U.shape[1]
    x = torch.randn(STEPS, BATCH, INPUTS, generator=generator, dtype=dtype, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_state(layer, hidden, dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, last = layer(x, state, masks)
    weight = torch.randn(y.shape, generator=generator, dtype=dtype)
    loss = (y.to(dtype) * weight).sum() + sum(s.to(dtype).square().sum() for s in last)
    leaves = [x, *state, *layer.parameters()]
    return [y.detach(), *(s.detach() for s in last), *torch.autograd.grad(loss, leaves)]


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_fast_path_equals_reference(variant: str, dtype: torch.dtype, tolerance: float) -> None:
    fast, reference = (layer_of(variant, r).to(dtype) for r in (False, True))
    for a, b in zip(gradients(fast, dtype), gradients(reference, dtype), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_variant
def test_fast_path_equals_reference_with_dropout_of_state_and_weights(variant: str) -> None:
    dropout = Dropout(state=0.5, weights=0.3)
    results = []
    for reference in (False, True):
        masks = DropoutMasks(dropout, torch.Generator().manual_seed(5))
        layer = layer_of(variant, reference).double()
        results.append(gradients(layer, torch.float64, masks=masks))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_variant
def test_fast_path_equals_reference_without_gradients(variant: str) -> None:
    fast, reference = (layer_of(variant, r).double() for r in (False, True))
    x, state = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64), random_state(fast)
    with torch.no_grad():
        (y, last), (expected, expected_last) = fast(x, state), reference(x, state)
    for a, b in zip((y, *last), (expected, *expected_last), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_only_cells_equal_to_a_torch_kernel_use_it() -> None:
    fused = {v: layer_of(v).cell.fused for v in VARIANTS if "layer norm" not in v}
    assert {name: kernel for name, kernel in fused.items() if kernel} == {
        "lstm": "lstm",
        "gru": "gru",
        "rnn": "rnn_tanh",
        "rnn relu": "rnn_relu",
    }
    assert set(FUSED) == {kernel for kernel in fused.values() if kernel}


def has_bf16_lstm() -> bool:
    """Whether torch can compute an LSTM in bf16 here: not on a processor without AVX-512."""
    lstm, x = torch.nn.LSTM(2, 2), torch.zeros(1, 1, 2)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            lstm(x)
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN in this torch")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize("autocast", [False, True])
def test_onednn_lstm_runs_and_equals_reference(autocast: bool) -> None:
    if autocast and not has_bf16_lstm():
        pytest.skip("no bf16 in oneDNN on this processor")
    fused, reference = (layer_of("lstm", r, hidden=32) for r in (False, True))
    with torch.profiler.profile() as profile:
        results = gradients(fused, torch.float32, autocast)
    assert "aten::mkldnn_rnn_layer" in {event.key for event in profile.key_averages()}
    tolerance = 1e-2 if autocast else 1e-5
    for a, b in zip(results, gradients(reference, torch.float32), strict=True):
        scale = b.abs().max().item()
        torch.testing.assert_close(a.float(), b, rtol=0, atol=tolerance * max(scale, 1))


@every_variant
def test_bf16_is_close_to_float32(variant: str) -> None:
    fast, reference = (layer_of(variant, r, hidden=32) for r in (False, True))
    if fast.cell.fused == "lstm" and not has_bf16_lstm():
        pytest.skip("no bf16 in oneDNN on this processor")
    results = gradients(fast, torch.float32, autocast=True)
    for a, b in zip(results, gradients(reference, torch.float32), strict=True):
        assert (a.float() - b).norm() < 0.05 * b.norm() + 1e-3


NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {}, "tied": {"tied": True}, "three layers": {"layers": 3},
    "residual": {"layers": 2, "residual": True},
    "residual around all": {"layers": 2, "residual": True, "embedding": 24},
    "feed-forward": {"feedforward": 2}, "highway": {"highway": 2},
    "split": {"cutoffs": (10, 20)}, "tied and split": {"tied": True, "cutoffs": (15,)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "network"),
    [*product(VARIANTS, ["plain"]), *product(["lstm", "gru layer norm"], NETWORKS)],
)
def test_numpy_and_torch_logprobs_are_equal(variant: str, network: str) -> None:
    sizes = {"hidden": 24, "embedding": 24 if "tied" in network else 20}
    config = ModelConfig(40, **{**sizes, **VARIANTS[variant], **NETWORKS[network]})
    net = Network(config, generator=torch.Generator().manual_seed(3)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    stepper = NumpyNetwork(config, net.weights())
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(40, size=(3, 30)), rng.integers(1, 40, size=(3, 30))
    y, _ = stepper.read(inputs, stepper.initial_state(3))
    torch_y, _ = net.read(inputs, net.initial_state(3))
    np.testing.assert_allclose(y, torch_y, rtol=1e-4, atol=1e-4)
    logprobs = stepper.logprobs(y, targets)
    np.testing.assert_allclose(logprobs, net.logprobs(torch_y, targets), atol=1e-4)
    assert np.std(logprobs) > 0.1
    vocabulary = np.broadcast_to(np.arange(1, 40)[:, None], (39, 3)).T
    distribution = stepper.logprobs(np.repeat(y[:, :1], 39, axis=1), vocabulary)
    np.testing.assert_allclose(log_softmax(stepper.logits(y[:, 0])), distribution, atol=1e-5)


def test_numpy_network_is_the_same_without_a_table_of_the_first_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(ModelConfig(30, hidden=16, embedding=8, highway=1)).eval()
    tabulated = NumpyNetwork(network.config, network.weights())
    monkeypatch.setattr("charlm.model.numpy_network.TABLE_ENTRIES", 0)
    plain = NumpyNetwork(network.config, network.weights())
    y, expected = (n.read(np.array([[3], [7]]), n.initial_state(2))[0] for n in (tabulated, plain))
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_initial_weights() -> None:
    network = Network(
        ModelConfig(30, cell="lstm", layers=2, hidden=16, embedding=8), forget_bias=1.5
    )
    for layer in network.encoder.layers:
        i, f, g, o = layer.b.detach().chunk(4)
        assert f.eq(1.5).all() and not i.any() and not g.any() and not o.any()
        for gate in layer.U.detach().chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)
    relu = Network(ModelConfig(30, cell="rnn", hidden=16, activation="relu"))
    (layer,) = relu.encoder.layers
    torch.testing.assert_close(layer.U.detach(), torch.eye(16) / 2)
    normed = Network(ModelConfig(30, cell="gru", hidden=16, layer_norm=True))
    (layer,) = normed.encoder.layers
    assert all(layer.get_parameter(name).eq(1).all() for name in ("gain", "gain_u"))


def test_weights_are_unchanged_by_conversion_to_numpy_and_back() -> None:
    for options in (*VARIANTS.values(), *NETWORKS.values()):
        network = Network(ModelConfig(30, **{"hidden": 24, "embedding": 24, **options}))
        restored = Network(network.config).load_weights(network.weights())
        shapes = {n: w.shape for n, w in restored.weights().items()}
        assert shapes == network.config.shapes()
        for name, weight in network.weights().items():
            np.testing.assert_array_equal(weight, restored.weights()[name])


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("rnn", {"activation": "gelu"}, "`activation=gelu`: choose tanh or relu"),
        ("lstm", {"peepholes": "ix"}, "`peepholes=ix`: choose some of the letters ifo"),
        ("lstm", {"peepholes": "ii"}, "`peepholes=ii`: choose some of the letters ifo"),
        ("lstm", {"peepholes": "f", "forget_gate": False}, "`peepholes=f`: .* the letters io"),
        ("gru", {"reset": "never"}, "`reset=never`: choose before or after"),
    ],
)
def test_unknown_variant_is_an_error(cell: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CELLS[cell](**options)
    with pytest.raises(OptionError, match=message):
        ModelConfig(30, cell=cell, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gru", "peepholes": "i"}, "peepholes.i.*gru.*lstm"),
        ({"cell": "lstm", "reset": "after"}, "reset.after.*lstm.*gru"),
        ({"cell": "rnn", "forget_gate": False}, "forget.gate.*rnn.*lstm"),
        ({"cell": "lstm", "activation": "relu"}, "activation.relu.*lstm.*rnn"),
        ({"cell": "elman"}, "cell.elman.*lstm, gru, gru-simple, rnn"),
    ],
)
def test_variant_of_another_cell_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ModelConfig(30, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": True}, "residual.*layers.2"),
        ({"bidirectional": True}, "feedforward=0.*both sides"),
        ({"characters": "both"}, "characters.both.*recurrent or convolutional"),
    ],
)
def test_impossible_network_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ModelConfig(30, **options)
