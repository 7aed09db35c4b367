"""Measures what the n-gram part of a language model costs, and what it copies.

    python -m benchmarks.mixture DATA [PART]

DATA is a folder with tinyshakespeare.txt, names.txt and ptb.train.txt, .valid and .test. A PART is
"defaults", "contexts", "halves", "files", "copying", "sampling", "kenlm" or "large"; without one
all are measured, in an hour. The results are written to benchmarks/mixture.json and
docs/mixture.md. Nothing else may run meanwhile.

Part "kenlm" needs the folder with KenLM's programs, built with KENLM_MAX_ORDER=9 or more, in the
variable KENLM.

Texts of more than a megabyte are not real: each of their words follows the word before it at some
place of Shakespeare's text.
"""

from __future__ import annotations

import sys

from benchmarks.mixture.contexts import contexts
from benchmarks.mixture.copying import copying
from benchmarks.mixture.costs import files, large, sampling
from benchmarks.mixture.kenlm import kenlm
from benchmarks.mixture.page import PAGE, blocks
from benchmarks.mixture.weights import defaults, halves
from benchmarks.project import ROOT, measure

RESULTS = ROOT / "benchmarks/mixture.json"
PARTS = {
    "defaults": defaults,
    "contexts": contexts,
    "halves": halves,
    "files": files,
    "copying": copying,
    "sampling": sampling,
    "kenlm": kenlm,
    "large": large,
}

if __name__ == "__main__":
    measure(sys.argv[1:], __doc__ or "", PARTS, RESULTS, PAGE, blocks)
