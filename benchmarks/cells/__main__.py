"""Measures the cells, for docs/cells.md.

    python -m benchmarks.cells speed
    python -m benchmarks.cells learn TEXT [MINUTES]
    python -m benchmarks.cells gradients TEXT [MINUTES]
    python -m benchmarks.cells page

`speed` times one layer of every cell, forward and backward, beside `torch.nn.GRU`. `learn` trains
every cell on the same text for the same time (2 minutes). `gradients` trains `rnn` and `lstm` with
three seeds each (1 minute), measures how far back their gradients reach, and draws
docs/gradients.svg.

The results are kept in benchmarks/cells.json, and `page` writes them to docs/cells.md. While this
runs, nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cells.learning import measure_gradients, measure_learning
from benchmarks.cells.page import write_page
from benchmarks.cells.speed import measure_speed
from benchmarks.project import ROOT, load_results, save_results

RESULTS = ROOT / "benchmarks/cells.json"
# The parts that train on a text, and their minutes.
TRAININGS = {"learn": (measure_learning, 2.0), "gradients": (measure_gradients, 1.0)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cells",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=["speed", *TRAININGS, "page"])
    parser.add_argument("text", nargs="?", type=Path, metavar="TEXT")
    parser.add_argument("minutes", nargs="?", type=float, metavar="MINUTES")
    arguments = parser.parse_args()
    results, part = load_results(RESULTS), arguments.part
    if part == "page":
        write_page(results)
        return
    if part == "speed":
        results[part] = measure_speed()
    elif arguments.text:
        measure, minutes = TRAININGS[part]
        results[part] = measure(arguments.text.resolve(), arguments.minutes or minutes)
    else:
        parser.error(f"{part} needs a TEXT")
    save_results(RESULTS, results)


if __name__ == "__main__":
    main()
