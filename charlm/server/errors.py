"""What the server answers: JSON, and errors as the protocol writes them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from charlm.errors import CharlmError, OptionError

log = logging.getLogger("charlm.server")
# Some clients take these for line ends, which part the events of a stream.
LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
INVALID, OVERLOADED, FAILED = "invalid_request_error", "overloaded_error", "server_error"


def to_bytes(record: Mapping[str, Any]) -> bytes:
    """A JSON object in UTF-8."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(LINE_ENDS).encode("utf-8", "replace")


def respond(record: Mapping[str, Any], status: int = 200) -> Response:
    """An answer."""
    return Response(to_bytes(record), status, media_type="application/json")


def error_response(error: ProtocolError, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that is an error."""
    response = respond(error.to_json(), error.status)
    response.headers.update(headers or {})
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    return response


class ProtocolError(Exception):
    """An answer that is an error.

    status:  of HTTP
    param:   the field of the body that is wrong; None for another reason
    code:    a word for programs, such as "model_not_found"
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @classmethod
    def of(cls, error: Exception) -> ProtocolError:
        """The answer to any exception. What a user can cause is a request that is wrong."""
        if isinstance(error, ProtocolError):
            return error
        if isinstance(error, CharlmError):
            named = re.match(r"`(\w+)", str(error))
            is_field = isinstance(error, OptionError) and named
            return cls(400, str(error), named[1] if is_field and named else None)
        if isinstance(error, TimeoutError):
            return cls(504, "the request took too long; ask for less, or raise --timeout")
        return cls(500, "the server failed; its log says more")

    def to_json(self) -> dict[str, Any]:
        """The object of the answer."""
        kinds = {503: OVERLOADED}
        kind = kinds.get(self.status, INVALID if self.status < 500 else FAILED)
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }
