"""Parts of a network other than cells: dropout, layers, character features, directions, loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from charlm.corpus.lines import LineBatch
from charlm.corpus.streams import StreamBatch
from charlm.model.config import Dropout, ModelConfig
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.equations import Parameters
from charlm.model.layers import Highway, Layer, reverse_in_time
from charlm.model.loss import Softmax, summed_cross_entropy, target_logprobs
from charlm.model.network import Network
from charlm.model.numpy_network import NumpyNetwork
from charlm.model.pseudo_likelihood import both_sides, one_sided_logprobs, pseudo_logprobs
from charlm.tasks import load_task
from charlm.tokenizer import EOS, START, train_tokenizer
from charlm.tokenizer.letters import LONGEST_WORD, Letters

LM, FILL = load_task("lm"), load_task("fill")


def random_network(config: ModelConfig, std: float = 0.3, **options: Any) -> Network:
    network = Network(config, generator=torch.Generator().manual_seed(3), **options)
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network.eval()


def line_batch(ids: np.ndarray) -> LineBatch:
    return LineBatch(ids, ids, ids)


# --- dropout ---


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_variational_masks_are_constant_over_time_and_differ_between_sequences(kind: str) -> None:
    rates: dict[str, Any] = {kind: 0.5}
    masks = DropoutMasks(Dropout(**rates), torch.Generator().manual_seed(0))
    ones = torch.ones(7, 3, 64)
    dropped = getattr(masks, kind)(ones)
    assert torch.equal(dropped[0], dropped[6]) and not torch.equal(dropped[:, 0], dropped[:, 1])
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped, getattr(masks, kind)(ones))
    per_step = DropoutMasks(Dropout(**rates, per_step=True), torch.Generator().manual_seed(0))
    dropped = getattr(per_step, kind)(ones)
    assert not torch.equal(dropped[0], dropped[6])


def first_layer(network: Network) -> Layer:
    return next(iter(network.encoder.layers))


def test_state_mask_is_the_same_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(ModelConfig(9, cell="rnn", hidden=16, embedding=4)).train()
    used: list[torch.Tensor] = []

    def masked(self: Any, h: torch.Tensor) -> torch.Tensor:
        used.append(self._mask)
        return h * self._mask

    monkeypatch.setattr(Parameters, "_masked", masked)
    masks = DropoutMasks(Dropout(state=0.5), torch.Generator().manual_seed(0))
    first_layer(network)(torch.randn(6, 3, 4), (torch.randn(3, 16),), masks)
    assert len(used) == 6 and all(mask is used[0] for mask in used)
    assert set(used[0].flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(used[0][0], used[0][1])


def test_weight_dropout_masks_recurrent_weights_only() -> None:
    network = random_network(ModelConfig(9, cell="lstm", hidden=16, embedding=4)).train()
    layer = first_layer(network)
    masks = DropoutMasks(Dropout(weights=0.25), torch.Generator().manual_seed(0))
    weights, state_mask = layer.weights_and_mask(torch.zeros(5, 2, 4), masks)
    ratio = (weights["U"] / layer.U).detach()
    assert state_mask is None and torch.equal(weights["W"], layer.W)
    assert ratio.eq(0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    torch.testing.assert_close(ratio[ratio != 0], torch.full_like(ratio[ratio != 0], 4 / 3))


def test_each_line_has_its_own_mask_in_both_directions() -> None:
    network = random_network(ModelConfig(9, **BOTH), dropout=Dropout(outputs=0.5)).train()
    inputs: list[torch.Tensor] = []
    network.head.feedforward[0].register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    FILL.loss(network, line_batch(np.ones((5, 3), np.int64)), [])
    is_zero = inputs[0] == 0  # (T, B, 2·H)
    assert torch.equal(is_zero, is_zero[:1].expand_as(is_zero))
    assert len({tuple(row.tolist()) for row in is_zero[0]}) == 3


def test_residual_connections_have_no_dropout() -> None:
    config = ModelConfig(9, layers=3, hidden=8, embedding=8, residual=True)
    network = random_network(config)
    for layer in network.encoder.layers:
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)  # the output of the layer is zero
    x = torch.randn(5, 2, 8)
    masks = DropoutMasks(Dropout(outputs=0.5, inputs=0.5), torch.Generator().manual_seed(0))
    y, _ = network.encoder.layers(x, network.initial_state(2), masks)
    torch.testing.assert_close(y, x)


def test_evaluation_has_no_dropout() -> None:
    config = ModelConfig(9, hidden=8, embedding=4, layers=2)
    dropout = Dropout(0.5, 0.5, 0.5, 0.5)
    dropped, plain = random_network(config, dropout=dropout), random_network(config)
    ids = np.ones((5, 2), np.int64)
    batch = StreamBatch(ids, ids, np.ones(2, bool))
    losses = [LM.loss(n, batch, [])[0].item() for n in (dropped, plain)]
    assert losses[0] == losses[1]
    dropped.train()
    assert LM.loss(dropped, batch, [])[0].item() != losses[0]


# --- highway and residual layers ---


def test_highway_layer_equals_its_equation_and_starts_near_the_identity() -> None:
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


def test_residual_stack_adds_the_input_of_each_layer() -> None:
    plain = random_network(ModelConfig(9, cell="gru", layers=3, hidden=8, embedding=8))
    residual = random_network(
        ModelConfig(9, cell="gru", layers=3, hidden=8, embedding=8, residual=True)
    )
    residual.load_state_dict(plain.state_dict())
    x, state = torch.randn(5, 2, 8), plain.initial_state(2)
    y = x
    for layer, first_state in zip(plain.encoder.layers, state, strict=True):
        y = y + layer(y, first_state)[0]
    torch.testing.assert_close(residual.encoder.layers(x, state)[0], y)


# --- character features ---

WORDS = "walk walked walking talk talked talking a the stop".split()


@pytest.fixture(params=["recurrent", "convolutional"])
def character_network(request: pytest.FixtureRequest) -> tuple[Network, Letters]:
    tokenizer = train_tokenizer("word", lambda: ["".join(f"{word}\n" for word in WORDS)])
    letters = Letters(tokenizer)
    config = ModelConfig(
        tokenizer.size,
        hidden=12,
        embedding=10,
        characters=request.param,
        char_features=30,
        alphabet=letters.size,
        highway=1,
    )
    return random_network(config, spellings=letters.of_vocabulary()), letters


def test_features_of_a_word_depend_on_its_characters_only(
    character_network: tuple[Network, Letters],
) -> None:
    network, letters = character_network
    together = network.word_features(letters.spell(["walked", "a", "stop"]))
    alone = [network.word_features(letters.spell([w]))[0] for w in ("walked", "a", "stop")]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(together[0] - together[2]).max() > 0.01
    reversed_word = network.word_features(letters.spell(["deklaw"]))
    assert np.abs(together[0] - reversed_word[0]).max() > 0.01


def test_table_for_evaluation_equals_the_features_in_training(
    character_network: tuple[Network, Letters],
) -> None:
    network, _ = character_network
    ids = torch.tensor([[3, 5], [4, 3], [0, 2]])
    expected = network.encoder.vectors(ids)
    network.train()
    torch.testing.assert_close(network.encoder.vectors(ids), expected)
    (gradient,) = torch.autograd.grad(
        network.encoder.vectors(ids).sum(), [network.encoder.characters.letters]
    )
    assert gradient.any()
    stepper = NumpyNetwork(network.config, network.eval().weights())
    np.testing.assert_allclose(
        stepper.encoder.vectors(ids.numpy()), expected.detach().numpy(), rtol=1e-5, atol=1e-5
    )


def test_table_is_updated_when_the_weights_change(
    character_network: tuple[Network, Letters],
) -> None:
    network, _ = character_network
    before = network.encoder.char_features.clone()
    with torch.no_grad():
        network.encoder.characters.letters.mul_(0.5)
    assert not torch.allclose(network.train().eval().encoder.char_features, before)
    restored = Network(network.config).load_weights(network.weights())
    torch.testing.assert_close(restored.encoder.char_features, network.encoder.char_features)


def test_characters_have_start_and_end_marks_and_an_unknown_id() -> None:
    tokenizer = train_tokenizer("word", lambda: ["ab b\n"])
    letters = Letters(tokenizer)
    ids = {letter: letters.spell([letter])[0, 1] for letter in "ab"}
    assert letters.spell(["abz"])[0, :6].tolist() == [1, ids["a"], ids["b"], 3, 2, 0]
    assert letters.spell(["b" * 99]).shape == (1, LONGEST_WORD + 2)
    assert letters.of_vocabulary().shape[0] == tokenizer.size
    assert 3 < min(ids.values()) and letters.of_vocabulary().max() == letters.size - 1


# --- both directions ---

BOTH: dict[str, Any] = {"hidden": 8, "embedding": 6, "bidirectional": True, "feedforward": 1}


def backends_of(network: Network) -> list[Any]:
    return [network, NumpyNetwork(network.config, network.weights())]


@pytest.mark.parametrize("layers", [1, 2])
def test_target_is_not_visible_to_the_states_that_predict_it(layers: int) -> None:
    network = random_network(ModelConfig(9, layers=layers, **BOTH))
    line = np.array([3, 4, 5, 6, 7, 8, 3])
    for backend in backends_of(network):
        (states,) = both_sides(backend, [line])
        for t in range(len(line)):
            changed_line = line.copy()
            changed_line[t] = 4 if line[t] != 4 else 5
            (changed_states,) = both_sides(backend, [changed_line])
            difference = np.abs(changed_states - states)[: len(line)].max(axis=1)
            assert difference[t] == 0
            assert (np.delete(difference, t) > 1e-6).all()


def test_both_sides_equal_one_stack_over_the_left_and_one_over_the_right_context() -> None:
    network = random_network(ModelConfig(9, **BOTH))
    lines = [np.array([3, 4, 5]), np.array([6, 7, 8, 3, 4])]
    for backend in backends_of(network):
        states = both_sides(backend, lines)
        for row, line in zip(states, lines, strict=True):
            forward, _ = network.read(np.array([[START, *line[:-1]]]), network.initial_state(1))
            backward, _ = network.read(
                np.array([[EOS, *line[:0:-1]]]), network.initial_state(1), reverse=True
            )
            expected = np.concatenate([forward[0], backward[0, ::-1]], axis=1)
            np.testing.assert_allclose(row[: len(line)], expected, atol=1e-6)


def test_loss_of_lines_equals_their_pseudo_log_likelihood() -> None:
    network = random_network(ModelConfig(9, **BOTH))
    lines = [np.array([3, 4, 5]), np.array([6, 7, 8, 3, 4])]
    inputs, targets, following = (np.zeros((6, 2), np.int64) for _ in range(3))
    following[:] = EOS
    for k, line in enumerate(lines):
        inputs[: len(line), k] = [START, *line[:-1]]
        targets[: len(line), k] = line
        following[: len(line), k] = [*line[1:], EOS]
    loss, _ = FILL.loss(network, LineBatch(inputs, targets, following), [])
    for backend in backends_of(network):
        logprobs = pseudo_logprobs(backend, lines)
        assert [len(row) for row in logprobs] == [3, 5]
        assert -sum(row.sum() for row in logprobs) == pytest.approx(loss.item(), abs=1e-4)


def test_one_direction_alone_is_a_distribution_over_lines() -> None:
    network = random_network(ModelConfig(7, **BOTH))
    for backend in backends_of(network):
        for reverse in (False, True):
            lines = [np.array([a, b]) for a in range(1, 7) for b in range(1, 7)]
            logprobs = one_sided_logprobs(backend, lines, reverse)
            assert sum(np.exp(row.sum()) for row in logprobs) == pytest.approx(1, abs=1e-4)
            first = {
                int(line[-reverse]): row[-reverse]
                for line, row in zip(lines, logprobs, strict=True)
            }
            assert np.exp(list(first.values())).sum() == pytest.approx(1, abs=1e-4)


def test_training_sometimes_omits_one_direction_but_never_both() -> None:
    network = random_network(ModelConfig(9, **BOTH)).train()
    inputs: list[torch.Tensor] = []
    network.head.feedforward[0].register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    batch = line_batch(np.full((4, 300), 5))
    FILL.loss(network, batch, [])
    forward, backward = (
        part.abs().sum(dim=(0, 2)) != 0 for part in torch.chunk(inputs[0], 2, dim=2)
    )
    assert (forward | backward).all()
    assert 0.15 < (~forward).float().mean() < 0.35
    assert 0.15 < (~backward).float().mean() < 0.35
    FILL.loss(network.eval(), batch, [])
    assert (inputs[1].abs().sum(dim=(0, 2)) != 0).all()


def test_reverse_in_time_reverses_each_sequence_within_its_length() -> None:
    x = torch.arange(12).reshape(4, 3)
    lengths = torch.tensor([4, 2, 0])
    assert reverse_in_time(x, lengths).T.tolist() == [[9, 6, 3, 0], [4, 1, 7, 10], [2, 5, 8, 11]]
    assert torch.equal(reverse_in_time(reverse_in_time(x, lengths), lengths), x)


# --- the loss ---


SHAPES = {"plain": (), "one tail": (3,), "two tails": (2, 4)}


def random_softmax(
    cutoffs: tuple[int, ...], tied: bool, dtype: torch.dtype = torch.float32
) -> Softmax:
    """A softmax over 7 rows and 4 features."""
    tensors = [
        torch.randn(*shape, requires_grad=True, dtype=dtype)
        for shape in ((7 + tied, 4), (7,), (len(cutoffs), 4), (len(cutoffs),))
    ]
    return Softmax(cutoffs, *tensors)


def weights_of(softmax: Softmax) -> list[torch.Tensor]:
    tails = [softmax.tail_weight, softmax.tail_bias] if softmax.cutoffs else []
    return [softmax.weight, softmax.bias, *tails]


def split_logprobs(y: torch.Tensor, softmax: Softmax, tied: bool) -> torch.Tensor:
    """log p of every row, (N, 7), by torch functions: p(row) = p(tail)·p(row | tail)."""
    logits = torch.nn.functional.linear(y, softmax.weight[tied:], softmax.bias)
    tail_logits = torch.nn.functional.linear(y, softmax.tail_weight, softmax.tail_bias)
    head, *tails = logits.tensor_split(list(softmax.cutoffs), dim=1)
    head = torch.log_softmax(torch.cat([head, tail_logits], dim=1), dim=1)
    head_rows = head.shape[1] - len(tails)
    parts = [t.log_softmax(dim=1) + head[:, [head_rows + j]] for j, t in enumerate(tails)]
    return torch.cat([head[:, :head_rows], *parts], dim=1)


@pytest.mark.parametrize(("few", "rows"), [(0, 1), (0, 3), (0, 100), (100, 100)])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cutoffs", SHAPES.values(), ids=SHAPES)
def test_loss_and_gradients_equal_those_of_torch_functions(
    few: int, rows: int, tied: bool, cutoffs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.loss.FEW_LOGITS", few)
    monkeypatch.setattr("charlm.model.loss.LOGITS_PER_CHUNK", rows * 7)
    torch.manual_seed(0)
    softmax = random_softmax(cutoffs, tied, dtype=torch.float64)
    y = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (10,))
    all_logprobs = split_logprobs(y, softmax, tied)
    torch.testing.assert_close(all_logprobs.exp().sum(dim=1), torch.ones(10, dtype=torch.float64))
    expected = all_logprobs[torch.arange(10), targets]
    with torch.no_grad():
        logprobs = target_logprobs(y, targets, softmax)
    torch.testing.assert_close(logprobs, expected.float(), rtol=0, atol=1e-6)
    loss = summed_cross_entropy(y, targets, softmax)
    torch.testing.assert_close(loss, -expected.sum(), rtol=0, atol=1e-10)
    tensors = [y, *weights_of(softmax)]
    gradients = (torch.autograd.grad(2 * t, tensors) for t in (loss, -expected.sum()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("cutoffs", SHAPES.values(), ids=SHAPES)
def test_loss_in_bf16_is_close_to_float32(
    cutoffs: tuple[int, ...], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.model.loss.FEW_LOGITS", few)
    torch.manual_seed(0)
    softmax, y = random_softmax(cutoffs, False), torch.randn(50, 4, requires_grad=True)
    targets = torch.randint(7, (50,))
    exact = summed_cross_entropy(y, targets, softmax)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = summed_cross_entropy(y, targets, softmax)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
    tensors = [y, *weights_of(softmax)]
    gradients = (torch.autograd.grad(loss, tensors) for loss in (rounded, exact))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.02 * b.norm()
