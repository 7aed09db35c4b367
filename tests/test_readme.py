"""The commands of README and docs/tasks.md run, with shorter texts and shorter training."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from charlm.cli import Commands
from conftest import Command
from tests.processes import free_port

ROOT = Path(__file__).parent.parent
README, TASKS = (
    (ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/tasks.md")
)
COMMANDS = [name for panel in Commands.panels.values() for name in panel]
MINUTES = 0.03  # of each training
LINES = {
    "labelled.tsv": 400,
    "tagged.conll": 2000,
    "sentences.txt": 2000,
    "sentences.heldout.txt": 300,
    "tales.txt": 30,
    "homophones.tsv": 20,
}


def blocks(language: str, page: str = README) -> list[str]:
    """The code blocks of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str = README) -> list[str]:
    """The command lines of a page in order, without those for set-up."""
    of_page = (line for block in blocks("sh", page) for line in block.splitlines())
    lines = [line.partition("    #")[0] for line in of_page]
    return [line for line in lines if not line.startswith(("make ", "source ", "#"))]


def shortened(command: str) -> str:
    """The command with a smaller budget, if it trains for minutes."""
    if not command.startswith("charlm train") or "--epochs" in command:
        return command
    if "--minutes" in command:
        return re.sub(r"--minutes \S+", f"--minutes {MINUTES}", command)
    return f"{command} --minutes {MINUTES}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `corpora/`, where the texts are shorter."""
    corpora = tmp_path / "corpora"
    shutil.copytree(ROOT / "corpora", corpora, ignore=shutil.ignore_patterns("__pycache__"))
    for name, count in LINES.items():
        lines = (ROOT / "corpora" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (corpora / name).write_text("".join(lines[:count]), encoding="utf-8")
    return tmp_path


def served(command: Sequence[str], environment: dict[str, str], port: int) -> Callable[[], None]:
    """Start a server, wait until it answers, and return what stops it."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        process.wait()

    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return stop
        except OSError:
            time.sleep(0.1)
    stop()
    raise AssertionError("the server does not start")


@pytest.mark.slow
@pytest.mark.parametrize(("page", "least"), [(README, 16), (TASKS, 9)], ids=["README", "tasks"])
def test_the_commands_succeed(
    page: str,
    least: int,
    charlm_command: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    assert len(commands(page)) >= least
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # this checkout, wherever charlm is installed from
    }
    monkeypatch.chdir(folder)
    port = str(free_port())
    for command in commands(page):
        command = command.replace("charlm serve", f"charlm serve --port {port}")
        command = command.replace(":8000", f":{port}")
        if command.startswith("charlm serve "):
            request.addfinalizer(served(shlex.split(command), environment, int(port)))
            continue
        if command.startswith("curl ") and shutil.which("curl") is None:
            continue
        if command.startswith("charlm train "):  # in this process, which has loaded torch
            assert charlm_command(*shlex.split(shortened(command), comments=True)[1:]).text, command
            continue
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shortened(command)],
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=600,
            check=False,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr.decode()}"
        assert ran.stdout or ">" in command or "--html" in command, command


@pytest.mark.slow
def test_the_python_code_succeeds(folder: Path) -> None:
    (program,) = blocks("python")
    program = program.replace("minutes=1", f"minutes={MINUTES}")
    threads = "OMP_NUM_THREADS"  # as many as torch chooses
    environment = {name: value for name, value in os.environ.items() if name != threads}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert len(ran.stdout.splitlines()) > 15


def test_the_readme_shows_every_command_and_only_options_that_are_in_its_help() -> None:
    for command in COMMANDS:
        help = subprocess.run(
            [sys.executable, "-m", "charlm", command, "--help"],
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = re.findall(rf"charlm {command}\b[^\n|]*", "\n".join(commands()))
        assert lines, command
        for option in {word for line in lines for word in line.split() if word.startswith("--")}:
            assert option in help, f"{command} {option}"
