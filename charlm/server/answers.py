"""The requests that are charlm's own, and those about tokens: each a function of the library."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from charlm.engines.filling import FillOptions
from charlm.engines.scores import SentenceScore
from charlm.engines.scoring import SentenceOptions
from charlm.server.errors import ProtocolError
from charlm.server.models import Served
from charlm.server.page import draw_comparisons, draw_note, draw_prediction, draw_scores, draw_units
from charlm.server.prompts import check_ids
from charlm.server.requests import (
    CompareRequest,
    DetokenizeRequest,
    FillRequest,
    ModelRequest,
    PredictRequest,
    ScoreRequest,
    TokenizeRequest,
    UnitsRequest,
)
from charlm.tasks.trained import one_line_end
from charlm.tokenizer import START
from charlm.uses.comparison import Comparison
from charlm.uses.comparison import compare as compared
from charlm.uses.units import units as find_units

MOST_BLANKS = 8
MOST_SEARCHED = 50_000  # characters of a text in which units are found
LINE_END = "\n"  # its token is `<EOS>`


async def tokenize(served: Served, asked: TokenizeRequest) -> dict[str, Any]:
    """The token ids of a text."""
    text = one_line_end(asked.prompt)
    ids = (await asyncio.to_thread(served.tokenizer.encode, text)).ids.tolist()
    tokens = [START, *ids] if asked.add_special_tokens else ids
    return {"tokens": tokens, "count": len(tokens)}


async def detokenize(served: Served, asked: DetokenizeRequest) -> dict[str, Any]:
    """The text of token ids."""
    tokenizer = served.tokenizer
    check_ids(asked.tokens, tokenizer, "tokens")
    return {"prompt": await asyncio.to_thread(tokenizer.decode, asked.tokens)}


async def tokenizer_info(served: Served, asked: ModelRequest) -> dict[str, Any]:
    """What clients need to know of the tokens. A line end is the end of a text."""
    tokenizer = served.tokenizer
    return {
        "tokenizer_class": f"charlm.{tokenizer.level}",
        "eos_token": LINE_END,
        "bos_token": None,
        "unk_token": "<UNK>" if tokenizer.has_unknown else None,
        "vocab_size": tokenizer.size,
    }


async def score(served: Served, asked: ScoreRequest) -> dict[str, Any]:
    """The probability of sentences."""
    model, options = served.language_model, _own(asked, SentenceOptions)
    details = asked.tokens or asked.words or asked.html

    def scored(texts: list[str]) -> list[SentenceScore]:
        return model.score(texts, details=details, **options)

    kind = ("score", details, *options.items())
    scores = await served.batcher.do(scored, kind, asked.texts)

    def answer() -> dict[str, Any]:
        records = [_score(score, asked.tokens, asked.words) for score in scores]
        drawn = {"html": draw_scores(scores, asked.words)} if asked.html else {}
        return {"model": served.name, "scores": records, **drawn}

    return await asyncio.to_thread(answer)


async def compare(served: Served, asked: CompareRequest) -> dict[str, Any]:
    """The most probable sentence beside each of the others."""
    model, options = served.language_model, _own(asked, SentenceOptions)

    def scored(_: list[str]) -> list[list[Comparison]]:
        return [compared(model, asked.texts, **options)]

    (found,) = await served.batcher.do(scored, object(), ["".join(asked.texts)])

    def answer() -> dict[str, Any]:
        drawn = {"html": draw_comparisons(found)} if asked.html else {}
        records = [comparison.to_json() for comparison in found]
        return {"model": served.name, "comparisons": records, **drawn}

    return await asyncio.to_thread(answer)


async def fill(served: Served, asked: FillRequest) -> dict[str, Any]:
    """The most probable fillers of blanks."""
    method, options = served.method("fill", "fill blanks"), _own(asked, FillOptions)
    if asked.text.count(asked.blank) > MOST_BLANKS:
        raise ProtocolError(400, f"`text`: give {MOST_BLANKS} blanks at the most", "text")

    def filled(lines: list[str]) -> list[Any]:
        return [method(line, **options) for line in lines]

    (blanks,) = await served.batcher.do(filled, ("fill", *options.items()), [asked.text])
    records = [
        [{"filler": filler.text, "probability": filler.probability} for filler in best]
        for best in blanks
    ]
    return {"model": served.name, "text": asked.text, "blanks": records}


async def predict(served: Served, asked: PredictRequest) -> dict[str, Any]:
    """What a model of another task predicts."""
    method = served.method("iter_predict", "predict labels, tags, trees or targets")

    def predicted(texts: list[str]) -> list[Sequence[Any]]:
        return list(method(texts, k=asked.k))

    colours: dict[str, int] = {}

    def drawn(texts: list[str]) -> list[str]:
        return [draw_prediction(served.model, text, colours) for text in texts]

    answers = await served.batcher.do(predicted, ("predict", asked.k), asked.texts)
    predictions = [
        {"text": text, "answers": [answer._asdict() for answer in best]}
        for text, best in zip(asked.texts, answers, strict=True)
    ]
    answer = {"model": served.name, "predictions": predictions}
    if asked.html:
        shown = await served.batcher.do(drawn, object(), asked.texts)
        answer["html"] = "".join(shown) + draw_note(served.model)
    return answer


async def units(served: Served, asked: UnitsRequest) -> dict[str, Any]:
    """The values of hidden units along a text, and units that follow a property of it."""
    if len(asked.text) > MOST_SEARCHED:
        message = f"`text`: give {MOST_SEARCHED:,} characters at the most"
        raise ProtocolError(400, message, "text")

    def found(texts: list[str]) -> list[dict[str, Any]]:
        (text,) = texts
        units = find_units(served.model, text, unit=asked.unit or ())
        drawn = {"html": draw_units(served.model, text, units)} if asked.html else {}
        return [{**units.to_json(), **drawn}]

    (answer,) = await served.batcher.do(found, object(), [asked.text])
    return {"model": served.name, **answer}


def _own(asked: Any, kind: type[Any]) -> dict[str, Any]:
    """The fields of a request that are options of a function."""
    return {field.name: getattr(asked, field.name) for field in fields(kind)}


def _score(score: SentenceScore, tokens: bool, words: bool) -> dict[str, Any]:
    record = score.to_json()
    if tokens:
        record["token_scores"] = [
            {
                **token.to_json(),
                "id": token.id,
                "likeliest": [
                    {"token": name, "probability": math.exp(logprob)}
                    for name, logprob in token.likeliest or ()
                ],
            }
            for token in score.token_scores
        ]
    if words:
        record["words"] = [word.to_json() for word in score.words()]
    return record
