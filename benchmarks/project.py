"""The files and commands of the project that benchmarks use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import replace_blocks

ROOT = Path(__file__).resolve().parents[1]
SENTENCES, TALES = ROOT / "corpora/sentences.txt", ROOT / "corpora/tales.txt"


def charlm(folder: str | Path, *arguments: str) -> str:
    """Run a charlm command in a folder. Returns its standard output."""
    command = [sys.executable, "-m", "charlm", *arguments]
    process = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True)
    return process.stdout


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
    results = load_results(results_file)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in arguments[1:] or parts:
            results[name] = parts[name](Path(folder), text)
            print(name, results[name], flush=True)
            save_results(results_file, results)
    replace_blocks(page, blocks(results))
