"""Measures the speed of charlm, beside plain torch and the limits of the machine.

    python -m benchmarks.speed [--only PART ...] [--nanogpt PATH TEXT]
    python -m benchmarks.speed page

The results are kept in benchmarks/speed.json, and `page` writes them to docs/speed.md. Results of
another machine are removed. While this runs, nothing else should run on the machine.

Within a part, the compared runs take turns, so ratios are reliable on a noisy machine. The figures
are medians. The part `gigabyte` takes about ten minutes and runs only with `--only gigabyte`.

--nanogpt trains the CPU recipe of nanoGPT on TEXT, then charlm for the same time. PATH is a clone
of nanoGPT. `--only` without a PART leaves out all other parts.
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path

from benchmarks.project import ROOT, load_results, save_results
from benchmarks.speed.harness import Row
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.nanogpt import beside_nanogpt
from benchmarks.speed.page import write_page
from benchmarks.speed.parts import DEFAULT, NANOGPT, PARTS, Part

RESULTS = ROOT / "benchmarks/speed.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("page", nargs="?", choices=["page"], help="write docs/speed.md")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=PARTS,
        default=DEFAULT,
        metavar="PART",
        help=f"run these parts: {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--nanogpt", nargs=2, type=Path, metavar=("PATH", "TEXT"), help="run nanoGPT"
    )
    arguments = parser.parse_args()
    if arguments.page:
        write_page(load_results(RESULTS))
        return
    parts = {name: PARTS[name] for name in arguments.only}
    if arguments.nanogpt:
        parts[NANOGPT] = partial(beside_nanogpt, *arguments.nanogpt)
    print(", ".join(f"{name}: {value}" for name, value in describe_machine().items()))
    for name, part in parts.items():
        keep(name, measure(name, part))


def measure(name: str, part: Part) -> list[Row]:
    """The rows of a part, each printed when it is there."""
    print(f"\n{name}")
    rows = []
    for row in part():
        print("  " + row.described(), flush=True)
        rows.append(row)
    return rows


def keep(part: str, rows: list[Row]) -> None:
    """Save the rows of a part, in place of its earlier rows."""
    results, machine = load_results(RESULTS), describe_machine()
    if results.get("machine") != machine:
        if results:
            print(f"{RESULTS.name} had results of another machine; they are removed")
        results = {"machine": machine}
    results[part] = [
        {name: value for name, value in dataclasses.asdict(row).items() if value is not None}
        for row in rows
    ]
    save_results(RESULTS, results)


if __name__ == "__main__":
    main()
