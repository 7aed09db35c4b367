"""Surprisal by word at every level, against sums over all tokens that may come next."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.tokenizer import EOS, SPECIALS, START, as_inputs
from charlm.tokenizer.word_starts import word_starts

GOLDEN = Path(__file__).parent / "golden"
LEVELS = [
    "lm-char",
    "lm-byte",
    "lm-word-ngram",
    "lm-word-whitespace",
    "lm-subword",
    "lm-char-ngram",
]
SENTENCES = [
    "the apple and pear salad",
    "  Well-known “words”, isn't it? 'tis the dogs' (home) 1,000 and/or a,b  ",
    "Ångström café cafe\u0301 \u2603, naïve",
    "",
    " ",
]
# What a word is, in other words: white space with what follows it up to the next white space.
JOINED = re.compile(r"\s*\S+|\s+")
SEPARATE = re.compile(r"\s*(?:[\w\u0300-\u036f][\w\u0300-\u036f'\u2019-]*|[^\w\s])|\s+")
UNREADABLE = "\ufffd"  # an unknown character, and a byte that is a part of one: read as letters


@pytest.fixture(params=LEVELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return charlm.load(GOLDEN / f"{request.param}.safetensors", kind=LanguageModel)


@pytest.mark.parametrize("punctuation", [False, True])
def test_the_words_add_up_to_the_sentence(model: LanguageModel, punctuation: bool) -> None:
    for eos in (True, False):
        for score in model.score(SENTENCES, details=True, eos=eos):
            total = sum(word.bits for word in score.words(punctuation))
            assert total == pytest.approx(score.bits, abs=1e-6)


def test_unknown_white_space_belongs_to_the_next_word() -> None:
    model = charlm.load(GOLDEN / "lm-word-ngram.safetensors", kind=LanguageModel)
    for text in ("a\u2003b cat", "a \u2003 b cat\u2003"):
        score = model.score(text, details=True)
        assert score.unknown
        words = score.words()
        assert [word.word for word in words] == ["a", "b", "cat", "<EOS>"]
        assert sum(word.bits for word in words) == pytest.approx(score.bits, abs=1e-6)


def test_words_are_the_words_of_the_text(model: LanguageModel) -> None:
    sentence = SENTENCES[0]
    words = model.score(sentence, details=True).words()
    assert [w.word for w in words] == [*sentence.split(), "<EOS>"]
    assert all(sentence[w.start : w.end] == w.word for w in words[:-1])
    assert (words[-1].start, words[-1].end) == (len(sentence), len(sentence))


def test_marks_are_words_by_themselves_if_asked_for() -> None:
    model = charlm.load(GOLDEN / "lm-char.safetensors", kind=LanguageModel)
    score = model.score("He said: 'it isn't well-known.'", details=True)
    assert [w.word for w in score.words()][1:3] == ["said:", "'it"]
    separate = ["He", "said", ":", "'", "it", "isn't", "well-known", ".", "'", "<EOS>"]
    assert [w.word for w in score.words(punctuation=True)] == separate


@pytest.mark.parametrize("punctuation", [False, True])
def test_a_word_ends_with_the_probability_of_all_that_may_begin_the_next(
    model: LanguageModel, punctuation: bool
) -> None:
    """The first words together: Σ p over every token after them that starts another word."""
    text = "He said: 'it isn't' and left."
    score = model.score(text, details=True)
    ids, tokenizer = score.ids, model.tokenizer
    predictor = model.predictors.numpy
    inputs = as_inputs(np.concatenate([[START], ids[:-1]]))[None]
    prediction, _ = predictor.read(inputs, predictor.initial_state(1))
    logits = prediction.logits()[0].astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    so_far, pattern = 0.0, SEPARATE if punctuation else JOINED
    words = iter(score.words(punctuation))
    for t, id in enumerate(ids):
        before = tokenizer.decode(ids[:t])
        if t:

            def begins(v: int, before: str = before, t: int = t) -> bool:
                after = tokenizer.decode([*ids[:t], v]).replace(UNREADABLE, "x")
                starts = [match.start() for match in pattern.finditer(after)]
                return v == EOS or (len(after) > len(before) and len(before) in starts)

            mass = sum(p[t, v - 1] for v in range(1, tokenizer.size) if begins(v))
            if begins(int(id)):
                so_far -= next(words).bits
                assert so_far == pytest.approx(
                    np.sum(score.logprobs[:t], dtype=np.float64) / math.log(2) + math.log2(mass),
                    abs=1e-4,
                )
    assert [word.word for word in words] == ["<EOS>"]


def test_rank_entropy_and_likeliest_tokens_are_those_of_the_whole_distribution(
    model: LanguageModel,
) -> None:
    score = model.score("the cat", details=True)
    predictor, state, previous = model.predictors.numpy, None, START
    state = predictor.initial_state(1)
    for token in score.token_scores:
        prediction, state = predictor.read(np.array([[previous]]), state)
        logits = prediction.logits()[0, 0].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum()
        assert token.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
        assert token.rank == 1 + (p > p[token.id - 1]).sum()
        best = np.argsort(-p, kind="stable")[:5]
        assert token.likeliest is not None
        assert [name for name, _ in token.likeliest] == [
            model.tokenizer.token(k + 1) for k in best.tolist()
        ]
        np.testing.assert_allclose([x for _, x in token.likeliest], np.log(p[best]), atol=1e-4)
        previous = START if token.id == EOS else token.id


def test_details_do_not_change_a_score(model: LanguageModel) -> None:
    many = SENTENCES + ["a longer sentence, for another batch " * 4] * 30
    for plain, detailed in zip(model.score(many), model.score(many, details=True), strict=True):
        np.testing.assert_allclose(plain.logprobs, detailed.logprobs, atol=1e-4)
    with pytest.raises(OptionError, match="details"):
        model.score("a cat").words()


def test_a_sentence_without_tokens_has_no_words(model: LanguageModel) -> None:
    for context in ("", "the apple"):
        score = model.score("", context=context, eos=False, details=True)
        assert score.words() == ()
        assert score.token_scores == ()


def test_no_special_token_but_the_line_end_begins_a_word(model: LanguageModel) -> None:
    masks = word_starts(model.tokenizer).masks
    assert masks[:, EOS].all() and masks.shape[1] == model.tokenizer.size
    assert SPECIALS[EOS] == "<EOS>"
