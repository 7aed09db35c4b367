"""The gate: which requests are let in, and what is counted of all."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.server.errors import ProtocolError, error_response, log
from charlm.server.metrics import Metrics
from charlm.server.models import Models
from charlm.server.options import ServeOptions

MODELS, ONE_MODEL = "/v1/models", "/v1/models/{name:path}"
NO_KEY = ("/", "/health", "/openapi.json")  # paths for all
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
ITS_NAMES = r"localhost|127\.0\.0\.1|\[::1\]"
ITS_PAGES = rf"https?://({ITS_NAMES})(:\d+)?"
MODEL = "charlm.model"  # in the scope of a request, the model that its path names


class Gate:
    """Middleware that lets requests in: those with the key, as long as there is room.

    Every path has a twin for each model, /NAME/PATH, for clients that cannot name one.

    paths:  that there are
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        metrics: Metrics,
        models: Models,
        paths: Collection[str],
    ) -> None:
        self.app, self.options, self.metrics, self.models = app, options, metrics, models
        self._paths, self._running = paths, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        path = self._known(scope["path"])
        twins = [name for name in self.models.all if scope["path"].startswith(f"/{name}/")]
        if twins and not path:
            rest = scope["path"].removeprefix(f"/{twins[0]}")
            path, scope = self._known(rest), {**scope, "path": rest, MODEL: twins[0]}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        self.metrics.running.set(self._running)
        try:
            if refusal := self._refusal(Request(scope)):
                await error_response(refusal)(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # the server is stopped at once
            if not status:
                stopped = ProtocolError(503, "the server stops")
                await error_response(stopped)(scope, receive, sending)
        except Exception as error:
            log.exception("%s %s", scope["method"], scope["path"])
            if not status:
                await error_response(ProtocolError.of(error))(scope, receive, sending)
        finally:
            self._running -= 1
            self.metrics.running.set(self._running)
            self.metrics.requests.labels(path or "other", str(status)).inc()
            self.metrics.seconds.labels(path or "other").observe(time.perf_counter() - start)

    def _known(self, path: str) -> str | None:
        """The path as it is counted; None for one that is not there."""
        path = ONE_MODEL if path.startswith(f"{MODELS}/") else path
        return path if path in self._paths else None

    def _refusal(self, request: Request) -> ProtocolError | None:
        """Why a request is not let in; None if it is."""
        options, headers = self.options, request.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        is_local = options.host in THIS_MACHINE
        if is_local and host and not re.fullmatch(rf"({ITS_NAMES})(:\d+)?", host, re.IGNORECASE):
            # A page from elsewhere whose name leads here would otherwise read the answers.
            return ProtocolError(403, "this server is for its own machine; see --host")
        if origin and not self._allows(origin, host):
            message = f"pages of {origin} may not use this server; see --cors-origin"
            return ProtocolError(403, message)
        if options.api_key and request.scope["path"] not in NO_KEY:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            given = given.strip() if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode(), options.api_key.encode()):
                message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
                return ProtocolError(401, message, code="invalid_api_key")
        if request.method == "POST" and self._running > options.queue:
            return ProtocolError(503, "too many requests at a time; try again in a moment")
        return None

    def _allows(self, origin: str, host: str) -> bool:
        """Whether pages of a site may use the server: its own, this machine's, and those named."""
        named = self.options.cors_origin or ()
        own = origin.partition("://")[2] == host
        return own or "*" in named or origin in named or bool(re.fullmatch(ITS_PAGES, origin))
