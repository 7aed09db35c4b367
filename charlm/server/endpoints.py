"""The paths that are charlm's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from charlm.server import answers
from charlm.server.requests import (
    CompareRequest,
    DetokenizeRequest,
    FillRequest,
    PredictRequest,
    ScoreRequest,
    TokenizeRequest,
    UnitsRequest,
)


class Endpoint(NamedTuple):
    """A path.

    request:  its body
    answer:   what is done with it
    fields:   of the answer, with their types in JSON
    """

    path: str
    request: type[Any]
    answer: Callable[[Any, Any], Awaitable[dict[str, Any]]]
    fields: dict[str, str]


ENDPOINTS = (
    Endpoint(
        "/tokenize", TokenizeRequest, answers.tokenize, {"tokens": "array", "count": "integer"}
    ),
    Endpoint("/detokenize", DetokenizeRequest, answers.detokenize, {"prompt": "string"}),
    Endpoint("/score", ScoreRequest, answers.score, {"model": "string", "scores": "array"}),
    Endpoint(
        "/compare", CompareRequest, answers.compare, {"model": "string", "comparisons": "array"}
    ),
    Endpoint("/fill", FillRequest, answers.fill, {"model": "string", "blanks": "array"}),
    Endpoint(
        "/predict", PredictRequest, answers.predict, {"model": "string", "predictions": "array"}
    ),
    Endpoint(
        "/units",
        UnitsRequest,
        answers.units,
        {"model": "string", "findings": "array", "pictures": "array"},
    ),
)
