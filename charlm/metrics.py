"""The metrics of a run: a line of JSON for each evaluation, written as training goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from charlm.files import write_text

METRICS = "metrics.jsonl"


def add(path: Path, metrics: Mapping[str, Any]) -> None:
    """Add a line to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All lines, up to one that was cut off when its run was killed; [] if there is no file."""
    metrics: list[dict[str, Any]] = []
    if not path.is_file():
        return metrics
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        if not isinstance(values, dict):
            break
        metrics.append(values)
    return metrics


def write(path: Path, metrics: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines anew."""
    write_text(path, "".join(json.dumps(values) + "\n" for values in metrics))
