"""KenLM beside charlm."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import project


def kenlm(folder: Path, text: Path) -> list[dict[str, Any]]:
    """KenLM's n-gram models, and models of charlm trained for a minute, on the same texts.

    Each line is scored by itself, as KenLM does. Raises KeyError without $KENLM.
    """
    whole = text.read_text(encoding="utf-8")
    cut = whole.index("\n", int(len(whole) * 0.9)) + 1
    train, valid, test = (
        text.with_name(f"ptb.{part}.txt").read_text(encoding="utf-8")
        for part in ("train", "valid", "test")
    )
    as_words = ("--level", "word", "--split", "whitespace")
    cases: dict[str, tuple[str, str, str, int, tuple[str, ...]]] = {
        "shakespeare, characters": (whole[:cut], whole[cut:], whole[cut:], 9, ()),
        "treebank, characters": (train, valid, test, 9, ()),
        "treebank, words": (train, valid, test, 5, as_words),
    }
    results = []
    for name, (training, valid, measured, order, options) in cases.items():
        spell = spaced if not options else (lambda lines: lines.replace("<unk>", "unknown"))
        seconds, bits = of_kenlm(spell(training), spell(measured), order)
        Path("train.txt").write_text(training, encoding="utf-8")
        Path("valid.txt").write_text(valid, encoding="utf-8")
        Path("measured.txt").write_text(measured, encoding="utf-8")
        run = Path(f"kenlm {name}")
        start = time.perf_counter()
        corpus = ("train", "train.txt", "--valid", "valid.txt", "--minutes", 1, *options)
        project.charlm(folder, *map(str, (*corpus, "--quiet", "--out", run)))
        record = {"text": name, "kenlm": bits / len(measured), "kenlm_seconds": seconds}
        record["seconds"] = time.perf_counter() - start
        for kind, more in (("network", ["--network-only"]), ("mixture", []), ("carried", [])):
            reset = [] if kind == "carried" else ["--reset-lines"]
            command = ["evaluate", "measured.txt", "--model", str(run), "--format", "json"]
            score = json.loads(project.charlm(folder, *command, *more, *reset))
            record[kind] = score["bits_per_char"]
        results.append(record)
    return results


def spaced(text: str) -> str:
    """Characters as words: KenLM separates words at white space."""
    return "".join(" ".join(line.replace(" ", "▁")) + "\n" for line in text.splitlines())


def of_kenlm(training: str, measured: str, order: int) -> tuple[float, float]:
    """The seconds to make a model of a text, and the bits of another text by that model."""
    programs = Path(os.environ["KENLM"])
    start = time.perf_counter()
    model = ngram_model(programs, training, order)
    seconds = time.perf_counter() - start
    output = query(programs, model, measured, "-v", "summary")
    figures = dict(line.split("\t") for line in output.splitlines() if "\t" in line)
    perplexity = float(figures["Perplexity including OOVs:"])
    return seconds, math.log2(perplexity) * int(figures["Tokens:"])


def ngram_model(programs: Path, training: str, order: int) -> Path:
    """KenLM's model of a text, in the current folder.

    programs:  the folder with KenLM's programs
    """
    arpa, binary = Path("lm.arpa"), Path("lm.bin")
    lmplz = [str(programs / "lmplz"), "-o", str(order), "--discount_fallback", "-S", "20%"]
    with arpa.open("w", encoding="utf-8") as file:
        counted = training.encode()
        subprocess.run(lmplz, input=counted, stdout=file, stderr=subprocess.DEVNULL, check=True)
    build = [str(programs / "build_binary"), "trie", str(arpa), str(binary)]
    subprocess.run(build, check=True, capture_output=True)
    return binary


def query(programs: Path, model: Path, text: str, *options: str) -> str:
    """What KenLM's `query` writes of a text."""
    command = [str(programs / "query"), *options, str(model)]
    return subprocess.run(
        command, input=text.encode(), capture_output=True, check=True
    ).stdout.decode()
