"""The metrics of a run: a line of JSON for each evaluation, written as training goes.

The last line also has "model_nats_per_…" and other figures of the model as it was written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.files import write_text

if TYPE_CHECKING:
    from charlm.training.loop import Progress

METRICS = "metrics.jsonl"


def record_of(progress: Progress, predicted: str) -> dict[str, Any]:
    """The line of an evaluation.

    predicted:  what the model predicts one of at a time, such as "token"
    """
    return {
        "step": progress.step,
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        f"train_nats_per_{predicted}": progress.train_loss,
        f"valid_nats_per_{predicted}": progress.valid_loss,
        "learning_rate": progress.learning_rate,
        "tokens_per_second": progress.tokens_per_second,
    }


class Curve(NamedTuple):
    """The training curve of a run: an entry for each evaluation with a finite validation loss.

    steps:       updates of the weights so far
    training:    nats per token, or label, of the training part since the evaluation before
    validation:  the same of the validation part
    """

    steps: tuple[int, ...]
    training: tuple[float, ...]
    validation: tuple[float, ...]

    @classmethod
    def of(cls, metrics: Iterable[Mapping[str, Any]]) -> Curve:
        """The curve of the lines of a metrics file."""
        curve: list[tuple[Any, ...]] = [(), (), ()]
        for line in metrics:
            losses = {name[:5]: value for name, value in line.items() if "_nats_per_" in name}
            if math.isfinite(losses["valid"]):
                row = line["step"], losses["train"], losses["valid"]
                curve = [(*column, value) for column, value in zip(curve, row, strict=True)]
        return cls(*curve)


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
