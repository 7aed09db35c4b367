"""The task `seq2seq`: its networks, its search and its models."""

from __future__ import annotations

import itertools
import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import charlm
from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples
from charlm.engines.target_scores import TargetScore, edit_distance, errors_of
from charlm.engines.target_search import best_targets
from charlm.engines.transduction import batches_of, forced, nats_of, predictor_of
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.config import Dropout
from charlm.model.joined_prediction import LEAST, JoinedPredictor
from charlm.model.joint_ngram import JointNgram
from charlm.model.numpy_seq2seq import NumpySeq2Seq
from charlm.model.seq2seq import Seq2Seq
from charlm.model.seq2seq_config import JUMPS, Seq2SeqConfig
from charlm.model.source_prediction import SourcePrediction, SourcePredictor
from charlm.tasks.seq2seq import TASK, TargetValidation
from charlm.tasks.transducer import Transducer
from charlm.tokenizer import EOS, START, UNK, train_tokenizer
from conftest import Command
from tests.parts import check_gradients, check_resumed, check_totals

ATTENTIONS = (None, "global", "monotonic")
SOURCES = [np.array([3, 4, 5, 6]), np.array([7, 3]), np.array([5])]
TARGETS = [np.array([3, 4, 4, 5]), np.array([5]), np.array([3, 3, 3])]


def config(attention: str | None, **fields: Any) -> Seq2SeqConfig:
    sizes: dict[str, Any] = {"embedding": 5, "hidden": 7, "layers": 2, **fields}
    return Seq2SeqConfig(source_vocab=8, vocab=6, attention=attention, **sizes)


def network(attention: str | None, **fields: Any) -> Seq2Seq:
    """A network with large random weights, so that everything matters."""
    made = Seq2Seq(config(attention, **fields)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
    return made


def padded(texts: list[np.ndarray], steps: int) -> Tensor:
    ids = torch.zeros(steps, len(texts), dtype=torch.int64)
    for column, text in enumerate(texts):
        ids[: len(text), column] = torch.from_numpy(text)
    return ids


def teacher_forced(made: Seq2Seq) -> Tensor:
    """log p of each token of the targets, (T, B)."""
    targets = padded([np.append(target, EOS) for target in TARGETS], 5)
    inputs = torch.cat([torch.zeros_like(targets[:1]), targets[:-1]])
    return made(padded(SOURCES, 4), torch.where(inputs == EOS, START, inputs), targets)


# --- networks ---


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_twins_predict_the_same(attention: str | None, bidirectional: bool) -> None:
    made = network(attention, bidirectional=bidirectional)
    weights = made.weights()
    assert {name: w.shape for name, w in weights.items()} == made.config.shapes()
    expected = teacher_forced(made).detach().numpy().T
    for twin in (NumpySeq2Seq(made.config, weights), made):
        predictor = SourcePredictor(twin, weights, SOURCES)
        prediction, ids, real = forced(predictor, TARGETS)
        np.testing.assert_allclose(prediction.logprobs(ids)[real], expected[real], atol=2e-6)
        np.testing.assert_allclose(np.exp(prediction.logits()).sum(axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_are_those_of_finite_differences(attention: str | None, cell: str) -> None:
    made = network(attention, layers=1, cell=cell, hidden=2, embedding=2).double()
    names = [name for name, _ in made.named_parameters()]
    targets = padded([np.append(target, EOS) for target in TARGETS], 5)
    inputs = torch.cat([torch.zeros_like(targets[:1]), targets[:-1]])
    texts = padded(SOURCES, 4), torch.where(inputs == EOS, START, inputs), targets

    def loss(*values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        logprobs: Tensor = torch.func.functional_call(made, weights, texts)
        return (logprobs * (targets != 0)).sum()

    values = [p.detach().clone().requires_grad_() for p in made.parameters()]
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@torch.no_grad()
def test_a_monotonic_attention_sums_over_all_paths_that_never_go_back() -> None:
    """The forward variable, beside an enumeration of the places of each token."""
    made = network("monotonic", layers=1)
    source, target = torch.tensor([[3], [4], [5]]), [3, 4, EOS]
    inputs = torch.tensor([[START], [3], [4]])
    found = made(source, inputs, torch.tensor(target)[:, None]).sum().item()
    memory, states = made.encode(source)
    h, _ = made.decode(inputs, states)
    a, keys, values = made.attention, memory.keys, memory.values
    assert keys is not None and values is not None
    total = 0.0
    for path in itertools.combinations_with_replacement(range(3), 3):
        p, before = 1.0, 0
        for t, place in enumerate(path):
            score = {}
            for s in range(before, 3):
                jump = a.jumps[min(s - before, JUMPS - 1)].item()
                score[s] = (h[t, 0] @ keys[s, 0]).item() / math.sqrt(7) + jump
            p *= math.exp(score[place]) / sum(map(math.exp, score.values()))
            z = (values[place, 0] + a.own @ h[t, 0]).tanh()
            p *= made.output(z).softmax(dim=0)[target[t] - 1].item()
            before = place
        total += p
    assert found == pytest.approx(math.log(total), abs=1e-5)


def test_a_global_attention_is_that_of_torch() -> None:
    made = network("global", layers=1)
    source, inputs = padded(SOURCES, 4), padded(TARGETS, 4)
    memory, states = made.encode(source)
    h, _ = made.decode(inputs, states)
    mask = memory.real.T[:, None]
    assert memory.keys is not None and memory.values is not None
    context = torch.nn.functional.scaled_dot_product_attention(
        h.transpose(0, 1), memory.keys.transpose(0, 1), memory.values.transpose(0, 1), mask
    )
    expected = (context.transpose(0, 1) + h @ made.attention.own.T).tanh()
    torch.testing.assert_close(made.attention.context(memory, h), expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_probabilities_of_all_targets_sum_to_one(attention: str | None) -> None:
    """Every target of up to three tokens, and the probability to go on after them."""
    made = network(attention)
    predictor = SourcePredictor(made, made.weights(), SOURCES[:1])
    total = 0.0
    for length in range(4):
        texts = list(itertools.product((UNK, 3, 4, 5), repeat=length))
        inputs = np.array([(START, *text) for text in texts])
        state = predictor.initial_state(len(texts))
        prediction, _ = predictor.read(inputs, state)
        ids = np.array([(*text, EOS) for text in texts])
        logprobs = prediction.logprobs(ids)
        total += np.exp(logprobs.sum(axis=1)).sum()
        if length == 3:
            total += (np.exp(logprobs[:, :-1].sum(axis=1)) * -np.expm1(logprobs[:, -1])).sum()
    assert total == pytest.approx(1, abs=1e-4)


class GardenPath:
    """p(3) = 0.6 and then three ways of 1/3; p(4) = 0.4 and then the end. Ids from 1 to 5."""

    def __init__(self) -> None:
        self.table = {START: {3: 0.6, 4: 0.4}, 3: {3: 1 / 3, 5: 1 / 3, EOS: 1 / 3}}

    def initial_state(self, batch: int) -> Any:
        return [(np.zeros((batch, 1)),)]

    def read(self, ids: Any, state: Any) -> Any:
        p = np.full((len(ids), 1, 5), 1e-9)
        for row, id in enumerate(ids[:, 0].tolist()):
            for token, value in self.table.get(id, {EOS: 1.0}).items():
                p[row, 0, token - 1] = value
        return SimpleNamespace(logits=lambda: np.log(p)), state


@pytest.mark.parametrize("width", [2, 5])
def test_a_target_that_begins_less_probably_is_found(width: int) -> None:
    (found,) = best_targets(GardenPath(), 1, width, np.array([4]), 1)  # type: ignore[arg-type]
    assert [f.ids for f in found] == [[4]]
    assert math.exp(found[0].logprob) == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_wide_search_finds_what_an_exhaustive_one_finds(attention: str | None) -> None:
    made = network(attention)
    weights = made.weights()
    found = best_targets(SourcePredictor(made, weights, SOURCES), 3, 200, np.full(3, 3))
    alone = [
        best_targets(SourcePredictor(made, weights, [source]), 1, 200, np.full(1, 3))[0]
        for source in SOURCES
    ]
    for source, several, single in zip(SOURCES, found, alone, strict=True):
        texts = [t for n in range(4) for t in itertools.product((3, 4, 5), repeat=n)]
        logprobs = {}
        for text in texts:
            predictor = SourcePredictor(made, weights, [source])
            logprobs[text] = -nats_of(predictor, [np.array(text, np.int64)])
        best = sorted(texts, key=lambda text: -logprobs[text])
        assert [tuple(f.ids) for f in several] == best
        np.testing.assert_allclose(
            [f.logprob for f in several], [logprobs[t] for t in best], atol=1e-5
        )
        assert [f.ids for f in single] == [f.ids for f in several]


def test_a_narrow_search_keeps_to_its_width_and_ends() -> None:
    made = network("global")
    with torch.no_grad():
        made.output.bias[EOS - 1] = -20.0  # targets hardly ever end
    predictor = SourcePredictor(made, made.weights(), SOURCES)
    found = best_targets(predictor, 3, 2, np.array([5, 0, 9]))
    assert [len(each) for each in found] == [2, 1, 2]
    longest = [max(len(f.ids) for f in each) for each in found]
    assert all(n <= most for n, most in zip(longest, (5, 0, 9), strict=True))


def test_both_halves_are_multiplied_and_normalised() -> None:
    made, counted = network("monotonic"), JointNgram.count(SOURCES[:2], TARGETS[:2])
    assert counted is not None
    joint, weights = counted.with_powers((0.7, 0.4)), made.weights()
    both = predictor_of(made, weights, joint, SOURCES)
    assert isinstance(both, JoinedPredictor)
    prediction, ids, _ = forced(both, TARGETS)
    of_network, _, _ = forced(predictor_of(made, weights, None, SOURCES), TARGETS)
    chain = joint.lattice(SOURCES, 6)
    inputs = np.concatenate([np.full((3, 1), START), ids[:, :-1]], axis=1)
    lattice, _ = chain.read(np.where(inputs == EOS, START, inputs), chain.initial_state(3))
    product = 0.7 * of_network.logits() + 0.4 * np.log(np.maximum(lattice.p, LEAST))
    expected = product - np.log(np.exp(product).sum(axis=2, keepdims=True))
    np.testing.assert_allclose(prediction.logits(), expected, atol=1e-5)
    np.testing.assert_allclose(prediction.last().logits(), expected[:, -1:], atol=1e-5)


# --- what is measured ---


def test_errors_are_those_of_the_nearest_target() -> None:
    assert edit_distance([], [1, 2]) == 2 and edit_distance([1, 2, 3], [1, 9, 3, 4]) == 2
    assert errors_of([1, 2], [[5, 6, 7], [1, 2, 3], [9]]) == (1, 3)
    score = TargetScore(sources=4, exact=3, errors=2, reference=20) + TargetScore(2, 8, 4.0)
    figures = score.figures()
    assert figures["exact_match"] == 0.75 and figures["token_error_rate"] == 0.1
    assert figures["nats_per_token"] == 0.5 and figures["perplexity"] == pytest.approx(
        math.exp(0.5)
    )


# --- training ---


def lines() -> list[str]:
    """Words of syllables, and their letters in capitals with blanks between; e at the end is
    silent."""
    words = [
        "".join(w) for n in (2, 3) for w in itertools.product(("ba", "ke", "lo", "mi"), repeat=n)
    ]
    return [f"{word}\t{' '.join(word.removesuffix('e').upper())}\n" for word in words]


def examples() -> Examples:
    blocks = {
        name: "".join(line.split("\t")[k].rstrip("\n") + "\n" for line in lines())
        for k, name in enumerate(TASK.fields)
    }
    vocabularies = {
        name: train_tokenizer(level, partial(iter, [text]), None, "lossless", "nfc")
        for (name, text), level in zip(blocks.items(), ("char", "word"), strict=True)
    }
    fields = {n: TokenFile.of(vocabularies[n].encode_ids(text)) for n, text in blocks.items()}
    return Examples(fields, vocabularies)


def config_of(data: Examples, attention: str | None) -> Seq2SeqConfig:
    sizes = (data.vocabularies[name].size for name in TASK.fields)
    source, target = sizes
    return Seq2SeqConfig(
        source_vocab=source, vocab=target, embedding=5, hidden=6, attention=attention
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_processes_have_the_gradient_of_one(attention: str | None) -> None:
    data = examples()
    dropout = Dropout(outputs=0.3, inputs=0.3, state=0.2)
    check_gradients(TASK, config_of(data, attention), data, dropout)


def test_the_parts_of_a_validation_add_up() -> None:
    data = examples()
    made = TASK.network(config_of(data, "monotonic"), {}).eval()
    validation = TargetValidation(data)
    whole = check_totals(validation, made)
    assert validation.total(made) == pytest.approx(whole[0])
    assert validation.predicted == data.lengths("target").sum() + len(data)


def test_of_many_pairs_every_kth_is_decoded_and_so_in_a_sample() -> None:
    data = examples()
    made = TASK.network(config_of(data, "global"), {}).eval()
    validation = TargetValidation(data, every=3)
    batches = [len(sources) for sources, _ in batches_of(data)]
    assert validation.totals(made, {})[1] == sum(-(-n // 3) for n in batches) < len(data)
    sample = validation.first(data.tokens // 2)
    assert 0 < len(sample.data) < len(data) and sample.every == 3


# --- models ---

SMALL: dict[str, Any] = {
    "hidden": 16, "batch": 4, "quiet": True, "precision": "fp32", "target_level": "word",
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(lines()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def transducer(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Transducer:
    folder = tmp_path_factory.mktemp("transducer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return charlm.train(pairs, kind=Transducer, out=folder / "run", steps=250, lr=0.01, **SMALL)


def test_a_transducer_writes_targets_with_their_probabilities(transducer: Transducer) -> None:
    sources = ["bake", "lolomi", "", "xyz", "kemikemike"]
    together = transducer.predict(sources, k=3)
    assert [best.target for best, *_ in together[:2]] == ["B A K", "L O L O M I"]
    assert len(together[0]) == 3 and together[0][0].probability > 0.8
    for source, several in zip(sources, together, strict=True):
        p = [answer.probability for answer in several]
        assert p == sorted(p, reverse=True) and sum(p) <= 1 + 1e-5
        (alone,) = transducer.predict(source, k=3)
        assert [a.target for a in alone] == [a.target for a in several]
        np.testing.assert_allclose([a.probability for a in alone], p, atol=1e-5)


def test_the_model_of_a_source_scores_and_samples_its_targets(transducer: Transducer) -> None:
    given = transducer.given("bake")
    best, second = transducer.predict("bake", k=2)[0]
    for answer in (best, second):
        score = given.score(answer.target)
        assert math.exp(score.logprob) == pytest.approx(answer.probability, rel=1e-4)
    assert given.score("B A K").tokens == 4
    samples = [given.sample(seed=seed, temperature=1.0) for seed in range(20)]
    assert samples.count("B A K") > 12
    assert given.sample(beam=2) == "B A K"


def test_what_is_measured_is_what_is_predicted(transducer: Transducer) -> None:
    text = "bake\tB A K\nlomi\tL O M I\nbake\tB A K E\nkeba\tK E B\n"
    score = transducer.evaluate(text)
    assert (score.pairs, score.sources, score.exact, score.tokens) == (4, 3, 2, 4 + 5 + 5 + 4)
    assert (score.errors, score.reference) == (1, 3 + 4 + 3)
    nats = 0.0
    for line in text.splitlines():
        source, target = line.split("\t")
        nats -= transducer.given(source).score(target).logprob
    assert score.nats == pytest.approx(nats, rel=1e-4)
    assert transducer.evaluate([text[:13], text[13:]]) == score


def test_both_halves_are_in_the_file(transducer: Transducer, pairs: Path) -> None:
    alone = charlm.load(transducer.path, kind=Transducer, network_only=True)
    assert transducer.joint is not None and alone.joint is None
    text = pairs.read_text(encoding="utf-8")
    assert transducer.evaluate(text).nats < alone.evaluate(text).nats
    torch_alone = charlm.load(transducer.path, kind=Transducer, backend="torch")
    assert torch_alone.evaluate(text).nats == pytest.approx(
        transducer.evaluate(text).nats, rel=1e-3
    )
    exact, errors = (
        transducer.card.figures[name] or 0.0
        for name in ("valid_exact_match", "valid_token_error_rate")
    )
    assert exact >= 7 / 9 and errors < 0.05


def test_commands(transducer: Transducer, charlm_command: Command) -> None:
    model, as_json = ("--model", transducer.path), ("--format", "json")
    (answer,) = charlm_command("predict", "bake", "-k", 2, *model, *as_json).objects
    expected = transducer.predict("bake", k=2)[0]
    assert [(a["target"], a["probability"]) for a in answer["answers"]] == expected
    _, *rows = charlm_command("predict", *model, stdin=b"bake\nlomi\n").rows
    assert [row[2] for row in rows] == ["B A K", "L O M I"]
    (score,) = charlm_command("score", "--given", "bake", "B A K", *model, *as_json).objects
    assert score["logprob"] == pytest.approx(transducer.given("bake").score("B A K").logprob)
    sampled = charlm_command("sample", "--given", "lomi", "-t", 0, *model).stdout
    assert sampled.strip() == b"L O M I"
    Path("test.tsv").write_text("bake\tB A K\nlomi\tL O M\n", encoding="utf-8")
    (measured,) = charlm_command("evaluate", "test.tsv", *model, *as_json).objects
    assert (measured["exact_match"], measured["token_error_rate"]) == (0.5, 1 / 6)
    assert "it writes targets for sources" in charlm_command("score", "bake", *model).error


def test_a_label_starts_a_text(charlm_command: Command) -> None:
    """One to many: what is written depends on a label alone."""
    texts = {"low": ("aba", "abb", "baa"), "high": ("yzy", "zzy", "yyz")}
    rows = [f"{label}\t{text}\n" for label, several in texts.items() for text in several] * 20
    Path("p.tsv").write_text("".join(rows), encoding="utf-8")
    options = {**SMALL, "target_level": None, "source_level": "label", "steps": 150, "lr": 0.01}
    model = charlm.train("p.tsv", kind=Transducer, out="run", **options)
    assert model.config.attention is None
    for label, letters in (("low", set("ab")), ("high", set("yz"))):
        samples = [model.given(label).sample(seed=seed) for seed in range(10)]
        assert sum(set(sample) <= letters for sample in samples) >= 9


def test_an_interrupted_training_ends_with_the_very_same_weights(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "dropout": 0.2, "steps": 20}
    check_resumed(pairs, Transducer, options, 11, monkeypatch)


def test_two_files_are_named_again_to_resume(charlm_command: Command) -> None:
    Path("s.txt").write_text("ab\nba\n" * 30, encoding="utf-8")
    Path("t.txt").write_text("BA\nAB\n" * 30, encoding="utf-8")
    files = ("train", "s.txt", "--target", "t.txt")
    charlm_command(*files, "--task", "seq2seq", "--steps", 3, "--hidden", 8, "--out", "run")
    again = charlm_command(*files, "--resume", "--out", "run", "--steps", 5)
    assert again.code == 0 and charlm.load("run").card.trained.endswith("5 steps")


def test_tokens_of_a_source_that_the_model_has_never_seen_are_named(
    transducer: Transducer, charlm_command: Command
) -> None:
    model = ("--model", transducer.path)
    assert transducer.unknown("aßb?") == ["ß", "?"]
    named = "warning: the model has never seen 'ß', '?'; read as <UNK>"
    assert charlm_command("predict", "aßb?", "ab", *model).notes == [named]
    assert charlm_command("score", "--given", "aßb?", "A", *model).notes[0] == named
    assert charlm_command("predict", "ab", *model).notes == []
    score = transducer.evaluate("aßb\tA\nab\tA\n")
    assert score.unknown == 1
    assert transducer.warning(score) == ("1 of 2 sources have tokens that the model has never seen")


def test_pairs_are_measured_together_however_a_text_comes(
    transducer: Transducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(lines())
    sizes: list[int] = []
    measure = Transducer._predictor

    def counted(self: Transducer, own: Any) -> Any:
        sizes.append(len(own))
        return measure(self, own)

    monkeypatch.setattr(Transducer, "_predictor", counted)
    whole, by_lines = transducer.evaluate(text), transducer.evaluate(text.splitlines(True))
    assert by_lines == whole and sizes[: len(sizes) // 2] == sizes[len(sizes) // 2 :]
    assert len(sizes) < whole.pairs / 4


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_the_number_of_answers_has_bounds(transducer: Transducer, k: int) -> None:
    with pytest.raises(OptionError, match=f"`k={k}`: must be from 1 to 1000"):
        transducer.predict("ab", k=k)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bake\tB\nno target\n", r"x\.tsv, line 2: should be a source, a TAB and a target"),
        ("bake\tB\n\tB\n", r"x\.tsv, line 2: the source is empty"),
        ("bake\tB\nbake\tB\tx\n", r"x\.tsv, line 2: has 3 columns"),
        ('{"source": "a", "target": "b"}\n{"source": "a"}\n', "line 2: no field 'target'"),
    ],
)
def test_a_broken_pair_is_named(text: str, message: str) -> None:
    Path("x.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        charlm.train("x.tsv", kind=Transducer, out="run", **SMALL)


def test_options_of_other_tasks_are_refused(transducer: Transducer, pairs: Path) -> None:
    with pytest.raises(OptionError, match="`attention=False`"):
        charlm.train(pairs, kind=charlm.LanguageModel, attention=False, quiet=True)
    with pytest.raises(ModelError, match="writes targets for sources"):
        charlm.load(transducer.path, kind=charlm.LanguageModel)
    with pytest.raises(OptionError, match="`cache=9`: is not for `task=seq2seq`"):
        transducer.evaluate("a\tb\n", cache=9)


def test_sources_and_targets_may_be_in_two_files(pairs: Path, charlm_command: Command) -> None:
    rows = [line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()]
    for name, column in (("sources.txt", 0), ("targets.txt", 1)):
        Path(name).write_text("".join(f"{row[column]}\n" for row in rows), encoding="utf-8")
    options = {**SMALL, "steps": 5}
    one = charlm.train(pairs, kind=Transducer, out="one", **options)
    two = charlm.train("sources.txt", kind=Transducer, target="targets.txt", out="two", **options)
    assert one.card.valid_nats == two.card.valid_nats
    command = ("train", "--task", "seq2seq", "--target", "targets.txt", "--steps", 5, "--hidden", 8)
    assert charlm_command(*command, "--source", "sources.txt").stdout
    Path("targets.txt").write_text("B A\n", encoding="utf-8")
    refused = charlm_command(*command, "sources.txt").error
    assert "sources.txt and targets.txt do not have the same number of lines" in refused


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_shares_say_where_the_decoder_looked(attention: str | None) -> None:
    """They sum to 1, without what fills up a source."""
    made = network(attention)
    predictor = SourcePredictor(made, made.weights(), SOURCES)
    prediction, ids, real = forced(predictor, TARGETS)
    assert isinstance(prediction, SourcePrediction)
    shares = prediction.shares(ids)
    assert shares.shape == (3, 5, 4) and not shares[1, :, 2:].any()
    sums = shares.sum(axis=2)[real]
    np.testing.assert_allclose(sums, 0 if attention is None else 1, atol=1e-5)


def test_a_page_shows_the_attention(transducer: Transducer, charlm_command: Command) -> None:
    (whole, answer), *lines = transducer.looked("bake")
    assert [piece.text for piece in whole] == ["bake"] and answer.startswith("B A K ")
    assert [token for _, token in lines] == ["B", "A", "K"]
    for pieces, _ in lines:
        assert [piece.text for piece in pieces] == list("bake")
        assert sum(piece.share for piece in pieces) == pytest.approx(1, abs=1e-4)
    charlm_command("predict", "bake", "--html", "page.html", "--model", transducer.path)
    page = Path("page.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", page)
    assert re.findall("<th>(.)</th>", rows[0][1]) == list("bake")
    shares = [[piece.share for piece in pieces] for pieces, _ in lines]
    for (token, cells), row, name in zip(rows[1:], shares, "BAK", strict=True):
        assert token == name
        found = [float(share) for share in re.findall('<td style="--s:(.*?)"', cells)]
        assert found == pytest.approx(row, abs=6e-4)
