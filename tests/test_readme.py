"""The README's commands and its Python work as they stand, with less time to train."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = 0.05  # minutes


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The command lines of the README in their order, without those that set up."""
    lines = [line.partition("    #")[0] for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if not line.startswith(("make ", "source ", "#"))]


def shortened(command: str) -> str:
    if not command.startswith("charlm train") or "--epochs" in command:
        return command
    if "--minutes" in command:
        return re.sub(r"--minutes \S+", f"--minutes {SHORT}", command)
    return f"{command} --minutes {SHORT}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpora").symlink_to(ROOT / "corpora")
    return tmp_path


@pytest.mark.slow
def test_the_commands_work(folder: Path) -> None:
    assert len(commands()) > 15
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands():
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shortened(command)],
            cwd=folder, env=environment, capture_output=True, timeout=600, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}\n{ran.stderr.decode()}"
        assert ran.stdout or ">" in command, command


@pytest.mark.slow
def test_the_python_works(folder: Path) -> None:
    (program,) = blocks("python")
    program = program.replace("minutes=1", f"minutes={SHORT}")
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, timeout=600, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr.decode()
    assert len(ran.stdout.splitlines()) > 15


def test_every_option_is_in_the_help_and_every_command_is_in_the_readme() -> None:
    for command in ("train", "score", "sample", "fill", "evaluate", "embed", "gradients", "info"):
        shown = subprocess.run(
            [sys.executable, "-m", "charlm", command, "--help"],
            capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
        ).stdout  # fmt: skip
        assert f"charlm {command}" in README
        used = re.findall(rf"charlm {command}\b[^\n|]*", "\n".join(commands()))
        for option in {word for line in used for word in line.split() if word.startswith("--")}:
            assert option in shown, f"{command} {option}"
