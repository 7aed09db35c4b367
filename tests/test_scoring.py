"""Scoring: the chain rule, independence of the batch and the backend, and sums to one."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm import LanguageModel
from charlm.engines.scores import byte_length, scientific
from charlm.engines.scoring import ScoreOptions, score_sentences
from charlm.engines.text_model import TextModel
from charlm.errors import InputError, OptionError
from charlm.model.backend import Backend, Backends, Floats, Ids
from charlm.model.config import ModelConfig
from charlm.model.likelihood import sequence_logprobs, text_logprob
from charlm.model.mixture import Predictors
from charlm.model.prediction import NetworkPredictor
from charlm.model.pseudo_likelihood import pseudo_logprobs
from charlm.model.sequences import LONGEST_SINGLE, by_length, token_states
from charlm.tokenizer import EOS, START
from conftest import Trained

SENTENCES = ["the cat sat on the mat", "", "a bird", "my aunt waited in the sun", "zebra", "a b"]


def test_a_score_is_the_chain_rule_from_the_zero_state(model: LanguageModel) -> None:
    score = model.score("a cat")
    ids = [*model.tokenizer.encode("a cat").ids.tolist(), EOS]
    predictor = model.predictors.numpy
    state, previous, logprobs = predictor.initial_state(1), START, []
    for id in ids:
        prediction, state = predictor.read(np.array([[previous]]), state)
        exponentials = np.exp(prediction.logits()[0, 0].astype(np.float64))
        logprobs.append(math.log(exponentials[id - 1] / exponentials.sum()))
        previous = id
    assert score.logprob == pytest.approx(sum(logprobs), abs=1e-4)
    assert [t.logprob for t in score.token_scores] == pytest.approx(logprobs, abs=1e-5)
    assert (score.tokens, score.chars, score.bytes) == (6, 6, 6)


@pytest.mark.parametrize("level", ["char", "byte", "word", "subword"])
@pytest.mark.parametrize("context", ["", "x\n", "x"])
def test_every_scored_token_has_a_span(level: str, context: str) -> None:
    """Also a token without text, such as the space that begins a line of subwords."""
    golden = Path(__file__).parent / f"golden/lm-{level}.safetensors"
    for score in charlm.load(golden, kind=LanguageModel).score(
        ["a,b", "  two", " a", "the harbour", ""], context=context
    ):
        assert len(score.token_scores) == score.tokens
        assert score.logprob == pytest.approx(sum(t.logprob for t in score.token_scores))


def test_a_missing_space_after_the_context_belongs_to_the_sentence() -> None:
    """At word level it is a token without text. The chain rule counts it once."""
    golden = Path(__file__).parent / "golden/lm-word.safetensors"
    model = charlm.load(golden, kind=LanguageModel)
    whole, context = model.score("the sea,and it"), model.score("the sea,", eos=False)
    sentence = model.score("and it", context="the sea,")
    assert sentence.token_scores[0].token == "<JOIN>"
    assert whole.logprob == pytest.approx(context.logprob + sentence.logprob, abs=1e-4)


def test_the_empty_sentence_has_the_probability_of_an_empty_line(model: LanguageModel) -> None:
    score = model.score("")
    assert score.tokens == 1 and score.chars == 1
    predictor = model.predictors.numpy
    prediction, _ = predictor.read(np.array([[START]]), predictor.initial_state(1))
    logits = prediction.logits()[0, 0]
    p = np.exp(logits) / np.exp(logits).sum()
    assert score.logprob == pytest.approx(math.log(p[EOS - 1]), abs=1e-5)
    no_tokens = model.score("", eos=False)
    assert (no_tokens.logprob, no_tokens.tokens, no_tokens.perplexity) == (0, 0, 1)


def test_all_units_express_the_same_log_probability(model: LanguageModel) -> None:
    score = model.score("thé cat")
    assert score.bits == pytest.approx(-score.logprob / math.log(2))
    assert 10**score.log10prob == pytest.approx(math.exp(score.logprob))
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / 8))
    assert (score.chars, score.bytes, score.unknown) == (8, 9, 1)
    assert score.bits_per_char == pytest.approx(score.bits / 8)
    assert score.bits_per_byte == pytest.approx(score.bits / 9)


def test_a_score_does_not_depend_on_the_other_sentences(model: LanguageModel) -> None:
    alone = [model.score(sentence).logprob for sentence in SENTENCES]
    batch = SENTENCES + ["the dog slept at home"] * 300 + SENTENCES[::-1]
    in_batch = [score.logprob for score in model.score(batch)]
    tokens = np.array([len(s) + 1 for s in SENTENCES])
    assert np.max(np.abs(np.subtract(in_batch[:6], alone)) / tokens) < 1e-4
    assert np.max(np.abs(np.subtract(in_batch[-6:], alone[::-1])) / tokens[::-1]) < 1e-4


def test_numpy_and_torch_give_the_same_scores(model: LanguageModel) -> None:
    by_numpy, by_torch = (
        charlm.load(model.path, kind=LanguageModel, backend=name).score(SENTENCES)
        for name in ("numpy", "torch")
    )
    for a, b in zip(by_numpy, by_torch, strict=True):
        assert abs(a.logprob - b.logprob) < 1e-4 * a.tokens


def test_torch_runs_large_work_and_numpy_small_work(model: LanguageModel) -> None:
    assert model.backends.for_tokens(10) is model.backends.numpy
    assert model.backends.for_tokens(10**9) is model.backends.torch


def test_scoring_changes_to_torch_as_the_work_grows(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, tokens = charlm.load(model.path, kind=LanguageModel), len("a cat") + 1
    calls: list[tuple[int, Backend]] = []

    def for_tokens(tokens: int) -> Backend:
        calls.append((tokens, Backends.for_tokens(fresh.backends, tokens)))
        return calls[-1][1]

    monkeypatch.setattr(fresh.backends, "for_tokens", for_tokens)
    monkeypatch.setattr("charlm.engines.scoring.SENTENCES_AT_ONCE", 2)
    flop = 5 * tokens * 2 * fresh.config.multiplied_weights()
    monkeypatch.setattr("charlm.model.backend.TORCH_PAYS_FROM", flop)
    text_model = TextModel(Predictors(fresh.backends, None), fresh.tokenizer)
    scores = list(score_sentences(text_model, ["a cat"] * 6, ScoreOptions()))
    by_numpy, by_torch = fresh.backends.numpy, fresh.backends.torch
    assert calls == [(2 * tokens, by_numpy)] * 2 + [(2 * tokens, by_torch)]
    assert scores[-1].logprob == pytest.approx(scores[0].logprob, abs=1e-4)


def test_a_backend_is_chosen_by_name_or_passed(model: LanguageModel) -> None:
    by_torch = charlm.load(model.path, kind=LanguageModel, backend="torch")
    assert by_torch.backends.for_tokens(1) is by_torch.backends.torch
    by_numpy = charlm.load(model.path, kind=LanguageModel, backend="numpy")
    assert by_numpy.backends.for_tokens(10**12) is by_numpy.backends.numpy
    by_object = charlm.load(model.path, kind=LanguageModel, backend=model.backends.numpy)
    assert by_object.backends.for_tokens(10**12) is model.backends.numpy
    with pytest.raises(OptionError, match="`backend=fpga`: choose"):
        charlm.load(model.path, backend="fpga")
    with pytest.raises(OptionError, match="`device=fpga`: choose"):
        charlm.load(model.path, device="fpga")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_and_the_cpu_give_the_same_scores(model: LanguageModel) -> None:
    on_gpu = charlm.load(model.path, kind=LanguageModel, device="cuda")
    assert on_gpu.backends.torch.device.type == "cuda"
    for a, b in zip(on_gpu.score(SENTENCES), model.score(SENTENCES), strict=True):
        assert abs(a.logprob - b.logprob) < 1e-4 * a.tokens


@pytest.mark.parametrize("prefix", ["", "the c", "a bird s", "xq"])
def test_all_continuations_of_a_prefix_sum_to_one(model: LanguageModel, prefix: str) -> None:
    letters = [model.tokenizer.token(id) for id in range(3, model.tokenizer.size)]
    letters = [" " if letter == "▁" else letter for letter in letters]
    unknown = "\N{SNOWMAN}"  # any character that is not in the vocabulary: `<UNK>`
    scores = model.score([prefix + letter for letter in [*letters, unknown]], eos=False)
    end = model.score(prefix)
    log_prefix = model.score(prefix, eos=False).logprob
    total = sum(math.exp(s.logprob - log_prefix) for s in [*scores, end])
    assert total == pytest.approx(1, abs=1e-5)


def test_context_conditions_and_is_not_scored(model: LanguageModel) -> None:
    whole, context = model.score("the cat sat"), model.score("the c", eos=False)
    rest = model.score("at sat", context="the c")
    assert rest.logprob == pytest.approx(whole.logprob - context.logprob, abs=1e-4)
    assert rest.tokens == 7 and rest.text == "at sat"
    assert [t.start for t in rest.token_scores] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("context", ["", "the c", "a bird\n"])
@pytest.mark.parametrize("eos", [True, False])
def test_each_sentence_of_a_batch_has_its_own_tokens(
    model: LanguageModel, context: str, eos: bool
) -> None:
    sentences = ["", "at sat", "a\nb\n\n", "cafe\u0301 e", "e\r", "the cat"]
    scores = model.score(sentences, context=context, eos=eos)
    for sentence, score in zip(sentences, scores, strict=True):
        ids, spans = model.tokenizer.encode(context + sentence)
        expected = [
            (id, max(start - len(context), 0), end - len(context))
            for id, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True)
            if end > len(context)
        ]
        expected += [(EOS, len(sentence), len(sentence))] * eos
        assert [(t.id, t.start, t.end) for t in score.token_scores] == expected
        assert score.logprob == pytest.approx(sum(t.logprob for t in score.token_scores))


def test_after_a_context_with_a_line_end_the_sentence_starts_a_line(
    model: LanguageModel, trained: Trained
) -> None:
    """In a document it depends on the lines before; independent lines depend on nothing."""
    document: LanguageModel = trained(steps=30, hidden=16)
    both = document.evaluate("a bird\nthe cat\n", reset_lines=False)
    first, alone = document.score("a bird"), document.score("the cat")
    second = document.score("the cat", context="a bird\n")
    assert second.logprob == pytest.approx(both.logprob - first.logprob, abs=1e-4)
    assert abs(second.logprob - alone.logprob) > 1e-3
    expected = model.score("the cat").logprob
    for context in ("a bird\n", "\n", "a\nbird\n"):
        assert model.score("the cat", context=context).logprob == pytest.approx(expected, abs=1e-5)
    within = model.score("t", context="a bird\nthe ca").logprob
    assert within == pytest.approx(model.score("t", context="the ca").logprob, abs=1e-5)
    two = model.score("a bird\nthe cat")
    assert two.logprob == pytest.approx(expected + model.score("a bird").logprob, abs=1e-4)


def test_evaluate_with_reset_lines_is_the_sum_of_the_scores(model: LanguageModel) -> None:
    lines = ["the cat sat", "", "a bird sang by the door"]
    score = model.evaluate("\n".join(lines), reset_lines=True)
    assert score.logprob == pytest.approx(sum(s.logprob for s in model.score(lines)), abs=1e-4)
    assert score.tokens == score.chars == sum(len(line) + 1 for line in lines)


def test_bytes_that_are_not_text_count_as_one_byte_each() -> None:
    assert [byte_length(t) for t in ("aé", "a\udcff", "\ud800")] == [3, 2, 3]


def test_evaluate_carries_the_state_from_block_to_block(model: LanguageModel) -> None:
    blocks = ["the cat sat\n", "a bird sang\n", "my aunt"]
    in_blocks = model.evaluate(blocks, reset_lines=False)
    whole = model.evaluate("".join(blocks), reset_lines=False)
    assert in_blocks == whole and whole.tokens == 32
    reset = model.evaluate(blocks, reset_lines=True)
    assert reset.logprob != pytest.approx(whole.logprob, abs=1e-6)


def test_evaluate_reports_its_progress(model: LanguageModel) -> None:
    fractions: list[float] = []
    text = "the cat sat on the mat\n" * 30  # 690 tokens, read in parts of 128
    model.evaluate(text, reset_lines=False, progress=fractions.append)
    assert fractions == pytest.approx([128 * k / 690 for k in range(6)])


def test_a_long_text_has_the_same_score_in_many_streams_and_in_one(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = model.tokenizer.encode_ids("the cat sat on the mat\na dog sang at home\n" * 300)
    in_streams = text_logprob(model.predictors.numpy, ids)
    monkeypatch.setattr("charlm.model.likelihood.LONGEST_SINGLE", 10**9)
    in_one = text_logprob(model.predictors.numpy, ids)
    assert in_streams != in_one and abs(in_streams - in_one) < 1e-5 * len(ids)


class LineStartBackend:
    """A mock backend. log p is 0 in a stream that began at a line start, and −1 otherwise."""

    config = ModelConfig(9, hidden=1)

    def initial_state(self, batch: int) -> Floats:
        return np.full((batch, 1), np.nan, np.float32)

    def read(self, ids: Ids, state: Floats, reverse: bool = False) -> tuple[Floats, Floats]:
        state = np.where(np.isnan(state), ids[:, :1] == START, state).astype(np.float32)
        return np.repeat(state, ids.shape[1], axis=1)[..., None], state

    def logits(self, y: Floats) -> Floats:
        raise NotImplementedError

    def logprobs(self, y: Floats, targets: Ids) -> Floats:
        return np.where(y[..., 0] == 1, np.float32(0), np.float32(-1))


def test_every_stream_of_a_long_text_begins_at_a_line_start() -> None:
    rng = np.random.default_rng(0)
    ids = np.where(rng.random(50_000) < 0.02, EOS, 5)
    assert text_logprob(NetworkPredictor(LineStartBackend()), ids) == 0.0
    one_line = np.full(50_000, 5)
    assert -50_000 < text_logprob(NetworkPredictor(LineStartBackend()), one_line) < 0.0


def test_probabilities_too_small_for_a_float_are_printed(model: LanguageModel) -> None:
    score = model.score("zq" * 2000)
    assert math.exp(score.logprob) == 0.0
    digits, exponent = score.probability.split("e")
    assert 1 <= float(digits) < 10 and int(exponent) == math.floor(score.log10prob)
    assert json.dumps(score.to_json()).count("Infinity") == 0


@settings(max_examples=200)
@given(st.floats(-5000, 0))
def test_scientific_notation_agrees_with_the_number(log10: float) -> None:
    digits, exponent = scientific(log10).split("e")
    assert 1 <= float(digits) < 10
    assert math.log10(float(digits)) + int(exponent) == pytest.approx(log10, abs=0.025)


def test_unknown_characters_are_counted_and_named(model: LanguageModel) -> None:
    assert model.score("ж cat ж").unknown == 2
    assert model.unknown_in("ж cat Ω ж") == ["ж", "Ω"]
    assert model.unknown_in_prime("the c") == []
    assert [t.token for t in model.score("ж").token_scores] == ["<UNK>", "<EOS>"]


def test_scoring_a_stream_of_sentences_keeps_their_order(model: LanguageModel) -> None:
    sentences = [f"{'the cat ' * (n % 5)}{n % 7}" for n in range(5000)]
    scores = list(model.iter_scores(iter(sentences)))
    assert [s.text for s in scores] == sentences
    assert scores[4999].logprob == pytest.approx(model.score(sentences[4999]).logprob, abs=1e-3)


def test_a_long_line_among_short_ones_is_not_padded_with_them() -> None:
    """A batch never holds much more than its tokens: memory and time follow the text."""
    read: list[tuple[int, int]] = []

    def function(batch: Sequence[Ids]) -> Floats:
        longest = max(map(len, batch))
        read.append((len(batch), longest))
        return np.stack([np.pad(ids, (0, longest - len(ids))) for ids in batch]).astype(np.float32)

    rng = np.random.default_rng(0)
    lengths = [*rng.integers(20, 60, 500).tolist(), 20_000, 0, 1_000_000]
    sequences = [rng.integers(1, 90, length) for length in lengths]
    results = by_length(function, sequences, lambda longest: 128)
    for sequence, result in zip(sequences, results, strict=True):
        np.testing.assert_array_equal(result, sequence)
    assert max(batch * longest for batch, longest in read) <= 128 * LONGEST_SINGLE
    assert sum(batch * longest for batch, longest in read) < 1.5 * sum(lengths)
    assert len(read) < 20  # short lines share their batches


@pytest.mark.parametrize("task", ["lm", "fill"])
def test_a_line_that_is_read_in_pieces_has_the_numbers_of_a_whole_one(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    backend = trained(task=task, steps=30, hidden=16).backends.torch
    line = np.random.default_rng(1).integers(3, backend.config.vocab, 3 * LONGEST_SINGLE)

    def logprobs(backend: Backend, lines: Sequence[Ids]) -> list[Floats]:
        if task == "fill":
            return pseudo_logprobs(backend, lines)
        return sequence_logprobs(NetworkPredictor(backend), lines)

    functions = [token_states, logprobs]
    in_pieces = [function(backend, [line])[0] for function in functions]
    monkeypatch.setattr("charlm.model.sequences.LONGEST_SINGLE", 10**9)
    for function, pieces in zip(functions, in_pieces, strict=True):
        np.testing.assert_allclose(pieces, function(backend, [line])[0], atol=1e-4)


def test_models_and_scores_can_be_pickled(model: LanguageModel) -> None:
    model.score("the"), model.fill("the ___ sat"), model.sample("th", length=2, seed=1)
    copy = pickle.loads(pickle.dumps(model))
    scores = model.score(SENTENCES)
    assert copy.score(SENTENCES) == scores
    assert copy.sample(length=5, seed=1) == model.sample(length=5, seed=1)
    sent = pickle.loads(pickle.dumps(scores))
    assert [s.token_scores for s in sent] == [s.token_scores for s in scores]
    assert len(pickle.dumps(scores[0])) < 20_000  # the vocabulary, and not its tables


def test_sentences_before_an_error_are_scored(model: LanguageModel) -> None:
    def broken() -> Iterator[str]:
        yield from SENTENCES
        raise InputError("line 7: not text")

    scores = model.iter_scores(broken())
    assert [next(scores).text for _ in SENTENCES] == SENTENCES
    with pytest.raises(InputError, match="line 7"):
        next(scores)


@pytest.mark.parametrize("texts", [None, 3, ["the", None], b"the"])
def test_what_is_no_text_is_refused(model: LanguageModel, texts: object) -> None:
    with pytest.raises(InputError, match="is no text; give a string, or several"):
        model.score(texts)  # type: ignore[call-overload]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_model_that_has_computed_with_torch_can_be_used_in_forked_processes(
    model: LanguageModel,
) -> None:
    """The threads of torch end with the fork; a child that waited for them would never end."""
    program = (
        "import multiprocessing, sys, charlm\n"
        f"model = charlm.load({str(model.path)!r}, backend='torch')\n"
        "lines = ['the cat sat', 'a bird sang'] * 200\n"
        "scores = model.score(lines)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    found = pool.map_async(model.score, lines).get(timeout=60)\n"
        "assert all(abs(a.logprob - b.logprob) < 1e-4 for a, b in zip(scores, found))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_bf16_is_close_and_states_stay_exact(trained: Trained) -> None:
    model = trained(steps=30, hidden=32)
    lines = ["the cat sat on the mat", "a bird sang all day in the sun"] * 40
    exact, low = (
        charlm.load(model.path, kind=LanguageModel, backend="torch", precision=precision)
        for precision in ("fp32", "bf16")
    )
    scores = exact.score(lines)
    try:
        errors = [
            abs(a.logprob - b.logprob) / a.tokens
            for a, b in zip(scores, low.score(lines), strict=True)
        ]
        assert 0 < max(errors) < 1e-2  # nats per token
    except OptionError as error:
        assert "machine has no kernel" in str(error)
    auto = charlm.load(model.path, kind=LanguageModel, backend="torch", precision="auto")
    assert auto.score(lines[0]).logprob == pytest.approx(scores[0].logprob, abs=0.2)
    assert auto.backends.torch.precision in ("fp32", "bf16")
    with pytest.raises(OptionError, match="precision"):
        charlm.load(model.path, precision="fp8")
