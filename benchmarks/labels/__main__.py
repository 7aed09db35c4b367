"""Measures models of labels, tags and trees: how good they are, what each ingredient brings, their
speed.

    python -m benchmarks.labels DATA [PART...]

DATA is a folder with sst.train.txt, sst.dev.txt, sst.test.txt (trees of the Stanford Sentiment
Treebank) and chunks.train.conll, chunks.test.conll (CoNLL-2000). A PART is "sentiment", "readouts",
"start", "trees", "compositions", "chunks", "without", "speed" or "rivals"; without one all are
measured, in about four hours. "rivals" needs scikit-learn and python-crfsuite. "page" writes the
page again. The figures of "compositions" on the page are of one core:
`taskset -c 0 python -m benchmarks.labels DATA compositions`. The results are written to
benchmarks/labels.json and docs/tasks.md. Nothing else may run meanwhile.

Only the training and the validation parts are used to train and to choose: of the sentiment
sentences dev, of the chunks every tenth sentence of the training part. The figures are of the test
parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.labels.page import PAGE, blocks
from benchmarks.labels.quality import (
    chunks,
    compositions,
    readouts,
    sentiment,
    start,
    trees,
    without,
)
from benchmarks.labels.rivals import rivals
from benchmarks.labels.speed import speed
from benchmarks.markdown import replace_blocks
from benchmarks.project import ROOT, load_results, run_parts

RESULTS = ROOT / "benchmarks/labels.json"
PARTS = {
    "sentiment": sentiment,
    "readouts": readouts,
    "start": start,
    "trees": trees,
    "compositions": compositions,
    "chunks": chunks,
    "without": without,
    "speed": speed,
    "rivals": rivals,
}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["page"]:
        replace_blocks(PAGE, blocks(load_results(RESULTS)))
    elif not arguments or not set(arguments[1:]) <= {*PARTS}:
        sys.exit(__doc__)
    else:
        chosen = {name: PARTS[name] for name in arguments[1:] or PARTS}
        replace_blocks(PAGE, blocks(run_parts(chosen, Path(arguments[0]).resolve(), RESULTS)))
