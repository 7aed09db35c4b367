"""Long texts: with unknown words, filtered, and searched for copied pieces."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.project import charlm, command, cost, trained

PTB = [f"ptb.{part}.txt" for part in ("train", "valid", "test")]
FILES = (*PTB, "tinyshakespeare.txt", "names.txt")
LINES, LONGEST = 100_000, 5_000_000  # lines that are filtered, and characters of one of them
MOST_BITS = 2.5
COPIED = 1_000_000  # characters of a text, and of a corpus

VOCABULARY = 5_000  # of the model of words, so that words of the test text are unknown


def unknown(folder: Path, data: Path, minutes: float) -> dict[str, Any]:
    """Bits per character of a test text by models of three levels, unknown words spelt."""
    options = ("--valid", data / "ptb.valid.txt", "--minutes", minutes, "--level")
    words = ("word", "--split", "whitespace", "--vocab-size", VOCABULARY)
    levels = {"word": words, "subword": ("subword",), "char": ("char",)}
    results: dict[str, Any] = {"minutes": minutes, "vocabulary": VOCABULARY, "rows": []}
    for level, more in levels.items():
        run = trained(data / "ptb.train.txt", f"treebank {level}", *options, *more)
        for way in ("include", "exclude", "share", "spell") if level == "word" else ("include",):
            evaluate = ("evaluate", data / "ptb.test.txt", "-m", run, "--unknown", way)
            record = json.loads(charlm(folder, *evaluate, "--format", "json"))
            del record["file"]
            results["rows"].append({"level": level, "unknown words": way, **record})
    return results


def filtered(folder: Path, data: Path, minutes: float) -> dict[str, Any]:
    """Speed and memory of `charlm filter`, and whether each line is in one of the two outputs."""
    text = data / "tinyshakespeare.txt"
    model = trained(text, "shakespeare", "--minutes", minutes)
    lines = _different_lines(data)
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    commands = {"one": ("--jobs", 1), "two": ("--jobs", 2), "dropped": ("--jobs", 2, "--drop")}
    costs, outputs = {}, {}
    for name, options in commands.items():
        path = folder / f"{name}.txt"
        arguments = command("filter", "lines.txt", "-m", model, "--max", MOST_BITS, *options)
        costs[" ".join(map(str, options))] = cost(arguments, path)._asdict()
        outputs[name] = path.read_text(encoding="utf-8").split("\n")[:-1]
    dropped = set(outputs["dropped"])
    return {
        "minutes": minutes,
        "cores": os.cpu_count(),
        "lines": len(lines),
        "longest": max(map(len, lines)),
        "characters": sum(map(len, lines)) + len(lines),
        "bits": MOST_BITS,
        "kept": len(outputs["one"]),
        "dropped": len(outputs["dropped"]),
        "same": outputs["one"] == outputs["two"],
        "complete": [line for line in lines if line not in dropped] == outputs["two"]
        and [line for line in lines if line in dropped] == outputs["dropped"],
        "costs": costs,
    }


def _different_lines(data: Path) -> list[str]:
    """Lines of the texts, no two of them equal, and in their middle a very long one."""
    texts = [(data / name).read_text(encoding="utf-8") for name in FILES]
    lines = list(dict.fromkeys(line for text in texts for line in text.split("\n") if line))
    joined = " ".join(lines)
    longest = (joined * (LONGEST // len(joined) + 1))[:LONGEST]
    return [*lines[: LINES // 2], longest, *lines[LINES // 2 : LINES - 1]]


def copied(folder: Path, data: Path) -> dict[str, Any]:
    """Seconds and memory of `charlm copied`."""
    whole = (data / "ptb.train.txt").read_text(encoding="utf-8")
    (folder / "text.txt").write_text(whole[COPIED : 2 * COPIED], encoding="utf-8")
    (folder / "corpus.txt").write_text(whole[:COPIED], encoding="utf-8")
    arguments = command("copied", "text.txt", "--corpus", "corpus.txt", "--format", "json")
    seconds, megabytes, _ = cost(arguments, "pieces.jsonl")
    longest, *_ = (folder / "pieces.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "characters": COPIED,
        "cores": os.cpu_count(),
        "seconds": seconds,
        "megabytes": megabytes,
        "longest": json.loads(longest)["length"],
    }
