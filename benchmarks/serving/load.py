"""Many clients at once: requests and tokens per second, waiting times, memory.

    python -m benchmarks.serving.load MODEL [--llama PYTHON]

MODEL is a trained language model. The clients are coroutines of one process, with a connection
each, on the same machine. They ask for completions of 100 tokens, each as soon as it has the answer
to the one before. With an interpreter that has xllamacpp and gguf, a server of llama.cpp gets the
same requests. Writes benchmarks/serving/load.json and a part of docs/serving.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markdown import replace_blocks, table
from benchmarks.serving.llama import llama_server
from benchmarks.serving.running import Server, served

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "benchmarks/serving/load.json", ROOT / "docs/serving.md"
CLIENTS = (1, 8, 32, 128)
SLOTS = 32  # texts that llama.cpp writes side by side
NAMES = {
    "together": "side by side",
    "alone": "one by one (`--batch 1`)",
    "llama.cpp": "llama.cpp",
}
SECONDS = 8.0  # of each measurement
TOKENS = 100
WARM_UP = 100  # requests
MANY, SHORT = 20_000, 8  # requests while the memory is watched, and their tokens
REQUESTS_OF_A_CONNECTION = 90  # llama.cpp closes it after 100
LOOKS = (0.05, 0.25, 0.5, 0.75, 1.0)  # at the memory, by the share of the requests


async def client(port: int, deadline: float, tokens: int, most: list[int]) -> list[float]:
    """The seconds of each request of one client.

    deadline:  of the last request, by the clock of `time.perf_counter`
    most:      requests that all clients may still send; counted down
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds = list[float]()
    while time.perf_counter() < deadline and most[0] > 0:
        most[0] -= 1
        if len(seconds) % REQUESTS_OF_A_CONNECTION == REQUESTS_OF_A_CONNECTION - 1:
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asked = {"prompt": "The ", "max_tokens": tokens, "temperature": 0.8, "ignore_eos": True}
        body = json.dumps(asked)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        start = time.perf_counter()
        writer.write(f"{head}\r\n\r\n{body}".encode())
        headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert headers.startswith("http/1.1 200"), headers
        length = int(headers.split("content-length:")[1].split("\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        assert answer["usage"]["completion_tokens"] <= tokens
        seconds.append(time.perf_counter() - start)
    writer.close()
    return seconds


async def ask(server: Server, clients: int, seconds: float, tokens: int, most: int) -> list[float]:
    """The seconds of each request, of all clients together."""
    left, deadline = [most], time.perf_counter() + seconds
    tasks = (client(server.port, deadline, tokens, left) for _ in range(clients))
    return [value for of_client in await asyncio.gather(*tasks) for value in of_client]


def load(server: Server) -> list[dict[str, float]]:
    """The figures for each number of clients."""
    asyncio.run(ask(server, 4, 60, TOKENS, WARM_UP))
    rows = []
    for clients in CLIENTS:
        start = time.perf_counter()
        seconds = asyncio.run(ask(server, clients, SECONDS, TOKENS, 1 << 30))
        passed = time.perf_counter() - start
        rows.append(
            {
                "clients": clients,
                "requests_per_second": len(seconds) / passed,
                "tokens_per_second": TOKENS * len(seconds) / passed,
                "p50_ms": 1000 * float(np.quantile(seconds, 0.5)),
                "p99_ms": 1000 * float(np.quantile(seconds, 0.99)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def memory(server: Server) -> list[float]:
    """The megabytes of the server after each share of many requests."""
    looks, done = [], 0
    for share in LOOKS:
        count = round(MANY * share) - done
        asyncio.run(ask(server, 32, 600, SHORT, count))
        done += count
        looks.append(server.megabytes)
    return looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama", metavar="PYTHON")
    arguments = parser.parse_args()
    model = arguments.model
    results: dict[str, Any] = {"cores": os.cpu_count()}
    with served([model]) as server:
        results["together"] = load(server)
        results["memory_mb"] = memory(server)
    with served([model], "--batch", 1) as server:
        results["alone"] = load(server)
    if arguments.llama:
        with llama_server(arguments.llama, SLOTS) as server:
            results["llama.cpp"] = load(server)
    with served([model]) as server:  # once more: was the machine quiet?
        results["together again"] = load(server)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    replace_blocks(PAGE, blocks(results))


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by the names of their marks."""
    rows = [
        (
            name,
            f"{row['clients']}",
            f"{row['requests_per_second']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['p50_ms']:,.0f}",
            f"{row['p99_ms']:,.0f}",
        )
        for key, name in NAMES.items()
        for row in results.get(key, ())
    ]
    columns = "texts | clients | requests/s | tokens/s | p50, ms | p99, ms"
    megabytes = zip(LOOKS, results["memory_mb"], strict=True)
    looks = [(f"{MANY * share:,.0f}", f"{value:.0f}") for share, value in megabytes]
    return {"load": table(columns, rows), "memory": table("requests | MB", looks)}


if __name__ == "__main__":
    main()
