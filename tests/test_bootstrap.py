"""Intervals by resampling, against what is known of sums of normal numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm import LanguageModel
from charlm.engines.bootstrap import FEWEST_PARTS, in_parts, interval_95
from charlm.engines.scores import difference
from conftest import TEXT, Command, shuffled

GOLDEN = Path(__file__).parent / "golden"


def test_the_interval_of_normal_numbers_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    chars = np.full(400, 50.0)
    bits = rng.normal(2.0, 0.5, 400) * chars
    low, high = interval_95(np.stack([bits, chars], axis=1)) or (0.0, 0.0)
    error = 1.96 * (bits / chars).std(ddof=1) / 20
    assert low == pytest.approx((bits / chars).mean() - error, abs=0.1 * error)
    assert high == pytest.approx((bits / chars).mean() + error, abs=0.1 * error)
    assert interval_95(np.ones((FEWEST_PARTS - 1, 2))) is None


def test_the_interval_of_a_difference_is_narrower_than_those_of_its_terms() -> None:
    rng = np.random.default_rng(2)
    chars, bits = np.full(200, 50.0), rng.normal(100, 30, 200)
    one, other = bits, bits + rng.normal(5, 1, 200)
    widths = [np.ptp(interval_95(np.stack([b, chars], axis=1)) or ()) for b in (one, other - one)]
    assert widths[1] < widths[0] / 10


@pytest.mark.parametrize("independent", [True, False])
def test_parts_have_all_bits_and_characters(independent: bool) -> None:
    rng = np.random.default_rng(3)
    lines = np.stack([rng.exponential(100, 5000), rng.integers(1, 80, 5000)], axis=1)
    parts = in_parts(lines, independent)
    assert len(parts) == (1000 if independent else int(lines[:, 1].sum() / 500))
    np.testing.assert_allclose(parts.sum(axis=0), lines.sum(axis=0))


@pytest.mark.parametrize("name", ["lm-char", "lm-word-ngram", "lm-char-lines"])
@pytest.mark.parametrize("reset", [True, False])
def test_the_parts_of_an_evaluated_text_are_those_of_its_lines(name: str, reset: bool) -> None:
    model = charlm.load(GOLDEN / f"{name}.safetensors", kind=LanguageModel)
    lines = [line for line in TEXT.splitlines() if line][:60]
    whole = model.evaluate("\n".join(lines), reset_lines=reset)
    assert whole.parts.sum(axis=0) == pytest.approx([whole.bits, whole.chars], rel=1e-5)
    if reset:
        scores = model.score(lines)
        expected = [(score.bits, score.chars) for score in scores]
        np.testing.assert_allclose(whole.parts, expected, rtol=1e-3)
        low, high = whole.figures()["bits_per_char_interval"]
        assert low < whole.bits_per_char < high
    assert difference(whole, whole) == (0, None)


def test_several_models_are_compared_on_a_text(
    charlm_command: Command, model: LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text(shuffled(TEXT) * 4, encoding="utf-8")
    golden = GOLDEN / "lm-char.safetensors"
    models = ["-m", model.path, "-m", golden]
    ran = charlm_command("evaluate", text, *models, "--reset-lines", "--format", "json")
    first, second = map(json.loads, ran.text.splitlines())
    assert first["difference"] == 0 and first["difference_interval"] is None
    expected = second["bits_per_char"] - first["bits_per_char"]
    assert second["difference"] == pytest.approx(expected)
    low, high = second["difference_interval"]
    assert low < expected < high and low > 0
    ran = charlm_command("evaluate", text, *models, "--reset-lines", "--format", "table")
    assert ran.notes[-1].startswith(f"{text}: lm-char against {model.path.parent.name}: +")
    rows = charlm_command("evaluate", text, *models, "--reset-lines").rows
    assert "difference_interval_low" in rows[0] and len(rows[1]) == len(rows[2]) == len(rows[0])
