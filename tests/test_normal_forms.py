"""Composed and decomposed characters are the same, wherever texts are compared."""

from __future__ import annotations

import unicodedata

import pytest

import charlm
from charlm import LanguageModel
from charlm.corpus.copying import copied
from charlm.engines.filling import FillOptions
from charlm.model.lexicon import Lexicon
from charlm.tokenizer import Symbols, TextFeatures, WindowFeatures, count_words, train_tokenizer
from charlm.uses.nbest import ScoredHypothesis, tuned
from charlm.uses.nbest_formats import Hypothesis

TEXT = "é à la carte, señor! Ångström naïveté"


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("accents")
    corpus = folder / "corpus.txt"
    corpus.write_text(nfd("un café à la crème, s'il te plaît\n" * 40), encoding="utf-8")
    return charlm.train(
        corpus, out=folder / "run", kind=LanguageModel, steps=60, hidden=32, ngram=4, lines=True,
        quiet=True,
    )  # fmt: skip


def test_a_stop_text_stops_in_either_form(model: LanguageModel) -> None:
    whole = model.sample(prime="un caf", seed=1, temperature=0)
    assert whole.startswith("un café à la")
    for stop in ("è", nfd("è")):
        assert model.sample(prime="un caf", seed=1, temperature=0, stop=stop) == "un café à la cr"


def test_primes_and_contexts_are_the_same_in_either_form(model: LanguageModel) -> None:
    text = "un café à la crè"
    samples = {model.sample(prime=p, seed=1, length=5)[len(p) :] for p in (text, nfd(text))}
    assert len(samples) == 1
    scores = [model.score("me", context=context).logprob for context in (text, nfd(text))]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_blanks_are_filled_in_either_form(model: LanguageModel) -> None:
    first, second = (
        model.fill(line, k=2, blank=blank)
        for line, blank in (("un café é la crème", " é "), (nfd("un café é la crème"), nfd(" é ")))
    )
    assert first == second
    assert FillOptions(blank="é").blank == "é"


def test_copied_pieces_are_found_in_either_form() -> None:
    for text, corpus in ((TEXT, nfd(TEXT)), (nfd(TEXT), TEXT)):
        pieces, share, *_ = copied(f"x {text}", {"corpus": [f"y {corpus}\n"]}, 10)
        assert [piece.text for piece in pieces] == [f" {TEXT}"]
        assert share == pytest.approx(1 - 1 / len(f"x {TEXT}"))


@pytest.mark.parametrize("level", ["char", "word", "subword"])
@pytest.mark.parametrize("normalize", ["nfc", "none"])
def test_frequencies_are_the_same_in_either_form(level: str, normalize: str) -> None:
    if level == "subword" and normalize == "none":
        return
    text = [nfd("café crème café\n") * 20]
    tokenizer = train_tokenizer(level, lambda: text, normalize=normalize)
    lexicon = Lexicon.of(count_words(text, tokenizer), tokenizer)
    assert lexicon.frequency("café") == lexicon.frequency(nfd("café")) == pytest.approx(2e6 / 3)


def test_references_are_compared_in_either_form() -> None:
    lists = [
        [ScoredHypothesis(Hypothesis("x", nfd(t), 0.0, None, t), -1.0) for t in ("café", "cafe")]
    ]
    assert tuned(lists, ["café"]).fewest == 0


def test_symbols_and_features_are_the_same_in_either_form() -> None:
    symbols = Symbols.train(lambda: [f"{nfd('é')}\tà\n"])
    assert symbols.names == ["à", "é"]
    assert symbols.encode_ids(f"{nfd('à')}\té\n").tolist() == [3, 4, 1]
    earlier = Symbols([nfd("é"), "é", "à"])  # as a file of an earlier version may have them
    assert earlier.encode_ids(f"{nfd('é')}\té\t{nfd('à')}\n").tolist() == [3, 4, 5, 1]
    for features in (TextFeatures(), WindowFeatures()):
        ids = [features.encode_ids(f"{form}\n").tolist() for form in ("é à", nfd("é à"))]
        assert ids[0] == ids[1]
        settings, _ = features.state()
        assert type(features).from_state(settings, {}).state() == (settings, {})
        raw = type(features).from_state({"level": features.level}, {})
        assert raw.encode_ids(nfd("é\n")).tolist() != features.encode_ids(nfd("é\n")).tolist()
