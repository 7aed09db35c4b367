"""Minimal pairs, n-best lists and words, by models of the bundled sentences."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import corpora.nbest
import corpora.pairs
from benchmarks.project import SENTENCES, charlm, command, trained
from charlm.tokenizer import LEVELS
from charlm.uses.nbest import edits

HELD_OUT = SENTENCES.with_suffix(".heldout.txt")
FEW = 500  # sentences that the weaker models of the pairs learn
WORDS = 1000  # sentences whose words are added up
WEIGHTS = re.compile(r"--weight (\S+) --word-penalty (\S+):")


def pairs(folder: Path, data: Path, minutes: float) -> dict[str, Any]:
    """The accuracy on minimal pairs, by the number of sentences learnt, level and phenomenon."""
    corpora.pairs.write(folder / "pairs.jsonl")
    sentences, few = _lines(SENTENCES), folder / "few.txt"
    few.write_text("".join(f"{sentence}\n" for sentence in sentences[:FEW]), encoding="utf-8")
    command = ("pairs", "pairs.jsonl", "--format", "json", "-m")
    results: dict[str, Any] = {"minutes": minutes, "sentences": {}}
    for count, text in ((len(sentences), SENTENCES), (FEW, few)):
        results["sentences"][str(count)] = {
            level: _records(charlm(folder, *command, run))
            for level, run in _models(minutes, text).items()
        }
    return results


def nbest(folder: Path, data: Path, minutes: float) -> dict[str, Any]:
    """Wrong words in the first hypotheses of the test lists, before and after rescoring."""
    corpora.nbest.write(folder)
    lists = _lists(folder / "test.nbest")
    references = _lines(folder / "test.ref")
    results: dict[str, Any] = {
        "minutes": minutes,
        "lists": len(references),
        "words": sum(len(reference.split()) for reference in references),
        "before": _errors([texts[0] for texts in lists.values()], references),
        "fewest": sum(
            min(_errors([text], [reference]) for text in texts)
            for texts, reference in zip(lists.values(), references, strict=True)
        ),
        "levels": {},
    }
    for level, run in _models(minutes).items():
        rescore = ("rescore", "--model", run, "--best")
        tuning = subprocess.run(
            command(*rescore, "dev.nbest", "--references", "dev.ref"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
            text=True,
        ).stderr
        match = WEIGHTS.search(tuning)
        assert match, tuning
        weight, penalty = match.groups()
        options = (f"--weight={weight}", f"--word-penalty={penalty}")
        best = charlm(folder, *rescore, "test.nbest", *options).splitlines()
        results["levels"][level] = {
            "weight": float(weight),
            "word_penalty": float(penalty),
            "after": _errors(best, references),
        }
    return results


def words(folder: Path, data: Path, minutes: float) -> dict[str, Any]:
    """The largest difference between a sentence and the sum of its words, in bits.

    Half of the sentences are lines of Shakespeare, which have more punctuation.
    """
    shakespeare = list(filter(None, _lines(data / "tinyshakespeare.txt")))
    sentences = [*_lines(HELD_OUT)[: WORDS // 2], *shakespeare[: WORDS // 2]]
    path = folder / "sentences.txt"
    path.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    results: dict[str, Any] = {"minutes": minutes, "sentences": len(sentences), "levels": {}}
    for level, run in _models(minutes).items():
        score = ("score", "--file", path, "-m", run, "--words", "--format", "json")
        results["levels"][level] = {
            name: max(map(_difference, _records(charlm(folder, *score, *options))))
            for name, options in {"joined": (), "punctuation": ("--punctuation",)}.items()
        }
    return results


def _models(minutes: float, text: Path = SENTENCES) -> dict[str, Path]:
    """A model of sentences for each level."""
    options = ("--lines", "--minutes", minutes)
    return {
        level: trained(text, f"{text.stem} {level}", *options, "--level", level) for level in LEVELS
    }


def _difference(record: Mapping[str, Any]) -> float:
    return float(abs(sum(word["bits"] for word in record["words"]) - record["bits"]))


def _lists(path: Path) -> dict[str, list[str]]:
    """The hypotheses of each list of a file, the best one by the scores of the list first."""
    lists: dict[str, list[tuple[float, str]]] = {}
    for line in _lines(path):
        name, text, _, score = line.split(" ||| ")
        lists.setdefault(name, []).append((-float(score), text))
    return {name: [text for _, text in sorted(scored)] for name, scored in lists.items()}


def _errors(texts: Iterable[str], references: Iterable[str]) -> int:
    """The number of wrong words."""
    both = zip(texts, references, strict=True)
    return sum(edits(text.split(), reference.split()) for text, reference in both)


def _records(output: str) -> list[dict[str, Any]]:
    return list(map(json.loads, output.splitlines()))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
