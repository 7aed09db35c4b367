"""Minimal pairs: their formats, verdicts and intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm import LanguageModel
from charlm.corpus.records import BrokenLines
from charlm.errors import InputError
from charlm.uses.pairs import Accuracy, accuracies, read_items
from charlm.uses.suites import Prediction, Region, region_bits, sentence_of

GOOD, BAD = "the cat sat on the mat", "the cat sat on tha mat"


def results(model: LanguageModel, *paths: Path, strict: bool = True) -> dict[str, Any]:
    items = (
        item
        for path in paths
        for item in read_items(str(path), "utf-8", BrokenLines(str(path), strict, WARNINGS.append))
    )
    return {a.phenomenon: (a.items, a.right, a.ties) for a in accuracies(items, model.iter_scores)}


WARNINGS: list[str] = []


def test_blimp_lines_are_judged_by_phenomenon(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "blimp.jsonl"
    rows = [("a", GOOD, BAD), ("a", BAD, GOOD), ("b", GOOD, BAD), ("b", "zé", "zè")]
    path.write_text(
        "".join(
            json.dumps({"sentence_good": g, "sentence_bad": b, "UID": uid, "field": "x"}) + "\n"
            for uid, g, b in rows
        ),
        encoding="utf-8",
    )
    found = results(model, path)
    assert found == {"a": (2, 1, 0), "b": (2, 1, 1), "total": (4, 2, 1)}


def test_tables_have_two_columns_or_a_heading(model: LanguageModel, tmp_path: Path) -> None:
    plain, headed = tmp_path / "order.tsv", tmp_path / "headed.tsv"
    plain.write_text(f"{GOOD}\t{BAD}\n\n{BAD}\t{GOOD}\n", encoding="utf-8")
    headed.write_text(
        f"sentence_bad\tphenomenon\tsentence_good\n{BAD}\tspelling\t{GOOD}\n", encoding="utf-8"
    )
    assert results(model, plain) == {"order": (2, 1, 0)}
    assert results(model, plain, headed)["spelling"] == (1, 1, 0)


def test_broken_lines_are_named_and_skipped_or_fatal(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(f"{GOOD}\t{BAD}\nalone\n{{\n{GOOD}\t{BAD}\n", encoding="utf-8")
    WARNINGS.clear()
    assert results(model, path, strict=False) == {"pairs": (2, 2, 0)}
    assert WARNINGS == [
        f"warning: {path}: 2 lines (2, 3): 1 values, and the heading has 2; skipped",
        f"{path}: 2 lines read, 2 skipped",
    ]
    with pytest.raises(InputError, match="line 2"):
        results(model, path)


def test_an_empty_file_gives_an_empty_result(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "empty.tsv"
    path.write_text("", encoding="utf-8")
    assert results(model, path) == {}


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (50, 100, 0.4038, 0.5962), (1, 1, 0.2065, 1)],
)
def test_intervals_are_those_of_wilson(right: int, items: int, low: float, high: float) -> None:
    """The values are those of published tables."""
    interval = Accuracy("", items, right, 0).interval
    assert interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("formula", "holds"),
    [
        ("(2;%a%) < (2;%b%)", True),
        ("(2;%a%) > (2;%b%)", False),
        ("[(1;%a%) = (1;%b%)] & [(2;%b%) - (2;%a%) > 1.5]", True),
        ("[(1;%a%) = (1;%b%)] & [(2;%b%) - (2;%a%) > 2.5]", False),
        ("((*;%a%) + 1 < (*;%b%)) | ((1;%a%) > 9)", True),
        ("(*;%b%) - (*;%a%) = 2", True),
    ],
)
def test_predictions_compare_the_surprisal_of_regions(formula: str, holds: bool) -> None:
    bits = {("1", "a"): 1.0, ("2", "a"): 2.0, ("1", "b"): 1.0, ("2", "b"): 4.0}
    bits |= {("*", "a"): 3.0, ("*", "b"): 5.0}
    assert Prediction(formula).holds(lambda region, condition: bits[region, condition]) is holds


@pytest.mark.parametrize(
    "formula", ["", "(1;%a%) <", "__import__('os')", "(1;%a%) ** 2 > 1", "x > 1", "'a' < 'b'"]
)
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="no prediction"):
        Prediction(formula).holds(lambda region, condition: 1.0)


def suite(**changes: Any) -> dict[str, Any]:
    regions = {
        "good": ["the cat", "sat on", "", "the mat"],
        "bad": ["the cat", "sat", "on", "tha mat"],
    }
    return {
        "meta": {"name": "spelling", "metric": "sum"},
        "region_meta": {},
        "predictions": [{"type": "formula", "formula": "(4;%good%) < (4;%bad%)"}],
        "items": [
            {
                "item_number": 1,
                "conditions": [
                    {
                        "condition_name": name,
                        "regions": [
                            {"region_number": k, "content": text} for k, text in enumerate(texts, 1)
                        ],
                    }
                    for name, texts in regions.items()
                ],
            }
        ],
        **changes,
    }


def test_suites_of_syntaxgym_are_judged(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite(), indent=1), encoding="utf-8")
    assert results(model, path) == {"spelling": (1, 1, 0)}
    formulas = ["(4;%good%) < (4;%bad%)", "(1;%good%) > (1;%bad%)"]
    path.write_text(
        json.dumps(suite(predictions=[{"formula": formula} for formula in formulas])),
        encoding="utf-8",
    )
    assert results(model, path) == {
        "spelling 1": (1, 1, 0), "spelling 2": (1, 0, 0), "total": (2, 1, 0),
    }  # fmt: skip


def test_the_regions_of_a_suite_add_up_to_the_sentence(model: LanguageModel) -> None:
    regions = [Region(1, "the cat"), Region(2, ""), Region(3, "sat"), Region(4, "at home")]
    text = sentence_of(regions)
    assert text == "the cat sat at home"
    score = model.score(text)
    found = region_bits(regions, score)
    bits = -score.logprobs.astype(np.float64) / np.log(2)
    assert found[2] == 0 and sum(found.values()) == pytest.approx(bits[:-1].sum(), abs=1e-4)
    # Region 3 is " sat": the space before it belongs to it.
    assert found[3] == pytest.approx(bits[7:11].sum(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": {"name": "x", "metric": "mean"}}, "mean"),
        ({"predictions": [{"formula": "(9;%good%) < 1"}]}, "no region 9 in 'good'"),
        ({"predictions": [{"formula": "(1;%none%) < 1"}]}, "no region 1 in 'none'"),
        ({"predictions": [{"formula": "(1;%good%) <"}]}, "no prediction"),
        ({"items": [{}]}, "conditions"),
    ],
)
def test_broken_suites_are_one_error(
    model: LanguageModel, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite(**changes)), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        results(model, path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="suite"):
        results(model, path)


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_pairs_is_read(
    model: LanguageModel, tmp_path: Path, indent: int | None
) -> None:
    path = tmp_path / "pairs.json"
    pairs = [{"sentence_good": GOOD, "sentence_bad": BAD, "UID": k} for k in "ab"]
    path.write_text(json.dumps(pairs, indent=indent), encoding="utf-8")
    assert results(model, path) == {"a": (1, 1, 0), "b": (1, 1, 0), "total": (2, 2, 0)}
