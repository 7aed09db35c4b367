"""A server in a thread, for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import openai
import uvicorn

from charlm.server.app import application
from charlm.server.options import ServeOptions
from charlm.tasks.trained import TrainedModel

SMALL = {"steps": 30, "hidden": 32}


class Running(NamedTuple):
    """A server that runs in a thread of this process."""

    port: int
    http: httpx.Client
    client: openai.OpenAI


@contextmanager
def running(models: dict[str, TrainedModel], **options: Any) -> Iterator[Running]:
    """Serve models."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = application(models, ServeOptions(**options))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    base = f"http://127.0.0.1:{port}"
    key = options.get("api_key") or "none"
    try:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=base, headers=headers, timeout=60) as http:
            client = openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)
            with client:
                while not server.started:
                    time.sleep(0.01)
                yield Running(port, http, client)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not happen")
