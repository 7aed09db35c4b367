"""The description of the server in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from charlm import __version__
from charlm.server.bodies import schema
from charlm.server.endpoints import ENDPOINTS
from charlm.server.requests import CompletionRequest

WRONG = {  # statuses of errors
    "400": "The request is wrong.",
    "401": "The API key is missing or wrong.",
    "403": "The server is for its own machine.",
    "404": "There is no such model.",
    "408": "The body came too slowly.",
    "413": "The body is too long.",
    "415": "The body is compressed.",
    "503": "There are too many requests at a time.",
    "504": "The request took too long.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
MODEL = {
    "id": "string", "object": "string", "created": "integer", "owned_by": "string",
    "task": "string", "purpose": "string",
}  # fmt: skip
LISTS = {
    "tokens": "array", "token_logprobs": "array", "top_logprobs": "array", "text_offset": "array"
}  # fmt: skip
USAGE = {"prompt_tokens": "integer", "completion_tokens": "integer", "total_tokens": "integer"}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has all these fields: their types, or their schemas."""
    properties = {k: {"type": v} if isinstance(v, str) else v for k, v in fields.items()}
    return {"type": "object", "required": list(fields), "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


COMPLETION = _object(
    {
        "id": "string",
        "object": "string",
        "created": "integer",
        "model": "string",
        "choices": _array(
            _object(
                {
                    "index": "integer",
                    "text": "string",
                    "logprobs": {"anyOf": [_object(LISTS), {"type": "null"}]},
                    "finish_reason": {"enum": ["stop", "length"]},
                }
            )
        ),
        "usage": _object(USAGE),
    }
)


def description() -> dict[str, Any]:
    """The description."""
    complete = _operation("Continue prompts, or score them.", COMPLETION, CompletionRequest)
    complete["post"]["responses"]["200"]["content"]["text/event-stream"] = {}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    model = {"name": "model", "in": "query", "schema": {"type": "string"}}
    models = _object({"object": "string", "data": _array(_object(MODEL))})
    info = _object({"tokenizer_class": "string", "eos_token": "string", "vocab_size": "integer"})
    paths = {
        "/v1/models": _operation("List the models.", models),
        "/v1/models/{name}": _operation("Show a model.", _object(MODEL), parameters=[name]),
        "/v1/completions": complete,
        **{
            endpoint.path: _operation(
                (endpoint.answer.__doc__ or "").strip(), _object(endpoint.fields), endpoint.request
            )
            for endpoint in ENDPOINTS
        },
        "/tokenizer_info": _operation(
            "Show what clients need to know of the tokens.", info, parameters=[model]
        ),
        "/health": _operation("Whether the server answers.", _object({"status": "string"})),
        "/version": _operation("The version of charlm.", _object({"version": "string"})),
        "/metrics": _operation("Counters for Prometheus.", None),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "charlm", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _operation(
    summary: str,
    answer: dict[str, Any] | None,
    request: type[Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A path.

    answer:   its schema; None for plain text
    request:  the body of a POST; None for a GET
    """
    content = {"application/json": {"schema": answer}} if answer else {"text/plain": {}}
    errors = {
        status: {"description": about, "content": {"application/json": {"schema": ERROR}}}
        for status, about in WRONG.items()
    }
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": {"description": "The answer.", "content": content}, **errors},
    }
    if request:
        body = {"application/json": {"schema": schema(request)}}
        operation["requestBody"] = {"required": True, "content": body}
    return {"post" if request else "get": operation}
