"""Words that are not in the vocabulary: their spelling, and the four ways to count them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm import LanguageModel
from charlm.cli import run
from charlm.errors import ModelError, OptionError
from charlm.model.file import ModelFile
from charlm.model.lexicon import CODE_POINTS, Lexicon
from charlm.tokenizer import SPECIALS, count_words, train_tokenizer
from conftest import Command, Trained

VOCABULARY = 16  # so that some words of the corpus are unknown
SENTENCES = ["the cat sat on the zebra", "my aunt slept at home, in Ångström", "", "qq qq the"]
UNKNOWN = {"zebra", "Ångström", "qq", ","}


@pytest.fixture(scope="module")
def words(trained: Trained) -> LanguageModel:
    """A model of words that has learnt to spell."""
    options = {"level": "word", "lines": True, "vocab_size": VOCABULARY}
    model: LanguageModel = trained(**options, steps=20, hidden=16)
    return model


def test_the_spelling_of_words_outside_the_vocabulary_adds_up_to_1() -> None:
    tokenizer = train_tokenizer("word", lambda: ["ab b aab b ab b\n"], vocab_size=6)
    vocabulary = {tokenizer.decode([id]) for id in range(len(SPECIALS), tokenizer.size)} | {""}
    counts = count_words(["ab b aab b ab b\n"], tokenizer)
    spelling = Lexicon.of(counts, tokenizer).spelling
    assert spelling
    letters, longest = "ab?", 6  # the question mark stands for all letters that are not there
    others = CODE_POINTS - 2
    total = open_end = 0.0
    for length in range(longest + 1):
        for characters in product(letters, repeat=length):
            word = "".join(characters)
            p = math.exp(spelling.logprobs([word])[0]) * others ** word.count("?")
            total += p * (word not in vocabulary)
    # What longer words have: the probability of their first letters, by the n-gram model itself.
    ids = spelling.letters.encode_ids
    for characters in product(letters, repeat=longest + 1):
        word = "".join(characters)
        states = spelling.ngram.initial_state(1)
        read = np.array([[0, *ids(word)[:-1].tolist()]])
        prediction, _ = spelling.ngram.read(read, states)
        prefix = float(prediction.logprobs(ids(word)[None].astype(np.int64)).sum())
        open_end += math.exp(prefix)
    assert 0 < spelling.known < 1
    assert total + open_end / (1 - spelling.known) == pytest.approx(1, abs=1e-5)


def test_each_way_to_count_unknown_words(words: LanguageModel) -> None:
    include, exclude, share, spell = (
        words.score(SENTENCES, unknown=way) for way in ("include", "exclude", "share", "spell")
    )
    assert words.lexicon and words.lexicon.spelling
    for k, score in enumerate(include):
        pieces = score.unknown_pieces
        assert score.unknown == len(pieces)
        known = sum(t.logprob for t in score.token_scores if not t.is_unknown)
        assert exclude[k].logprob == pytest.approx(known, abs=1e-5)
        assert exclude[k].tokens == score.tokens - len(pieces)
        assert exclude[k].chars == score.chars - len("".join(pieces))
        assert exclude[k].bytes == score.bytes - len("".join(pieces).encode())
        assert share[k].logprob == pytest.approx(score.logprob - len(pieces) * math.log(1e6))
        spelt = words.lexicon.spelling.logprobs(pieces).sum() if pieces else 0.0
        assert spell[k].logprob == pytest.approx(score.logprob + spelt)
        assert (spell[k].tokens, spell[k].chars) == (score.tokens, score.chars)
        for one in (include[k], exclude[k], share[k], spell[k]):
            assert sum(t.logprob for t in one.token_scores) == pytest.approx(one.logprob, abs=1e-4)
            assert one.known_log10prob * math.log(10) == pytest.approx(known, abs=1e-4)
    assert UNKNOWN <= {piece for score in include for piece in score.unknown_pieces}
    assert [s.logprob for s in words.score(SENTENCES)] == [s.logprob for s in spell]
    few = words.score(SENTENCES[0], unknown="share", unseen=10)
    assert few.logprob - share[0].logprob == pytest.approx(few.unknown * math.log(1e5), rel=1e-5)


@pytest.mark.parametrize("way", ["include", "exclude", "share", "spell"])
def test_evaluate_counts_them_as_score_does(words: LanguageModel, way: str) -> None:
    lines = words.score(SENTENCES, unknown=way)
    whole = words.evaluate("\n".join(SENTENCES) + "\n", unknown=way, reset_lines=True)
    for name in ("logprob", "unknown_logprob", "tokens", "chars", "bytes", "unknown", "lines"):
        total = sum(getattr(score, name) for score in lines)
        assert getattr(whole, name) == pytest.approx(total, abs=1e-4), name


def test_words_add_up_with_unknown_ones_too(words: LanguageModel) -> None:
    for way in ("exclude", "spell"):
        for score in words.score(SENTENCES, unknown=way, details=True):
            total = sum(word.bits for word in score.words())
            assert total == pytest.approx(score.bits, abs=1e-5)


def test_a_lexicon_is_kept_in_the_model_file(words: LanguageModel, tmp_path: Path) -> None:
    file = ModelFile.load(words.path)
    before, after = words.lexicon, file.part("lexicon", Lexicon.from_state)
    assert before and before.spelling and after and after.spelling
    assert after.words == before.words
    pieces = ["zebra", "Ångström", "the"]
    found = after.spelling.logprobs(pieces)
    assert found.tolist() == before.spelling.logprobs(pieces).tolist()
    others = {name: part for name, part in file.parts.items() if name != "lexicon"}
    replace(file, parts=others).save(tmp_path / "old.safetensors")
    old = charlm.load(tmp_path / "old.safetensors", kind=LanguageModel)
    assert old.lexicon is None
    assert old.score("zebra").logprob == words.score("zebra", unknown="include").logprob
    settings, arrays = before.state()
    with pytest.raises(ModelError, match="words"):
        Lexicon.from_state(settings, arrays | {"counts": arrays["counts"][1:]})
    with pytest.raises(ModelError, match="words"):
        Lexicon.from_state({**settings, "spelling": {}}, arrays)


def test_frequencies_are_those_of_the_training_text(
    charlm_command: Command, tmp_path: Path
) -> None:
    text = "The pear, the well-known pear.\n" * 30
    (tmp_path / "corpus.txt").write_text(text)
    for level in ("char", "word"):
        model = charlm.train(
            tmp_path / "corpus.txt",
            out=tmp_path / level,
            level=level,
            steps=2,
            hidden=8,
            quiet=True,
        )
        lexicon = model.lexicon
        assert lexicon
        # 7 words and marks a line: The pear , the well-known pear .
        assert lexicon.frequency("pear") == pytest.approx(2e6 / 7)
        assert lexicon.frequency("“pear!”") == lexicon.frequency("pear")
        assert lexicon.frequency("The") == pytest.approx(1e6 / 7)
        assert lexicon.frequency("known") == 0
        assert lexicon.frequency("pear\u0301") == 0  # a mark of a letter is a part of the word
        words = charlm_command("score", "-m", model.path, "--words", "pear.", "--format", "json")
        assert [word["frequency"] for word in words.objects[0]["words"]] == [
            lexicon.frequency("pear"),
            None,
        ]
    network = charlm.train(
        tmp_path / "corpus.txt", out=tmp_path / "n", ngram="none", steps=2, hidden=8, quiet=True
    )
    assert network.lexicon is None


def test_errors_say_what_to_do(
    model: LanguageModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="has not learnt how words are spelt"):
        model.score("a", unknown="spell")
    with pytest.raises(OptionError, match="goes with `unknown=share`"):
        model.score("a", unseen=3)
    with pytest.raises(OptionError, match="choose include, exclude, share or spell"):
        model.score("a", unknown="skip")
    arguments = ["charlm", "score", "-m", str(model.path), "--unknown", "spell", "a cat"]
    monkeypatch.setattr("sys.argv", arguments)
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith("charlm: --unknown spell: ")


@pytest.mark.parametrize("level", ["char", "word"])
def test_frequencies_are_of_words_with_and_without_their_marks(level: str) -> None:
    text = ["3.5 U.S. (and/or) don't\n", "and/or pear, pear -- cafe\u0301\n"]
    tokenizer = train_tokenizer(level, lambda: text)
    lexicon = Lexicon.of(count_words(text, tokenizer), tokenizer)
    words = "3.5 U.S . ( and / or ) don't and / or pear , pear - - café".split()
    for word, count in [("pear", 2), ("(and/or)", 2), ("and", 2), ("3.5", 1), ("U.S.", 1)]:
        assert lexicon.frequency(word) == pytest.approx(1e6 * count / len(words)), word
    assert lexicon.frequency("--") == pytest.approx(1e6 / len(words))
    assert lexicon.frequency("cafe\u0301,") == pytest.approx(1e6 / len(words))
    assert lexicon.frequency("apple") == 0
