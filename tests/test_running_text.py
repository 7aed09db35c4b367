"""Scoring the lines of one text, and the distribution of what comes next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.model import likelihood
from charlm.tokenizer import EOS, START

GOLDEN = Path(__file__).parent / "golden"
LEVELS = ["lm-char-ngram", "lm-byte", "lm-word-ngram", "lm-subword"]
LINES = ["the apple and pear salad", "", "a pear, an apple", "the salad of the apple and the pear"]
EXTRAS = [{}, {"cache": 20}, {"adapt": True}, {"cache": 5, "cache_weight": 0.3, "adapt": True}]


@pytest.fixture(params=LEVELS)
def running(request: pytest.FixtureRequest) -> LanguageModel:
    model = charlm.load(GOLDEN / f"{request.param}.safetensors", kind=LanguageModel)
    object.__setattr__(model.card, "lines", False)
    return model


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
def test_the_lines_of_a_document_add_up_to_the_text(running: LanguageModel, extra: Any) -> None:
    lines = running.score(LINES, document=True, **extra)
    whole = running.evaluate("\n".join(LINES) + "\n", **extra)
    for name in ("logprob", "tokens", "chars", "bytes", "unknown"):
        total = sum(getattr(score, name) for score in lines)
        assert getattr(whole, name) == pytest.approx(total, abs=1e-3), name
    assert [score.text for score in lines] == LINES
    detailed = running.score(LINES, document=True, details=True, **extra)
    for score, again in zip(lines, detailed, strict=True):
        assert again.logprob == pytest.approx(score.logprob, abs=1e-3)
        assert sum(word.bits for word in again.words()) == pytest.approx(again.bits, abs=1e-5)


def test_a_line_of_a_document_is_scored_after_all_before_it(running: LanguageModel) -> None:
    first, second = running.score(LINES[2:], document=True)
    assert first.logprob == pytest.approx(running.score(LINES[2]).logprob, abs=1e-4)
    after = running.score(LINES[3], context=f"{LINES[2]}\n")
    assert second.logprob == pytest.approx(after.logprob, abs=1e-4)
    without = running.score(LINES[2:], document=True, eos=False)
    for score, cut in zip((first, second), without, strict=True):
        assert cut.tokens == score.tokens - 1 and cut.logprob > score.logprob


def test_streams_side_by_side_give_the_tokens_in_their_order(
    running: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "LONGEST_SINGLE", 100)
    monkeypatch.setattr(likelihood, "WARM_UP", 400)
    ids = running.tokenizer.encode_ids("\n".join(LINES * 40) + "\n")
    predictor = running.predictors.numpy
    assert likelihood.text_streams(len(ids))[0] > 1
    several, one = (
        likelihood.read_in_order(predictor, ids, lambda p, targets: p.logprobs(targets), streams)
        for streams in (8, 1)
    )
    np.testing.assert_allclose(several, one, atol=2e-3)


def test_documents_are_refused_where_lines_are_independent(model: LanguageModel) -> None:
    with pytest.raises(OptionError, match="trained with `lines`"):
        model.score(["a", "b"], document=True)
    options: Any
    for options in ({"cache": 3}, {"adapt": True}):
        with pytest.raises(OptionError, match="goes with `document`"):
            model.score("a", **options)
    with pytest.raises(OptionError, match="does not go with `document`"):
        model.score("a", context="b", document=True)


@pytest.mark.parametrize("context", ["", "the apple", "the apple\nand"])
def test_next_is_what_score_says_of_one_more_token(running: LanguageModel, context: str) -> None:
    found = running.next(context)
    assert len(found) == running.tokenizer.size - 1
    assert sum(p for _, p in found) == pytest.approx(1, abs=1e-5)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    ids = running.tokenizer.encode_ids(context)
    inputs = np.where(ids == EOS, START, ids).astype(np.int64)
    read = running.predictors.numpy.read
    state = running.predictors.numpy.initial_state(1)
    prediction, _ = read(np.array([[START, *inputs.tolist()]]), state)
    p = np.exp(prediction.last().logprobs(np.array([[EOS]])))[0, 0]
    assert dict(found)["<EOS>"] == pytest.approx(float(p), rel=1e-4)


def test_next_words_have_the_probability_of_words(running: LanguageModel) -> None:
    fillers = running.next_words("the apple and", k=3)
    p = [filler.probability for filler in fillers]
    assert len(p) == 3 and p == sorted(p, reverse=True) and 0 < sum(p) < 1
    for filler in fillers:
        # The word and its end: all that may follow it, by the distribution after it.
        whole = running.score(f"the apple and {filler.text}", eos=False)
        space = "" if running.tokenizer.tokens_are_words else " "
        before = running.score(f"the apple and{space}", eos=False)
        ends = math.fsum(
            q
            for token, q in running.next(f"the apple and {filler.text}")
            if token == "<EOS>" or _begins_a_word(running, token)
        )
        if not running.tokenizer.space_starts_word:
            expected = math.exp(whole.logprob - before.logprob) * ends
            assert filler.probability == pytest.approx(expected, rel=1e-3)


def _begins_a_word(model: LanguageModel, token: str) -> bool:
    if model.tokenizer.tokens_are_words:  # a mark that closes belongs to the word before it
        return token[0] not in ")]}”\u2019»,.;:!?…%'\"/—" and token != "<JOIN>"
    spaces = (9, 11, 12, 13, 28, 29, 30, 31)
    ideographs = range(0xE3, 0xEA)  # first bytes of UTF-8
    return token[0] == "▁" or token in {f"<0x{k:02X}>" for k in (*spaces, *ideographs)}


def test_next_words_of_a_small_corpus(model: LanguageModel) -> None:
    assert model.next_words("the cat sat in the", k=1)[0].text == "sun"
    assert model.next_words("the cat sat in the ", k=1) == model.next_words(
        "the cat sat in the", k=1
    )
    assert {word.text for word in model.next_words(k=3)} == {"the", "a", "my"}
