"""Measures encoder–decoders: how good they are, what each ingredient brings, their speed.

    python -m benchmarks.targets DATA [PART...]

DATA is a folder with g2p.train.tsv, g2p.valid.tsv, g2p.test.tsv (pronunciations of CMUdict), and
for "kinds" tinyshakespeare.txt, ptb.train.txt and names.txt. A PART is "pronunciations", "without",
"beams", "speed", "kinds" or "rivals"; without one all are measured, in about two hours. "rivals"
needs phonetisaurus. "page" writes the page again. The figures of "without" and "kinds" on the page
are of one core: `taskset -c 0 python -m benchmarks.targets DATA without kinds`. The results are
written to benchmarks/targets.json and docs/tasks.md. Nothing else may run meanwhile.

Only the training and the validation parts are used to train and to choose. The figures are of the
test part.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.markdown import replace_blocks
from benchmarks.project import ROOT, load_results, run_parts
from benchmarks.targets.kinds import kinds
from benchmarks.targets.page import PAGE, blocks
from benchmarks.targets.quality import beams, pronunciations, without
from benchmarks.targets.rivals import rivals
from benchmarks.targets.speed import speed

RESULTS = ROOT / "benchmarks/targets.json"
PARTS = {
    "pronunciations": pronunciations,
    "without": without,
    "beams": beams,
    "speed": speed,
    "kinds": kinds,
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
