"""Several networks in one model: trained apart, they predict by the mean of their logits."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

import charlm
from charlm import FillModel, LanguageModel
from charlm.errors import CharlmError, OptionError
from charlm.model import several
from charlm.model.activations import FORWARDS, ObservedStack, block_diagonal
from charlm.model.config import ModelConfig
from charlm.model.gradients import gradient_norms
from charlm.model.names import strip_prefix
from charlm.model.network import Network
from charlm.model.numpy_network import numpy_network
from charlm.model.pseudo_likelihood import pseudo_logprobs
from charlm.training.crew import Processes
from charlm.training.loop import Loop
from charlm.training.member import Member
from conftest import stopped_after

SMALL: dict[str, Any] = {
    "hidden": 12, "bptt": 16, "batch": 4, "quiet": True, "precision": "fp32", "ngram": "none"
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "one layer": {},
    "two layers": {"layers": 2, "cell": "gru", "layer_norm": True, "feedforward": 1},
    "tied": {"tied": True, "embedding": 6},
    "split softmax": {"cutoffs": (4, 9)},
}
IDS = np.random.default_rng(5).integers(1, 14, (2, 7))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def random_networks(networks: int = 3, **shape: Any) -> several.SeveralNetworks:
    config = ModelConfig(14, hidden=6, **{"embedding": 5} | shape, networks=networks)
    network = several.network(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.6, generator=generator)
    assert isinstance(network, several.SeveralNetworks)
    return network.eval()


def alone(network: Network) -> torch.Tensor:
    """The logits of a network after each of `IDS`, (B, T, V−1)."""
    y, _ = network.encoder(torch.from_numpy(IDS.T), network.initial_state(2))
    return F.linear(network.head(y), network.softmax().rows, network.softmax().bias).transpose(0, 1)


@pytest.mark.parametrize("shape", ["one layer", "two layers", "tied"])
@torch.no_grad()
def test_several_networks_predict_the_geometric_mean_of_their_distributions(shape: str) -> None:
    network = random_networks(**SHAPES[shape])
    logs = torch.stack([alone(member).log_softmax(-1) for member in network.members])
    geometric = logs.mean(dim=0).exp()
    expected = (geometric / geometric.sum(dim=-1, keepdim=True)).log()
    y, _ = network.read(IDS, network.initial_state(2))
    found = torch.from_numpy(network.logits(y)).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (logs[0] - expected).abs().max() > 0.1  # no network predicts that alone


@pytest.mark.parametrize("shape", SHAPES)
def test_several_networks_in_numpy_equal_those_in_torch(shape: str) -> None:
    network = random_networks(**SHAPES[shape])
    twin = numpy_network(network.config, network.weights())
    state, twins = network.initial_state(2), twin.initial_state(2)
    for part in (IDS[:, :3], IDS[:, 3:]):
        y, state = network.read(part, state)
        same, twins = twin.read(part, twins)
        np.testing.assert_allclose(same, y, atol=1e-5)
        logits = network.logits(y)
        np.testing.assert_allclose(twin.logits(same), logits, atol=1e-4)
        logprobs = network.logprobs(y, part)
        np.testing.assert_allclose(twin.logprobs(same, part), logprobs, atol=1e-5)
        normalised = torch.from_numpy(logits).log_softmax(-1).numpy()
        of_targets = np.take_along_axis(normalised, part[..., None] - 1, -1)[..., 0]
        np.testing.assert_allclose(logprobs, of_targets, atol=1e-5)


def test_several_networks_read_lines_from_both_sides() -> None:
    network = random_networks(bidirectional=True, feedforward=1)
    lines = [IDS[0], IDS[1, :4]]
    (found, _), (same, _) = (
        pseudo_logprobs(backend, lines)
        for backend in (network, numpy_network(network.config, network.weights()))
    )
    np.testing.assert_allclose(same, found, atol=1e-5)
    # One token of a line, given the others, by the mean of the logits of each network alone.
    with torch.no_grad():
        logits = []
        for member in network.members:
            zero = member.initial_state(1)
            before = torch.tensor([[0, *IDS[0, :2]]]).T
            after = torch.tensor([[1, *IDS[0, :2:-1]]]).T
            y, _ = member.encoder(before, zero)
            r, _ = member.encoder(after, zero, reverse=True)
            features = member.head(torch.cat([y[-1], r[-1]], dim=-1))
            logits.append(F.linear(features, member.softmax().rows, member.softmax().bias))
        expected = torch.stack(logits).mean(dim=0).log_softmax(-1)[0, IDS[0, 2] - 1]
    assert found[2] == pytest.approx(float(expected), abs=1e-5)


def test_equal_networks_share_the_gradient_of_one() -> None:
    one = random_networks(1 + 1).members[0]
    both = several.network(one.config.several(4))
    for member in both.members:
        member.load_state_dict(one.state_dict())
    ids = IDS.reshape(-1)
    alone, together = (gradient_norms(network, ids, 5) for network in (one, both.eval()))
    # Each of the four has a quarter of the gradient: √(4 · (1/4)²) of the norm.
    np.testing.assert_allclose(together.dh, alone.dh / 2, rtol=1e-5)
    assert together.decay == pytest.approx(alone.decay, rel=1e-4)


@pytest.mark.parametrize("shape", ["one layer", "two layers"])
def test_the_units_of_several_networks_are_those_of_each(shape: str) -> None:
    network = random_networks(**SHAPES[shape])
    each = network.config.by_network(network.weights())
    stacks = [strip_prefix("layers", weights) for weights in each]
    tables = [weights["embedding"] for weights in each]
    config, rows = network.config.one, IDS.T.astype(np.int64)
    lengths = np.full(2, len(rows))

    def observed(weights: Any, table: Any, networks: int) -> list[dict[str, Any]]:
        stack = ObservedStack.of(config, weights, table, direction=FORWARDS, networks=networks)
        return [dict(o.values) for o in stack.observe(rows, rows, lengths)]

    joined = observed(block_diagonal(stacks, config.hidden), np.concatenate(tables, axis=1), 3)
    alone = [observed(w, t, 1) for w, t in zip(stacks, tables, strict=True)]
    for layer, values in enumerate(joined):
        for name, found in values.items():
            expected = np.concatenate([of_one[layer][name] for of_one in alone], axis=-1)
            np.testing.assert_allclose(found, expected, atol=1e-6)


# --- training ---


def trained(corpus: Path, **options: Any) -> LanguageModel:
    return charlm.train(corpus, kind=LanguageModel, **{**SMALL, "steps": 30} | options)


def last_weights(folder: Path) -> dict[str, np.ndarray]:
    return strip_prefix("weights", load_file(folder / "checkpoint/state.safetensors"))


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def test_each_network_is_trained_as_if_it_were_alone(corpus: Path) -> None:
    trained(corpus, networks=2, dropout=0.3, out="two")
    trained(corpus, networks=1, dropout=0.3, out="one")
    two, one = last_weights(Path("two")), last_weights(Path("one"))
    first, second = strip_prefix("networks.0", two), strip_prefix("networks.1", two)
    assert same(first, one)
    assert all((first[n] != second[n]).any() for n in one)  # from another seed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_processes_train_the_same_networks_as_one_does(corpus: Path) -> None:
    with_processes = trained(corpus, networks=3, dropout=0.3, threads=2, out="two")
    here = trained(corpus, networks=3, dropout=0.3, threads=1, out="one")
    assert same(last_weights(Path("two")), last_weights(Path("one")))
    texts = ["the cat sat on the mat", "a bird"]
    for a, b in zip(with_processes.score(texts), here.score(texts), strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_resumed_run_of_several_networks_ends_with_the_very_same_weights(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    options: dict[str, Any] = {"networks": 2, "dropout": 0.3, "threads": threads}
    trained(corpus, **options, out="whole")
    with monkeypatch.context() as patch:
        stopped_after(19, patch)
        with pytest.raises(CharlmError, match="Continue with"):
            trained(corpus, **options, out="parts")
    charlm.train(corpus, out="parts", resume=True, quiet=True)
    assert same(last_weights(Path("parts")), last_weights(Path("whole")))
    first, second = (load_file(Path(p) / "model.safetensors") for p in ("parts", "whole"))
    assert same(first, second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_the_end_of_a_process_is_one_line_and_the_run_can_go_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Loop._update

    def killing(self: Loop, *arguments: Any) -> None:
        update(self, *arguments)
        if self.step == 12:
            assert isinstance(self.crew, Processes)
            for _, _, process in self.crew._others:
                assert process.pid
                os.kill(process.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_update", killing)
        with pytest.raises(CharlmError, match=r"a process that trains .* go on with `resume`"):
            trained(corpus, networks=2, threads=2, out="killed")
    model = charlm.train(corpus, out="killed", resume=True, quiet=True)
    assert "2 networks" in model.card.trained


def test_a_run_with_a_step_of_one_network_left_out_is_resumed(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Member.step, list[Member]()

    def without_one(self: Member, rate: float) -> bool:
        calls.append(self)
        if "networks.1.encoder.embedding" in self.parameters and len(calls) > 6:
            for parameter in self.parameters.values():
                parameter.grad = torch.full_like(parameter, torch.nan)
        return step(self, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Member, "step", without_one)
        stopped_after(5, patch)
        with pytest.raises(CharlmError, match="Continue with"):
            trained(corpus, networks=2, threads=1, out="parts")
    state = load_file(Path("parts/checkpoint/state.safetensors"))
    assert not [name for name in state if name.startswith("carried")]  # both start anew
    assert "2 networks" in charlm.train(corpus, out="parts", resume=True, quiet=True).card.trained


def test_a_model_of_several_networks_does_all_that_one_does(corpus: Path) -> None:
    model = trained(corpus, networks=2, layers=2, ngram=3)
    assert "2 networks, each 2 × 12 lstm" in model.card.trained
    assert model.card.valid_network is not None and model.card.valid_ngram is not None
    assert model.card.valid_nats < model.card.valid_network
    assert len(model.sample(n=2, seed=1, max_lines=1)) == 2
    assert model.word_vectors().shape == (len(model.vocabulary), 2 * model.config.embedding)
    (line,) = model.embed(["the cat"])
    assert line.vectors.shape == (7, 24)
    assert (line.vectors[:, :12] != line.vectors[:, 12:]).any()
    assert charlm.units(model, corpus.read_text(), unit="1.c24").pictures[0].unit.name == "1.c24"
    text = corpus.read_text()
    plain, adapted = (model.evaluate(text, adapt=a).perplexity for a in (False, True))
    assert adapted != plain and model.evaluate(text, cache=100).perplexity != plain


def test_a_fill_model_may_have_several_networks(corpus: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name != "ngram"}
    charlm.train(corpus, task="fill", networks=2, steps=30, out="fill", **options)
    model = charlm.load("fill", kind=FillModel)
    assert model.config.networks == 2 and len(model.fill("the ___ sat", k=2)[0]) == 2


def test_words_with_characters_have_vectors_of_all_networks(corpus: Path) -> None:
    model = trained(corpus, networks=2, level="word", characters="recurrent", steps=10)
    known, unknown = model.word_vectors(["cat", "cats"])
    assert len(known) == 2 * model.config.inputs
    inputs = model.config.inputs
    for own in (unknown[:inputs], unknown[inputs:]):  # no network takes the vector of another
        assert (own[model.config.embedding :] != 0).any()
    assert (unknown[:inputs] != unknown[inputs:]).any()


def test_a_classifier_starts_from_the_first_of_several_networks(corpus: Path) -> None:
    model = trained(corpus, networks=2, level="word", out="lm")
    labelled = Path("labelled.tsv")
    lines = corpus.read_text().splitlines()
    labelled.write_text("".join(f"{k % 2}\t{line}\n" for k, line in enumerate(lines)))
    classifier = charlm.train(labelled, task="classify", from_="lm", steps=2, quiet=True)
    assert classifier.config.hidden == model.config.hidden


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"networks": 0}, "`networks=0`: must be from 1 to 16"),
        ({"networks": 99}, "`networks=99`: must be from 1 to 16"),
        ({"networks": 2, "task": "classify"}, "`networks=2`: is not for `task=classify`"),
    ],
)
def test_numbers_of_networks_without_sense_are_refused(
    corpus: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError) as error:
        charlm.train(corpus, **options)
    assert words in str(error.value)


def test_networks_that_do_not_fit_into_memory_are_refused(corpus: Path) -> None:
    with pytest.raises(OptionError, match="or fewer `networks`"):
        charlm.train(corpus, networks=16, hidden=20_000, quiet=True)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
