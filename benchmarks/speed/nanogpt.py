"""nanoGPT's recipe for CPUs, and charlm trained for the same time."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import charlm
from benchmarks import project
from benchmarks.quality.windows import loss_in_windows
from benchmarks.speed.harness import Row
from charlm import LanguageModel

BLOCK = 64  # characters that nanoGPT reads at once
CONFIG = "config/train_shakespeare_char.py"
OPTIONS = (
    "--device=cpu --compile=False --eval_iters=200 --eval_interval=2000 --log_interval=100 "
    f"--block_size={BLOCK} --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def beside_nanogpt(clone: Path, text: Path) -> Iterator[Row]:
    """The validation losses after the same time, nats per character.

    nanoGPT measures blocks of characters, each from an empty context. charlm is measured in the
    same blocks, and also with the state carried through the whole validation part.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        loss = train_nanogpt(clone, text, Path(folder) / "nanogpt")
        minutes = (time.monotonic() - start) / 60
        run = Path(folder) / "run"
        budget = ("--minutes", f"{minutes:.2f}", "--quiet")
        project.charlm(folder, "train", str(text.resolve()), *budget, "--out", str(run))
        model = charlm.load(run, kind=LanguageModel)
        in_blocks = loss_in_windows(model, text, BLOCK)
    name = f"{text.name}, {60 * minutes:.0f} s"
    yield Row(f"{name}, in blocks of {BLOCK}; plain: nanoGPT", "nats", in_blocks, loss)
    yield Row(f"{name}, the state carried", "nats", model.card.valid_nats)


def train_nanogpt(clone: Path, text: Path, folder: Path) -> float:
    """Train nanoGPT in a folder. Returns its last validation loss."""
    write_data(text.read_text(encoding="utf-8"), folder / "data/shakespeare_char")
    for file in clone.iterdir():
        if file.name != "data":
            (folder / file.name).symlink_to(file.resolve())
    command = [sys.executable, "train.py", CONFIG, *OPTIONS.split()]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(re.findall(r"val loss ([\d.]+)", process.stdout)[-1])


def write_data(text: str, folder: Path) -> None:
    """Write the files that nanoGPT's own script makes of a text."""
    folder.mkdir(parents=True)
    alphabet = sorted(set(text))
    number = {char: k for k, char in enumerate(alphabet)}
    ids = np.array([number[char] for char in text], np.uint16)
    cut = int(len(ids) * 0.9)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)), "stoi": number}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
