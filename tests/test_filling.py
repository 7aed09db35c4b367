"""Filling blanks: exact where it can be enumerated, sensible where it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm import FillModel, LanguageModel
from charlm.corpus.lines import LONGEST_LINE
from charlm.errors import InputError, ModelError, OptionError
from charlm.model.backend import Backend
from charlm.model.pseudo_likelihood import both_sides, pseudo_logprobs
from charlm.scoring import pseudo_score_sentences
from charlm.tokenizer import UNK

LEVELS = ("char", "byte", "word", "subword")


@pytest.fixture(scope="module")
def both(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Gives the bidirectional model of a level, trained once."""
    folder, previous = tmp_path_factory.mktemp("both"), Path.cwd()
    os.chdir(folder)
    made: dict[str, FillModel] = {}

    def of(level: str) -> FillModel:
        if level not in made:
            made[level] = charlm.train(
                corpus, out=level, level=level, task="fill", hidden=32, quiet=True,
                steps=300, dropout=0.0, precision="fp32",
            )  # fmt: skip
        return made[level]

    yield of
    os.chdir(previous)


@pytest.mark.parametrize("level", LEVELS)
def test_a_word_that_is_missing_is_found(both: Any, level: str) -> None:
    model = both(level)
    fillers = [model.fill(line)[0] for line in ("the cat sat on ___ mat", "my ___ slept at home")]
    assert fillers[0][0].text == "the" and fillers[1][0].text == "aunt"
    for found in fillers:
        p = [filler.probability for filler in found]
        assert p == sorted(p, reverse=True) and 0 < sum(p) <= 1 + 1e-6 and len(p) == 5


def test_a_word_models_probabilities_are_its_softmax_at_the_place(both: Any) -> None:
    model = both("word")
    (found,) = model.fill("the cat ___ at home", k=10**6)
    ids = model.tokenizer.encode("the cat sat at home").ids
    y = both_sides(model.backends.torch, [ids])
    columns = np.arange(1, model.config.vocab)[:, None]
    p = np.exp(model.backends.torch.logprobs(np.repeat(y[:, 2:3], len(columns), axis=0), columns))[
        :, 0
    ]
    by_word = {model.tokenizer.token(int(k)): p[k - 1] for k in columns[2:, 0]}
    by_word = {word: p for word, p in by_word.items() if word not in ("<JOIN>", "▁")}
    assert {f.text for f in found} == set(by_word)
    for filler in found[:5]:
        expected = by_word[filler.text] / sum(by_word.values())
        assert filler.probability == pytest.approx(expected, rel=1e-3)


def test_a_blank_within_a_word_keeps_what_is_there(both: Any) -> None:
    (found,) = both("word").fill("the cat sl___t at home")
    assert [filler.text for filler in found] == ["ep"]
    (found,) = both("char").fill("the cat sl___t at home", k=1)
    assert found[0].text == "ep"


def test_a_forward_word_model_fills_within_a_word(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = charlm.train(corpus, level="word", steps=20, hidden=16, quiet=True)
    (found,) = model.fill("the cat sl___t at home")
    assert [filler.text for filler in found] == ["ep"] and found[0].probability == 1.0


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_forward_model_ranks_by_the_probability_of_the_whole_line(
    corpus: Path, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = charlm.train(corpus, level=level, steps=300, hidden=32, quiet=True, lines=True)
    (found,) = model.fill("the ___ slept at home", k=5)
    lines = [f"the {filler.text} slept at home" for filler in found]
    p = np.array([score.logprob for score in model.score(lines)])
    ratios = np.log([filler.probability for filler in found]) - p
    np.testing.assert_allclose(ratios, ratios[0], atol=1e-3)
    if level == "word":
        words = [model.tokenizer.token(id) for id in range(5, model.tokenizer.size)]
        scores = model.score([f"the {word} slept at home" for word in words])
        best = max(scores, key=lambda score: score.logprob)
    else:
        words = ["cat", "dog", "bird", "aunt", "cab", "sun"]
        best = max(model.score([f"the {w} slept at home" for w in words]), key=lambda s: s.logprob)
    assert lines[0] == best.text


def test_all_short_fillers_are_proposed(both: Any) -> None:
    """The beam against enumeration: of all fillers of two letters the best is found."""
    model = both("char")
    (found,) = model.fill("the cat sat ___ home")
    letters = sorted(set("abdehilmnostuwy"))
    lines = [f"the cat sat {a}{b} home" for a, b in product(letters, letters)]
    best = max(model.iter_pseudo_scores(lines), key=lambda score: score.logprob)
    assert best.text == "the cat sat at home" and found[0].text == "at"


def test_several_blanks_are_filled_together(both: Any) -> None:
    for level in ("char", "word"):
        first, second = both(level).fill("the ___ sat on the ___", k=2)
        assert first[0].text in ("cat", "dog") and second[0].text == "mat"


def test_fillers_at_the_edges_of_a_line(both: Any) -> None:
    for level in LEVELS:
        (first,) = both(level).fill("___ cat sat on the mat", k=1)
        (last,) = both(level).fill("the cat sat on the ___", k=1)
        assert (first[0].text, last[0].text) == ("the", "mat"), level
        assert both(level).fill("___")[0]


def test_unknown_text_around_a_blank_does_no_harm(both: Any) -> None:
    for level in LEVELS:
        (found,) = both(level).fill("Ωmega ___ \ufffd")
        assert found and all(f.text.strip() for f in found)


def test_what_cannot_be_filled_is_refused(both: Any) -> None:
    model = both("char")
    with pytest.raises(InputError, match="no blank in 'the cat'; mark the place to fill with ___"):
        model.fill("the cat")
    for use in (model.fill, lambda s: list(model.iter_pseudo_scores([s])),
                lambda s: list(model.embed([s]))):  # fmt: skip
        with pytest.raises(InputError, match="one line at a time"):
            use("a\n___")
    with pytest.raises(OptionError, match="`k=0`: must be 1 or more"):
        model.fill("a ___", k=0)
    assert model.fill("the cat ??? at home", blank="???")[0]


def test_a_model_has_the_methods_of_its_task_alone(both: Any, model: LanguageModel) -> None:
    fill_model = both("char")
    assert isinstance(charlm.load(fill_model.path), FillModel)
    for name in ("score", "evaluate", "sample", "stream"):
        assert hasattr(model, name) and not hasattr(fill_model, name)
    assert hasattr(fill_model, "pseudo_score") and not hasattr(model, "pseudo_score")
    with pytest.raises(ModelError, match=r"`task=fill`: it fills blanks .* with `task=lm`"):
        charlm.load(fill_model.path, kind=LanguageModel)
    with pytest.raises(ModelError, match=r"`task=lm`: it scores, samples and fills.* `task=fill`"):
        charlm.load(model.path, kind=FillModel)


def test_pseudo_scores_are_sums_over_the_tokens_and_say_what_they_are(both: Any) -> None:
    model = both("char")
    texts = ["the cat sat", "", "a dög"]
    found = list(model.iter_pseudo_scores(texts))
    ids = [model.tokenizer.encode(text).ids for text in texts]
    for score, text, row in zip(
        found, texts, pseudo_logprobs(model.backends.torch, ids), strict=True
    ):
        assert score.text == text and score.tokens == len(row)
        assert score.logprob == pytest.approx(float(row.sum()), abs=1e-3)
    assert found[2].unknown == int((ids[2] == UNK).sum()) == 1
    assert "logprob" not in found[0].to_json() and "pseudo_logprob" in found[0].to_json()


def test_pseudo_scores_ask_for_a_backend_of_both_directions(both: Any) -> None:
    model, calls = both("char"), []

    def backends(tokens: int) -> Backend:
        calls.append(tokens)
        return model.backends.numpy

    sentences = ["the cat", "", "a dog"]
    assert len(list(pseudo_score_sentences(backends, model.tokenizer, sentences))) == 3
    assert calls == [2 * (len("the cat") + len("a dog"))]


def test_the_card_of_a_bidirectional_model_is_its_pseudo_log_likelihood(
    both: Any, corpus: Path
) -> None:
    model = both("char")
    lines = corpus.read_text(encoding="utf-8").splitlines()
    while sum(map(len, lines)) > model.card.valid_tokens:
        del lines[0]
    scores = list(model.iter_pseudo_scores(lines))
    nats = -sum(s.logprob for s in scores) / sum(s.tokens for s in scores)
    assert model.card.valid_tokens == sum(s.tokens for s in scores)
    assert model.card.valid_nats == pytest.approx(nats, abs=1e-4)
    assert model.card.valid_bits_per_char == pytest.approx(nats / np.log(2), abs=1e-4)
    assert model.card.valid_carried is None and model.card.valid_lines is None


def test_a_bidirectional_model_is_validated_on_long_lines_too(corpus: Path, tmp_path: Path) -> None:
    line = corpus.read_text(encoding="utf-8").replace("\n", " ").strip()
    (tmp_path / "line.txt").write_text(f"{line}\n", encoding="utf-8")
    model = charlm.train(
        corpus, valid=tmp_path / "line.txt", out=tmp_path / "run", task="fill", hidden=16,
        steps=20, quiet=True,
    )  # fmt: skip
    assert len(line) > LONGEST_LINE and model.card.valid_tokens == len(line)
    pieces = [line[k : k + LONGEST_LINE] for k in range(0, len(line), LONGEST_LINE)]
    logprob = sum(score.logprob for score in model.iter_pseudo_scores(pieces))
    assert model.card.valid_nats == pytest.approx(-logprob / len(line), abs=1e-4)
