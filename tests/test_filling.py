"""Filling blanks: by models of both tasks, at all levels, and against enumeration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import charlm
from charlm import FillModel, LanguageModel
from charlm.corpus.lines import LONGEST_LINE
from charlm.engines.scoring import pseudo_score_sentences
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.backend import Backend
from charlm.model.pseudo_likelihood import both_sides, pseudo_logprobs
from charlm.tokenizer import UNK
from conftest import Trained

LEVELS = ("char", "byte", "word", "subword")
FillModels = Callable[[str], FillModel]


@pytest.fixture(scope="module")
def fill_models(trained: Trained) -> FillModels:
    """A function of the level that returns a fill model."""
    options = {"task": "fill", "hidden": 32, "steps": 300, "dropout": 0.0, "precision": "fp32"}
    return lambda level: trained(level=level, **options)


@pytest.mark.parametrize("level", LEVELS)
def test_the_missing_word_is_the_first_filler(fill_models: FillModels, level: str) -> None:
    model = fill_models(level)
    fillers = [model.fill(line)[0] for line in ("the cat sat on ___ mat", "my ___ slept at home")]
    assert fillers[0][0].text == "the" and fillers[1][0].text == "aunt"
    for blank in fillers:
        p = [filler.probability for filler in blank]
        assert p == sorted(p, reverse=True) and 0 < sum(p) <= 1 + 1e-6 and len(p) == 5


def test_a_word_model_ranks_by_its_softmax_at_the_blank(fill_models: FillModels) -> None:
    model = fill_models("word")
    (fillers,) = model.fill("the cat ___ at home", k=10**6)
    ids = model.tokenizer.encode("the cat sat at home").ids
    y = both_sides(model.backends.torch, [ids])
    columns = np.arange(1, model.config.vocab)[:, None]
    y_at_blank = np.repeat(y[:, 2:3], len(columns), axis=0)
    p = np.exp(model.backends.torch.logprobs(y_at_blank, columns))[:, 0]
    by_word = {model.tokenizer.token(int(k)): p[k - 1] for k in columns[2:, 0]}
    by_word = {word: p for word, p in by_word.items() if word not in ("<JOIN>", "▁")}
    assert {filler.text for filler in fillers} == set(by_word)
    for filler in fillers[:5]:
        expected = by_word[filler.text] / sum(by_word.values())
        assert filler.probability == pytest.approx(expected, rel=1e-3)


def test_a_filler_completes_the_word_around_the_blank(fill_models: FillModels) -> None:
    (by_words,) = fill_models("word").fill("the cat sl___t at home")
    assert [filler.text for filler in by_words] == ["ep"]
    (by_characters,) = fill_models("char").fill("the cat sl___t at home", k=1)
    assert by_characters[0].text == "ep"


def test_a_filler_of_a_language_model_of_words_completes_the_word_around_the_blank(
    trained: Trained,
) -> None:
    model: LanguageModel = trained(level="word", steps=30, hidden=16)
    (fillers,) = model.fill("the cat sl___t at home")
    assert [filler.text for filler in fillers] == ["ep"] and fillers[0].probability == 1.0


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_language_model_ranks_by_the_probability_of_the_whole_line(
    trained: Trained, level: str
) -> None:
    model: LanguageModel = trained(level=level, steps=300, hidden=32, lines=True)
    (fillers,) = model.fill("the ___ slept at home", k=5)
    lines = [f"the {filler.text} slept at home" for filler in fillers]
    logprobs = np.array([score.logprob for score in model.score(lines)])
    log_ratios = np.log([filler.probability for filler in fillers]) - logprobs
    np.testing.assert_allclose(log_ratios, log_ratios[0], atol=1e-3)
    if level == "word":
        words = [model.tokenizer.token(id) for id in range(5, model.tokenizer.size)]
    else:
        words = ["cat", "dog", "bird", "aunt", "cab", "sun"]
    scores = model.score([f"the {word} slept at home" for word in words])
    best = max(scores, key=lambda score: score.logprob)
    assert lines[0] == best.text


def test_the_beam_search_finds_the_best_filler(fill_models: FillModels) -> None:
    """The best of all fillers of two letters, by enumeration."""
    model = fill_models("char")
    (fillers,) = model.fill("the cat sat ___ home")
    letters = sorted(set("abdehilmnostuwy"))
    lines = [f"the cat sat {a}{b} home" for a, b in product(letters, letters)]
    best = max(model.iter_pseudo_scores(lines), key=lambda score: score.logprob)
    assert best.text == "the cat sat at home" and fillers[0].text == "at"


def test_several_blanks_are_filled_together(fill_models: FillModels) -> None:
    for level in ("char", "word"):
        first, second = fill_models(level).fill("the ___ sat on the ___", k=2)
        assert first[0].text in ("cat", "dog") and second[0].text == "mat"


def test_fillers_at_the_edges_of_a_line(fill_models: FillModels) -> None:
    for level in LEVELS:
        (first,) = fill_models(level).fill("___ cat sat on the mat", k=1)
        (last,) = fill_models(level).fill("the cat sat on the ___", k=1)
        assert (first[0].text, last[0].text) == ("the", "mat"), level
        assert fill_models(level).fill("___")[0]


def test_a_blank_is_filled_between_unknown_characters(fill_models: FillModels) -> None:
    for level in LEVELS:
        (fillers,) = fill_models(level).fill("Ωmega ___ \ufffd")
        assert fillers and all(filler.text.strip() for filler in fillers)


def test_invalid_lines_and_options_are_refused(fill_models: FillModels) -> None:
    model = fill_models("char")
    with pytest.raises(InputError, match="no blank in 'the cat'; mark the place to fill with ___"):
        model.fill("the cat")
    methods: list[Callable[[str], object]] = [
        model.fill,
        lambda line: list(model.iter_pseudo_scores([line])),
        lambda line: list(model.embed([line])),
    ]
    for method in methods:
        with pytest.raises(InputError, match="one line at a time"):
            method("a\n___")
    with pytest.raises(OptionError, match="`k=0`: must be 1 or more"):
        model.fill("a ___", k=0)
    assert model.fill("the cat ??? at home", blank="???")[0]


def test_a_model_has_only_the_methods_of_its_task(
    fill_models: FillModels, model: LanguageModel
) -> None:
    fill_model = fill_models("char")
    assert isinstance(charlm.load(fill_model.path), FillModel)
    for name in ("score", "evaluate", "sample", "stream"):
        assert hasattr(model, name) and not hasattr(fill_model, name)
    assert hasattr(fill_model, "pseudo_score") and not hasattr(model, "pseudo_score")
    with pytest.raises(ModelError, match=r"`task=fill`: it fills blanks .* with `task=lm`"):
        charlm.load(fill_model.path, kind=LanguageModel)
    with pytest.raises(ModelError, match=r"`task=lm`: it scores, samples and fills.* `task=fill`"):
        charlm.load(model.path, kind=FillModel)


def test_a_pseudo_score_is_the_sum_over_the_tokens_and_is_named_so(fill_models: FillModels) -> None:
    model = fill_models("char")
    texts = ["the cat sat", "", "a dög"]
    scores = list(model.iter_pseudo_scores(texts))
    ids: list[NDArray[np.integer]] = [model.tokenizer.encode(text).ids for text in texts]
    rows = pseudo_logprobs(model.backends.torch, ids)
    for score, text, row in zip(scores, texts, rows, strict=True):
        assert score.text == text and score.tokens == len(row)
        assert score.logprob == pytest.approx(float(row.sum()), abs=1e-3)
    assert scores[2].unknown == int((ids[2] == UNK).sum()) == 1
    assert "logprob" not in scores[0].to_json() and "pseudo_logprob" in scores[0].to_json()


def test_the_backend_of_pseudo_scores_is_chosen_by_the_tokens_of_both_directions(
    fill_models: FillModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fill_models("char")
    batch_tokens: list[int] = []

    def for_tokens(tokens: int) -> Backend:
        batch_tokens.append(tokens)
        return model.backends.numpy

    monkeypatch.setattr(model.backends, "for_tokens", for_tokens)
    sentences = ["the cat", "", "a dog"]
    assert len(list(pseudo_score_sentences(model.backends, model.tokenizer, sentences))) == 3
    assert batch_tokens == [2 * (len("the cat") + len("a dog"))]


def test_the_card_of_a_fill_model_has_its_pseudo_log_likelihood(
    fill_models: FillModels, corpus: Path
) -> None:
    model = fill_models("char")
    lines = corpus.read_text(encoding="utf-8").splitlines()
    while sum(map(len, lines)) > model.card.valid_tokens:
        del lines[0]
    scores = list(model.iter_pseudo_scores(lines))
    nats = -sum(s.logprob for s in scores) / sum(s.tokens for s in scores)
    assert model.card.valid_tokens == sum(s.tokens for s in scores)
    assert model.card.valid_nats == pytest.approx(nats, abs=1e-4)
    assert model.card.valid_bits_per_char == pytest.approx(nats / np.log(2), abs=1e-4)
    assert model.card.valid_carried is None and model.card.valid_lines is None


def test_a_fill_model_is_validated_on_long_lines_too(corpus: Path, tmp_path: Path) -> None:
    line = corpus.read_text(encoding="utf-8").replace("\n", " ").strip()
    (tmp_path / "line.txt").write_text(f"{line}\n", encoding="utf-8")
    model = charlm.train(
        corpus,
        valid=str(tmp_path / "line.txt"),
        out=tmp_path / "run",
        kind=FillModel,
        hidden=16,
        steps=20,
        quiet=True,
    )
    assert len(line) > LONGEST_LINE and model.card.valid_tokens == len(line)
    pieces = [line[k : k + LONGEST_LINE] for k in range(0, len(line), LONGEST_LINE)]
    logprob = sum(score.logprob for score in model.iter_pseudo_scores(pieces))
    assert model.card.valid_nats == pytest.approx(-logprob / len(line), abs=1e-4)


def test_words_are_counted_only_for_models_that_use_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def counted(*arguments: object) -> None:
        raise AssertionError("the words were counted")

    monkeypatch.setattr("charlm.tasks.lm.count_words", counted)
    model = charlm.train(corpus, kind=FillModel, steps=2, hidden=8, quiet=True)
    assert model.lexicon is None
    assert charlm.train(corpus, ngram="none", steps=2, hidden=8, quiet=True).lexicon is None
    with pytest.raises(AssertionError, match="the words were counted"):
        charlm.train(corpus, steps=2, hidden=8, quiet=True)
