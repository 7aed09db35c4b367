"""Probabilities: what a score is, that it depends on nothing else, and that they add up."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model.backend import Backend
from charlm.model.config import ModelConfig, multiplied_weights
from charlm.model.likelihood import text_logprob
from charlm.scores import byte_length, scientific
from charlm.scoring import ScoreOptions, score_sentences
from charlm.tokenizer import EOS, START

SENTENCES = ["the cat sat on the mat", "", "a bird", "my aunt waited in the sun", "zebra", "a b"]


def test_a_score_is_the_chain_rule_from_the_zero_state(model: LanguageModel) -> None:
    score = model.score("a cat")
    ids = [*model.tokenizer.encode("a cat").ids.tolist(), EOS]
    state, read, logprobs = model.backends.numpy.initial_state(1), START, []
    for id in ids:
        logits, state = model.backends.numpy.step(np.array([read]), state)
        exponentials = np.exp(logits[0].astype(np.float64))
        logprobs.append(math.log(exponentials[id - 1] / exponentials.sum()))
        read = id
    assert score.logprob == pytest.approx(sum(logprobs), abs=1e-4)
    assert [t.logprob for t in score.token_scores] == pytest.approx(logprobs, abs=1e-5)
    assert (score.tokens, score.chars, score.bytes) == (6, 6, 6)


def test_the_empty_sentence_has_the_probability_of_an_empty_line(model: LanguageModel) -> None:
    score = model.score("")
    assert score.tokens == 1 and score.chars == 1
    logits, _ = model.backends.numpy.step(np.array([START]), model.backends.numpy.initial_state(1))
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert score.logprob == pytest.approx(math.log(p[EOS - 1]), abs=1e-5)
    nothing = model.score("", eos=False)
    assert (nothing.logprob, nothing.tokens, nothing.perplexity) == (0, 0, 1)


def test_units_are_those_of_the_same_number(model: LanguageModel) -> None:
    score = model.score("thé cat")
    assert score.bits == pytest.approx(-score.logprob / math.log(2))
    assert 10**score.log10prob == pytest.approx(math.exp(score.logprob))
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / 8))
    assert (score.chars, score.bytes, score.unknown) == (8, 9, 1)
    assert score.bits_per_char == pytest.approx(score.bits / 8)
    assert score.bits_per_byte == pytest.approx(score.bits / 9)


def test_a_score_is_the_same_alone_in_a_batch_and_after_others(model: LanguageModel) -> None:
    alone = [model.score(sentence).logprob for sentence in SENTENCES]
    many = SENTENCES + ["the dog slept at home"] * 300 + SENTENCES[::-1]
    together = [score.logprob for score in model.score(many)]
    tokens = np.array([len(s) + 1 for s in SENTENCES])
    assert np.max(np.abs(np.subtract(together[:6], alone)) / tokens) < 1e-4
    assert np.max(np.abs(np.subtract(together[-6:], alone[::-1])) / tokens[::-1]) < 1e-4


def test_numpy_and_torch_give_the_same_scores(model: LanguageModel) -> None:
    by_numpy, by_torch = (
        list(
            score_sentences(lambda tokens, b=backend: b, model.tokenizer, SENTENCES, ScoreOptions())
        )
        for backend in (model.backends.numpy, model.backends.torch)
    )
    for a, b in zip(by_numpy, by_torch, strict=True):
        assert abs(a.logprob - b.logprob) < 1e-4 * a.tokens


def test_much_work_goes_to_torch_and_little_to_numpy(model: LanguageModel) -> None:
    assert model.backends(10) is model.backends.numpy
    assert model.backends(10**9) is model.backends.torch


def test_torch_takes_over_once_much_has_been_scored(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, tokens = charlm.load(model.path, kind=LanguageModel), len("a cat") + 1
    calls: list[tuple[int, Backend]] = []

    def backends(more: int) -> Backend:
        calls.append((more, fresh.backends(more)))
        return calls[-1][1]

    monkeypatch.setattr("charlm.scoring.SENTENCES_AT_ONCE", 2)
    flop = 5 * tokens * 2 * multiplied_weights(fresh.config)
    monkeypatch.setattr("charlm.model.backend.TORCH_PAYS_FROM", flop)
    scores = list(score_sentences(backends, fresh.tokenizer, ["a cat"] * 6, ScoreOptions()))
    by_numpy, by_torch = fresh.backends.numpy, fresh.backends.torch
    assert calls == [(2 * tokens, by_numpy)] * 2 + [(2 * tokens, by_torch)]
    assert scores[-1].logprob == pytest.approx(scores[0].logprob, abs=1e-4)


def test_a_backend_is_chosen_by_name_or_given(model: LanguageModel) -> None:
    by_torch = charlm.load(model.path, backend="torch")
    assert by_torch.backends(1) is by_torch.backends.torch
    by_numpy = charlm.load(model.path, backend="numpy")
    assert by_numpy.backends(10**12) is by_numpy.backends.numpy
    given = charlm.load(model.path, backend=model.backends.numpy)
    assert given.backends(10**12) is model.backends.numpy
    for option in ("backend", "device"):
        with pytest.raises(OptionError, match=f"`{option}=fpga`: choose"):
            charlm.load(model.path, **{option: "fpga"})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_on_a_gpu_are_those_of_the_cpu(model: LanguageModel) -> None:
    on_gpu = charlm.load(model.path, kind=LanguageModel, device="cuda")
    assert on_gpu.backends.torch.device.type == "cuda"
    for a, b in zip(on_gpu.score(SENTENCES), model.score(SENTENCES), strict=True):
        assert abs(a.logprob - b.logprob) < 1e-4 * a.tokens


@pytest.mark.parametrize("prefix", ["", "the c", "a bird s", "xq"])
def test_all_continuations_of_a_prefix_sum_to_one(model: LanguageModel, prefix: str) -> None:
    letters = [model.tokenizer.token(id) for id in range(3, model.tokenizer.size)]
    letters = [" " if letter == "▁" else letter for letter in letters]
    unknown = "\N{SNOWMAN}"  # stands for every character that the model does not know
    scores = model.score([prefix + letter for letter in [*letters, unknown]], eos=False)
    ends = model.score(prefix)
    log_prefix = model.score(prefix, eos=False).logprob
    total = sum(math.exp(s.logprob - log_prefix) for s in [*scores, ends])
    assert total == pytest.approx(1, abs=1e-5)


def test_context_conditions_and_is_not_scored(model: LanguageModel) -> None:
    whole, before = model.score("the cat sat"), model.score("the c", eos=False)
    after = model.score("at sat", context="the c")
    assert after.logprob == pytest.approx(whole.logprob - before.logprob, abs=1e-4)
    assert after.tokens == 7 and after.text == "at sat"
    assert [t.start for t in after.token_scores] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("context", ["", "the c", "a bird\n"])
@pytest.mark.parametrize("eos", [True, False])
def test_sentences_of_a_batch_have_their_own_tokens(
    model: LanguageModel, context: str, eos: bool
) -> None:
    sentences = ["", "at sat", "a\nb\n\n", "cafe\u0301 e", "e\r", "the cat"]
    found = model.score(sentences, context=context, eos=eos)
    for sentence, score in zip(sentences, found, strict=True):
        ids, spans = model.tokenizer.encode(context + sentence)
        expected = [
            (id, max(start - len(context), 0), end - len(context))
            for id, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True)
            if end > len(context)
        ]
        expected += [(EOS, len(sentence), len(sentence))] * eos
        assert [(t.id, t.start, t.end) for t in score.token_scores] == expected
        assert score.logprob == pytest.approx(sum(t.logprob for t in score.token_scores))


def test_a_context_that_ends_its_line_lets_the_sentence_start_one(model: LanguageModel) -> None:
    both = model.evaluate("a bird\nthe cat\n", reset_lines=False)
    first = model.score("a bird")
    after = model.score("the cat", context="a bird\n")
    assert after.logprob == pytest.approx(both.logprob - first.logprob, abs=1e-4)


def test_evaluate_with_reset_lines_is_the_sum_of_the_scores(model: LanguageModel) -> None:
    lines = ["the cat sat", "", "a bird sang by the door"]
    score = model.evaluate("\n".join(lines), reset_lines=True)
    assert score.logprob == pytest.approx(sum(s.logprob for s in model.score(lines)), abs=1e-4)
    assert score.tokens == score.chars == sum(len(line) + 1 for line in lines)


def test_bytes_that_are_no_text_count_as_they_were() -> None:
    assert [byte_length(t) for t in ("aé", "a\udcff", "\ud800")] == [3, 2, 3]


def test_evaluate_carries_the_state_from_block_to_block(model: LanguageModel) -> None:
    blocks = ["the cat sat\n", "a bird sang\n", "my aunt"]
    apart = model.evaluate(blocks, reset_lines=False)
    together = model.evaluate("".join(blocks), reset_lines=False)
    assert apart == together and together.tokens == 32
    reset = model.evaluate(blocks, reset_lines=True)
    assert reset.logprob != pytest.approx(together.logprob, abs=1e-6)


def test_evaluate_says_how_far_it_is(model: LanguageModel) -> None:
    told: list[float] = []
    text = "the cat sat on the mat\n" * 30  # 690 tokens, read in parts of 128
    model.evaluate(text, reset_lines=False, progress=told.append)
    assert told == pytest.approx([128 * k / 690 for k in range(6)])


def test_a_long_text_in_streams_scores_as_in_one(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = model.tokenizer.encode_ids("the cat sat on the mat\na dog sang at home\n" * 300)
    in_streams = text_logprob(model.backends.numpy, ids)
    monkeypatch.setattr("charlm.model.likelihood.LONGEST_SINGLE", 10**9)
    in_one = text_logprob(model.backends.numpy, ids)
    assert in_streams != in_one and abs(in_streams - in_one) < 1e-5 * len(ids)


class StartsOfLines:
    """A backend to which nothing is probable unless it began to read where a line begins."""

    config = ModelConfig(9, hidden=1)

    def initial_state(self, batch: int) -> np.ndarray:
        return np.full((batch, 1), np.nan)

    def read(
        self, ids: np.ndarray, state: np.ndarray, reverse: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        state = np.where(np.isnan(state), ids[:, :1] == START, state)
        return np.repeat(state, ids.shape[1], axis=1)[..., None], state

    def logprobs(self, y: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.where(y[..., 0] == 1, 0.0, -1.0)


def test_every_stream_of_a_long_text_begins_where_a_line_does() -> None:
    rng = np.random.default_rng(0)
    ids = np.where(rng.random(50_000) < 0.02, EOS, 5)
    assert text_logprob(StartsOfLines(), ids) == 0.0
    without_lines = np.full(50_000, 5)
    assert -50_000 < text_logprob(StartsOfLines(), without_lines) < 0.0


def test_probabilities_too_small_for_a_float_still_print(model: LanguageModel) -> None:
    score = model.score("zq" * 2000)
    assert math.exp(score.logprob) == 0.0
    digits, exponent = score.probability.split("e")
    assert 1 <= float(digits) < 10 and int(exponent) == math.floor(score.log10prob)
    assert json.dumps(score.to_json()).count("Infinity") == 0


@settings(max_examples=200)
@given(st.floats(-5000, 0))
def test_scientific_notation_is_the_number(log10: float) -> None:
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
