"""Measures what the commands around scoring are for.

    python -m benchmarks.uses DATA --kenlm DIR [--only PART ...] [--minutes M]

DATA is a folder with tinyshakespeare.txt, names.txt and ptb.train.txt, .valid and .test. DIR is
the folder with KenLM's programs lmplz, build_binary and query; only the part "formats" needs it.
Without --only all parts are measured, in about fifty minutes. Nothing else may run meanwhile.

The results are kept in benchmarks/uses.json, each as soon as it is there, and written to
docs/uses.md. `--only` without a PART only writes the page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.project import ROOT, run_parts
from benchmarks.uses.formats import formats
from benchmarks.uses.page import SECTIONS, write_page
from benchmarks.uses.sentences import nbest, pairs, words
from benchmarks.uses.texts import copied, filtered, unknown

RESULTS = ROOT / "benchmarks/uses.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uses",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS, metavar="PART")
    parser.add_argument("--minutes", type=float, default=3.0, metavar="M", help="of a training; 3")
    parser.add_argument("--kenlm", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    kenlm, minutes = (arguments.kenlm or Path()).resolve(), arguments.minutes
    if "formats" in arguments.only and not (kenlm / "query").is_file():
        parser.error("part formats: --kenlm must name the folder with KenLM's programs")
    parts: dict[str, Callable[[Path, Path], Any]] = {
        "formats": partial(formats, kenlm=kenlm, minutes=minutes),
        "pairs": partial(pairs, minutes=minutes),
        "nbest": partial(nbest, minutes=minutes),
        "words": partial(words, minutes=minutes),
        "unknown": partial(unknown, minutes=minutes),
        "filter": partial(filtered, minutes=minutes),
        "copied": copied,
    }
    start = time.monotonic()
    chosen = {name: parts[name] for name in arguments.only}
    write_page(run_parts(chosen, arguments.data.resolve(), RESULTS))
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
