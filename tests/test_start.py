"""Starting from another model: `--from` for language models and fill models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm import FillModel, LanguageModel
from charlm.errors import ModelError, OptionError
from charlm.tokenizer import train_tokenizer

SMALL: dict[str, Any] = {
    "hidden": 16, "bptt": 16, "batch": 4, "precision": "fp32", "ngram": "none", "steps": 60
}  # fmt: skip
OTHER = "".join(f"{who} ate {what} éß\n" for who in ("my aunt", "a cow") for what in "ab" * 20)


@pytest.fixture(autouse=True)
def in_a_folder_with_another_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text(OTHER, encoding="utf-8")


def first_model(corpus: Path, **options: Any) -> LanguageModel:
    return charlm.train(corpus, kind=LanguageModel, quiet=True, out="first", **SMALL | options)


def started(**options: Any) -> LanguageModel:
    chosen: dict[str, Any] = {
        "from_": "first",
        "steps": 1,
        "precision": "fp32",
        "ngram": "none",
    } | options
    return charlm.train("other.txt", kind=LanguageModel, **chosen)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cell": "gru", "layers": 2, "layer_norm": True, "networks": 2},
        {"level": "byte"},
        {"level": "word", "feedforward": 1},
        {"level": "subword", "vocab_size": 300},
    ],
)
def test_a_model_starts_with_all_that_another_one_has_learnt(
    corpus: Path, options: dict[str, Any]
) -> None:
    first = first_model(corpus, **options)
    second = started(lr=1e-9, quiet=True)  # a step that changes nothing
    assert second.tokenizer.level == first.tokenizer.level
    assert second.config.networks == first.config.networks
    old = first.tokenizer.size
    for name, before in first.weights.items():
        after = second.weights[name]
        if after.shape != before.shape:  # it has grown
            assert len(after) - len(before) == second.tokenizer.size - old > 0
        np.testing.assert_allclose(after[: len(before)], before, atol=1e-6)


def test_the_vocabulary_grows_by_the_characters_of_the_new_text(corpus: Path) -> None:
    first, second = first_model(corpus), started(quiet=True)
    old, size = first.tokenizer, first.tokenizer.size
    assert [second.tokenizer.token(id) for id in range(size)] == [
        old.token(id) for id in range(size)
    ]
    new = {second.tokenizer.token(id) for id in range(size, second.tokenizer.size)}
    assert new == set(OTHER) - set(corpus.read_text())
    # Nothing is known of them yet, so they are improbable.
    assert second.score("é").logprob < second.score("a").logprob


def test_words_grow_by_the_most_frequent_new_ones() -> None:
    old = train_tokenizer("word", lambda: ["the cat sat\n"])
    text = lambda: ["the cow sat\nthe cow ran\n"]  # noqa: E731
    grown, limited = old.grown(text), old.grown(text, old.size + 1)
    assert [grown.token(id) for id in range(old.size, grown.size)] == ["cow", "ran"]
    assert [limited.token(id) for id in range(old.size, limited.size)] == ["cow"]
    assert old.encode_ids("the cat\n").tolist() == grown.encode_ids("the cat\n").tolist()


def test_a_start_from_a_model_is_better_than_from_nothing(corpus: Path) -> None:
    first_model(corpus, steps=400)
    corpus_again = Path("again.txt")
    corpus_again.write_text(corpus.read_text(encoding="utf-8"), encoding="utf-8")
    options = {**SMALL, "steps": 20, "quiet": True}
    nothing = charlm.train(corpus_again, **options)
    again = charlm.train(corpus_again, **options, from_="first")
    assert again.card.valid_nats < nothing.card.valid_nats - 0.5


def test_what_was_forgotten_is_said(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = first_model(corpus)
    started(steps=40)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "`from_` had" in line]
    before, after = (float(line.split(word)[1].split()[0]) for word in ("had ", "has "))
    assert before == pytest.approx(first.card.valid_nats, abs=1e-3) and after > before


def test_a_text_with_nothing_in_common_is_told(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_model(corpus)
    Path("other.txt").write_text("ЖЗИ ЙКЛ\n".replace(" ", "М") * 40, encoding="utf-8")
    started()
    assert "it knows 12.5% of the tokens of this text" in capsys.readouterr().err  # line ends


def test_the_ngrams_and_words_are_those_of_both_texts(corpus: Path) -> None:
    first = first_model(corpus, ngram=4)
    second = started(ngram=4, quiet=True)
    alone = charlm.train("other.txt", kind=LanguageModel, **{**SMALL, "ngram": 4, "steps": 2})
    by_ngram = [
        charlm.load(model.path, kind=LanguageModel, ngram_only=True)
        for model in (first, second, alone)
    ]
    old, new = "the cat sat on the mat", "a cow ate a éß"
    of_old = [model.score(old).logprob for model in by_ngram]
    of_new = [model.score(new).logprob for model in by_ngram]
    assert of_old[2] < of_old[1] - 5 and of_new[0] < of_new[1] - 5
    assert second.lexicon and {"cat", "cow"} <= {*second.lexicon.words}


def test_the_card_says_where_a_model_comes_from(corpus: Path) -> None:
    first = first_model(corpus)
    second = started(quiet=True, from_=None, start=first)
    assert first.card.started_from is None and "started_from" not in first.card.to_json()
    origin = charlm.load(second.path).card.started_from
    assert origin and origin["corpus_sha256"] == first.card.corpus_sha256
    assert origin["valid_nats"] == first.card.valid_nats


def test_a_fill_model_starts_from_a_fill_model_only(corpus: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name != "ngram"}
    charlm.train(corpus, task="fill", quiet=True, out="first", **options)
    charlm.train("other.txt", task="fill", from_="first", quiet=True, steps=2, out="second")
    assert charlm.load("second", kind=FillModel).config.hidden == 16
    with pytest.raises(ModelError, match="a model of `task=fill`; start from one of `task=lm`"):
        charlm.train("other.txt", from_="first")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "word"}, "was trained with `level=char`; start from a model of `level=word`"),
        ({"cell": "gru"}, "`cell=gru`: the model of `from_` has lstm; leave it out"),
        ({"hidden": 20}, "`hidden=20`: the model of `from_` has 16; leave it out"),
        ({"networks": 2}, "`networks=2`: the model of `from_` has 1; leave it out"),
        ({"normalize": "none"}, "`normalize=none`: the model of `from_` differs"),
        ({"freeze": True}, "`freeze=True`: is not for `task=lm`"),
        ({"from_": "nowhere"}, "nowhere"),
    ],
)
def test_what_the_model_has_decided_cannot_be_changed(
    corpus: Path, options: dict[str, Any], words: str
) -> None:
    first_model(corpus, steps=2)
    with pytest.raises((ModelError, OptionError)) as error:
        started(**options)
    assert words in str(error.value)
