"""The files and commands of the project that benchmarks use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.markdown import replace_blocks

ROOT = Path(__file__).resolve().parents[1]
SENTENCES, TALES = ROOT / "corpora/sentences.txt", ROOT / "corpora/tales.txt"
POLL = 0.02  # seconds between two looks at a command's memory


def command(*arguments: object) -> list[str]:
    """A charlm command."""
    return [sys.executable, "-m", "charlm", *map(str, arguments)]


def charlm(folder: str | Path, *arguments: object) -> str:
    """Run a charlm command in a folder. Returns its standard output."""
    process = subprocess.run(
        command(*arguments), cwd=folder, stdout=subprocess.PIPE, check=True, text=True
    )
    return process.stdout


def trained(text: object, name: str, *options: object) -> Path:
    """The run folder of a training; one that is there is used again."""
    run = Path(name).resolve()
    if not run.exists():
        charlm(".", "train", text, "--quiet", "--out", run, *options)
    return run


class Cost(NamedTuple):
    """What a command took.

    seconds:    from start to end
    megabytes:  peak memory
    children:   peak memory of its largest child, megabytes; 0 without children
    """

    seconds: float
    megabytes: float
    children: float


def cost(arguments: Sequence[str], output: str | Path = os.devnull) -> Cost:
    """Run a command. Its standard output goes to a file.

    The memory is read from /proc, which only Linux has. Raises CalledProcessError if it fails.
    """
    peaks: dict[int, float] = {}
    start = time.perf_counter()
    with Path(output).open("wb") as file:
        process = subprocess.Popen(arguments, stdout=file)
        while process.poll() is None:
            peaks |= dict(_peaks(process.pid))
            time.sleep(POLL)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    megabytes = peaks.pop(process.pid, 0.0)
    return Cost(seconds, megabytes, max(peaks.values(), default=0.0))


def _peaks(process: int) -> Iterator[tuple[int, float]]:
    """A process and its children, with the peak memory of each so far in megabytes."""
    children: list[str] = []
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            children += (thread / "children").read_text(encoding="utf-8").split()
    for id in (process, *map(int, children)):
        with suppress(OSError):
            status = Path(f"/proc/{id}/status").read_text(encoding="utf-8")
            for size in re.findall(r"VmHWM:\s+(\d+)", status):
                yield id, int(size) / 1024


def load_results(path: Path) -> dict[str, Any]:
    """The results in a JSON file; empty if there is no file."""
    if not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def save_results(path: Path, results: dict[str, Any]) -> None:
    """Replace the results in a JSON file."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def measure(
    arguments: Sequence[str],
    usage: str,
    parts: Mapping[str, Callable[[Path, Path], Any]],
    results_file: Path,
    page: Path,
    blocks: Callable[[dict[str, Any]], Mapping[str, str]],
) -> None:
    """Measure parts of a benchmark in a temporary folder, and write the results and the page.

    arguments:  the folder with tinyshakespeare.txt, then names of parts; without names all
    parts:      each is called with the folder and the path of the text
    blocks:     from the results to the generated blocks of the page
    """
    if not arguments or not set(arguments[1:]) <= set(parts):
        sys.exit(usage)
    text = Path(arguments[0]).resolve() / "tinyshakespeare.txt"
    chosen = {name: parts[name] for name in arguments[1:] or parts}
    replace_blocks(page, blocks(run_parts(chosen, text, results_file)))


def run_parts(
    parts: Mapping[str, Callable[[Path, Path], Any]], data: Path, results_file: Path
) -> dict[str, Any]:
    """Measure parts of a benchmark in a temporary folder. Returns all results in the file.

    parts:  each is called with the folder, which is the current one, too, and `data`. Its result
            is saved before the next part begins
    """
    results = load_results(results_file)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, part in parts.items():
            results[name] = part(Path(folder), data)
            print(name, results[name], flush=True)
            save_results(results_file, results)
    return results
