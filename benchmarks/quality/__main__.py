"""Measures how well charlm learns known texts.

    python -m benchmarks.quality [--seeds N] DATA [NAME ...]
    python -m benchmarks.quality page

DATA is a folder with tinyshakespeare.txt, names.txt, ptb.train.txt, ptb.valid.txt and ptb.test.txt.
charlm does not bring these texts. A NAME is the name of a training or a pattern such as
"ptb-words-*"; without one all trainings run. They run one after the other.

The results are kept in benchmarks/quality.json, and `page` writes them to docs/recipe.md. While
this runs, nothing else should run on the machine. The trainings:
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.project import ROOT, load_results, save_results
from benchmarks.quality.measurement import measure
from benchmarks.quality.page import write_page
from benchmarks.quality.trainings import TRAININGS

RESULTS = ROOT / "benchmarks/quality.json"


def main() -> None:
    if sys.argv[1:] == ["page"]:
        write_page(load_results(RESULTS))
        return
    trainings = "\n".join(f"    {name:<22}{options}" for name, options in TRAININGS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=f"{__doc__}\n{trainings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("names", nargs="*", default=["*"], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N; 1")
    arguments = parser.parse_intermixed_args()
    patterns = arguments.names
    names = [name for name in TRAININGS if any(fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        parser.error(f"no training is named {' or '.join(patterns)}; --help lists them")
    for name in names:
        for seed in range(1, arguments.seeds + 1):
            figures = measure(name, arguments.data.resolve(), seed)
            results = load_results(RESULTS)
            results.setdefault(name, {})[str(seed)] = figures
            save_results(RESULTS, results)


if __name__ == "__main__":
    main()
