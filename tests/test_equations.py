"""The cells' equations against torch's own modules, finite differences, and each other."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from charlm.errors import OptionError
from charlm.model.config import Dropout, ModelConfig
from charlm.model.equations import Parameters
from charlm.model.layers import Layer, Masks
from charlm.model.network import Network, as_arrays, network_from
from charlm.model.numpy_network import NumpyNetwork, log_softmax
from charlm.model.recurrence import FUSED

# Every cell in every variant: cell and options of `ModelConfig`.
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
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def layer_of(variant: str, reference: bool = True, hidden: int = HIDDEN) -> Layer:
    """A layer whose every parameter is random, so that none can be left out unseen."""
    torch.manual_seed(0)
    config = ModelConfig(10, hidden=hidden, **VARIANTS[variant])
    layer = Layer(config.recurrence, INPUTS, hidden, config.layer_norm, reference)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def random_states(layer: Layer, hidden: int = HIDDEN, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(BATCH, hidden, generator=generator, dtype=dtype) for _ in layer.cell.state
    )


@pytest.mark.parametrize("cell", [*TORCH_CELLS, "rnn relu"])
def test_a_step_is_that_of_torchs_own_cell(cell: str) -> None:
    layer = layer_of(cell).double()
    kind, *activation = cell.split()
    options = {"nonlinearity": activation[0]} if activation else {}
    theirs = TORCH_CELLS[kind](INPUTS, HIDDEN, **options).double()
    recurrent_bias = torch.zeros_like(layer.b)
    if cell == "gru":
        recurrent_bias[2 * HIDDEN :] = layer.b_u
    theirs.load_state_dict(
        {"weight_ih": layer.W, "weight_hh": layer.U, "bias_ih": layer.b, "bias_hh": recurrent_bias}
    )
    x, state = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_states(layer)
    expected = theirs(x[0], state if cell == "lstm" else state[0])
    _, found = layer(x, state)
    for a, b in zip(found, expected if cell == "lstm" else (expected,), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# --- equations written out once more, gate by gate, as SYSTEMS of the lectures have them ---


def written_out(variant: str, layer: Layer, x: torch.Tensor, state: Any) -> tuple[Any, ...]:
    """One step for rows x (B, I), without packing, without shared code."""
    options = VARIANTS[variant]
    cell, size = options.get("cell", "lstm"), layer.size
    rows = {g: slice(k * size, (k + 1) * size) for k, g in enumerate(layer.cell.gates)}

    def norm(a: torch.Tensor, gate: str, gain: str = "gain") -> torch.Tensor:
        if not options.get("layer_norm"):
            return a + (layer.b[rows[gate]] if gain == "gain" else 0)
        deviation = (a.var(dim=1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = (a - a.mean(dim=1, keepdim=True)) / deviation * getattr(layer, gain)[rows[gate]]
        return y + (layer.b[rows[gate]] if gain == "gain" else 0)

    def wx(gate: str) -> torch.Tensor:
        return x @ layer.W[rows[gate]].T

    def uh(gate: str, h: torch.Tensor) -> torch.Tensor:
        if options.get("reset") == "before":
            return h @ (layer.U_n.T if gate == "n" else layer.U[rows[gate]].T)
        return h @ layer.U[rows[gate]].T

    def a(gate: str, h: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        peephole = getattr(layer, f"p_{gate}") * c if c is not None else 0
        return norm(wx(gate) + uh(gate, h) + peephole, gate)

    h = state[0]
    if cell == "rnn":
        return ((torch.relu if options.get("activation") == "relu" else torch.tanh)(a("n", h)),)
    if cell == "gru-simple":
        u = torch.sigmoid(a("u", h))
        return (u * h + (1 - u) * torch.tanh(a("n", h)),)
    if cell == "gru" and options.get("reset") == "before":
        r, u = torch.sigmoid(a("r", h)), torch.sigmoid(a("u", h))
        return (u * h + (1 - u) * torch.tanh(a("n", r * h)),)
    if cell == "gru":

        def both(gate: str, more: Any = 0) -> tuple[torch.Tensor, torch.Tensor]:
            product = uh(gate, h)
            if options.get("layer_norm"):
                product = norm(product, gate, "gain_u")
            return norm(wx(gate), gate), product + more

        r, u = torch.sigmoid(sum(both("r"))), torch.sigmoid(sum(both("u")))
        of_input, of_state = both("n", layer.b_u)
        return (u * h + (1 - u) * torch.tanh(of_input + r * of_state),)
    c, peepholes = state[1], options.get("peepholes", "")
    i = torch.sigmoid(a("i", h, c if "i" in peepholes else None))
    f = 1.0
    if options.get("forget_gate", True):
        f = torch.sigmoid(a("f", h, c if "f" in peepholes else None))
    c = f * c + i * torch.tanh(a("g", h))
    o = torch.sigmoid(a("o", h, c if "o" in peepholes else None))
    return o * torch.tanh(c), c


@every_variant
def test_a_step_is_its_equations_written_out(variant: str) -> None:
    layer = layer_of(variant).double()
    x, state = torch.randn(1, BATCH, INPUTS, dtype=torch.float64), random_states(layer)
    _, found = layer(x, state)
    for a, b in zip(found, written_out(variant, layer, x[0], state), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@every_variant
def test_numpy_and_torch_run_the_same_equations(variant: str) -> None:
    layer = layer_of(variant).double()
    x, state = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64), random_states(layer)
    weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    p = Parameters(layer.cell, weights)
    found = tuple(s.numpy() for s in state)
    outputs = []
    for row in x.numpy():
        gates = row @ weights["W"].T + (0 if layer.layer_norm else weights["b"])
        found = layer.cell.step(p, gates, found)
        outputs.append(found[0])
    expected, after = layer(x, state)
    np.testing.assert_allclose(np.stack(outputs), expected.detach().numpy(), rtol=0, atol=1e-10)
    for a, b in zip(found, after, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-10)


@every_variant
@pytest.mark.parametrize("reference", [True, False])
def test_gradients_are_those_of_finite_differences(variant: str, reference: bool) -> None:
    layer = layer_of(variant, reference).double()
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_states(layer))
    names = [name for name, _ in layer.named_parameters()]

    def run(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        state, weights = rest[: len(layer.cell.state)], rest[len(layer.cell.state) :]
        y, after = torch.func.functional_call(
            layer, dict(zip(names, weights, strict=True)), (x, state)
        )
        return torch.cat([y.flatten(), *(s.flatten() for s in after)])

    # torch's kernels do not say that they are not differentiable twice: only once is asked for
    assert torch.autograd.gradcheck(run, (x, *state, *layer.parameters()))


def gradients(
    layer: Layer, dtype: torch.dtype, autocast: bool = False, masks: Masks | None = None
) -> list[torch.Tensor]:
    """Output, last state, and the gradient of everything that it depends on."""
    generator = torch.Generator().manual_seed(2)
    hidden = layer.U.shape[1]
    x = torch.randn(STEPS, BATCH, INPUTS, generator=generator, dtype=dtype, requires_grad=True)
    state = tuple(s.requires_grad_() for s in random_states(layer, hidden, dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, after = layer(x, state, masks)
    weight = torch.randn(y.shape, generator=generator, dtype=dtype)
    ((y.to(dtype) * weight).sum() + sum(s.to(dtype).square().sum() for s in after)).backward()
    leaves = [x, *state, *layer.parameters()]
    found = [y.detach(), *(s.detach() for s in after), *(leaf.grad for leaf in leaves)]
    for parameter in layer.parameters():
        parameter.grad = None
    return found


@every_variant
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_what_trains_computes_the_equations(
    variant: str, dtype: torch.dtype, tolerance: float
) -> None:
    fast, reference = (layer_of(variant, r).to(dtype) for r in (False, True))
    for a, b in zip(gradients(fast, dtype), gradients(reference, dtype), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_variant
def test_dropout_of_state_and_weights_is_the_same_in_what_trains(variant: str) -> None:
    dropout = Dropout(state=0.5, weights=0.3)
    found = []
    for reference in (False, True):
        masks = Masks(dropout, torch.Generator().manual_seed(5))
        layer = layer_of(variant, reference).double()
        found.append(gradients(layer, torch.float64, masks=masks))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_variant
def test_without_gradients_the_outputs_are_the_same(variant: str) -> None:
    fast, reference = (layer_of(variant, r).double() for r in (False, True))
    x, state = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64), random_states(fast)
    with torch.no_grad():
        (y, after), (expected, expected_after) = fast(x, state), reference(x, state)
    for a, b in zip((y, *after), (expected, *expected_after), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_torchs_kernels_run_where_they_compute_the_cell_and_nowhere_else() -> None:
    fused = {v: layer_of(v).cell.fused for v in VARIANTS if "layer norm" not in v}
    assert {name: kernel for name, kernel in fused.items() if kernel} == {
        "lstm": "lstm", "gru": "gru", "rnn": "rnn_tanh", "rnn relu": "rnn_relu"
    }  # fmt: skip
    assert set(FUSED) == {kernel for kernel in fused.values() if kernel}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("autocast", [False, True])
def test_onednns_lstm_really_runs_and_computes_the_equations(autocast: bool) -> None:
    if autocast and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bf16 on this processor")
    fused, reference = (layer_of("lstm", r, hidden=32) for r in (False, True))
    with torch.profiler.profile() as profile:
        ours = gradients(fused, torch.float32, autocast)
    ran = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_rnn_layer" in ran
    tolerance = 1e-2 if autocast else 1e-5
    for a, b in zip(ours, gradients(reference, torch.float32), strict=True):
        scale = b.abs().max().item()
        torch.testing.assert_close(a.float(), b, rtol=0, atol=tolerance * max(scale, 1))


@every_variant
def test_bf16_is_near_float32(variant: str) -> None:
    near, exact = (layer_of(variant, r, hidden=32) for r in (False, True))
    for a, b in zip(
        gradients(near, torch.float32, autocast=True), gradients(exact, torch.float32), strict=True
    ):
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
def test_numpy_and_torch_give_the_same_logprobs(variant: str, network: str) -> None:
    config = ModelConfig(
        40, **{"hidden": 24, "embedding": 24 if "tied" in network else 20, **VARIANTS[variant],
               **NETWORKS[network]},
    )  # fmt: skip
    net = Network(config, generator=torch.Generator().manual_seed(3)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    stepper = NumpyNetwork(config, as_arrays(net.state_dict()))
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(40, size=(3, 30)), rng.integers(1, 40, size=(3, 30))
    y, _ = stepper.read(inputs, stepper.initial_state(3))
    theirs, _ = net.read(inputs, net.initial_state(3))
    np.testing.assert_allclose(y, theirs, rtol=1e-4, atol=1e-4)
    ours = stepper.logprobs(y, targets)
    np.testing.assert_allclose(ours, net.logprobs(theirs, targets), atol=1e-4)
    assert np.std(ours) > 0.1
    logits, _ = stepper.step(inputs[:, 0], stepper.initial_state(3))
    np.testing.assert_allclose(stepper.logits(y[:, 0]), logits, atol=1e-5)
    everything = np.broadcast_to(np.arange(1, 40)[:, None], (39, 3)).T
    each = stepper.logprobs(np.repeat(y[:, :1], 39, axis=1), everything)
    np.testing.assert_allclose(log_softmax(logits), each, atol=1e-5)


def test_the_stepper_needs_no_table_of_the_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(ModelConfig(30, hidden=16, embedding=8, highway=1)).eval()
    tabulated = NumpyNetwork(network.config, as_arrays(network.state_dict()))
    monkeypatch.setattr("charlm.model.numpy_network.TABLE_ENTRIES", 0)
    plain = NumpyNetwork(network.config, as_arrays(network.state_dict()))
    ids = np.array([3, 7])
    np.testing.assert_allclose(
        tabulated.step(ids, tabulated.initial_state(2))[0],
        plain.step(ids, plain.initial_state(2))[0],
        atol=1e-6,
    )


def test_a_network_starts_as_it_should() -> None:
    network = Network(ModelConfig(30, "lstm", 2, 16, 8), forget_bias=1.5)
    for layer in network.layers:
        i, f, g, o = layer.b.detach().chunk(4)
        assert f.eq(1.5).all() and not i.any() and not g.any() and not o.any()
        for gate in layer.U.detach().chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)
    relu = Network(ModelConfig(30, "rnn", hidden=16, activation="relu"))
    torch.testing.assert_close(relu.layers[0].U.detach(), torch.eye(16) / 2)
    normed = Network(ModelConfig(30, "gru", hidden=16, layer_norm=True))
    assert normed.layers[0].gain.eq(1).all() and normed.layers[0].gain_u.eq(1).all()


def test_weights_survive_the_way_through_numpy() -> None:
    for options in (*VARIANTS.values(), *NETWORKS.values()):
        network = Network(ModelConfig(30, **{"hidden": 24, "embedding": 24, **options}))
        again = network_from(network.config, as_arrays(network.state_dict()))
        shapes = {n: w.shape for n, w in as_arrays(again.state_dict()).items()}
        assert shapes == network.config.shapes()
        for name, weight in network.state_dict().items():
            assert torch.equal(weight, again.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gru", "peepholes": "i"}, "--peepholes i: is not for --cell gru, but .* lstm"),
        ({"cell": "lstm", "reset": "after"}, "--reset after: is not for --cell lstm, but .* gru"),
        ({"cell": "rnn", "forget_gate": False}, "--no-forget-gate: is not for --cell rnn"),
        ({"cell": "lstm", "activation": "relu"}, "--activation relu: is not for .* but .* rnn"),
        ({"cell": "rnn", "activation": "gelu"}, "--activation gelu: choose tanh or relu"),
        ({"peepholes": "ix"}, "--peepholes ix: choose some of the letters ifo"),
        ({"peepholes": "f", "forget_gate": False}, "--peepholes f: .* the letters io"),
        ({"cell": "gru", "reset": "never"}, "--reset never: choose before or after"),
        ({"cell": "elman"}, "--cell elman: there is no such cell; choose lstm, gru"),
        ({"residual": True}, "--residual: the only layer has another number of features .* --lay"),
        ({"task": "fill"}, "--feedforward 0: --bidirectional needs one"),
        ({"characters": "both"}, "--characters both: choose recurrent or convolutional"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ModelConfig(30, **options)
