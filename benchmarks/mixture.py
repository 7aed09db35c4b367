"""Measures what the n-gram part of a language model costs, and what it copies.

    python -m benchmarks.mixture DATA [PART]

DATA is a folder with tinyshakespeare.txt, names.txt and ptb.train.txt, .valid and .test. A PART is
"defaults", "halves", "files", "copying", "sampling", "kenlm" or "large"; without one all are
measured, in an hour. The results are written to benchmarks/mixture.json and docs/mixture.md.
Nothing else may run meanwhile.

Part "kenlm" needs the folder with KenLM's programs, built with KENLM_MAX_ORDER=9 or more, in the
variable KENLM.

Texts of more than a megabyte are not real: each of their words follows the word before it at some
place of Shakespeare's text.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import charlm
from benchmarks import project
from benchmarks.markdown import table
from benchmarks.project import ROOT, TALES, measure
from charlm import LanguageModel
from charlm.corpus.encoding import TokenFile
from charlm.model.backend import Floats
from charlm.model.mixture import Combination, Linear, LogLinear
from charlm.tasks.lm import TextValidation

RESULTS, PAGE = ROOT / "benchmarks/mixture.json", ROOT / "docs/mixture.md"
SIZES = {"20 KB": 20_000, "1 MB": 1_000_000, "5 MB": 5_000_000, "100 MB": 100_000_000}
GIGABYTE = 1_000_000_000
REPEATS = 9
COPIED, SAMPLE = 100, 500  # samples, and characters of each
SHAPES = ((1, 256), (1, 512), (2, 512))  # layers, features
SECONDS = 5.0  # of sampling
EXAMPLES = 10_000  # of a text
CHAINS = 20_000  # words that are drawn at once


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "charlm", *map(str, arguments)]


def trained(text: object, name: str, *options: object) -> Path:
    """The run folder of a training; one that is there is used again."""
    run = Path(name).resolve()
    if not run.exists():
        arguments = command("train", text, "--quiet", "--out", run, *options)
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return run


def text_of(characters: int, shakespeare: Path) -> Path:
    """A text of this size: Shakespeare's as far as it goes, and longer ones word by word."""
    path = Path(f"text-{characters}.txt")
    if path.exists():
        return path
    whole = shakespeare.read_text(encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        if characters <= len(whole):
            file.write(whole[:characters])
            return path
        for words in drawn_words(whole):
            file.write(words)
            if file.tell() >= characters:
                break
    return path


def drawn_words(text: str) -> Iterator[str]:
    """Endless text: after each word, a word that follows it somewhere in the text."""
    lines = [f"{line}\n".split(" ") for line in text.splitlines()]
    words, ids = np.unique([word for line in lines for word in line], return_inverse=True)
    places = np.argsort(ids, kind="stable")  # by word
    count = np.bincount(ids)
    first = np.cumsum(count) - count
    rng = np.random.default_rng(1)
    at = rng.integers(len(ids), size=CHAINS)
    while True:
        steps = []
        for _ in range(50):
            word = ids[(at + 1) % len(ids)]
            at = places[first[word] + rng.integers(count[word])]
            steps.append(words[word])
        for chain in np.array(steps).T:
            yield " ".join(chain).replace("\n ", "\n") + "\n"


def defaults(folder: Path, text: Path) -> dict[str, list[list[float]]]:
    """The weights of each combination that are best on several texts together."""
    ptb = (text.with_name("ptb.train.txt"), "--valid", text.with_name("ptb.valid.txt"))
    little, valid = text_of(20_000, text), Path("valid.txt")
    valid.write_text(text.read_text(encoding="utf-8")[-100_000:], encoding="utf-8")
    little_ptb = Path("little-ptb.txt")
    little_ptb.write_text(ptb[0].read_text(encoding="utf-8")[:20_000], encoding="utf-8")
    trainings: dict[type[Combination], list[tuple[object, ...]]] = {
        LogLinear: [
            (text,),
            (little, "--valid", valid),
            (little_ptb, *ptb[1:]),
            (text.with_name("names.txt"), "--lines"),
            (TALES,),
            ptb,
        ],
        Linear: [
            (*ptb, "--level", "word", "--split", "whitespace"),
            (*ptb, "--level", "subword"),
            (text, "--level", "word"),
            (TALES, "--level", "word"),
        ],
    }
    weights = {}
    for kind, arguments in trainings.items():
        rows = [
            examples(trained(corpus, f"{kind.name} {k}", "--minutes", 1, *options))
            for k, (corpus, *options) in enumerate(arguments)
        ]
        free = type(kind.name, (kind,), {"prior": 0.01})
        weights[kind.name] = free().fitted(together(rows)).weights.round(2).tolist()
    return weights


def halves(folder: Path, text: Path) -> dict[str, dict[str, float]]:
    """Losses on the validation text, with weights fitted on it, and on the other half of it."""
    ptb = (text.with_name("ptb.train.txt"), "--valid", text.with_name("ptb.valid.txt"))
    cases: dict[str, tuple[object, ...]] = {
        "shakespeare": (text,),
        "names": (text.with_name("names.txt"), "--lines"),
        "tales": (TALES,),
        "treebank, characters": ptb,
        "treebank, words": (*ptb, "--level", "word", "--split", "whitespace"),
    }
    results = {}
    for name, options in cases.items():
        run = trained(options[0], f"halves {name}", "--minutes", 1, *options[1:])
        mixture = charlm.load(run).mixture
        assert mixture
        default, rows = type(mixture.combination)(), validation_examples(run)
        parts = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        crossed = [default.fitted(a).losses(b) for a, b in (parts, parts[::-1])]
        results[name] = {
            "examples": len(rows),
            "default": float(default.losses(rows).mean()),
            "fitted": float(default.fitted(rows).losses(rows).mean()),
            "crossed": float(np.concatenate(crossed).mean()),
        }
    return results


def examples(run: Path) -> Floats:
    """As many examples of the validation text for each run."""
    rows = validation_examples(run)
    return rows[np.random.default_rng(1).integers(len(rows), size=EXAMPLES)]


def validation_examples(run: Path) -> Floats:
    """What the weights of a run's mixture are fitted on."""
    model = charlm.load(run, kind=LanguageModel)
    file = TokenFile.open(run / "valid", model.tokenizer.size)
    validation = TextValidation(file.ids, file.bounds, lines=model.independent_lines)
    assert model.mixture
    first = validation.first(model.mixture.most_examples)
    return first.examples(model.backends.torch, model.mixture)


def together(texts: list[Floats]) -> Floats:
    """The examples of texts with different vocabularies: tokens that are missing never occur."""
    combination = LogLinear if texts[0].shape[1] > 10 else Linear
    if combination is Linear:
        return np.concatenate(texts)
    features = LogLinear.default.shape[1]
    tokens = max((text.shape[1] - features - 1) // 2 for text in texts)
    result = []
    for text in texts:
        parts = np.split(text[:, features:-1], 2, axis=1)
        missing = ((0, 0), (0, tokens - parts[0].shape[1]))
        padded = [np.pad(part, missing, constant_values=-1e4) for part in parts]
        result.append(np.concatenate([text[:, :features], *padded, text[:, -1:]], axis=1))
    return np.concatenate(result)


def files(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Size of the model file, and seconds of a score, with and without an n-gram model."""
    results = []
    for name, characters in SIZES.items():
        corpus = text_of(characters, text)
        options = ("--steps", 2, "--hidden", 256)
        runs = {
            "mixture": trained(corpus, f"mixture {name}", *options),
            "network": trained(corpus, f"network {name}", *options, "--ngram", "none"),
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(REPEATS):
            for kind, run in runs.items():
                start = time.perf_counter()
                score = command("score", "the cat", "--model", run)
                subprocess.run(score, check=True, capture_output=True)
                seconds[kind].append(time.perf_counter() - start)
        sizes = {k: (run / "model.safetensors").stat().st_size for k, run in runs.items()}
        ngram = charlm.load(runs["mixture"]).mixture
        assert ngram
        results.append(
            {
                "text": name,
                "characters": corpus.stat().st_size,
                "ngrams": len(ngram.ngram),
                "bytes": sizes,
                "seconds": {kind: statistics.median(s) for kind, s in seconds.items()},
            }
        )
    return results


def copying(folder: Path, text: Path) -> dict[str, Any]:
    """The longest pieces of samples that are in the training text, in characters."""
    run = trained(text, "shakespeare", "--minutes", 3)
    whole = text.read_text(encoding="utf-8")
    cut = whole.index("\n", int(len(whole) * 0.9)) + 1
    training, held_out = whole[:cut], whole[cut:]
    longest = {}
    for kind in ("mixture", "network"):
        model = charlm.load(run, kind=LanguageModel, network_only=kind == "network")
        samples = model.sample(n=COPIED, length=SAMPLE, temperature=0.8, seed=1)
        longest[kind] = [longest_piece(sample, training) for sample in samples]
    starts = np.linspace(0, len(held_out) - SAMPLE, COPIED).astype(int)
    longest["held-out text"] = [longest_piece(held_out[k : k + SAMPLE], training) for k in starts]
    return longest


def longest_piece(sample: str, text: str) -> int:
    """The length of the longest piece of a sample that is somewhere in a text."""
    longest = 0
    for start in range(len(sample)):
        while start + longest < len(sample) and sample[start : start + longest + 1] in text:
            longest += 1
    return longest


def sampling(folder: Path, text: Path) -> dict[str, dict[str, float]]:
    """Tokens a second of one sample, by a network alone and by a mixture."""
    cases: dict[str, tuple[object, ...]] = {
        f"characters, {layers} × {hidden}": ("--layers", layers, "--hidden", hidden)
        for layers, hidden in SHAPES
    }
    words = ("--level", "word", "--vocab-size", 10_000)
    cases |= {f"10,000 words, 1 × {h}": (*words, "--hidden", h) for h in (128, 256)}
    results = {}
    for name, options in cases.items():
        run = trained(text, f"sampling {name}", "--steps", 300, *options)
        speeds: dict[str, list[float]] = {"network": [], "mixture": []}
        for _ in range(3):
            for kind, rates in speeds.items():
                model = charlm.load(run, kind=LanguageModel, network_only=kind == "network")
                rates.append(tokens_per_second(model))
        results[name] = {kind: max(rates) for kind, rates in speeds.items()}
    return results


def tokens_per_second(model: LanguageModel) -> float:
    pieces = model.stream(length=10**9, seed=1)
    for _ in range(20):
        next(pieces)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + SECONDS:
        next(pieces)
        count += 1
    return count / (time.perf_counter() - start)


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
    programs, arpa, binary = Path(os.environ["KENLM"]), Path("lm.arpa"), Path("lm.bin")
    lmplz = [str(programs / "lmplz"), "-o", str(order), "--discount_fallback", "-S", "20%"]
    start = time.perf_counter()
    with arpa.open("w", encoding="utf-8") as file:
        counted = training.encode()
        subprocess.run(lmplz, input=counted, stdout=file, stderr=subprocess.DEVNULL, check=True)
    build = [str(programs / "build_binary"), "trie", str(arpa), str(binary)]
    subprocess.run(build, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    query = [str(programs / "query"), "-v", "summary", str(binary)]
    output = subprocess.run(query, input=measured.encode(), capture_output=True, check=True).stdout
    figures = dict(line.split("\t") for line in output.decode().splitlines() if "\t" in line)
    perplexity = float(figures["Perplexity including OOVs:"])
    return seconds, math.log2(perplexity) * int(figures["Tokens:"])


def large(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Time and memory of a training of three minutes, of a long text."""
    results = []
    for size in (SIZES["100 MB"], GIGABYTE):
        corpus = text_of(size, text)
        start = time.perf_counter()
        process = subprocess.Popen(
            command("train", corpus, "--minutes", 3, "--out", f"large {size}", "--quiet"),
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert not status
        seconds = time.perf_counter() - start
        card = charlm.load(f"large {size}").card
        results.append(
            {
                "characters": size,
                "seconds": seconds,
                "megabytes": usage.ru_maxrss / 1024,
                "mixture": card.valid_nats,
                "network": card.valid_network,
            }
        )
    return results


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page."""
    parts = {}
    if "files" in results:
        rows = [
            [
                r["text"],
                f"{r['ngrams']:,}",
                f"{r['bytes']['network'] / 1e6:.1f}",
                f"{r['bytes']['mixture'] / 1e6:.1f}",
                f"{(r['bytes']['mixture'] - r['bytes']['network']) / r['characters']:.2f}",
                f"{r['seconds']['network']:.3f}",
                f"{r['seconds']['mixture']:.3f}",
            ]
            for r in results["files"]
        ]
        parts["files"] = table(
            "training text | n-grams | file without, MB | with, MB | bytes per character | "
            "`score` without, s | with, s",
            rows,
        )
    if "halves" in results:
        rows = [
            [name, f"{r['examples']:,}", *(f"{r[k]:.4f}" for k in ("default", "fitted", "crossed"))]
            for name, r in results["halves"].items()
        ]
        parts["halves"] = table(
            "validation text | tokens | default weights | fitted | fitted on the other half",
            rows,
        )
    if "copying" in results:
        rows = [
            [kind, f"{statistics.median(lengths):g}", str(max(lengths))]
            for kind, lengths in results["copying"].items()
        ]
        parts["copying"] = table("text | median | longest", rows)
    if "sampling" in results:
        rows = [
            [
                name,
                f"{r['network']:,.0f}",
                f"{r['mixture']:,.0f}",
                f"{r['mixture'] / r['network']:.2f}",
            ]
            for name, r in results["sampling"].items()
        ]
        parts["sampling"] = table(
            "one sample | network, tokens/s | mixture, tokens/s | ratio", rows
        )
    if "kenlm" in results:
        rows = [
            [
                r["text"],
                f"{r['kenlm_seconds']:.0f}",
                f"{r['seconds']:.0f}",
                *(f"{r[kind]:.4f}" for kind in ("kenlm", "network", "mixture", "carried")),
            ]
            for r in results["kenlm"]
        ]
        parts["kenlm"] = table(
            "text | KenLM, s | charlm, s | KenLM | network | mixture | mixture, state carried", rows
        )
    if "large" in results:
        rows = [
            [
                f"{r['characters'] / 1e6:,.0f} MB",
                f"{r['seconds']:.0f}",
                f"{r['megabytes']:,.0f}",
                f"{r['network']:.4f}",
                f"{r['mixture']:.4f}",
            ]
            for r in results["large"]
        ]
        parts["large"] = table(
            "text | seconds | peak memory, MB | network, nats/char | mixture, nats/char", rows
        )
    return parts


PARTS = {
    "defaults": defaults,
    "halves": halves,
    "files": files,
    "copying": copying,
    "sampling": sampling,
    "kenlm": kenlm,
    "large": large,
}

if __name__ == "__main__":
    measure(sys.argv[1:], __doc__ or "", PARTS, RESULTS, PAGE, blocks)
