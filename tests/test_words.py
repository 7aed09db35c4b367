"""Surprisal by word at every level, against sums over all tokens that may come next."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniseg import wordbreak

import charlm
from charlm import LanguageModel
from charlm.errors import OptionError
from charlm.tokenizer import EOS, SPECIALS, START, UNK, as_inputs
from charlm.tokenizer.segmentation import word_spans
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
# Of a byte that is the first one of a character: what it is read as.
LEADING = {
    **dict.fromkeys([0xC2, 0xE2, *range(0xEF, 0xF5)], "!"),
    **dict.fromkeys(range(0xE3, 0xEA), "日"),
}


def begins_a_word(before: str, added: bytes, punctuation: bool, unknown: bool) -> bool:
    """Whether a word begins where `added` follows a text, by another library."""
    text = added.decode("utf-8", "replace")
    if unknown:
        text = text.replace("\ufffd", "x")
    elif text[:1] == "\ufffd":
        text = LEADING.get(added[0], "x") if added[0] >= 0xC0 else "\u0301"
    if not text or before[-1:].isspace() or text[0].isspace():
        return bool(text) and not before[-1:].isspace()
    if not punctuation:
        return text[0] == "日"
    return len(before) in wordbreak.word_boundaries(before + text)


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
    so_far = 0.0
    ends = {word.end for word in score.words(punctuation)}
    words = iter(score.words(punctuation))
    for t, id in enumerate(ids):
        before = tokenizer.decode(ids[:t])
        if t:

            def begins(v: int, before: str = before, previous: int = int(ids[t - 1])) -> bool:
                added = tokenizer.appended(v, previous)
                return v == EOS or begins_a_word(before, added, punctuation, v == UNK)

            mass = sum(p[t, v - 1] for v in range(1, tokenizer.size) if begins(v))
            if int(score.spans[t - 1, 1]) in ends and begins(int(id)):
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


CLASSES = "ab'’.:,;1२\u05d0\"_アの日ไ한é\u0301\u200c\u200d\u00ad👩🏽\U0001f1eb(“» \n\r"


@settings(max_examples=500, deadline=None)
@given(text=st.text(st.sampled_from(CLASSES), max_size=20))
def test_words_are_those_of_another_implementation_of_uax_29(text: str) -> None:
    units = [part for unit in wordbreak.words(text) for part in re.findall(r"\n|\S+", unit)]
    assert [text[a:b] for a, b in word_spans(text, punctuation=True).tolist()] == units


def test_hyphens_join_words_and_every_level_has_the_same_words(model: LanguageModel) -> None:
    text = "می\u200cخواهم 3.5 U.S. (well-known) -a 'dogs' 👨\u200d👩\u200d👧🇫🇷 don’t 12:30"
    expected = [
        "می\u200cخواهم", "3.5", "U.S", ".", "(", "well-known", ")", "-", "a", "'", "dogs", "'",
        "👨\u200d👩\u200d👧", "🇫🇷", "don’t", "12", ":", "30", "<EOS>",
    ]  # fmt: skip
    words = model.score(text, details=True).words(punctuation=True)
    if "whitespace" in str(model.path):
        expected = [*text.split(), "<EOS>"]  # its tokens are larger
    if model.path.name == "lm-word-ngram.safetensors":
        expected = [w.word for w in words]
    assert [word.word for word in words] == expected
    assert all(word.bits > -1e-6 for word in words)


def test_a_word_of_a_script_without_spaces_is_a_character() -> None:
    model = charlm.load(GOLDEN / "lm-char.safetensors", kind=LanguageModel)
    score = model.score("「日本」の カタカナ、 x。y", details=True)
    joined = ["「日", "本」", "の", "カタカナ、", "x。y", "<EOS>"]
    assert [word.word for word in score.words()] == joined
    separate = ["「", "日", "本", "」", "の", "カタカナ", "、", "x", "。", "y", "<EOS>"]
    assert [word.word for word in score.words(punctuation=True)] == separate
