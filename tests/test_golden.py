"""Model files of every level and kind, written by earlier versions, keep their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm.tasks import TABLE
from tests.golden.make import scores_of

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    """Numbers within the tolerance, relative to those above 1; everything else equal."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, tolerance)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    else:
        assert found == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_model_file_of_an_earlier_version_gives_the_same_scores(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    del expected["charlm"]
    model = charlm.load(GOLDEN / f"{name}.safetensors")
    scores = scores_of(name, model)
    # A classifier runs in torch, whose kernels round differently on different processors.
    tolerance = 1e-5 if name.startswith(("classify", "tag", "tree")) else 1e-6
    assert scores.keys() == expected.keys()
    for measure, values in expected.items():
        assert_close(scores[measure], values, tolerance)


def test_every_level_has_a_golden_file_of_every_kind() -> None:
    levels = charlm.tokenizer.LEVELS
    assert {f"{kind}-{level}" for kind in ("lm", "fill") for level in levels} <= {*NAMES}
    assert {name.split("-")[0] for name in NAMES} == {*TABLE}
