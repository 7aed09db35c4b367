"""What a network is made of beside its cells: dropout, loss, highway, spelling, both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from charlm.model.config import Dropout, ModelConfig
from charlm.model.layers import Highway, Masks, reversed_in_time
from charlm.model.likelihood import both_sides, one_sided_logprobs, pseudo_logprobs
from charlm.model.loss import Softmax, summed_cross_entropy, target_logprobs
from charlm.model.network import Network, as_arrays, network_from
from charlm.model.numpy_network import NumpyNetwork
from charlm.tokenizer import EOS, START, train_tokenizer
from charlm.tokenizer.letters import LONGEST_WORD, Letters


def randomised(config: ModelConfig, std: float = 0.3, **more: Any) -> Network:
    network = Network(config, generator=torch.Generator().manual_seed(3), **more)
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval()


# --- dropout ---


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_variational_masks_are_constant_over_time_and_differ_over_sequences(kind: str) -> None:
    masks = Masks(Dropout(**{kind: 0.5}), torch.Generator().manual_seed(0))
    ones = torch.ones(7, 3, 64)
    dropped = getattr(masks, kind)(ones)
    assert torch.equal(dropped[0], dropped[6]) and not torch.equal(dropped[:, 0], dropped[:, 1])
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped, getattr(masks, kind)(ones))
    per_step = Masks(Dropout(**{kind: 0.5}, per_step=True), torch.Generator().manual_seed(0))
    assert not torch.equal((other := getattr(per_step, kind)(ones))[0], other[6])


def test_the_mask_of_the_state_is_the_same_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomised(ModelConfig(9, "rnn", hidden=16, embedding=4)).train()
    layer = network.layers[0]
    read: list[torch.Tensor] = []
    monkeypatch.setattr(
        "charlm.model.recurrence._LateParameters._read",
        lambda self, h: read.append(self._mask) or h * self._mask,
    )
    masks = Masks(Dropout(state=0.5), torch.Generator().manual_seed(0))
    layer(torch.randn(6, 3, 4), (torch.randn(3, 16),), masks)
    assert len(read) == 6 and all(mask is read[0] for mask in read)
    assert set(read[0].unique().tolist()) == {0.0, 2.0} and not torch.equal(read[0][0], read[0][1])


def test_weight_dropout_leaves_out_recurrent_weights_for_a_whole_sequence() -> None:
    network = randomised(ModelConfig(9, "lstm", hidden=16, embedding=4)).train()
    layer = network.layers[0]
    masks = Masks(Dropout(weights=0.25), torch.Generator().manual_seed(0))
    weights, mask = layer._dropped(torch.zeros(5, 2, 4), masks)
    ratio = (weights["U"] / layer.U).detach()
    assert mask is None and torch.equal(weights["W"], layer.W)
    assert ratio.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    torch.testing.assert_close(ratio[ratio != 0], torch.full_like(ratio[ratio != 0], 4 / 3))


def test_each_line_of_both_directions_has_its_own_mask() -> None:
    network = randomised(ModelConfig(9, **BOTH), dropout=Dropout(outputs=0.5)).train()
    read: list[torch.Tensor] = []
    network.feedforward[0].register_forward_pre_hook(lambda module, x: read.append(x[0]))
    ids = torch.ones(5, 3, dtype=torch.int64)
    network.loss(ids, ids, network.initial_state(3), ids)
    left_out = read[0] == 0  # (T, B, 2·H)
    assert torch.equal(left_out, left_out[:1].expand_as(left_out))
    assert len(torch.unique(left_out[0], dim=0)) == 3


def test_dropout_leaves_the_way_around_a_residual_layer_alone() -> None:
    config = ModelConfig(9, layers=3, hidden=8, embedding=8, residual=True)
    network = randomised(config)
    for layer in network.layers:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)  # whose output is zero
    x = torch.randn(5, 2, 8)
    masks = Masks(Dropout(outputs=0.5, inputs=0.5), torch.Generator().manual_seed(0))
    y, _ = network.layers(x, network.initial_state(2), masks)
    torch.testing.assert_close(y, x)


def test_evaluation_leaves_nothing_out() -> None:
    config = ModelConfig(9, hidden=8, embedding=4, layers=2)
    dropout = Dropout(0.5, 0.5, 0.5, 0.5)
    dropped, plain = randomised(config, dropout=dropout), randomised(config)
    ids = torch.ones(5, 2, dtype=torch.int64)
    losses = [n.loss(ids, ids, n.initial_state(2))[0].item() for n in (dropped, plain)]
    assert losses[0] == losses[1]
    dropped.train()
    assert dropped.loss(ids, ids, dropped.initial_state(2))[0].item() != losses[0]


# --- layers that are not recurrent ---


def test_a_highway_layer_is_its_equation_and_starts_near_the_identity() -> None:
    torch.manual_seed(0)
    highway, x = Highway(6).double(), torch.randn(4, 6, dtype=torch.float64)
    torch.nn.init.normal_(highway.W)
    torch.nn.init.normal_(highway.W_T)
    transform = torch.sigmoid(x @ highway.W_T.T + highway.b_T)
    expected = torch.relu(x @ highway.W.T + highway.b) * transform + x * (1 - transform)
    torch.testing.assert_close(highway(x), expected)
    assert (highway.b_T < 0).all()
    torch.nn.init.constant_(highway.b_T, -50.0)
    torch.testing.assert_close(highway(x), x, rtol=0, atol=1e-12)


def test_a_residual_stack_adds_what_each_layer_reads() -> None:
    plain = randomised(ModelConfig(9, "gru", layers=3, hidden=8, embedding=8))
    residual = randomised(ModelConfig(9, "gru", layers=3, hidden=8, embedding=8, residual=True))
    residual.load_state_dict(plain.state_dict())
    x, state = torch.randn(5, 2, 8), plain.initial_state(2)
    y = x
    for layer, before in zip(plain.layers, state, strict=True):
        y = y + layer(y, before)[0]
    torch.testing.assert_close(residual.layers(x, state)[0], y)


# --- words by their letters ---

WORDS = "walk walked walking talk talked talking a the stop".split()


@pytest.fixture(params=["recurrent", "convolutional"])
def spelling(request: pytest.FixtureRequest) -> tuple[Network, Letters]:
    tokenizer = train_tokenizer("word", lambda: ["".join(f"{word}\n" for word in WORDS)])
    letters = Letters(tokenizer)
    config = ModelConfig(
        tokenizer.size, hidden=12, embedding=10, characters=request.param, spelled=30,
        alphabet=letters.size, highway=1,
    )  # fmt: skip
    return randomised(config, spellings=letters.of_vocabulary()), letters


def test_a_words_letters_alone_make_its_vector(spelling: tuple[Network, Letters]) -> None:
    network, letters = spelling
    together = network.spelled_words(letters.spell(["walked", "a", "stop"]))
    alone = [network.spelled_words(letters.spell([w]))[0] for w in ("walked", "a", "stop")]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[2]).max() > 0.01
    reversed_word = network.spelled_words(letters.spell(["deklaw"]))
    assert np.abs(together[0] - reversed_word[0]).max() > 0.01


def test_training_and_the_table_for_evaluation_agree(spelling: tuple[Network, Letters]) -> None:
    network, _ = spelling
    ids = torch.tensor([[3, 5], [4, 3], [0, 2]])
    expected = network.vectors(ids)
    network.train()
    torch.testing.assert_close(network.vectors(ids), expected)
    network.vectors(ids).sum().backward()
    assert network.spelling.letters.grad is not None and network.spelling.letters.grad.any()
    stepper = NumpyNetwork(network.config, as_arrays(network.eval().state_dict()))
    np.testing.assert_allclose(
        stepper.vectors(ids.numpy()), expected.detach().numpy(), rtol=1e-5, atol=1e-5
    )


def test_the_table_follows_the_weights(spelling: tuple[Network, Letters]) -> None:
    network, _ = spelling
    before = network.spelled.clone()
    with torch.no_grad():
        network.spelling.letters.mul_(0.5)
    assert not torch.allclose(network.train().eval().spelled, before)
    again = network_from(network.config, as_arrays(network.state_dict()))
    torch.testing.assert_close(again.spelled, network.spelled)


def test_letters_are_framed_and_unknown_ones_are_marked() -> None:
    tokenizer = train_tokenizer("word", lambda: ["ab b\n"])
    letters = Letters(tokenizer)
    ids = {letter: letters.spell([letter])[0, 1] for letter in "ab"}
    assert letters.spell(["abz"])[0, :6].tolist() == [1, ids["a"], ids["b"], 3, 2, 0]
    assert letters.spell(["b" * 99]).shape == (1, LONGEST_WORD + 2)
    assert letters.of_vocabulary().shape[0] == tokenizer.size
    assert 3 < min(ids.values()) and letters.of_vocabulary().max() == letters.size - 1


# --- both directions ---

BOTH = {"hidden": 8, "embedding": 6, "task": "fill", "feedforward": 1}


def as_backends(network: Network) -> list[Any]:
    return [network, NumpyNetwork(network.config, as_arrays(network.state_dict()))]


@pytest.mark.parametrize("layers", [1, 2])
def test_the_target_is_never_visible_to_the_states_that_predict_it(layers: int) -> None:
    network = randomised(ModelConfig(9, layers=layers, **BOTH))
    line = np.array([3, 4, 5, 6, 7, 8, 3])
    for backend in as_backends(network):
        (before,) = both_sides(backend, [line])
        for place in range(len(line)):
            changed = line.copy()
            changed[place] = 4 if line[place] != 4 else 5
            (after,) = both_sides(backend, [changed])
            difference = np.abs(after - before)[: len(line)].max(axis=1)
            assert difference[place] == 0
            assert (np.delete(difference, place) > 1e-6).all()


def test_both_sides_are_two_stacks_over_what_stands_before_and_after() -> None:
    network = randomised(ModelConfig(9, **BOTH))
    lines = [np.array([3, 4, 5]), np.array([6, 7, 8, 3, 4])]
    for backend in as_backends(network):
        found = both_sides(backend, lines)
        for row, line in zip(found, lines, strict=True):
            onward, _ = network.read(np.array([[START, *line[:-1]]]), network.initial_state(1))
            back, _ = network.read(
                np.array([[EOS, *line[:0:-1]]]), network.initial_state(1), reverse=True
            )
            expected = np.concatenate([onward[0], back[0, ::-1]], axis=1)
            np.testing.assert_allclose(row[: len(line)], expected, atol=1e-6)


def test_the_loss_of_lines_is_their_pseudo_log_likelihood() -> None:
    network = randomised(ModelConfig(9, **BOTH))
    lines = [np.array([3, 4, 5]), np.array([6, 7, 8, 3, 4])]
    inputs, targets, following = (np.zeros((6, 2), np.int64) for _ in range(3))
    following[:] = EOS
    for k, line in enumerate(lines):
        inputs[: len(line), k] = [START, *line[:-1]]
        targets[: len(line), k] = line
        following[: len(line), k] = [*line[1:], EOS]
    batch = (torch.from_numpy(a) for a in (inputs, targets))
    loss, _ = network.loss(*batch, network.initial_state(2), torch.from_numpy(following))
    for backend in as_backends(network):
        found = pseudo_logprobs(backend, lines)
        assert [len(row) for row in found] == [3, 5]
        assert -sum(row.sum() for row in found) == pytest.approx(loss.item(), abs=1e-4)


def test_one_side_alone_is_a_language_model_of_its_own() -> None:
    network = randomised(ModelConfig(7, **BOTH))
    for backend in as_backends(network):
        for reverse in (False, True):
            lines = [np.array([a, b]) for a in range(1, 7) for b in range(1, 7)]
            found = one_sided_logprobs(backend, lines, reverse)
            assert sum(np.exp(row.sum()) for row in found) == pytest.approx(1, abs=1e-4)
            first = {
                int(line[-reverse]): row[-reverse] for line, row in zip(lines, found, strict=True)
            }
            assert np.exp(list(first.values())).sum() == pytest.approx(1, abs=1e-4)


def test_training_leaves_out_a_direction_at_times_but_never_both() -> None:
    network = randomised(ModelConfig(9, **BOTH)).train()
    y = torch.ones(4, 300, 8)
    following = torch.full((4, 300), 5)
    joined = network._joined(
        y, following, torch.full((300,), 4), Masks(Dropout(), network.generator)
    )
    onward, back = joined[0, :, 0] != 0, joined[0, :, 8:].abs().sum(dim=1) != 0
    assert (onward | back).all()
    assert 0.15 < (~onward).float().mean() < 0.35 and 0.15 < (~back).float().mean() < 0.35
    network.eval()
    assert (network._joined(y, following, torch.full((300,), 4), None)[..., :8] == 1).all()


def test_reversing_in_time_knows_each_length() -> None:
    x = torch.arange(12).reshape(4, 3)
    lengths = torch.tensor([4, 2, 0])
    assert reversed_in_time(x, lengths).T.tolist() == [[9, 6, 3, 0], [4, 1, 7, 10], [2, 5, 8, 11]]
    assert torch.equal(reversed_in_time(reversed_in_time(x, lengths), lengths), x)


# --- the loss ---


SHAPES = {"plain": (), "one tail": (3,), "two tails": (2, 4)}


def softmax_of(cutoffs: tuple[int, ...], tied: bool, **kind: Any) -> Softmax:
    """Of 7 rows and 4 features, with random weights."""
    tensors = [
        torch.randn(*shape, requires_grad=True, **kind)
        for shape in ((7 + tied, 4), (7,), (len(cutoffs), 4), (len(cutoffs),))
    ]
    return Softmax(cutoffs, *tensors)


def split_logprobs(y: torch.Tensor, softmax: Softmax, tied: bool) -> torch.Tensor:
    """All of them, (N, 7), by torch's own functions: p(head or tail) · p(row | tail)."""
    logits = torch.nn.functional.linear(y, softmax.weight[tied:], softmax.bias)
    of_tails = torch.nn.functional.linear(y, softmax.tail_weight, softmax.tail_bias)
    head, *tails = logits.tensor_split(list(softmax.cutoffs), dim=1)
    head = torch.log_softmax(torch.cat([head, of_tails], dim=1), dim=1)
    kept = head.shape[1] - len(tails)
    parts = [t.log_softmax(dim=1) + head[:, [kept + j]] for j, t in enumerate(tails)]
    return torch.cat([head[:, :kept], *parts], dim=1)


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cutoffs", SHAPES.values(), ids=SHAPES)
def test_the_loss_and_its_gradients_are_those_of_torchs_own_functions(
    rows: int, tied: bool, cutoffs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.loss.ENTRIES_AT_ONCE", rows * 7)
    torch.manual_seed(0)
    softmax = softmax_of(cutoffs, tied, dtype=torch.float64)
    y = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (10,))
    all_logprobs = split_logprobs(y, softmax, tied)
    torch.testing.assert_close(all_logprobs.exp().sum(dim=1), torch.ones(10, dtype=torch.float64))
    theirs = all_logprobs[torch.arange(10), targets]
    with torch.no_grad():
        found = target_logprobs(y, targets, softmax)
    torch.testing.assert_close(found, theirs.float(), rtol=0, atol=1e-6)
    ours = summed_cross_entropy(y, targets, softmax)
    torch.testing.assert_close(ours, -theirs.sum(), rtol=0, atol=1e-10)
    wanted = [y, *softmax[1 : 5 if cutoffs else 3]]
    gradients = (torch.autograd.grad(2 * t, wanted) for t in (ours, -theirs.sum()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cutoffs", SHAPES.values(), ids=SHAPES)
def test_the_loss_in_bf16_is_near_that_in_float32(cutoffs: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    softmax, y = softmax_of(cutoffs, False), torch.randn(50, 4, requires_grad=True)
    targets = torch.randint(7, (50,))
    exact = summed_cross_entropy(y, targets, softmax)
    with torch.autocast("cpu", torch.bfloat16):
        near = summed_cross_entropy(y, targets, softmax)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=1e-2, atol=0)
    wanted = [y, *softmax[1 : 5 if cutoffs else 3]]
    gradients = (torch.autograd.grad(loss, wanted) for loss in (near, exact))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.02 * b.norm()
