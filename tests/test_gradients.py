"""How far back gradients reach: against torch's own cells, differences of the loss, and algebra."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch.nn import functional as F
from typer.testing import CliRunner, Result

import charlm
from charlm import LanguageModel
from charlm.cli.gradients import _bars, gradients
from charlm.errors import CharlmError, InputError, ModelError, OptionError
from charlm.model.config import ModelConfig
from charlm.model.equations import Parameters
from charlm.model.gradients import gradient_norms
from charlm.model.network import Network
from charlm.tokenizer import EOS, START

VOCAB, HIDDEN, STEPS = 9, 4, 5
IDS = np.array([3, 5, EOS, 8, 2, 4], np.uint8)  # one window of STEPS steps back
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


Nudge = Callable[[int, int, int], torch.Tensor | float]  # of step, layer and place in the state


def loss(network: Network, batch: int, nudge: Nudge) -> torch.Tensor:
    """−log p of the last of IDS, (batch,), where a nudge is added to every state as it is made."""
    states, config = network.initial_state(batch), network.config
    for step, x in enumerate(network.vectors(INPUTS[:, None].expand(-1, batch))):
        for k, layer in enumerate(network.layers):
            gates = F.linear(x, layer.W, None if config.layer_norm else layer.b)
            p = Parameters(layer.cell, dict(layer.named_parameters()))
            if len(states[k]) == 2:  # of an LSTM: first c', by which h' is made anew
                h, c = states[k]
                made = layer.cell.step(p, gates, (h, c))
                c = made[1] + nudge(step, k, 1)
                h = output_gate(layer, p, gates, h, c) * c.tanh() + nudge(step, k, 0)
                states[k] = h, c
            else:
                (h,) = layer.cell.step(p, gates, states[k])
                states[k] = (h + nudge(step, k, 0),)
            h = states[k][0]
            x = x + h if config.residual and x.shape == h.shape else h
    weight = network.embedding[1:] if config.tied else network.output.W
    logits = F.linear(network.top(x), weight, network.output.b)
    return -logits.log_softmax(dim=1)[:, int(IDS[-1]) - 1]


def output_gate(layer: Any, p: Any, gates: Any, h: Any, c: Any) -> torch.Tensor:
    a = (gates + p.U(h))[:, -HIDDEN:]
    return torch.sigmoid(a + p.p_o * c if hasattr(p, "p_o") else a)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_the_norms_are_those_of_differences_of_the_loss(name: str) -> None:
    network = random_network(**SHAPES[name])
    with torch.enable_grad():
        found = gradient_norms(network, IDS, STEPS)
    assert found.windows == 1 and found.steps == STEPS
    network.double()
    small = torch.cat([torch.eye(HIDDEN), -torch.eye(HIDDEN)]).double() * 1e-5
    for place, norms in enumerate([found.dh] if found.dc is None else [found.dh, found.dc]):
        for k, norm in enumerate(norms):
            squares = 0.0
            for layer in range(network.config.layers):
                at = (STEPS - k, layer, place)
                up, down = loss(
                    network, 2 * HIDDEN, lambda *here, at=at: small if here == at else 0.0
                ).split(HIDDEN)
                squares += float(((up - down) / 2e-5).square().sum())
            assert norm == pytest.approx(math.sqrt(squares), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_two_layers_are_those_of_torchs_own_cells(kind: str) -> None:
    """Over several windows, each from the state after the tokens before it."""
    network = random_network(cell=kind.lower(), layers=2)
    ids = np.array([*IDS, 7, 3, 3, EOS], np.uint8)
    found = gradient_norms(network, ids, STEPS)
    assert found.windows == 3  # 4 tokens to spare, of which 2 are read before the first window
    network.double()
    cells = []
    for layer in network.layers:
        cell = getattr(torch.nn, f"{kind}Cell")(layer.W.shape[1], HIDDEN, dtype=torch.float64)
        parts = (layer.W, layer.U, layer.b, torch.zeros_like(layer.b))
        cell.load_state_dict(
            dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts, strict=True))
        )
        cells.append(cell)
    read = [START if id == EOS else int(id) for id in [START, *ids]]
    norms = [window_norms(network, cells, read[s : s + 8], int(ids[s + 7])) for s in range(3)]
    mean = np.mean(norms, axis=0)
    np.testing.assert_allclose(found.dh, mean[0], rtol=1e-9)
    if found.dc is not None:
        np.testing.assert_allclose(found.dc, mean[1], rtol=1e-9)
    assert (found.dc is None) == (kind == "RNN")
    logs = np.log(np.array(norms)[:, 0]).mean(axis=0)
    k = np.arange(STEPS + 1)
    slope = ((k - k.mean()) * (logs - logs.mean())).sum() / ((k - k.mean()) ** 2).sum()
    assert found.decay == pytest.approx(-slope, rel=1e-9)


def window_norms(network: Network, cells: list[Any], read: list[int], target: int) -> np.ndarray:
    """(letters of the state, STEPS + 1)"""
    states: list[Any] = [None] * len(cells)
    kept = []
    for id in read:
        x = network.embedding[id][None]
        for k, cell in enumerate(cells):
            states[k] = cell(x, states[k])
            x = states[k][0] if isinstance(states[k], tuple) else states[k]
        kept.append([s if isinstance(s, tuple) else (s,) for s in states])
    logits = F.linear(network.top(x), network.output.W, network.output.b)
    tensors = kept[-STEPS - 1 :][::-1]
    wanted = [t for step in tensors for layer in step for t in layer]
    found = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([target - 1])), wanted)
    grouped = torch.stack(found).view(STEPS + 1, len(cells), -1, HIDDEN)
    return grouped.square().sum(dim=(1, 3)).sqrt().T.numpy()


def test_at_k_0_it_is_the_gradient_where_the_softmax_reads() -> None:
    network = random_network()
    found = gradient_norms(network, IDS, STEPS)
    network.double()
    with torch.no_grad():
        h = network.layers(network.vectors(INPUTS[:, None]), network.initial_state(1))[0][-1]
        p = F.linear(network.top(h), network.output.W, network.output.b).softmax(dim=1)
        p[0, int(IDS[-1]) - 1] -= 1
        g = (p @ network.output.W)[0] * network.norm.gain
        centred = h[0] - h[0].mean()
        scale = (centred.square().mean() + 1e-5).sqrt()
        y = centred / scale  # what layer normalisation does to a gradient g of y
        expected = (g - g.mean() - y * (g * y).mean()) / scale
    assert found.dh[0] == pytest.approx(float(expected.norm()), rel=1e-9)


@pytest.mark.parametrize(("factor", "half_life"), [(0.5, 1), (0.001, 0.1003), (1.05, math.inf)])
def test_a_linear_recurrence_decays_by_its_factor(factor: float, half_life: float) -> None:
    network = random_network(cell="rnn")
    with torch.no_grad():
        network.layers[0].W.mul_(1e-6)
        network.layers[0].b.zero_()
        network.layers[0].U.copy_(factor * torch.eye(HIDDEN))
    ids = np.tile(IDS, 20)
    found = gradient_norms(network, ids, 40)  # 0.001^40 is far below the least float32
    assert found.decay == pytest.approx(-math.log(factor), abs=1e-4)
    assert found.half_life == pytest.approx(half_life, abs=1e-4)
    np.testing.assert_allclose(found.dh[1:] / found.dh[:-1], factor, rtol=1e-3)
    assert found.windows == 41


def test_a_window_does_not_depend_on_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ids = random_network(layers=2), np.tile(IDS, 15)
    together = gradient_norms(network, ids, 30)
    assert together.windows == 31  # of 60 places, half are left to be read before
    monkeypatch.setattr("charlm.model.gradients.STATE_VALUES_AT_ONCE", 31 * 2 * HIDDEN * 7)
    apart = gradient_norms(network, ids, 30)
    np.testing.assert_allclose(apart.dh, together.dh, rtol=1e-9)
    np.testing.assert_allclose(apart.dc, together.dc, rtol=1e-9)
    assert apart.decay == pytest.approx(together.decay, rel=1e-9)


def test_the_network_is_left_as_it_was() -> None:
    network = random_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradient_norms(network, IDS, 3)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_gradient_that_is_zero_has_no_decay() -> None:
    network = random_network(cell="rnn")
    with torch.no_grad():
        network.layers[0].U.zero_()
    found = gradient_norms(network, IDS, STEPS)
    assert found.dh[0] > 0 and not found.dh[1:].any()
    assert math.isnan(found.decay) and found.half_life == math.inf


def test_what_cannot_be_followed_is_refused() -> None:
    for ids in (IDS[:0], IDS[:1]):
        with pytest.raises(InputError, match=f"too short \\({len(ids)} of the 2 tokens"):
            gradient_norms(random_network(), ids, STEPS)
    with pytest.raises(ModelError, match="train one without --bidirectional"):
        gradient_norms(random_network(task="fill", feedforward=1), IDS, STEPS)


def test_a_short_text_is_followed_to_its_beginning() -> None:
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


def test_formats_hold_the_same_numbers(folder: Path, model: LanguageModel, corpus: Path) -> None:
    expected = gradient_norms(
        model.backends.torch, model.tokenizer.encode_ids(corpus.read_text(encoding="utf-8")), 7
    )
    (line,) = command(folder, corpus, "--steps", 7, "--format", "json").stdout.splitlines()
    about = json.loads(line)
    assert list(about) == [
        "model", "cell", "layers", "hidden", "steps", "windows", "decay_nats_per_step",
        "half_life_steps", "dh", "dc",
    ]  # fmt: skip
    assert (about["model"], about["cell"], about["steps"]) == (str(folder), "lstm", 7)
    assert about["windows"] == 128 and about["half_life_steps"] == pytest.approx(
        math.log(2) / expected.decay
    )
    np.testing.assert_allclose(about["dh"], expected.dh)
    np.testing.assert_allclose(about["dc"], expected.dc)
    heading, *rows = command(folder, corpus, "--steps", 7).stdout.splitlines()
    assert heading.split("\t") == ["model", "k", "dh", "dc"] and len(rows) == 8
    name, k, dh, dc = rows[3].split("\t")
    assert (name, k) == (str(folder), "3")
    assert float(dh) == pytest.approx(expected.dh[3], rel=1e-5)
    assert float(dc) == pytest.approx(expected.dc[3], rel=1e-5)
    table = command(folder, corpus, "--steps", 7, "--format", "table").stdout
    assert table.splitlines()[-1].endswith(f"({expected.decay:.4f} nats/step)")
    assert f"{expected.dh[3]:.1e} ▇" in table and f"{expected.dc[3]:.1e} ▇" in table


def test_bars_are_logarithmic() -> None:
    bars = _bars([[1.0, 0.1, 0.01], [0.0, math.inf]], 10)
    assert [len(bar) for _, drawn in bars for bar in drawn] == [10, 5, 0, 0, 10]


@pytest.fixture(scope="module")
def small(corpus: Path, folder: Path) -> Path:
    """A model of words, whose cell has no c."""
    out = folder.with_name("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        charlm.train(corpus, out=out, level="word", cell="gru", steps=5, hidden=8, quiet=True)
    return out


def test_several_models_each_as_far_as_the_text_goes_in_its_tokens(
    folder: Path, small: Path
) -> None:
    ran = command(folder, small, "the cat sat on the mat", "--steps", 10, "--format", "json")
    letters, words = map(json.loads, ran.stdout.splitlines())
    assert (letters["steps"], words["steps"]) == (10, 5) and words["dc"] is None
    assert "the text has 6 tokens: gradients can reach back 5 steps" in ran.stderr
    rows = command(folder, small, "the cat sat on the mat", "--steps", 10).stdout.splitlines()
    assert len(rows) == 1 + 11 + 6 and rows[-1].endswith("\t")
    ran = command(folder, small, "the cat sat on the mat", "--steps", 10, "--format", "table")
    assert ran.exit_code == 0 and len(ran.stdout.splitlines()) >= 12 + 2


def test_without_a_model_it_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command("the Ж cat", "--format", "json")
    about = json.loads(ran.stdout)
    assert about["model"] == str(folder) and about["steps"] == 8 and about["windows"] == 1
    assert "the model has never seen 'Ж'" in ran.stderr


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
    ("arguments", "error", "words"),
    [
        (["--steps", "0", "text"], OptionError, "--steps 0: must be 1 or more"),
        (["--format", "xml", "text"], OptionError, "--format xml: choose table, tsv, json"),
        (["--plot", "x.pdf", "text"], OptionError, "--plot x.pdf: the file's name must end in"),
        (["--plot", "gone/x.png", "text"], OptionError, "there is no folder gone"),
        (["gone", "text"], ModelError, "gone: no such model"),
        ([""], InputError, "too short (0 of"),
        (["x"], InputError, "too short (1 of"),
        (["nope.txt"], InputError, "nope.txt: no such file"),
        (["x" * 300, "--encoding", "none"], None, ""),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    error: type[CharlmError] | None, words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command(*arguments)
    if error is None:
        assert ran.exit_code == 0
    else:
        assert isinstance(ran.exception, error) and words in str(ran.exception)
        assert "\n" not in str(ran.exception) and not ran.stdout


def test_a_folder_is_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_MODEL", str(folder))
    ran = command(folder)
    assert isinstance(ran.exception, InputError)
    assert "is a folder; give a text, or its file, after the models" in str(ran.exception)


def test_without_matplotlib_a_plot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = command("text", "--plot", "x.png")
    assert isinstance(ran.exception, OptionError)
    assert "`pip install matplotlib`" in str(ran.exception)


def test_the_command_loads_nothing_heavy() -> None:
    program = (
        "import sys, charlm.cli.gradients\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich.table'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600
    )
    assert ran.stdout == "[]\n"
