"""Gradient norms, compared with torch cells, finite differences and closed forms."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional as F
from typer.testing import CliRunner, Result

from charlm import LanguageModel
from charlm.cli.gradients import _bars, gradients
from charlm.errors import CharlmError, InputError, ModelError, OptionError
from charlm.model.config import ModelConfig
from charlm.model.equations import Parameters
from charlm.model.gradients import gradient_norms
from charlm.model.network import Network
from charlm.tokenizer import EOS, START
from conftest import Trained

VOCAB, HIDDEN, STEPS = 9, 4, 5
IDS = np.array([3, 5, EOS, 8, 2, 4], np.uint8)  # exactly one window of STEPS steps
INPUTS = torch.tensor([START, 3, 5, START, 8, 2])
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm peepholes ifo": {"peepholes": "ifo"},
    "lstm no forget gate, tied": {"forget_gate": False, "tied": True, "embedding": HIDDEN},
    "gru": {"cell": "gru"},
    "gru reset before": {"cell": "gru", "reset": "before"},
    "gru-simple": {"cell": "gru-simple"},
    "rnn": {"cell": "rnn"},
    "rnn layer norm": {"cell": "rnn", "layer_norm": True},
    "two lstm": {"layers": 2},
    "three gru residual": {"cell": "gru", "layers": 3, "residual": True},
    "two rnn feedforward highway": {"cell": "rnn", "layers": 2, "feedforward": 2, "highway": 1},
}


def random_network(**shape: Any) -> Network:
    network = Network(ModelConfig(VOCAB, hidden=HIDDEN, **{"embedding": 3} | shape)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.6, generator=generator)
    return network


# A perturbation, given the step, the layer and the number of the state vector.
Perturbation = Callable[[int, int, int], torch.Tensor | float]


def loss(network: Network, batch: int, perturbation: Perturbation) -> torch.Tensor:
    """−log p of the last of IDS, (batch,), with a perturbation added to every state."""
    states, config = network.initial_state(batch), network.config
    for step, x in enumerate(network.encoder.vectors(INPUTS[:, None].expand(-1, batch))):
        for k, layer in enumerate(network.encoder.layers):
            gates = F.linear(x, layer.W, None if config.layer_norm else layer.b)
            p = Parameters(layer.cell, dict(layer.named_parameters()))
            if len(states[k]) == 2:  # an LSTM: h' depends on the perturbed c'
                h, c = states[k]
                _, c_next = layer.cell.step(p, gates, (h, c))
                c = c_next + perturbation(step, k, 1)
                h = output_gate(p, gates, h, c) * c.tanh() + perturbation(step, k, 0)
                states[k] = h, c
            else:
                (h,) = layer.cell.step(p, gates, states[k])
                states[k] = (h + perturbation(step, k, 0),)
            h = states[k][0]
            x = x + h if config.residual and x.shape == h.shape else h
    weight = network.encoder.embedding[1:] if config.tied else network.head.output.W
    logits = F.linear(network.head(x), weight, network.head.output.b)
    return -logits.log_softmax(dim=1)[:, int(IDS[-1]) - 1]


def output_gate(p: Any, gates: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    a = (gates + p.U(h))[:, -HIDDEN:]
    return torch.sigmoid(a + p.p_o * c if hasattr(p, "p_o") else a)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_norms_equal_finite_differences_of_the_loss(name: str) -> None:
    network = random_network(**SHAPES[name])
    with torch.enable_grad():
        norms = gradient_norms(network, IDS, STEPS)
    assert norms.windows == 1 and norms.steps == STEPS
    network.double()
    small = torch.cat([torch.eye(HIDDEN), -torch.eye(HIDDEN)]).double() * 1e-5

    def differences(step: int, layer: int, vector: int) -> torch.Tensor:
        def perturbation(*position: int) -> torch.Tensor | float:
            return small if position == (step, layer, vector) else 0.0

        losses = loss(network, 2 * HIDDEN, perturbation)
        return (losses[:HIDDEN] - losses[HIDDEN:]) / 2e-5

    for vector, values in enumerate([norms.dh] if norms.dc is None else [norms.dh, norms.dc]):
        for k, norm in enumerate(values):
            layers = range(network.config.layers)
            gradient = torch.cat([differences(STEPS - k, layer, vector) for layer in layers])
            assert norm == pytest.approx(gradient.norm().item(), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_norms_of_two_layers_equal_those_of_torch_cells(kind: str) -> None:
    """The text has several windows, each with tokens before it."""
    network = random_network(cell=kind.lower(), layers=2)
    ids = np.array([*IDS, 7, 3, 3, EOS], np.uint8)
    norms = gradient_norms(network, ids, STEPS)
    assert norms.windows == 3  # they start at 2, 3 and 4, after a warm-up of 2
    network.double()
    cells = []
    for layer in network.encoder.layers:
        cell = getattr(torch.nn, f"{kind}Cell")(layer.W.shape[1], HIDDEN, dtype=torch.float64)
        parts = (layer.W, layer.U, layer.b, torch.zeros_like(layer.b))
        cell.load_state_dict(
            dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts, strict=True))
        )
        cells.append(cell)
    inputs = [START if id == EOS else int(id) for id in [START, *ids]]
    windows = np.array(
        [window_norms(network, cells, inputs[s : s + 8], int(ids[s + 7])) for s in range(3)]
    )
    mean = windows.mean(axis=0)
    np.testing.assert_allclose(norms.dh, mean[0], rtol=1e-9)
    if norms.dc is not None:
        np.testing.assert_allclose(norms.dc, mean[1], rtol=1e-9)
    assert (norms.dc is None) == (kind == "RNN")
    logs = np.log(windows[:, 0]).mean(axis=0)
    k = np.arange(STEPS + 1)
    slope = ((k - k.mean()) * (logs - logs.mean())).sum() / ((k - k.mean()) ** 2).sum()
    assert norms.decay == pytest.approx(-slope, rel=1e-9)


def window_norms(
    network: Network, cells: list[Any], inputs: list[int], target: int
) -> NDArray[np.float64]:
    """Norms of one window, (state vectors, STEPS + 1)."""
    states: list[Any] = [None] * len(cells)
    history = []
    for id in inputs:
        x = network.encoder.embedding[id][None]
        for k, cell in enumerate(cells):
            states[k] = cell(x, states[k])
            x = states[k][0] if isinstance(states[k], tuple) else states[k]
        history.append([s if isinstance(s, tuple) else (s,) for s in states])
    logits = F.linear(network.head(x), network.head.output.W, network.head.output.b)
    tensors = [t for step in history[-STEPS - 1 :][::-1] for layer in step for t in layer]
    loss = F.cross_entropy(logits, torch.tensor([target - 1]))
    gradients = torch.stack(torch.autograd.grad(loss, tensors))
    gradients = gradients.view(STEPS + 1, len(cells), -1, HIDDEN)
    return gradients.square().sum(dim=(1, 3)).sqrt().T.numpy()


def test_norm_at_k_0_equals_the_gradient_of_softmax_and_normalisation() -> None:
    network = random_network()
    norms = gradient_norms(network, IDS, STEPS)
    network.double()
    with torch.no_grad():
        h = network.encoder(INPUTS[:, None], network.initial_state(1))[0][-1]
        p = F.linear(network.head(h), network.head.output.W, network.head.output.b).softmax(dim=1)
        p[0, int(IDS[-1]) - 1] -= 1
        g = (p @ network.head.output.W)[0] * network.head.norm.gain
        centred = h[0] - h[0].mean()
        scale = (centred.square().mean() + 1e-5).sqrt()
        y = centred / scale
        # The backward pass of layer normalisation, for a gradient g of y.
        expected = (g - g.mean() - y * (g * y).mean()) / scale
    assert norms.dh[0] == pytest.approx(float(expected.norm()), rel=1e-9)


@pytest.mark.parametrize(("factor", "half_life"), [(0.5, 1), (0.001, 0.1003), (1.05, math.inf)])
def test_decay_of_a_linear_recurrence_is_its_factor(factor: float, half_life: float) -> None:
    network = random_network(cell="rnn")
    with torch.no_grad():
        (layer,) = network.encoder.layers
        layer.W.mul_(1e-6)
        layer.b.zero_()
        layer.U.copy_(factor * torch.eye(HIDDEN))
    ids = np.tile(IDS, 20)
    norms = gradient_norms(network, ids, 40)  # 0.001^40 is too small for float32
    assert norms.decay == pytest.approx(-math.log(factor), abs=1e-4)
    assert norms.half_life == pytest.approx(half_life, abs=1e-4)
    np.testing.assert_allclose(norms.dh[1:] / norms.dh[:-1], factor, rtol=1e-3)
    assert norms.windows == 41


def test_norms_do_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ids = random_network(layers=2), np.tile(IDS, 15)
    one_batch = gradient_norms(network, ids, 30)
    assert one_batch.windows == 31  # they start at 29 … 59, after a warm-up of 29
    monkeypatch.setattr("charlm.model.gradients.STATE_VALUES_PER_BATCH", 31 * 2 * HIDDEN * 7)
    batches = gradient_norms(network, ids, 30)
    assert batches.dc is not None and one_batch.dc is not None
    np.testing.assert_allclose(batches.dh, one_batch.dh, rtol=1e-9)
    np.testing.assert_allclose(batches.dc, one_batch.dc, rtol=1e-9)
    assert batches.decay == pytest.approx(one_batch.decay, rel=1e-9)


def test_network_is_not_changed() -> None:
    network = random_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradient_norms(network, IDS, 3)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())


def test_decay_of_a_zero_gradient_is_nan() -> None:
    network = random_network(cell="rnn")
    with torch.no_grad():
        (layer,) = network.encoder.layers
        layer.U.zero_()
    norms = gradient_norms(network, IDS, STEPS)
    assert norms.dh[0] > 0 and not norms.dh[1:].any()
    assert math.isnan(norms.decay) and norms.half_life == math.inf


def test_text_of_fewer_than_two_tokens_is_an_error() -> None:
    for ids in (IDS[:0], IDS[:1]):
        with pytest.raises(InputError, match=rf"too short \({len(ids)} of at least 2 tokens\)"):
            gradient_norms(random_network(), ids, STEPS)


def test_steps_are_limited_by_the_length_of_the_text() -> None:
    network = random_network()
    assert gradient_norms(network, IDS, 1000).steps == STEPS
    assert gradient_norms(network, IDS[:2], 1000).steps == 1


# --- the command ---


def command(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(gradients)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(model: LanguageModel) -> Path:
    return model.path.parent


def test_all_formats_show_the_same_numbers(
    folder: Path, model: LanguageModel, corpus: Path
) -> None:
    expected = gradient_norms(
        model.backends.torch,
        model.tokenizer.encode_ids(corpus.read_text(encoding="utf-8")),
        7,
        independent_lines=True,
    )
    assert expected.dc is not None
    (line,) = command(folder, corpus, "--steps", 7, "--format", "json").stdout.splitlines()
    row = json.loads(line)
    assert list(row) == [
        "model",
        "cell",
        "layers",
        "hidden",
        "steps",
        "windows",
        "decay_nats_per_step",
        "half_life_steps",
        "dh",
        "dc",
    ]
    assert (row["model"], row["cell"], row["steps"]) == (str(folder), "lstm", 7)
    assert row["windows"] == 128
    assert row["half_life_steps"] == pytest.approx(math.log(2) / expected.decay)
    np.testing.assert_allclose(row["dh"], expected.dh)
    np.testing.assert_allclose(row["dc"], expected.dc)
    heading, *rows = command(folder, corpus, "--steps", 7).stdout.splitlines()
    assert heading.split("\t") == ["model", "k", "dh", "dc"] and len(rows) == 8
    name, k, dh, dc = rows[3].split("\t")
    assert (name, k) == (str(folder), "3")
    assert float(dh) == pytest.approx(expected.dh[3], rel=1e-5)
    assert float(dc) == pytest.approx(expected.dc[3], rel=1e-5)
    table = command(folder, corpus, "--steps", 7, "--format", "table").stdout
    assert f"{expected.decay:.4f}" in table.splitlines()[-1]
    assert f"{expected.dh[3]:.1e} ▇" in table and f"{expected.dc[3]:.1e} ▇" in table


def test_bars_are_logarithmic() -> None:
    bars = _bars([[1.0, 0.1, 0.01], [0.0, math.inf]], 10)
    assert [len(bar) for _, drawn in bars for bar in drawn] == [10, 5, 0, 0, 10]


@pytest.fixture(scope="module")
def small(trained: Trained) -> Path:
    """A word-level GRU; its cell has no c."""
    model: LanguageModel = trained(level="word", cell="gru", steps=5, hidden=8)
    return model.path.parent


def test_steps_of_each_model_are_limited_by_its_number_of_tokens(folder: Path, small: Path) -> None:
    ran = command(folder, small, "the cat sat on the mat", "--steps", 10, "--format", "json")
    characters, words = map(json.loads, ran.stdout.splitlines())
    assert (characters["steps"], words["steps"]) == (10, 5) and words["dc"] is None
    assert re.search("6 tokens.* 5 steps", ran.stderr)
    rows = command(folder, small, "the cat sat on the mat", "--steps", 10).stdout.splitlines()
    assert len(rows) == 1 + 11 + 6 and rows[-1].endswith("\t")
    ran = command(folder, small, "the cat sat on the mat", "--steps", 10, "--format", "table")
    assert ran.exit_code == 0 and len(ran.stdout.splitlines()) >= 12 + 2


def test_default_model_is_used_if_none_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command("the Ж cat", "--format", "json")
    row = json.loads(ran.stdout)
    assert row["model"] == str(folder) and row["steps"] == 8 and row["windows"] == 1
    assert "'Ж'" in ran.stderr


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plots_are_written(folder: Path, small: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"reach.{suffix}"
    ran = command(folder, small, "the cat sat on the mat", "--plot", path)
    assert ran.exit_code == 0, ran.exception
    written = path.read_bytes()
    assert written.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in written
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--steps", "0", "text"], OptionError, "steps.0"),
        (["--format", "xml", "text"], OptionError, "format=xml.*table, tsv or json"),
        (["--plot", "x.pdf", "text"], OptionError, r"plot.x\.pdf.*\.png or \.svg"),
        (["--plot", "gone/x.png", "text"], OptionError, r"plot.gone/x\.png.*folder"),
        (["gone", "text"], ModelError, "gone: no such model"),
        ([""], InputError, r"too short \(0 of"),
        (["x"], InputError, r"too short \(1 of"),
        (["nope.txt"], InputError, r"nope\.txt: no such file"),
    ],
)
def test_error_is_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[CharlmError],
    message: str,
) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command(*arguments)
    assert isinstance(ran.exception, error) and re.search(message, str(ran.exception))
    assert "\n" not in str(ran.exception) and not ran.stdout


def test_text_may_be_longer_than_a_file_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    assert command("x" * 300, "--encoding", "none").exit_code == 0


def test_folder_instead_of_a_text_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command(folder)
    assert isinstance(ran.exception, InputError) and "is a folder" in str(ran.exception)


def test_plot_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = command("text", "--plot", "x.png")
    assert isinstance(ran.exception, OptionError)
    assert "`pip install matplotlib`" in str(ran.exception)


def test_importing_the_command_does_not_import_heavy_packages() -> None:
    program = (
        "import sys, charlm.cli.gradients\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich.table'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("shape", [{}, {"cell": "gru", "layers": 2}])
def test_no_gradient_crosses_the_end_of_an_independent_line(shape: dict[str, Any]) -> None:
    network = random_network(**shape)
    whole = gradient_norms(network, IDS, STEPS, independent_lines=True)
    alone = gradient_norms(network, IDS[3:], STEPS)  # the last line
    np.testing.assert_allclose(whole.dh[:3], alone.dh, rtol=1e-9)
    assert (whole.dh[3:] == 0).all() and (whole.dh[:3] > 0).all()
    assert gradient_norms(network, IDS, STEPS).dh[3:].all()
    assert whole.decay == pytest.approx(alone.decay)
