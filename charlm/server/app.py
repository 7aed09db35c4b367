"""The server as an application of ASGI: its paths, and what holds for all requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
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

from charlm import __version__
from charlm.errors import CharlmError
from charlm.server.answers import tokenizer_info
from charlm.server.bodies import read_body
from charlm.server.completions import Completion
from charlm.server.endpoints import ENDPOINTS, Endpoint
from charlm.server.errors import ProtocolError, error_response, respond
from charlm.server.gate import ITS_PAGES, MODEL, MODELS, ONE_MODEL, Gate
from charlm.server.metrics import Metrics
from charlm.server.models import Models, Served
from charlm.server.openapi import description
from charlm.server.options import ServeOptions
from charlm.server.page import POLICY, playground
from charlm.server.requests import CompletionRequest, ModelRequest
from charlm.tasks.trained import TrainedModel

BODY_SECONDS = 60  # in which the body of a request must come
GONE = 499  # status of an answer that nobody waits for


def application(models: Mapping[str, TrainedModel], options: ServeOptions) -> Starlette:
    """The application that serves these models under their names."""
    metrics = Metrics()
    served = Models(models, options, metrics)
    server = _Server(served, options, metrics)
    routes = [
        Route("/", server.playground),
        Route(MODELS, server.list_models),
        Route(ONE_MODEL, server.one_model),
        Route("/v1/completions", server.complete, methods=["POST"]),
        *(Route(e.path, server.answering(e), methods=["POST"]) for e in ENDPOINTS),
        Route("/tokenizer_info", server.tokenizer_info),
        Route("/health", server.health),
        Route("/version", server.version),
        Route("/metrics", server.metrics_text),
        Route("/openapi.json", server.openapi),
    ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(options.cors_origin or ()),
        allow_origin_regex=ITS_PAGES,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
    )
    paths = {route.path for route in routes}
    gate = Middleware(Gate, options=options, metrics=metrics, models=served, paths=paths)
    kinds = (ProtocolError, CharlmError, TimeoutError, ClientDisconnect, HTTPException)
    app = Starlette(
        routes=routes,
        middleware=[cors, gate],
        exception_handlers=dict.fromkeys(kinds, _answer_error),
        lifespan=server.lifespan,
    )
    app.router.redirect_slashes = False  # which would lose the model that a path names
    return app


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
        if "content-encoding" in request.headers:
            raise ProtocolError(415, "the body is compressed; send it as it is")
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
            if not task.done():
                return Response(status_code=GONE)
            return await asyncio.to_thread(respond, task.result())  # it may be long
        finally:
            gone.cancel()
            task.cancel()


def _model(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "charlm",
        "task": served.model.task,
        "purpose": served.model.purpose,
    }


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=GONE)
    if isinstance(error, HTTPException):
        message = "there is no such path; /openapi.json lists them all"
        if error.status_code == 405:
            message = f"this path is not for {request.method}"
        return error_response(ProtocolError(error.status_code, message), error.headers)
    return error_response(ProtocolError.of(error))
