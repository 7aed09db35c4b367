"""The networks of classifiers and taggers: both twins, fillings, gradients, dropout of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.corpus.encoding import TokenFile
from charlm.corpus.spellings import spelt
from charlm.errors import OptionError
from charlm.model.classifier import Classifier
from charlm.model.config import Dropout
from charlm.model.dropout_masks import DropoutMasks
from charlm.model.numpy_sequences import NumpyClassifier, NumpyTagger
from charlm.model.sequence_config import ClassifierConfig, SequenceConfig, TaggerConfig
from charlm.model.sequence_network import SequenceNetwork
from charlm.model.tagger import Tagger
from charlm.tokenizer import EOS

Ids = NDArray[np.int64]
READOUTS = ("last", "mean", "max", "attention")
SHAPES: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"cell": "gru"},
    "rnn of two layers": {"cell": "rnn", "layers": 2},
    "lstm residual": {"layers": 2, "residual": True},
    "gru layer norm": {"cell": "gru", "layers": 2, "layer_norm": True},
    "lstm layer norm residual": {"layers": 2, "layer_norm": True, "residual": True},
}
VOCAB, ALPHABET = 20, 9
SEPARATOR, A = 3, 4  # characters
LENGTHS, FEW = (4, 9, 1, 6), (3, 1, 4)  # tokens
DROPOUT = Dropout(outputs=0.2, inputs=0.2, state=0.2, weights=0.2, tokens=0.2)


def drawn(network: Any, std: float = 0.4, seed: int = 0) -> Any:
    """The network with random weights, none of which is 0."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return network.eval()


def classifier(readout: str, directions: int = 2, shape: str = "lstm", **more: Any) -> Classifier:
    sizes = {"vocab": VOCAB, "labels": 3, "hidden": 6, "embedding": 5, **SHAPES[shape], **more}
    config = ClassifierConfig(bidirectional=directions == 2, readout=readout, **sizes)
    network: Classifier = drawn(Classifier(config, DROPOUT))
    return network


def tagger(
    characters: str | None, crf: bool = True, shape: str = "lstm", directions: int = 2
) -> Tagger:
    spelling: dict[str, Any] = {"characters": characters, "char_features": 30, "alphabet": ALPHABET}
    config = TaggerConfig(
        vocab=VOCAB, tags=4, hidden=6, embedding=5, bidirectional=directions == 2, crf=crf,
        **SHAPES[shape], **(spelling if characters else {}),
    )  # fmt: skip
    network: Tagger = drawn(Tagger(config, DROPOUT))
    return network


def texts(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> Ids:
    """(T, B) tokens, filled up with `<START>`."""
    ids = np.random.default_rng(seed).integers(1, VOCAB, size=(max(lengths) + 1, len(lengths)))
    return np.where(np.arange(len(ids))[:, None] < np.array(lengths), ids, 0)


def spellings(ids: Ids, longest: int = 6) -> tuple[Ids, Ids]:
    """The spelling of every token of the vocabulary, up to `longest` characters."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, longest, size=VOCAB)
    lines = [[SEPARATOR, *rng.integers(A, ALPHABET, size=n), SEPARATOR] for n in lengths]
    rows = np.array([line + [0] * (longest + 3 - len(line)) for line in lines])
    return rows, ids.copy()


def words(network: Any, ids: Ids) -> tuple[Ids, Ids | None, Ids | None]:
    """What a tagger reads."""
    return (ids, *(spellings(ids) if network.config.characters else (None, None)))


every_classifier = pytest.mark.parametrize(
    ("readout", "directions", "shape"), [*itertools.product(READOUTS, (1, 2), SHAPES)]
)
every_tagger = pytest.mark.parametrize(
    ("characters", "crf", "shape"),
    [
        *itertools.product(("recurrent", "convolutional", None), (True, False), ["lstm residual"]),
        *(("recurrent", True, shape) for shape in SHAPES),
    ],
)


# --- twins ---


@every_classifier
def test_numpy_classifies_as_torch_does(readout: str, directions: int, shape: str) -> None:
    network, ids = classifier(readout, directions, shape), texts((*LENGTHS, 0))
    twin = NumpyClassifier(network.config, network.weights())
    found = twin.logprobs(ids)
    np.testing.assert_allclose(found, network.logprobs(ids), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)
    assert np.std(found, axis=0).min() > 0.01
    weights = twin.attention_weights(ids)
    np.testing.assert_allclose(weights, network.attention_weights(ids), rtol=0, atol=1e-5)


@every_tagger
def test_numpy_tags_as_torch_does(characters: str | None, crf: bool, shape: str) -> None:
    network, ids = tagger(characters, crf, shape), texts()
    twin = NumpyTagger(network.config, network.weights())
    found, expected = (n.emissions(*words(n, ids)) for n in (twin, network))
    real = ids != 0
    np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-5)
    assert np.std(found[real], axis=0).min() > 0.01
    for a, b in zip(twin.transitions, network.transitions, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float64 and a.any() == crf


@every_classifier
def test_the_shapes_of_a_classifier_are_those_of_its_weights(
    readout: str, directions: int, shape: str
) -> None:
    network = classifier(readout, directions, shape)
    assert {name: w.shape for name, w in network.weights().items()} == network.config.shapes()


@every_tagger
def test_the_shapes_of_a_tagger_are_those_of_its_weights(
    characters: str | None, crf: bool, shape: str
) -> None:
    network = tagger(characters, crf, shape)
    assert {name: w.shape for name, w in network.weights().items()} == network.config.shapes()


@pytest.mark.parametrize("kind", [ClassifierConfig, TaggerConfig])
def test_a_residual_around_nothing_is_refused(kind: Any) -> None:
    """The only layer has 12 features, and its input 5."""
    outputs = {"labels": 2} if kind is ClassifierConfig else {"tags": 2}
    sizes = {"vocab": VOCAB, "hidden": 6, "residual": True, **outputs}
    assert kind(**sizes, embedding=12).residual
    with pytest.raises(OptionError, match="`residual=True`: the only layer has a different"):
        kind(**sizes, embedding=5)


# --- what fills up a sequence ---


def filled_with_large_numbers(network: Any) -> Any:
    with torch.no_grad():
        network.encoder.embedding[0] = 50.0
    return network


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("readout", READOUTS)
def test_a_text_is_labelled_alone_as_in_a_batch(readout: str, directions: int) -> None:
    network, ids = classifier(readout, directions, "lstm residual"), texts()
    together = network.logprobs(ids)
    longer = np.pad(ids, ((0, 7), (0, 0)))
    of_others = filled_with_large_numbers(classifier(readout, directions, "lstm residual"))
    for found in (network.logprobs(longer), of_others.logprobs(longer)):
        np.testing.assert_allclose(found, together, atol=1e-5)
    for k, n in enumerate(LENGTHS):
        alone = network.logprobs(ids[:n, k : k + 1])
        np.testing.assert_allclose(alone[0], together[k], atol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("characters", ["recurrent", "convolutional", None])
def test_a_sentence_is_tagged_alone_as_in_a_batch(characters: str | None, directions: int) -> None:
    network, ids = tagger(characters, directions=directions), texts()
    together = network.emissions(*words(network, ids))
    longer = np.pad(ids, ((0, 7), (0, 0)))
    _, rows, _ = words(network, ids)
    any_row = None if rows is None else np.where(longer, longer, 5)
    filled_with_large_numbers(network)
    filled = network.emissions(longer, rows, any_row)
    for k, n in enumerate(LENGTHS):
        alone = network.emissions(*words(network, ids[:n, k : k + 1]))
        np.testing.assert_allclose(together[:n, k], alone[:, 0], atol=1e-5)
        np.testing.assert_allclose(filled[:n, k], alone[:, 0], atol=1e-5)


@pytest.mark.parametrize("characters", ["recurrent", "convolutional"])
def test_a_word_does_not_depend_on_the_length_of_the_other_words(characters: str) -> None:
    """The rows of a batch are as wide as its longest word."""
    network = tagger(characters)
    for length in range(1, 9):
        word, long_word = [A] * length, [A + 1] * 20
        file = TokenFile.of(np.array([*word, EOS, *long_word, EOS]))
        found = []
        for which in ([0], [0, 1]):
            rows, numbers = spelt(file, np.array(which), SEPARATOR, 1)
            found.append(network.emissions(np.full((1, len(which)), 7), rows, numbers)[0, 0])
        alone, beside = found
        np.testing.assert_allclose(alone, beside, atol=1e-5, err_msg=f"{length} characters")


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("readout", READOUTS)
def test_a_text_without_tokens_has_finite_probabilities(readout: str, directions: int) -> None:
    network = classifier(readout, directions)
    twin = NumpyClassifier(network.config, network.weights())
    bias = network.output.bias.detach().log_softmax(dim=0).numpy()
    for ids in (np.zeros((3, 1), np.int64), texts((0, 4))):
        for found in (network.logprobs(ids), twin.logprobs(ids)):
            assert np.isfinite(found).all()
            np.testing.assert_allclose(found[0], bias, atol=1e-5)


# --- what was looked at ---


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("readout", READOUTS)
def test_the_shares_of_the_tokens_add_up_to_one(readout: str, directions: int) -> None:
    shares = classifier(readout, directions).attention_weights(texts())
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert shares.min() >= 0 and not shares[texts() == 0].any()


def test_mean_and_maximum_show_what_they_read() -> None:
    ids = texts()
    mean = classifier("mean").attention_weights(ids)
    np.testing.assert_allclose(mean[:, 0], [1 / 4] * 4 + [0] * 6)
    network = classifier("max")
    y = network.encoder(torch.from_numpy(ids)).detach().numpy()
    for column, n in enumerate(LENGTHS):
        steps = [max(range(n), key=lambda t: y[t, column, f]) for f in range(y.shape[2])]
        expected = [steps.count(t) / len(steps) for t in range(len(ids))]
        np.testing.assert_allclose(network.attention_weights(ids)[:, column], expected, atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_only_states_that_are_read_have_a_share(directions: int) -> None:
    """A network of one direction reads off the last state, one of two directions both ends."""
    network, ids = classifier("last", directions), texts()
    states = network.encoder(torch.from_numpy(ids)).detach().requires_grad_()
    logits = network.output(network._read_off(states, torch.from_numpy(ids != 0)))
    (gradient,) = torch.autograd.grad(logits.square().sum(), states)
    read = gradient.abs().sum(dim=2).numpy() > 0
    np.testing.assert_array_equal(network.attention_weights(ids) > 0, read)


# --- gradients ---


@pytest.fixture
def in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks compute their losses in float32; finite differences need more digits."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def check_gradients(network: SequenceNetwork, loss: Callable[[], Tensor]) -> None:
    """The gradients of the loss against finite differences, in some random directions."""
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss(), [*parameters.values()])
    generator = torch.Generator().manual_seed(1)
    step = 1e-5
    for names in (*([name] for name in parameters), [*parameters]):
        directions = {
            name: torch.randn(p.shape, generator=generator, dtype=p.dtype)
            for name, p in parameters.items()
            if name in names
        }
        differences = []
        for sign in (1, -2):
            with torch.no_grad():
                for name, direction in directions.items():
                    parameters[name].add_(direction, alpha=sign * step)
                differences.append(loss().item())
        with torch.no_grad():
            for name, direction in directions.items():
                parameters[name].add_(direction, alpha=step)
        expected = (differences[0] - differences[1]) / (2 * step)
        found = sum(
            float((gradient * directions[name]).sum())
            for name, gradient in zip(parameters, gradients, strict=True)
            if name in directions
        )
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8), names
        assert abs(expected) > 1e-6, names


@pytest.mark.usefixtures("in_double_precision")
@pytest.mark.parametrize(
    ("shape", "dropout"), [("lstm residual", False), ("lstm residual", True), ("gru", True)]
)
@pytest.mark.parametrize("readout", READOUTS)
def test_the_gradients_of_a_classifier_equal_finite_differences(
    readout: str, shape: str, dropout: bool
) -> None:
    network = classifier(readout, shape=shape).double().train(dropout)
    ids, labels = torch.from_numpy(texts(FEW)), torch.tensor([2, 0, 1])

    def loss() -> Tensor:
        network.generator.manual_seed(4)
        return torch.nn.functional.cross_entropy(network(ids, network.masks()), labels)

    check_gradients(network, loss)


@pytest.mark.usefixtures("in_double_precision")
@pytest.mark.parametrize(("crf", "dropout"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("characters", ["recurrent", "convolutional", None])
def test_the_gradients_of_a_tagger_equal_finite_differences(
    characters: str | None, crf: bool, dropout: bool
) -> None:
    network = tagger(characters, crf, "lstm residual").double().train(dropout)
    arrays = words(network, texts(FEW))
    ids, rows, which = (None if a is None else torch.from_numpy(a) for a in arrays)
    assert ids is not None
    tags = torch.randint(4, ids.shape, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        network.generator.manual_seed(4)
        emissions = network(ids, rows, which, network.masks())
        return network.loss(emissions, tags, ids != 0)

    check_gradients(network, loss)


@pytest.mark.parametrize("crf", [False, True])
def test_the_loss_of_a_tagger_does_not_depend_on_what_fills_up_a_sentence(crf: bool) -> None:
    network, ids = tagger(None, crf), torch.from_numpy(texts())
    tags = torch.randint(4, ids.shape, generator=torch.Generator().manual_seed(0))
    together = network.loss(network(ids), tags, ids != 0)
    others = torch.where(ids != 0, tags, 3)
    torch.testing.assert_close(network.loss(network(ids), others, ids != 0), together)
    alone = [
        network.loss(network(ids[:n, k : k + 1]), tags[:n, k : k + 1], ids[:n, k : k + 1] != 0)
        for k, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(torch.stack(alone).sum(), together)


# --- dropout of tokens ---


def test_dropout_of_tokens_drops_whole_tokens() -> None:
    masks = DropoutMasks(Dropout(tokens=0.3), torch.Generator().manual_seed(0))
    x = torch.rand(60, 50, 4) + 1
    dropped = masks.tokens(x)
    kept = dropped[..., 0] != 0
    torch.testing.assert_close(dropped, x * kept[..., None], rtol=0, atol=0)
    assert (~kept).float().mean().item() == pytest.approx(0.3, abs=0.03)
    for of_line in (kept.float().mean(dim=0), kept.float().mean(dim=1)):
        assert 0.3 < of_line.min() and of_line.max() < 1  # each token is drawn by itself
    assert not torch.equal(masks.tokens(x), dropped)
    without = DropoutMasks(Dropout(outputs=0.5), torch.Generator())
    assert torch.equal(without.tokens(x), x)


def test_tokens_are_dropped_in_training_alone() -> None:
    """A tagger loses a token's own vector together with that of its characters."""
    network = tagger("recurrent")
    network.dropout = Dropout(tokens=0.5)
    ids, rows, which = (torch.from_numpy(a) for a in words(network, texts()) if a is not None)
    seen: list[Tensor] = []
    network.encoder.layers.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach())
    )
    network(ids, rows, which, network.masks())
    network.train()
    network(ids, rows, which, network.masks())
    whole, dropped = seen
    kept = dropped.abs().sum(dim=2) > 0
    torch.testing.assert_close(dropped, whole * kept[..., None], rtol=0, atol=0)
    assert (whole != 0).all() and 0.2 < kept.float().mean() < 0.8


def test_configurations_say_what_they_read() -> None:
    config: SequenceConfig = tagger("recurrent").config
    assert (config.inputs, config.states, config.outputs) == (35, 12, 4)
    config = classifier("max", 1).config
    assert (config.inputs, config.states, config.outputs) == (5, 6, 3)
