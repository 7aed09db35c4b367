"""The task `tree`: brackets, the network over trees, its models, and what commands show."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import charlm
from charlm.corpus.batches import BatchShape, Cursor
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import ExampleError, Examples
from charlm.corpus.trees import LABELLED, Tree, TreeLines, chain, one_tree, trees
from charlm.engines.tree_labels import UNSEEN, Found, batches_of, of_linear_half, span_features
from charlm.engines.tree_scores import SENTIMENT, TreeScore
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.config import Dropout
from charlm.model.linear_fit import Counted, fit_linear
from charlm.model.numpy_trees import NumpyTreeNetwork
from charlm.model.tree_config import TreeConfig
from charlm.model.tree_levels import arrange
from charlm.model.tree_network import TreeNetwork
from charlm.tasks.tree import TASK, LabelledTrees, TreeValidation
from charlm.tasks.tree_labeller import TreeLabeller
from charlm.tokenizer import SpanFeatures
from charlm.training.options import TrainOptions
from conftest import Command
from tests.parts import PARTS, check_gradients, check_resumed, check_totals

SMALL: dict[str, Any] = {"hidden": 16, "batch": 4, "quiet": True, "precision": "fp32", "lr": 0.02}
CELLS = [("lstm", False), ("lstm", True), ("rnn", False), ("gru", False), ("gru-simple", True)]


def claims() -> list[str]:
    """Trees whose label at a node follows from those below: "not" turns it round."""
    made = []
    for noun, word in itertools.product(("cat", "dog", "day", "soup"), ("good", "bad", "grey")):
        turned = {"good": "bad", "bad": "good", "grey": "grey"}[word]
        subject = f"(grey (grey the) (grey {noun}))"
        made += [
            f"({word} {subject} ({word} (grey is) ({word} {word})))",
            f"({turned} {subject} ({turned} (grey is) ({turned} (grey not) ({word} {word}))))",
            f"({word} (grey very) ({word} {word}))",
        ]
    return made


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trees") / "claims.trees"
    path.write_text("".join(f"{tree}\n" for tree in claims() * 3), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def labeller(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TreeLabeller:
    folder = tmp_path_factory.mktemp("labeller")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return charlm.train(corpus, kind=TreeLabeller, out=folder / "run", steps=120, **SMALL)


# --- brackets ---


def read(text: str, **options: bool) -> list[Tree]:
    return list(trees([text], **options))


def test_a_binary_tree_is_built_from_its_leaves() -> None:
    (tree,) = read("(3 (2 The) (4 (1 good) (0 film)))")
    assert tree.words == ["The", "good", "film"]
    assert tree.moves == ["leaf", "leaf", "leaf", "node", "node"]
    assert tree.labels == ["2", "1", "0", "4", "3"]


def test_several_children_are_joined_from_left_to_right() -> None:
    (tree,) = read("(S (A a) (B b) (C c) (D d))")
    assert tree.moves == ["leaf", "leaf", "join", "leaf", "join", "leaf", "node"]
    assert tree.labels == ["A", "B", "C", "D", "S"]


def test_a_single_child_gets_an_empty_one_beside_it() -> None:
    (tree,) = read("(S (NP (DT a) (NN b)) (VP (V c)))")
    assert tree.moves == ["leaf", "leaf", "node", "leaf", "empty", "node", "node"]
    assert tree.labels == ["DT", "NN", "NP", "V", "VP", "S"]


def test_words_may_stand_below_a_node_without_labels_of_their_own() -> None:
    (tree,) = read("(4 not (1 bad) at all)")
    assert tree.moves == ["word", "leaf", "join", "word", "join", "word", "node"]
    assert (tree.words, tree.labels) == (["not", "bad", "at", "all"], ["1", "4"])


@pytest.mark.parametrize(
    ("text", "words", "labels"),
    [
        ("( (S (A a)\n  (B b)) )\n", ["a", "b"], ["A", "B", "S"]),  # as the Penn Treebank has it
        ("(S (A -LRB-) (B -RRB-))", ["(", ")"], ["A", "B", "S"]),
        ("(S (A 9\u00a01\\/2)\t(B b))\r\n", ["9\u00a01\\/2", "b"], ["A", "B", "S"]),
        ("(S(A a)(B b))", ["a", "b"], ["A", "B", "S"]),
        ("(A cafe\u0301)", ["caf\u00e9"], ["A"]),
    ],
)
def test_notations_of_the_field(text: str, words: list[str], labels: list[str]) -> None:
    (tree,) = read(text)
    assert (tree.words, tree.labels) == (words, labels)


def test_blocks_may_end_anywhere_and_lines_hold_several_trees() -> None:
    text = "(1 (0 a) (0 b))\n\n(1 a) (2\n(0 b)\n(0 c))\n"
    whole = read(text)
    assert len(whole) == 3
    for cut in range(len(text)):
        assert list(trees([text[:cut], text[cut:]])) == whole


def test_a_deep_tree_is_read() -> None:
    depth = 20_000
    (tree,) = read("(1 " * depth + "(0 a)" + " (0 b))" * depth)
    assert len(tree.words) == depth + 1 and tree.moves[:3] == ["leaf", "leaf", "node"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(1 (0 a)\n(0 b))\n\n(1 (0 a)\n(0 b)", r"line 4: the tree is not complete: 1 more \)"),
        ("(1 a)\n(1 (0 a) (0 b)))", "line 2: a bracket is closed outside of a tree"),
        ("(1 a)\nand so on", "line 2: 'and' stands outside of a tree; it should be one, such as"),
        ("(1 (0 a) ())", "line 1: an empty bracket; it should have a label and a word"),
        ("(1 (0 a) (good))", r"line 1: \(good\) has no label, or no word; write \(LABEL good\)"),
        ("((0 a) (0 b))", "line 1: a node without a label; each should have one, such as"),
        ("(1 ((0 a)) (0 b))", "line 1: a node without a label"),
    ],
)
def test_what_is_no_tree_is_named(text: str, message: str) -> None:
    with pytest.raises(ExampleError, match=message):
        read(text)


def test_a_tree_to_be_labelled_needs_no_labels_at_inner_nodes() -> None:
    assert one_tree("((0 a) ((0 b) (0 c)))").moves == ["leaf", "leaf", "leaf", "node", "node"]
    with pytest.raises(InputError, match=r"2 trees where one should be: '\(0 a\) \(0 b\)'"):
        one_tree("(0 a) (0 b)")
    with pytest.raises(InputError, match=r"1 more \) should follow; a text that begins with a "):
        one_tree("(0 (0 a)")
    with pytest.raises(InputError) as raised:
        one_tree("(0 " * 5000)
    assert len(str(raised.value)) < 250


def test_the_lines_of_a_tree_are_joined_and_those_of_a_text_are_not() -> None:
    lines = TreeLines()
    assert lines.whole(["", "(S (A a)", "", "  (B b))", "(A a)", "(S"]) == [
        "", "(S (A a)  (B b))", "(A a)",
    ]  # fmt: skip
    assert lines.whole(["(A a))", "(S (A"]) == ["(S (A a))"]
    assert lines.rest() == ["(S (A"] and lines.rest() == []
    texts = TreeLines()
    assert texts.whole(["a (good", "(one"]) == ["a (good", "(one"]


# --- the network ---


def drawn_trees(count: int, seed: int = 0) -> list[Tree]:
    """Random trees with all kinds of nodes."""
    rng = np.random.default_rng(seed)

    def draw(depth: int) -> str:
        label = "ABC"[rng.integers(3)]
        if depth == 0 or rng.random() < 0.2:
            return f"({label} {'abcdefgh'[rng.integers(8)]})"
        children = [draw(depth - 1) for _ in range(rng.choice([1, 2, 2, 2, 3]))]
        return f"({label} {' '.join(children)}{' x' * (rng.random() < 0.2)})"

    return read("\n".join(draw(int(rng.integers(5))) for _ in range(count)))


def examples(of: Sequence[Tree]) -> Examples:
    blocks = ["".join("\t".join(line) + "\n" for line in lines) for lines in zip(*of, strict=True)]
    words, moves, labels = blocks
    options = TrainOptions(task="tree")
    texts = {"text": words, "moves": moves, "labels": labels, "features": words}
    made = {f: TASK.vocabulary(f, partial(list[str], [t]), options) for f, t in texts.items()}
    return Examples({f: TokenFile.of(made[f].encode_ids(t)) for f, t in texts.items()}, made)


def config_of(data: Examples, **fields: Any) -> TreeConfig:
    labels = data.vocabularies["labels"].size - 3
    return TreeConfig(vocab=data.vocabularies["text"].size, labels=labels, hidden=6, **fields)


def network_of(data: Examples, dropout: Dropout | None = None, **fields: Any) -> TreeNetwork:
    network = TreeNetwork(config_of(data, **fields), dropout)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return network.eval()


State = tuple[torch.Tensor, ...]


def recursive_lstm(layer: Any, left: State, right: State) -> State:
    """Tai et al. (2015), equations 9 to 14 for two children, gate by gate."""
    names = "ifgoF"
    W, U, b = (dict(zip(names, w.chunk(5), strict=True)) for w in (layer.W, layer.U, layer.b))
    a = {k: right[0] @ W[k].T + left[0] @ U[k].T + b[k] for k in names}
    c = a["i"].sigmoid() * a["g"].tanh() + a["f"].sigmoid() * left[1] + a["F"].sigmoid() * right[1]
    return a["o"].sigmoid() * c.tanh(), c


def recursive_rnn(layer: Any, left: State, right: State) -> State:
    """Socher et al. (2013): p = tanh(W [a; b] + b₀)."""
    both = torch.cat([left[0], right[0]])
    return (torch.tanh(torch.cat([layer.U, layer.W], dim=1) @ both + layer.b),)


@pytest.mark.parametrize(("cell", "states"), [("lstm", 2), ("rnn", 1)])
def test_the_network_is_the_published_recursion(cell: str, states: int) -> None:
    """Node by node, tree by tree, with autograd for the gradients."""
    compose: Callable[..., State] = {"lstm": recursive_lstm, "rnn": recursive_rnn}[cell]
    of = drawn_trees(9)
    data = examples(of)
    network = network_of(data, cell=cell).double()
    words = data.vocabularies["text"]
    (batch,) = batches_of(data)
    logits = network(torch.from_numpy(batch.words), batch.levels)
    mine, theirs = [], []
    for column, k in enumerate(batch.which.tolist()):
        unread, stack = iter(of[k].words), list[State]()
        for node, move in enumerate(of[k].moves):
            if move in ("node", "join"):
                right, left = stack.pop(), stack.pop()
                stack.append(compose(network.composition, left, right))
            else:
                zero = torch.zeros(6, dtype=torch.float64)
                id = 0 if move == "empty" else int(words.encode_ids(next(unread))[0])
                h = zero if move == "empty" else network.embedding[id]
                stack.append((h, *[zero] * (states - 1)))
            mine.append(logits[node, column])
            theirs.append(network.output(stack[-1][0]))
        assert len(stack) == 1
    found, expected = torch.stack(mine), torch.stack(theirs)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).double()
    parameters = list(network.parameters())
    of_found = torch.autograd.grad((found * weights).sum(), parameters)
    of_expected = torch.autograd.grad((expected * weights).sum(), parameters)
    for a, b in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("cell", "layer_norm"), CELLS)
def test_gradients_agree_with_finite_differences(cell: str, layer_norm: bool) -> None:
    data = examples(drawn_trees(5, seed=3))
    network = network_of(data, cell=cell, layer_norm=layer_norm).double()
    (batch,) = batches_of(data)
    words = torch.from_numpy(batch.words)

    def loss() -> torch.Tensor:
        logits = network(words, batch.levels)
        return (logits * torch.arange(logits.numel()).reshape(logits.shape).sin()).sum()

    loss().backward()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        assert parameter.grad is not None
        flat = parameter.data.view(-1)
        for k in rng.choice(len(flat), min(len(flat), 12), replace=False).tolist():
            value, found = float(flat[k]), float(parameter.grad.view(-1)[k])
            ends = []
            for step in (1e-5, -1e-5):
                flat[k] = value + step
                ends.append(float(loss().detach()))
            flat[k] = value
            assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "rnn", "gru"])
def test_on_a_chain_the_network_is_the_recurrent_one(cell: str) -> None:
    """A left-branching tree, against torch's own layers with the same weights."""
    of = [chain(list(word)) for word in ("abcde", "hg", "aaaaaaaaa")]
    data = examples([*of, *read("(A (B a) (C b))")])
    network = network_of(data, cell=cell)
    layer, gates = network.composition, {"lstm": 4, "rnn": 1, "gru": 3}[cell]
    kinds: dict[str, Any] = {"lstm": torch.nn.LSTM, "rnn": torch.nn.RNN, "gru": torch.nn.GRU}
    theirs = kinds[cell](6, 6)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(layer.W[: 6 * gates])
        theirs.weight_hh_l0.copy_(layer.U[: 6 * gates])
        theirs.bias_ih_l0.copy_(layer.b[: 6 * gates])
        theirs.bias_hh_l0.zero_()
        if cell == "gru":
            theirs.bias_hh_l0[12:].copy_(layer.b_u)
    words = data.vocabularies["text"]
    for batch in batches_of(data):
        logits = network(torch.from_numpy(batch.words), batch.levels)
        for column, k in enumerate(batch.which.tolist()):
            if k == len(of):
                continue
            ids = words.encode_ids("\t".join(of[k].words)).astype(np.int64)
            y, _ = theirs(network.embedding[torch.from_numpy(ids)])
            nodes = torch.arange(2, len(of[k].moves), 2)  # the words so far, after each word
            torch.testing.assert_close(logits[nodes, column], network.output(y))


@pytest.mark.parametrize(("cell", "layer_norm"), CELLS)
def test_both_twins_agree_and_a_batch_is_each_tree_alone(cell: str, layer_norm: bool) -> None:
    data = examples(drawn_trees(12, seed=1))
    network = network_of(data, cell=cell, layer_norm=layer_norm)
    twin = NumpyTreeNetwork(network.config, network.weights())
    (batch,) = batches_of(data)
    logprobs = network.logprobs(batch.words, batch.levels)
    np.testing.assert_allclose(twin.logprobs(batch.words, batch.levels), logprobs, atol=1e-5)
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=2), 1, rtol=1e-5)
    for column, k in enumerate(batch.which.tolist()):
        one = Examples({f: file.lines(np.array([k])) for f, file in data.fields.items()},
                       data.vocabularies)  # fmt: skip
        (alone,) = batches_of(one)
        found = network.logprobs(alone.words, alone.levels)[:, 0]
        n = batch.lengths[column]
        np.testing.assert_allclose(found[:n], logprobs[:n, column], atol=1e-5)


def test_children_come_before_their_parents_and_spans_are_theirs() -> None:
    is_word = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 0, 0]], bool).T
    levels = arrange(is_word, ~is_word, 3)
    assert [c.shape for c in levels.children] == [(2, 2), (2, 2)]
    # Rows: 0 to 5 words (time-major), 6 the zero state, 7 and 8 of height 1, 9 and 10 of height 2.
    assert levels.rows.T.tolist() == [[0, 2, 7, 4, 9], [1, 3, 5, 8, 10]]
    assert levels.children[0].T.tolist() == [[0, 2], [3, 5]]
    assert levels.children[1].T.tolist() == [[7, 4], [1, 8]]
    assert levels.spans[0].T.tolist() == [[0, 1, 0, 2, 0], [0, 1, 2, 1, 0]]
    assert levels.spans[1].T.tolist() == [[1, 2, 2, 3, 3], [1, 2, 3, 3, 3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 2}, "`layers=2`: is not for `task=tree`"),
        ({"residual": True}, "`residual=True`: is not for `task=tree`"),
        ({"peepholes": "i"}, "`peepholes=i`: is not for `task=tree`"),
        ({"forget_gate": False}, "`forget_gate=False`: is not for `task=tree`"),
        ({"level": "char"}, "`level=char`: is not for `task=tree`, which reads words"),
        ({"label_column": "2"}, "`label_column=2`: is not for `task=tree`"),
        ({"directions": 1}, "`directions=1`: is not for `task=tree`"),
        ({"ngram": 3}, "`ngram=3`: is not for `task=tree`"),
        ({"embedding": 5, "hidden": 6}, "`hidden=6`: .* is its hidden state, and has 5 features"),
    ],
)
def test_options_that_do_not_suit_trees_are_refused(
    corpus: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        charlm.train(corpus, task="tree", steps=2, quiet=True, **options)
    assert not Path("runs").exists()


# --- training ---


def test_the_processes_have_the_gradient_of_one() -> None:
    data = examples(drawn_trees(40))
    dropout = Dropout(outputs=0.3, inputs=0.3, state=0.2, weights=0.2, tokens=0.3)
    check_gradients(TASK, config_of(data), data, dropout)
    per_step = Dropout(outputs=0.3, inputs=0.3, per_step=True)
    check_gradients(TASK, config_of(data, cell="rnn"), data, per_step)


def test_the_parts_of_a_validation_add_up() -> None:
    of = drawn_trees(40)
    data = examples(of)
    network, validation = network_of(data), TreeValidation(data)
    nats, right, roots, right_roots = check_totals(validation, network)
    assert validation.predicted == sum(len(tree.labels) for tree in of)
    assert roots == len(of) and 0 < right_roots < roots and right_roots < right
    figures = validation.figures((nats, right, roots, right_roots))
    assert figures["valid_root_accuracy"] == pytest.approx(right_roots / len(of))
    assert figures["valid_node_accuracy"] == pytest.approx(right / validation.predicted)


def test_the_validation_loss_is_the_training_loss_without_dropout() -> None:
    data = examples(drawn_trees(40))
    network = network_of(data)
    losses = (TASK.loss(network, LabelledTrees(batch), [])[0] for batch in batches_of(data))
    total = sum(float(loss.detach()) for loss in losses)
    assert TreeValidation(data).total(network) == pytest.approx(total, rel=1e-4)


def test_a_batch_predicts_every_label_in_all_processes() -> None:
    data = examples(drawn_trees(40))
    for part in PARTS:
        batches = TASK.batches(data, BatchShape(3, 16, True, 1, part))
        of_all = TASK.batches(data, BatchShape(3, 16, True, 1))
        pairs = zip(batches.iterate(Cursor()), of_all.iterate(Cursor()), strict=False)
        for batch, whole in itertools.islice(pairs, batches.steps_per_epoch):
            assert batch.predicted == whole.predicted == np.count_nonzero(whole.trees.labels >= 0)


def test_the_linear_half_knows_each_phrase_once() -> None:
    of = read("(A (B a) (C b)) (A (B a) (C b)) (D (C b) (B a)) (B (B a) (C b))")
    counted = TASK.labelled(examples(of))
    sizes = np.diff(counted[1])
    # a B, b C, "a b" A, "b a" D, "a b" B: a word has one feature, two words have three.
    assert sorted(zip(sizes.tolist(), counted[2].tolist(), strict=True)) == [
        (1, 1), (1, 2), (3, 0), (3, 1), (3, 3),
    ]  # fmt: skip
    assert TASK.count_features(examples(of)) == 4 * (2 + 2 + 4)


def test_the_features_of_a_node_are_those_of_its_words() -> None:
    data = examples(read("(A x (C (A B) (A c)) y)"))
    (batch,) = batches_of(data)
    assert [batch.levels.spans[:, k, 0].tolist() for k in (3, 4)] == [[1, 3], [0, 3]]
    ids, bounds = span_features(data, batch, np.array([3]), np.array([0]))
    expected = SpanFeatures().encode_ids("b\tc\n")
    assert ids.tolist() == [expected[0], expected[2], expected[3]]
    assert bounds.tolist() == [0, 3]


def test_the_linear_half_of_a_node_is_that_of_its_features() -> None:
    """By sums over whole sentences, beside a look at the features of each node."""
    data = examples(drawn_trees(20))
    linear = fit_linear(Counted(*TASK.labelled(data)), 3)
    (batch,) = batches_of(data)
    nodes, trees = batch.labelled
    expected = linear.logprobs(*span_features(data, batch, nodes, trees))
    found = of_linear_half(linear, data, batch)[nodes, trees]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 0.5


@pytest.mark.parametrize(
    "options", [{"cell": "rnn", "dropout": 0.2}, {"layer_norm": True, "token_dropout": 0.2}]
)
def test_a_resumed_run_ends_with_the_very_same_weights(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {**SMALL, **options, "steps": 12}
    check_resumed(corpus, TreeLabeller, options, 7, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(1 (0 a) (0 b))\n(1 (0 a)\n", r"x\.trees, line 2: the tree is not complete"),
        ("(1 (0 a) (0 b))\n((0 a) (0 b))\n", r"x\.trees, line 2: a node without a label"),
        ("a text\n", r"x\.trees, line 1: 'a' stands outside of a tree"),
        ("(1 (1 a) (1 b))\n" * 30, "all examples have the label '1': there is nothing to learn"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(text: str, message: str) -> None:
    Path("x.trees").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        charlm.train("x.trees", task="tree", steps=2, quiet=True)
    assert not Path("runs").exists()


def test_trees_that_are_not_binary_are_noted(charlm_command: Command) -> None:
    text = "(A (B a) (C b) (D c) (D d))\n(A (B (C c)) (D a))\n" * 20
    Path("x.trees").write_text(text, encoding="utf-8")
    ran = charlm_command("train", "x.trees", "--task", "tree", "--steps", 2, "--valid", "x.trees")
    assert ran.notes[0] == (
        "note: the trees are made binary: an empty node beside a single child (20), and nodes "
        "without a label that join several from left to right (40)"
    )


def test_training_starts_from_word_vectors(corpus: Path) -> None:
    Path("v.txt").write_text("good 1 2 3 4 5 6 7\nnever 0 0 0 0 0 0 0\n", encoding="utf-8")
    options = {**SMALL, "embeddings": "v.txt", "freeze_embeddings": True, "steps": 3}
    del options["hidden"]
    model = charlm.train(corpus, kind=TreeLabeller, out="run", **options)
    assert model.config.hidden == 7
    row = int(model._words.encode_ids("good")[0])
    np.testing.assert_array_equal(load_file("run/model.safetensors")["embedding"][row], range(1, 8))
    with pytest.raises(OptionError, match=r"`hidden=16`: .* has 7 features; leave"):
        charlm.train(corpus, task="tree", **{**options, "hidden": 16})


# --- models ---


def test_a_labeller_learns_what_not_does(labeller: TreeLabeller) -> None:
    assert labeller.labels == ["bad", "good", "grey"]
    (nodes,) = labeller.predict("(x (x (x the) (x soup)) (x (x is) (x (x not) (x bad))))")
    assert [(n.label, n.depth, n.phrase) for n in nodes] == [
        ("good", 0, "the soup is not bad"),
        ("grey", 1, "the soup"),
        ("grey", 2, "the"),
        ("grey", 2, "soup"),
        ("good", 1, "is not bad"),
        ("grey", 2, "is"),
        ("good", 2, "not bad"),
        ("grey", 3, "not"),
        ("bad", 3, "bad"),
    ]
    assert all(1 / 3 < n.probability <= 1 for n in nodes)
    assert labeller.card.figures["valid_root_accuracy"] == 1.0
    assert labeller.card.valid_nats < 0.2 < math.log(3)


def test_a_text_is_a_chain_and_an_inner_node_needs_no_label(labeller: TreeLabeller) -> None:
    (nodes,) = labeller.predict("the soup is bad")
    assert [(n.depth, n.phrase) for n in nodes][:3] == [
        (0, "the soup is bad"), (1, "the soup is"), (2, "the soup"),
    ]  # fmt: skip
    assert len(nodes) == 8 and nodes[-1].phrase == "bad"
    assert labeller.predict(["", "good"])[0] == []
    labelled, bare = labeller.predict(["(x (x not) (x bad))", "((x not) (x bad))"])
    assert labelled == bare
    joined, smile = labeller.predict(["(x (x the) (x soup) (x is) (x bad))", ":( bad (very)"])
    assert [n.depth for n in joined] == [0, 1, 1, 1, 1]
    assert smile[0].phrase == ": ( bad ( very )"
    found = labeller.iter_predict(["good", "(x good)", "(x (x good)", "bad"])
    assert [next(found)[0].phrase for _ in range(2)] == ["good", "good"]
    with pytest.raises(InputError, match="not complete"):
        next(found)


def test_trees_are_labelled_alone_and_in_any_order(labeller: TreeLabeller) -> None:
    texts = [*claims(), "", "unheard of", "x " * 300]
    together = labeller.predict(texts)
    for text, nodes in zip(texts, together, strict=True):
        (alone,) = labeller.predict(text)
        assert [n._replace(probability=0) for n in alone] == [
            n._replace(probability=0) for n in nodes
        ]
        np.testing.assert_allclose(
            [n.probability for n in alone], [n.probability for n in nodes], atol=1e-4, rtol=0
        )
    assert max(len(n.phrase) for n in together[-1]) <= 203


def test_both_backends_give_the_same_labels(labeller: TreeLabeller) -> None:
    found = [charlm.load(labeller.path, backend=b, kind=TreeLabeller) for b in ("numpy", "torch")]
    for a, b in zip(*(model.predict(claims()) for model in found), strict=True):
        assert [n.label for n in a] == [n.label for n in b]
        np.testing.assert_allclose(
            [n.probability for n in a], [n.probability for n in b], atol=1e-4, rtol=0
        )


def test_a_model_gives_the_loss_that_was_measured_in_training(labeller: TreeLabeller) -> None:
    some = claims()[:20]
    data = labeller._examples(read("\n".join(some)))
    assert labeller.linear
    companions = {"linear": labeller.linear}
    of_training = TreeValidation(data).totals(labeller.backends.torch, companions)
    score = labeller.evaluate("\n".join(some))
    assert score.nats == pytest.approx(of_training[0], abs=1e-3)
    assert (score.nodes_right, score.roots, score.roots_right) == of_training[1:]
    loss = TreeValidation(data).loss(labeller.backends.torch, labeller.linear)
    assert loss(labeller.linear) == pytest.approx(of_training[0], abs=1e-3)


def test_evaluate_counts_roots_and_nodes(labeller: TreeLabeller) -> None:
    text = "(good (bad not) (bad bad))\n(grey the soup)\n(odd (grey the) (grey soup))\n"
    score = labeller.evaluate(text)
    answers = [[n.label for n in nodes] for nodes in labeller.predict(text.splitlines())]
    truth = [
        ["good", "bad", "bad"],
        ["grey"],
        ["odd", "grey", "grey"],
    ]
    pairs = [
        (k == 0, given == found)
        for nodes, labels in zip(answers, truth, strict=True)
        for k, (found, given) in enumerate(zip(nodes, labels, strict=True))
    ]
    assert (score.roots, score.nodes, score.unseen) == (3, len(pairs), 1) == (3, 7, 1)
    assert score.nodes_right == sum(right for _, right in pairs)
    assert score.roots_right == sum(right for root, right in pairs if root)
    assert score.figures()["root_accuracy_binary"] is None
    warning = labeller.warning(score)
    assert warning and warning.startswith("1 of 7 nodes have a label that the model does not know")
    parts = [labeller.evaluate(line) for line in text.splitlines()]
    whole = parts[0] + parts[1] + parts[2]
    assert whole.figures()["node_accuracy"] == pytest.approx(score.figures()["node_accuracy"])
    assert whole.nats == pytest.approx(score.nats, rel=1e-6)
    alone = labeller.evaluate("(grey (grey the) (grey soup))")
    p = labeller.predict("(grey (grey the) (grey soup))")[0][0].probability
    assert parts[2].nats == pytest.approx(alone.nats + math.log(p) + math.log(3), abs=1e-4)


def test_two_classes_are_what_is_negative_or_positive_in_sum() -> None:
    p = np.array([
        [0.1, 0.1, 0.5, 0.1, 0.2],  # positive in sum, and so it is
        [0.3, 0.0, 0.0, 0.2, 0.2],  # positive in sum, but it is 0; five classes find it
        [0.2, 0.2, 0.2, 0.2, 0.2],  # neutral: not counted
        [0.0, 0.6, 0.0, 0.4, 0.0],  # not at a root
        [0.9, 0.1, 0.0, 0.0, 0.0],  # a label that training has not seen
    ])  # fmt: skip
    is_root = np.array([True, True, True, False, True])
    found = Found(np.array([3, 0, 2, 4, UNSEEN]), is_root, np.log(p + 1e-12))
    score = TreeScore.of(found, SENTIMENT)
    assert (score.polar, score.polar_right, score.roots_right) == (2, 1, 1)
    assert score.figures()["root_accuracy_binary"] == 0.5
    assert TreeScore.of(found, ["a", "b", "c", "d", "e"]).figures()["root_accuracy_binary"] is None


def test_a_labeller_is_loaded_as_it_was_saved(labeller: TreeLabeller) -> None:
    again = charlm.load(labeller.path, kind=TreeLabeller)
    assert again.config == labeller.config and again.card == labeller.card
    assert again.predict(claims()[:3]) == labeller.predict(claims()[:3])
    alone = charlm.load(labeller.path, kind=TreeLabeller, network_only=True)
    assert alone.linear is None and labeller.linear is not None
    with pytest.raises(ModelError, match=r"labels the nodes of trees .*; to do this, .*`task=lm`"):
        charlm.load(labeller.path, kind=charlm.LanguageModel)


def test_predicting_a_tree_does_not_import_torch(labeller: TreeLabeller) -> None:
    program = (
        "import sys, charlm; model = charlm.load(sys.argv[1])\n"
        "model.predict(['(x (x not) (x bad))']); print('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(labeller.path)], capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == "False"


def test_predict_and_evaluate_on_the_command_line(
    labeller: TreeLabeller, charlm_command: Command
) -> None:
    model = ("--model", labeller.path)
    text = "(x (x not) (x bad))"
    heading, *rows = charlm_command("predict", text, *model).rows
    assert heading == ["number", "node", "label", "probability", "depth", "phrase"]
    assert [(r[1], r[2], r[4], r[5]) for r in rows] == [
        ("1", "good", "0", "not bad"), ("2", "grey", "1", "not"), ("3", "bad", "1", "bad"),
    ]  # fmt: skip
    drawn = charlm_command("predict", text, *model, "--format", "table").text.splitlines()
    assert [line[:8] for line in drawn] == ["good 0.9", "├─ grey ", "└─ bad 0", ""]
    assert drawn[1].endswith("  not") and drawn[2].endswith("  bad")
    (record,) = charlm_command("predict", text, *model, "--format", "json").objects
    assert [a["label"] for a in record["answers"]] == ["good", "grey", "bad"]
    Path("test.trees").write_text("\n".join(claims()), encoding="utf-8")
    (measured,) = charlm_command("evaluate", "test.trees", *model, "--format", "json").objects
    expected = json.loads(json.dumps(labeller.evaluate("\n".join(claims())).figures()))
    assert measured == {"file": "test.trees", **expected}
    assert "-k 2: is not for --task tree" in charlm_command("predict", "a", "-k", 2, *model).error
    Path("several.trees").write_text("(x\n (x not)\n (x bad))\n(x bad)\n", encoding="utf-8")
    several = charlm_command("predict", "--file", "several.trees", *model).rows
    assert [(r[0], r[2], r[5]) for r in several[1:]] == [
        ("1", "good", "not bad"), ("1", "grey", "not"), ("1", "bad", "bad"), ("2", "bad", "bad"),
    ]  # fmt: skip
    Path("broken.trees").write_text("(x bad)\n(x (x good)\n", encoding="utf-8")
    broken = charlm_command("predict", "--file", "broken.trees", *model, "--format", "json")
    assert broken.code == 1 and b'"phrase": "bad"' in broken.stdout
    (message,) = broken.notes
    assert message.startswith("charlm: broken.trees, text 2: the tree is not complete: 1 more )")
    refused = charlm_command("score", "the cat", *model).error
    assert "was trained with --task tree: it labels the nodes of trees" in refused
    charlm_command("predict", text, *model, "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count('class="tag"') == 3 and "├─ " in page and "<small>good</small>" in page
    shown = charlm_command("info", labeller.path).text
    assert "labels the nodes of trees" in shown and "root accuracy 100.00%" in shown


def test_labels_of_every_move_are_in_order() -> None:
    """Each labelled move has one label, whatever the tree."""
    for tree in drawn_trees(50, seed=9):
        assert len(tree.labels) == sum(move in LABELLED for move in tree.moves)
        words = sum(move in ("leaf", "word") for move in tree.moves)
        assert words == len(tree.words)
