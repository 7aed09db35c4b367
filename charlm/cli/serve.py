"""`charlm serve`: models over HTTP."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Annotated

from charlm.cli.common import (
    MachineOptions,
    ModelOptions,
    SeveralModels,
    load_model,
    note,
)
from charlm.cli.options import with_options
from charlm.errors import OptionError
from charlm.server.options import ServeOptions

KEY = "CHARLM_API_KEY"
# Modules of the extra `serve`, and the packages that have them.
NEEDED = {
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "prometheus_client": "prometheus-client",
}
WAITING = 2048  # connections that are not accepted yet


@with_options
def serve(
    *,
    options: ServeOptions,
    models: SeveralModels,
    shared: Annotated[ModelOptions, "network_only", "ngram_only"],
    machine: MachineOptions,
) -> None:
    """Answer requests over HTTP, as OpenAI does, and show a page to try models on."""
    if any(find_spec(module) is None for module in NEEDED):
        packages = " ".join(NEEDED.values())
        raise OptionError(f"`serve` needs other packages; install them: pip install {packages}")
    import uvicorn

    from charlm.cli.side_by_side import names_of
    from charlm.server.app import application
    from charlm.tasks.trained import TrainedModel

    options = replace(options, api_key=options.api_key or os.environ.get(KEY) or None)
    listening = _listen(options.host, options.port)
    names: Sequence[str | None] = models.model or [None]
    loaded = [load_model(TrainedModel, replace(shared, model=name), machine) for name in names]
    app = application(dict(zip(names_of(loaded), loaded, strict=True)), options)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",  # the application writes its own errors
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(options.timeout),
    )
    _say_where(options, listening)
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends them again when it has stopped
        signal.signal(number, lambda number, _: caught.append(number))
    uvicorn.Server(config).run(sockets=[listening])
    if caught:
        sys.exit(128 + caught[0])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OptionError where that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise OptionError(f"`host={host}`: is no address of this machine") from error
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(WAITING)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise OptionError(f"`port={port}`: {reason}; choose another, or 0 for any") from error
    return listening


def _say_where(options: ServeOptions, listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    note(f"page: http://{host}:{port}   API: http://{host}:{port}/v1   Ctrl-C stops it")
    if options.host not in ("127.0.0.1", "localhost", "::1") and not options.api_key:
        note("warning: whoever reaches this machine can use the server; set a key with `api_key`")
