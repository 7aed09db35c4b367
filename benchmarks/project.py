"""The files and commands of the project that benchmarks use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
