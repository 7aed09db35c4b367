"""Whole commands: their start-up time and their memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.project import SENTENCES, TALES
from benchmarks.speed.harness import Row, in_turns
from benchmarks.speed.networks import random_model

POLL = 0.02  # seconds between two looks at a command's memory
COMMANDS = {
    "python -c 'import torch'": ("-c", "import torch"),
    "python -c 'import numpy'": ("-c", "import numpy"),
    "charlm --help": ("-m", "charlm", "--help"),
    "charlm score SENTENCE": ("-m", "charlm", "score", "the apple and pear"),
    "charlm sample": ("-m", "charlm", "sample"),
}


def start_up() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(folder, hidden=512)
        environment = {**os.environ, "CHARLM_MODEL": str(model.path)}
        seconds = in_turns(
            {name: python(environment, *arguments) for name, arguments in COMMANDS.items()}
        )
    for name, value in seconds.items():
        yield Row(name, "seconds", value)


def python(environment: dict[str, str], *arguments: str) -> Callable[[], object]:
    """A run of Python with these arguments."""
    command = [sys.executable, *arguments]
    return partial(subprocess.run, command, env=environment, capture_output=True, check=True)


def memory() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        peak = peak_memory(folder, "train", str(TALES), "--minutes", "0.5", "--quiet", "--out", run)
        yield Row(f"charlm train {TALES.name}", "MB", peak)
        for copies in (1, 4):
            text, size = copy_sentences(folder, copies)
            peak = peak_memory(folder, "score", "--file", text, "--model", run)
            yield Row(f"charlm score, {size}, by that model", "MB", peak)


def gigabyte() -> Iterator[Row]:
    """A small model is trained on a gigabyte for one step, and scores a tenth of it."""
    with tempfile.TemporaryDirectory() as folder:
        text, size = copy_sentences(folder, round(1e9 / SENTENCES.stat().st_size))
        small = ("--steps", "1", "--hidden", "32", "--valid-fraction", "0.001")
        for level in ("char", "word"):
            train = ("train", text, "--level", level, *small, "--out", f"{folder}/{level}")
            name = f"charlm train, {size}, {level} level, one step"
            yield from peak_and_time(name, folder, *train)
        text, size = copy_sentences(folder, round(1e8 / SENTENCES.stat().st_size))
        score = ("score", "--file", text, "--model", f"{folder}/char")
        yield from peak_and_time(f"charlm score, {size}", folder, *score)


def copy_sentences(folder: str, copies: int) -> tuple[str, str]:
    """A file of several copies of the sentences: its path, and its size as text."""
    path = Path(folder) / "lines.txt"
    with path.open("wb") as file:
        for _ in range(copies):
            file.write(SENTENCES.read_bytes())
    return str(path), f"{path.stat().st_size / 1e6:,.0f} MB"


def peak_and_time(name: str, folder: str, *arguments: str) -> Iterator[Row]:
    """The peak memory and the time of a charlm command."""
    start = time.monotonic()
    yield Row(name, "MB", peak_memory(folder, *arguments))
    yield Row("  it took", "seconds", time.monotonic() - start)


def peak_memory(folder: str, *arguments: str) -> float:
    """The peak memory of a charlm command in megabytes, without mapped files.

    It is read from /proc, which only Linux has.
    """
    command = [sys.executable, "-m", "charlm", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        sizes = re.findall(r"RssAnon:\s+(\d+)", status.read_text(encoding="utf-8"))
        peak = max(peak, *map(int, sizes), 0)
        time.sleep(POLL)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak / 1e3
