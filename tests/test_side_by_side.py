"""Sentences scored by several models; hints about records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import charlm
from charlm import LanguageModel
from conftest import Command

GOLDEN = Path(__file__).parent / "golden"
SENTENCES = ["the cat sat on the mat", "He waited in the harbour", ""]


def test_each_model_scores_as_it_does_alone(charlm_command: Command, model: LanguageModel) -> None:
    other = GOLDEN / "lm-word-ngram.safetensors"
    alone = [model.score(SENTENCES), charlm.load(other, kind=LanguageModel).score(SENTENCES)]
    arguments = ("score", *SENTENCES, "-m", model.path.parent, "-m", other)
    names = [model.path.parent.name, other.stem]
    records = charlm_command(*arguments, "--format", "json").objects
    for record, text, *scores in zip(records, SENTENCES, *alone, strict=True):
        best = max((score.logprob, name) for score, name in zip(scores, names, strict=True))[1]
        assert (record["text"], record["best"]) == (text, best)
        for name, score in zip(names, scores, strict=True):
            assert record["models"][name]["logprob"] == pytest.approx(score.logprob, abs=1e-4)
            assert record["models"][name]["unknown"] == score.unknown
    assert {record["best"] for record in records} == set(names)
    heading, *rows = charlm_command(*arguments).rows
    per_char = [f"{name}_bits_per_char" for name in names]
    assert heading == ["best", "margin_bits", *names, *per_char, "text"]
    assert [row[0] for row in rows] == [record["best"] for record in records]
    for row, record, *scores in zip(rows, records, *alone, strict=True):
        bits = [score.bits for score in scores]
        assert float(row[1]) == pytest.approx(abs(bits[1] - bits[0]), rel=1e-3)
        assert record["margin_bits"] == pytest.approx(abs(bits[1] - bits[0]), abs=1e-3)
        assert list(map(float, row[2:4])) == pytest.approx(bits, rel=1e-4)
        expected = [score.bits_per_char for score in scores]
        assert list(map(float, row[4:6])) == pytest.approx(expected, rel=1e-4)
    table = charlm_command(*arguments, "--format", "table").text.splitlines()
    assert table[0].split() == heading and len(table) == 1 + len(SENTENCES)


def test_columns_come_out_beside_the_models(charlm_command: Command, model: LanguageModel) -> None:
    table = b"id\ttext\n7\tthe cat\n"
    models = ["-m", model.path, "-m", GOLDEN / "lm-subword.safetensors"]
    arguments = ["score", "--text-column", "text", "--columns", "id", *models]
    heading, row = charlm_command(*arguments, stdin=table).rows
    assert heading[0] == "id" and row[0] == "7"
    error = charlm_command("score", "--words", *models, "a").error
    assert error == "--words: goes with one model, not with several"
    same = charlm_command("score", "-m", model.path, "-m", model.path, "a").error
    assert same == "--model: the same model twice"


def test_a_warning_names_the_model(charlm_command: Command, model: LanguageModel) -> None:
    models = ["-m", model.path, "-m", GOLDEN / "lm-subword.safetensors"]
    notes = charlm_command("score", "жук", *models).notes
    names = f"{model.path.parent.name} has never seen 'ж', 'у', 'к'"
    assert notes == [f"warning: {names}; read as <UNK>"]


def test_a_file_of_records_that_is_scored_as_text_gets_a_hint(
    charlm_command: Command, model: LanguageModel, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pair = {"sentence_good": "the cat sat", "sentence_bad": "the cat sits", "UID": "tense"}
    pairs.write_text(json.dumps(pair) + "\n")
    ran = charlm_command("score", "--file", pairs, "-m", model.path)
    hint, _ = ran.notes
    assert hint == (
        "note: the lines look like JSON, and are scored as they are; --text-column sentence_good "
        f"scores a field, and for minimal pairs there is: charlm pairs {pairs}"
    )
    fields = charlm_command("score", "-m", model.path, stdin=b'{"text": "a"}\n').notes[0]
    assert fields.endswith("--text-column text scores a field")
