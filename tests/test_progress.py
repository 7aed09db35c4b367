"""Progress: one line that fits a terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from charlm import LanguageModel
from charlm.progress import ProgressLine, minutes_and_seconds, show_progress, sparkline
from conftest import Trained

ERASE = "\x1b[2K"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_terminal(columns: int, folder: Path, *arguments: str) -> str:
    """The output of a command on a terminal with this number of columns."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "charlm", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        output = bytearray()
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # the command has ended
                break
            if not part:
                break
            output += part
    os.close(main)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_training_shows_one_line_that_fits_the_terminal(
    corpus: Path, tmp_path: Path, columns: int
) -> None:
    output = run_on_terminal(
        columns, tmp_path, "train", str(corpus), "--steps", "400", "--hidden", "64", "--out", "run"
    )
    states = [CONTROL.sub("", part).rstrip() for part in re.split(r"[\r\n]+", output)]
    states = [state for state in states if re.match(r" *\d+% ", state)]
    assert len(states) > 2 and all(len(state) <= columns for state in states)
    assert states[-1].lstrip().startswith("100%") and " left " in states[-1]
    if columns >= 80:
        assert re.search(r"tokens/s train \d\.\d{3} valid \d\.\d{3} [▁▂▃▄▅▆▇█]+$", states[-1])
    assert ERASE not in output[output.rindex("100%") :]  # the last state stays
    live = output[: output.rindex("100%")]
    live = live[live.index(" 0%") if " 0%" in live else live.index("% ") :]
    assert "\n" not in live  # every state replaces the one before


def test_training_writes_a_line_per_evaluation_where_there_is_no_terminal(
    corpus: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from charlm.__main__ import main; sys.argv[1:] = sys.argv[1:]\n"
        "try:\n main()\nexcept SystemExit as stop:\n assert not stop.code\n"
        "print('rich' in sys.modules)"
    )
    arguments = ["train", str(corpus), "--steps", "24", "--hidden", "8", "--out", "run"]
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in ran.stderr.splitlines() if re.match(r" *\d+% ", line)]
    assert len(lines) == 12 and "\x1b" not in ran.stderr
    form = r"100% · 0:00 left · [\d,]+ tokens/s · train \S+ · valid \S+ nats/token [▁▂▃▄▅▆▇█]+"
    assert re.fullmatch(form, lines[-1])
    assert ran.stdout.splitlines()[-1] == "False"  # rich is imported for a terminal only


def test_evaluation_shows_the_time_left_and_removes_the_line(
    corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    long = tmp_path / "long.txt"
    long.write_text(corpus.read_text(encoding="utf-8") * 40, encoding="utf-8")
    model: LanguageModel = trained(steps=30, hidden=16)
    options = ["--model", str(model.path), "--cache", "9"]
    output = run_on_terminal(80, tmp_path, "evaluate", "long.txt", *options)
    assert re.search(r"\d+% .*\d:\d\d left", CONTROL.sub("", output))
    assert ERASE in output[output.rindex("left") :]
    assert "perplexity" in output.splitlines()[-2]


def test_nothing_is_shown_where_stderr_is_not_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with show_progress() as progress:
        progress(0.5)
    line = ProgressLine()
    line.update(1.0, 0.0, "text")
    line.print("a note")
    line.close()
    assert stderr.getvalue() == "a note\n"


def test_times_and_curves() -> None:
    assert [minutes_and_seconds(s) for s in (0, 59.9, 60, 3601, float("inf"))] == [
        "0:00", "0:59", "1:00", "60:01", "-:--"
    ]  # fmt: skip
    assert sparkline([1.0, float("nan"), 8.0]) == "▁█" and sparkline([]) == ""
