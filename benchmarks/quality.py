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

PTB = "ptb.train.txt --valid ptb.valid.txt --minutes 10"
TRAINED = {
    "shakespeare": "tinyshakespeare.txt --valid-fraction 0.1",
    "shakespeare-1": "tinyshakespeare.txt --valid-fraction 0.1 --minutes 1",
    "ptb-words": f"{PTB} --level word --split whitespace",
    "ptb-subwords": f"{PTB} --level subword",
}
TESTS = {"ptb-words": "ptb.test.txt", "ptb-subwords": "ptb.test.txt"}


def main(data: Path, names: list[str]) -> None:
    for name in names or TRAINED:
        with tempfile.TemporaryDirectory() as folder:
            report(name, data, Path(folder) / name)


def report(name: str, data: Path, run: Path) -> None:
    """Train, time the whole command, and print the card's figures and the test's."""
    print(f"{name}: charlm train {TRAINED[name]}")
    start = time.monotonic()
    charlm(data, run, "train", *TRAINED[name].split(), "--quiet", "--out", str(run))
    seconds = time.monotonic() - start
    card = json.loads(charlm(data, run, "info", str(run), "--json"))["card"]
    print(f"  {card['trained']}")
    print(
        f"  {seconds:.1f} s; validation {card['valid_carried']:.4f} nats/token carried, "
        f"{card['valid_lines']:.4f} each line from zero; {card['valid_bits_per_char']:.4f} "
        "bits/char"
    )
    if name in TESTS:
        line = charlm(data, run, "evaluate", TESTS[name], "--format", "json", "--model", str(run))
        test = json.loads(line)
        print(
            f"  {TESTS[name]}: perplexity {test['perplexity']:.2f} over {test['tokens']:,} tokens, "
            f"{test['bits_per_char']:.4f} bits/char"
        )


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
