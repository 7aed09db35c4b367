"""A server in a process of its own, and requests to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple


class Server(NamedTuple):
    """A server that runs at a port of this machine."""

    pid: int
    port: int

    def ask(self, path: str, body: Any = None) -> Any:
        """The answer to a request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer)

    @property
    def megabytes(self) -> float:
        """The memory of its process."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s*(\d+)", status)
        assert found
        return int(found[1]) / 1024


@contextmanager
def served(models: Sequence[Path], *options: object) -> Iterator[Server]:
    """Serve models."""
    named = [argument for model in models for argument in ("--model", str(model))]
    command = [sys.executable, "-m", "charlm", "serve", *named, "--port", "0", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        found = None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                break
        assert found, "the server does not start"
        try:
            yield Server(process.pid, int(found[1]))
        finally:
            process.terminate()
