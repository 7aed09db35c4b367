"""How well charlm learns known texts: `python benchmarks/quality.py DATA [NAME...]`.

DATA is a folder with tinyshakespeare.txt, ptb.train.txt, ptb.valid.txt and ptb.test.txt, none of
which comes with charlm. Without names all of these are run, one after the other:
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fill import fillers

SENTENCES = Path(__file__).resolve().parent.parent / "corpora/sentences.txt"
SHAKESPEARE = "tinyshakespeare.txt --valid-fraction 0.1"
DEEP = f"{SHAKESPEARE} --minutes 2 --hidden 128 --dropout 0.1 --layers"
PTB = "ptb.train.txt --valid ptb.valid.txt --minutes 10"
WORDS = f"{PTB} --level word --split whitespace"
SHORT = f"{WORDS.replace('10', '5')} --hidden 192 --dropout 0.2"
TRAINED = {
    "shakespeare": SHAKESPEARE,
    "shakespeare-1": f"{SHAKESPEARE} --minutes 1",
    **{f"depth-{layers}": f"{DEEP} {layers}" for layers in (1, 2, 3, 4)},
    "depth-4-residual": f"{DEEP} 4 --residual",
    "ptb-words": WORDS,
    "ptb-subwords": f"{PTB} --level subword",
    "ptb-plain": SHORT,
    "ptb-recurrent": f"{SHORT} --characters recurrent",
    "ptb-convolutional": f"{SHORT} --characters convolutional",
    "ptb-both": f"{WORDS} --bidirectional",
    "sentences-both": f"{SENTENCES} --minutes 3 --bidirectional",
    "sentences-words-both": f"{SENTENCES} --minutes 3 --bidirectional --level word",
}
TESTS = {"ptb-words": "ptb.test.txt", "ptb-subwords": "ptb.test.txt"}
FILLED = {
    "ptb-both": "ptb.test.txt",
    "sentences-both": str(SENTENCES.with_suffix(".heldout.txt")),
    "sentences-words-both": str(SENTENCES.with_suffix(".heldout.txt")),
}
CACHED = ("ptb-words",)
# Of the neural cache: pairs, and what is tried on the validation text.
CACHE, FLATNESSES, WEIGHTS = 2000, (1.0, 2.0, 4.0), (0.05, 0.1, 0.2)


def main(data: Path, names: list[str]) -> None:
    for name in names or TRAINED:
        with tempfile.TemporaryDirectory() as folder:
            report(name, data, Path(folder) / name)


def report(name: str, data: Path, run: Path) -> None:
    """Train, time the whole command, and print the card's figures and the test's."""
    print(f"{name}: charlm train {TRAINED[name]}", flush=True)
    start = time.monotonic()
    charlm(data, run, "train", *TRAINED[name].split(), "--quiet", "--out", str(run))
    seconds = time.monotonic() - start
    card = json.loads(charlm(data, run, "info", str(run), "--json"))["card"]
    print(f"  {card['trained']}")
    alone = card["valid_lines"]
    print(
        f"  {seconds:.1f} s; validation {card['valid_carried']:.4f} nats/token"
        + ("" if alone is None else f" carried, {alone:.4f} each line from zero")
        + f"; {card['valid_bits_per_char']:.4f} bits/char",
        flush=True,
    )
    if name in TESTS:
        test = measured(data, run, TESTS[name])
        print(
            f"  {TESTS[name]}: perplexity {test['perplexity']:.2f} over {test['tokens']:,} tokens, "
            f"{test['bits_per_char']:.4f} bits/char",
            flush=True,
        )
    if name in CACHED:
        cached(data, run, TESTS[name])
    if name in FILLED:
        print(f"  {fillers(str(run), str(data / FILLED[name]))}", flush=True)


def cached(data: Path, run: Path, test: str) -> None:
    """Choose the cache's settings on the validation text, then measure the test with them."""
    settings = [
        ["--cache", str(CACHE), "--cache-flatness", str(theta), "--cache-weight", str(weight)]
        for theta in FLATNESSES
        for weight in WEIGHTS
    ]
    best = min(settings, key=lambda s: measured(data, run, "ptb.valid.txt", *s)["perplexity"])
    found = measured(data, run, test, *best)["perplexity"]
    print(f"  {test} with {' '.join(best)}: perplexity {found:.2f}", flush=True)


def measured(data: Path, run: Path, text: str, *options: str) -> dict[str, float]:
    line = charlm(data, run, "evaluate", text, *options, "--format", "json", "--model", str(run))
    found: dict[str, float] = json.loads(line)
    return found


def charlm(data: Path, run: Path, *arguments: str) -> str:
    """Run a command on files in `data`, from the folder above the run; its standard output."""
    files = [str(data / name) if (data / name).is_file() else name for name in arguments]
    command = [sys.executable, "-m", "charlm", *files]
    ran = subprocess.run(command, cwd=run.parent, stdout=subprocess.PIPE, check=True, text=True)
    return ran.stdout


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__ + "\n".join(f"    {name}" for name in TRAINED))
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
