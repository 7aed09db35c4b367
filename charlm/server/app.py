"""The server as an application of ASGI: its paths, and what holds for all requests."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm import __version__
from charlm.errors import CharlmError
from charlm.server.answers import tokenizer_info
from charlm.server.bodies import read_body
from charlm.server.completions import Completion
from charlm.server.endpoints import ENDPOINTS, Endpoint
from charlm.server.errors import ProtocolError, to_bytes
from charlm.server.metrics import Metrics
from charlm.server.models import Models, Served
from charlm.server.openapi import description
from charlm.server.options import ServeOptions
from charlm.server.page import POLICY, playground
from charlm.server.requests import CompletionRequest, ModelRequest
from charlm.tasks.trained import TrainedModel

log = logging.getLogger("charlm.server")
NO_KEY = ("/", "/health", "/openapi.json")  # paths for all
THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")
ITS_PAGES = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
BODY_SECONDS = 60  # in which the body of a request must come
MODEL = "charlm.model"  # in the scope of a request, the model that its path names
GONE = 499  # status of an answer that nobody waits for


def application(models: Mapping[str, TrainedModel], options: ServeOptions) -> Starlette:
    """The application that serves these models under their names."""
    metrics = Metrics()
    served = Models(models, options, metrics)
    server = _Server(served, options, metrics)
    routes = [
        Route("/", server.playground),
        Route("/v1/models", server.list_models),
        Route("/v1/models/{name:path}", server.one_model),
        Route("/v1/completions", server.complete, methods=["POST"]),
        *(Route(e.path, server.answering(e), methods=["POST"]) for e in ENDPOINTS),
        Route("/tokenizer_info", server.tokenizer_info),
        Route("/health", server.health),
        Route("/version", server.version),
        Route("/metrics", server.metrics_text),
        Route("/openapi.json", server.openapi),
    ]
    origins = list(options.cors_origin or ())
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_origin_regex=None if origins else ITS_PAGES,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
    )
    paths = {route.path for route in routes}
    gate = Middleware(Gate, options=options, metrics=metrics, models=served, paths=paths)
    kinds = (ProtocolError, CharlmError, TimeoutError, ClientDisconnect, HTTPException)
    return Starlette(
        routes=routes,
        middleware=[cors, gate],
        exception_handlers=dict.fromkeys(kinds, _answer_error),
        lifespan=server.lifespan,
    )


class _Server:
    """What is done for each path."""

    def __init__(self, models: Models, options: ServeOptions, metrics: Metrics) -> None:
        self.models, self.options, self.metrics = models, options, metrics

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.models.close()

    async def playground(self, request: Request) -> Response:
        return HTMLResponse(playground(), headers={"Content-Security-Policy": POLICY})

    async def list_models(self, request: Request) -> Response:
        return respond({"object": "list", "data": [_model(s) for s in self.models.all.values()]})

    async def one_model(self, request: Request) -> Response:
        return respond(_model(self.models.named(request.path_params["name"])))

    async def complete(self, request: Request) -> Response:
        asked = read_body(CompletionRequest, await self._body(request))
        completion = Completion(asked, self._served(request, asked), self.options, self.metrics)
        if asked.stream:
            async with asyncio.timeout(self.options.timeout):
                await completion.begin()
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(
                completion.events(), media_type="text/event-stream", headers=headers
            )
        return await self._answer(request, completion.whole())

    def answering(self, endpoint: Endpoint) -> Any:
        """The function for one of charlm's own paths."""

        async def answer(request: Request) -> Response:
            asked = read_body(endpoint.request, await self._body(request))
            return await self._answer(request, endpoint.answer(self._served(request, asked), asked))

        return answer

    async def tokenizer_info(self, request: Request) -> Response:
        asked = ModelRequest(request.query_params.get("model"))
        return respond(await tokenizer_info(self._served(request, asked), asked))

    async def health(self, request: Request) -> Response:
        return respond({"status": "ok"})

    async def version(self, request: Request) -> Response:
        return respond({"version": __version__})

    async def metrics_text(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        return respond(description())

    def _served(self, request: Request, asked: ModelRequest) -> Served:
        """The model that a request names in its body, else in its path."""
        return self.models.named(asked.model or request.scope.get(MODEL))

    async def _body(self, request: Request) -> bytes:
        """The body of a request. Raises ProtocolError for one that is too long or too slow."""
        most, body = self.options.max_bytes, bytearray()
        too_long = ProtocolError(413, f"the body has more than {most:,} bytes")
        if int(request.headers.get("content-length", 0)) > most:
            raise too_long
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_long
        except TimeoutError as error:
            message = f"the body did not come within {BODY_SECONDS} seconds"
            raise ProtocolError(408, message) from error
        return bytes(body)

    async def _answer(self, request: Request, work: Awaitable[dict[str, Any]]) -> Response:
        """The answer, unless the client goes away before it is there: then the work stops."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(request.receive())
        try:
            async with asyncio.timeout(self.options.timeout):
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            return respond(task.result()) if task.done() else Response(status_code=GONE)
        finally:
            gone.cancel()
            task.cancel()


class Gate:
    """Middleware that lets requests in: those with the key, as long as there is room.

    Every path has a twin for each model, /NAME/PATH, for clients that cannot name one.

    paths:  that are counted by name
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
        for name in self.models.all:
            if scope["path"].startswith(f"/{name}/"):
                scope = {**scope, "path": scope["path"].removeprefix(f"/{name}"), MODEL: name}
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running += 1
        self.metrics.running.set(self._running)
        try:
            if refusal := self._refusal(Request(scope)):
                await _error(refusal)(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        except Exception as error:
            log.exception("%s %s", scope["method"], scope["path"])
            if not status:
                await _error(ProtocolError.of(error))(scope, receive, sending)
        finally:
            self._running -= 1
            self.metrics.running.set(self._running)
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)

    def _refusal(self, request: Request) -> ProtocolError | None:
        """Why a request is not let in; None if it is."""
        options, path = self.options, request.url.path
        is_local = options.host in ("localhost", "127.0.0.1", "::1")
        if is_local and request.url.hostname not in (*THIS_MACHINE, "::1", None):
            # A page from elsewhere whose name leads here would otherwise read the answers.
            return ProtocolError(403, f"this server is for {', '.join(THIS_MACHINE)}; see --host")
        if options.api_key and path not in NO_KEY:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), options.api_key.encode()):
                message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
                return ProtocolError(401, message, code="invalid_api_key")
        if request.method == "POST" and self._running > options.queue:
            return ProtocolError(503, "too many requests at a time; try again in a moment")
        return None


def _model(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "charlm",
        "task": served.model.task,
        "purpose": served.model.purpose,
    }


def respond(record: Mapping[str, Any], status: int = 200) -> Response:
    """An answer."""
    return Response(to_bytes(record), status, media_type="application/json")


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=GONE)
    if isinstance(error, HTTPException):
        message = "there is no such path; /openapi.json lists them all"
        if error.status_code == 405:
            message = f"this path is not for {request.method}"
        return _error(ProtocolError(error.status_code, message), error.headers)
    return _error(ProtocolError.of(error))


def _error(error: ProtocolError, headers: Mapping[str, str] | None = None) -> Response:
    response = respond(error.to_json(), error.status)
    response.headers.update(headers or {})
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    return response
