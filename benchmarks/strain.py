"""Measures charlm under strain: several commands at once, very long lines, and killed trainings.

    python -m benchmarks.strain DATA [PART]

DATA is the folder with tinyshakespeare.txt. A PART is "at-once", "long-lines", "checkpoints" or
"kills"; without one all are measured, in about half an hour. The results are written to
benchmarks/strain.json and to docs/strain.md. Nothing else may run meanwhile.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.markdown import table
from benchmarks.project import ROOT, command, cost, measure, trained
from charlm import train
from charlm.training.checkpoint import Checkpoint
from charlm.training.folder import CHECKPOINT, Folder
from charlm.training.plan import PLAN

RESULTS, PAGE = ROOT / "benchmarks/strain.json", ROOT / "docs/strain.md"
LINES = 20_000
ONE_MINUTE = ("model", "--minutes", 1)  # a run folder, and options of a training
KILLS = 20
CHECKPOINT_MINUTES = 10.0
LAST_KILL = 12.0  # seconds after the start


def at_once(folder: Path, text: Path) -> dict[str, Any]:
    """Seconds that 1, 2, 4 and 8 commands take which score the same lines at the same time."""
    model = trained(text, *ONE_MINUTE)
    lines = folder / "lines.txt"
    whole = text.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.write_text("".join(whole[:LINES]), encoding="utf-8")
    seconds: dict[str, float] = {}
    for count in (1, 2, 4, 8):
        start = time.perf_counter()
        started = [
            subprocess.Popen(
                command("score", "-m", model, "--file", lines),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]
        assert not any(process.wait() for process in started)
        seconds[str(count)] = time.perf_counter() - start
    return {"cores": os.cpu_count(), "lines": LINES, "seconds": seconds}


def long_lines(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Seconds and memory to score short lines, one very long line, and both together."""
    model, whole = trained(text, *ONE_MINUTE), text.read_text(encoding="utf-8")
    short = [line for line in whole.splitlines() if line][:4000]
    joined = whole.replace("\n", " ")
    cases = {
        "4,000 short lines": short,
        "a line of 20,000 characters": [joined[:20_000]],
        "both": [*short[:2000], joined[:20_000], *short[2000:]],
        "a line of 5 MB": [(joined * 5)[:5_000_000]],
    }
    results = []
    for name, lines in cases.items():
        path = folder / "case.txt"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        seconds, megabytes, _ = cost(command("score", "-m", model, "--file", path))
        results.append({"text": name, "seconds": seconds, "megabytes": megabytes})
    return results


def checkpoints(folder: Path, text: Path) -> dict[str, Any]:
    """The share of the time of a training that its checkpoints take."""
    spent: list[float] = []
    save = Folder.save_checkpoint

    def timed(folder: Folder, checkpoint: Checkpoint) -> None:
        start = time.perf_counter()
        save(folder, checkpoint)
        spent.append(time.perf_counter() - start)

    with mock.patch.object(Folder, "save_checkpoint", timed):
        model = train(text, minutes=CHECKPOINT_MINUTES, out=folder / "checkpoints", quiet=True)
    size = (folder / "checkpoints" / CHECKPOINT).stat().st_size
    return {
        "minutes": CHECKPOINT_MINUTES,
        "count": len(spent),
        "megabytes": size / 1e6,
        "median_seconds": statistics.median(spent),
        "share": sum(spent) / model.card.seconds,
    }


def kills(folder: Path, text: Path) -> list[dict[str, Any]]:
    """A training is killed at a random moment, twenty times, and started again.

    Where the folder is there, it is resumed; where it is not, the same command is given again.
    Measured is the time to the first step, and the seconds of training that were lost.
    """
    generator, results = random.Random(1), []
    for number in range(KILLS):
        out = folder / f"kill-{number}"
        training = command("train", text, "--minutes", 5, "--quiet", "--out", out)
        force = number % 4 == 3  # over a finished run
        if force:
            small = ["--steps", "2", "--hidden", "8"]
            first = command("train", text, *small, "--quiet", "--out", out)
            subprocess.run(first, check=True, stdout=subprocess.DEVNULL)
            training.append("--force")
        moment = generator.uniform(0.2, LAST_KILL)
        started = time.time()
        process = subprocess.Popen(training, stdout=subprocess.DEVNULL)
        time.sleep(moment)
        process.kill()
        process.wait()
        killed = time.time()
        written = out.with_name(f"{out.name}.new") if force else out
        had_checkpoint = (written / CHECKPOINT).exists()
        saved = (written / CHECKPOINT).stat().st_mtime if had_checkpoint else started
        again = training
        if (written / PLAN).exists() or had_checkpoint:
            again = command("train", text, "--quiet", "--out", written, "--resume")
        start = time.perf_counter()
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL)
        goes_on = wait_for_step(written, killed, process)
        results.append(
            {
                "killed_after": moment,
                "force": force,
                "resumed": "--resume" in again,
                "had_checkpoint": had_checkpoint,
                "seconds_lost": killed - saved,
                "goes_on": goes_on,
                "seconds_to_go_on": time.perf_counter() - start,
            }
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        if force:  # the finished run is still there
            assert Folder(out).plan is not None
    return results


def wait_for_step(folder: Path, after: float, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the first checkpoint, which follows the first step. False if the command ends."""
    path = folder / CHECKPOINT
    while process.poll() is None:
        if path.exists() and path.stat().st_mtime > after:
            return True
        time.sleep(0.02)
    return False


PARTS: dict[str, Callable[[Path, Path], Any]] = {
    "at-once": at_once,
    "long-lines": long_lines,
    "checkpoints": checkpoints,
    "kills": kills,
}


def page(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    blocks = {}
    if "at-once" in results:
        at = results["at-once"]
        one = at["seconds"]["1"]
        rows = [[n, f"{s:.1f}", f"{s / one:.1f}"] for n, s in at["seconds"].items()]
        heading = f"commands at once, {at['cores']} cores | seconds | times as long as one"
        blocks["at-once"] = table(heading, rows)
    if "long-lines" in results:
        blocks["long-lines"] = table(
            "text | seconds | peak memory, MB",
            (
                [r["text"], f"{r['seconds']:.1f}", f"{r['megabytes']:,.0f}"]
                for r in results["long-lines"]
            ),
        )
    if "checkpoints" in results:
        c = results["checkpoints"]
        blocks["checkpoints"] = (
            f"In a training of {c['minutes']:g} minutes {c['count']} checkpoints of "
            f"{c['megabytes']:.1f} MB took {c['median_seconds']:.2f} s each (median): "
            f"{c['share']:.2%} of the time.\n"
        )
    if "kills" in results:
        k = results["kills"]
        on = [r["seconds_to_go_on"] for r in k if r["goes_on"]]
        lost = [r["seconds_lost"] for r in k]
        blocks["kills"] = (
            f"Of {len(k)} trainings that were killed after {min(r['killed_after'] for r in k):.1f} "
            f"to {max(r['killed_after'] for r in k):.1f} s, {len(on)} went on; "
            f"{sum(r['force'] for r in k)} were replacing a finished run, and all of these runs "
            f"remained. {sum(r['had_checkpoint'] for r in k)} had a checkpoint, "
            f"{sum(r['resumed'] for r in k)} were continued with `--resume`, the others were not "
            "yet in their folder when they were killed. The first step came after "
            f"{statistics.median(on):.1f} s (median; at most {max(on):.1f} s). Lost were "
            f"{statistics.median(lost):.1f} s (median; at most {max(lost):.1f} s).\n"
        )
    return blocks


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    measure(sys.argv[1:], str(__doc__), PARTS, RESULTS, PAGE, page)
