"""Scores as pandas data frames, and columns of data frames as texts."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import pandas
import pytest

import charlm
from charlm import FillModel, LanguageModel, TextClassifier
from charlm.engines.score_list import Scores
from charlm.engines.scores import SentenceScore
from charlm.errors import InputError, OptionError
from conftest import Command

GOLDEN = Path(__file__).parent / "golden"
TEXTS = ["the cat sat", "", "a bird ж", "my aunt"]
# A column of a larger table, whose rows are not numbered from 0.
COLUMN = pandas.Series(TEXTS, index=[7, 3, 11, 5], name="text")


def test_a_list_of_scores_is_a_list(model: LanguageModel) -> None:
    scores = model.score(TEXTS)
    assert isinstance(scores, list) and scores == [*model.iter_scores(TEXTS)]
    again = pickle.loads(pickle.dumps(scores))
    assert isinstance(again, Scores) and again == scores


def test_a_frame_has_a_row_for_each_sentence(model: LanguageModel) -> None:
    scores = model.score(COLUMN)
    frame = scores.to_frame()
    assert frame.to_dict("records") == [score.to_json() for score in scores]
    assert frame["text"].tolist() == TEXTS and frame.index.tolist() == [7, 3, 11, 5]
    assert frame["bits"].sum() == pytest.approx(sum(score.bits for score in scores))
    assert model.score(TEXTS).to_frame().index.tolist() == [0, 1, 2, 3]


def test_scores_of_a_series_stand_by_its_rows(model: LanguageModel) -> None:
    table = pandas.DataFrame({"text": [*TEXTS, "not scored"]}, index=[7, 3, 11, 5, 1])
    own = {label: model.score(text).bits for label, text in table["text"].items()}
    part = table[table["text"] != "not scored"].sort_values("text", ascending=False)
    scores = model.score(part["text"], details=True)
    part["bits"] = scores.to_frame()["bits"]
    assert part["bits"].to_dict() == pytest.approx({label: own[label] for label in part.index})
    assert part.index.tolist() == [7, 5, 11, 3]
    for by in ("token", "word"):
        sums = scores.to_frame(by).groupby("sentence")["bits"].sum()
        assert sums.to_dict() == pytest.approx(part["bits"].to_dict(), abs=1e-4)
    names = pandas.MultiIndex.from_product([["x", "y"], [1, 2]], names=["a", "b"])
    frame = model.score(pandas.Series(TEXTS, index=names)).to_frame()
    assert frame.index.equals(names) and frame.loc[("y", 1), "text"] == "a bird ж"


def test_a_list_that_was_changed_has_lost_the_index_of_its_series(model: LanguageModel) -> None:
    scores = pickle.loads(pickle.dumps(model.score(COLUMN)))
    assert scores.to_frame().index.tolist() == [7, 3, 11, 5]
    scores.sort(key=lambda score: score.bits)
    for by in ("sentence", "token"):
        with pytest.raises(OptionError, match="the index of its Series no longer fits"):
            scores.to_frame(by)


def test_a_frame_without_rows_has_its_columns(model: LanguageModel) -> None:
    fill = charlm.load(GOLDEN / "fill-word.safetensors", kind=FillModel)
    for empty, some in (
        (model.score([]), model.score(TEXTS, details=True)),
        (fill.pseudo_score([]), fill.pseudo_score(TEXTS)),
    ):
        assert [*empty.to_frame()] == [*some.to_frame()] and len(empty.to_frame()) == 0
    assert "pseudo_bits" in fill.pseudo_score([]).to_frame()
    assert [*model.score([]).to_frame("token")] == [*model.score(TEXTS).to_frame("token")]
    words = model.score(TEXTS, details=True).to_frame("word")
    assert [*model.score([]).to_frame("word")] == [*words]


@pytest.mark.parametrize("level", ["char-ngram", "word-ngram", "subword", "byte"])
@pytest.mark.parametrize("by", ["token", "word"])
def test_the_rows_of_tokens_and_words_add_up_to_their_sentences(level: str, by: str) -> None:
    model = charlm.load(GOLDEN / f"lm-{level}.safetensors", kind=LanguageModel)
    scores = model.score(TEXTS, details=True)
    frame = scores.to_frame(by)
    bits = frame.groupby("sentence")["bits"].sum()
    assert bits.tolist() == pytest.approx([score.bits for score in scores], abs=1e-4)
    for number, score in enumerate(scores):
        own = score.to_frame(by)
        rows = frame[frame["sentence"] == number].drop(columns="sentence")
        pandas.testing.assert_frame_equal(own, rows.reset_index(drop=True), check_dtype=False)
        pieces = score.token_scores if by == "token" else score.words()
        assert own["start"].tolist() == [piece.start for piece in pieces]
        assert own["entropy_bits"].tolist() == [piece.entropy_bits for piece in pieces]
    assert {"rank"} <= set(frame) if by == "token" else {"length", "unknown"} <= set(frame)


def test_the_frame_of_words_is_the_table_of_words(
    model: LanguageModel, tmp_path: Path, charlm_command: Command
) -> None:
    file, options = tmp_path / "texts.txt", ("--words", "--format", "tsv", "-m", model.path)
    file.write_text("the cat sat the cat\na bird\n", encoding="utf-8")
    written = charlm_command("score", "--file", file, *options).text
    table = pandas.read_csv(io.StringIO(written), sep="\t")
    frame = model.score(["the cat sat the cat", "a bird"], details=True).to_frame("word")
    frame["sentence"] += 1
    assert "frequency" in frame and frame["frequency"].max() > 0
    pandas.testing.assert_frame_equal(frame, table, rtol=1e-4, check_dtype=False)
    whole = model.score("a bird", details=True).to_frame("word")
    assert [*whole] == [*frame][1:] and whole["word_id"].tolist() == [1, 2, 3]


def test_without_details_there_are_tokens_but_no_words(model: LanguageModel) -> None:
    score = model.score("the cat")
    frame = score.to_frame()
    assert [*frame] == ["token", "logprob", "log10prob", "bits", "start", "end"]
    assert frame["logprob"].sum() == pytest.approx(score.logprob, abs=1e-4)
    with pytest.raises(OptionError, match="`words`: goes with `details=True`"):
        score.to_frame("word")
    with pytest.raises(OptionError, match="`by=line`: choose sentence, token or word"):
        score.to_frame("line")


def test_texts_may_be_a_column_of_a_frame(model: LanguageModel) -> None:
    assert model.score(COLUMN) == model.score(TEXTS)
    lines = pandas.Series(["the ___ sat", "a ___ sang ___"])
    assert model.fill(lines, k=2) == [model.fill(line, k=2) for line in lines]
    fill = charlm.load(GOLDEN / "fill-word.safetensors", kind=FillModel)
    assert fill.fill(lines, k=2) == [fill.fill(line, k=2) for line in lines]
    assert fill.pseudo_score(COLUMN).to_frame()["pseudo_bits"].tolist() == [
        score.bits for score in fill.pseudo_score(TEXTS)
    ]
    classifier = charlm.load(GOLDEN / "classify-word.safetensors", kind=TextClassifier)
    assert classifier.predict(COLUMN) == classifier.predict(TEXTS)
    missing = pandas.Series(["a cat", None], index=["x", "y"])
    with pytest.raises(InputError, match=r"^row y: (None|nan) is no text; leave such rows out"):
        model.score(missing)
    with pytest.raises(InputError, match="a table is no text; give one of its columns"):
        model.score(COLUMN.to_frame())


def test_without_pandas_one_line_says_so(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    message = "a data frame needs pandas; install it with `pip install pandas`"
    for scores in (model.score("a"), model.score(["a"])):
        assert isinstance(scores, SentenceScore | Scores)
        with pytest.raises(OptionError, match=message):
            scores.to_frame()
