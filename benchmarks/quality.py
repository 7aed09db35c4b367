"""How well charlm learns known texts.

    python benchmarks/quality.py [--seeds N] DATA [NAME ...]
    python benchmarks/quality.py page

DATA is a folder with tinyshakespeare.txt, names.txt, ptb.train.txt, ptb.valid.txt and ptb.test.txt,
none of which comes with charlm. The trainings that are named, as in "names-1" or "ptb-words-*" (all
of them, without names), run one after the other with so many seeds (1). What they find is kept in
benchmarks/quality.json, from which `page` fills in docs/recipe.md. Nothing else should run on the
machine. The trainings:
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from typing import Any

from fill import fillers

from charlm.corpus.reading import Corpus
from charlm.language_model import LanguageModel
from charlm.tokenizer import as_inputs

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks/quality.json", ROOT / "docs/recipe.md"
SENTENCES, TALES = ROOT / "corpora/sentences.txt", ROOT / "corpora/tales.txt"
SHAKESPEARE = "tinyshakespeare.txt --valid-fraction 0.1"
DEEP = f"{SHAKESPEARE} --minutes 2 --hidden 128 --dropout 0.1 --layers"
PTB = "ptb.train.txt --valid ptb.valid.txt"
WORDS = f"{PTB} --level word --split whitespace"
SHORT = f"{WORDS} --minutes 5 --hidden 192 --dropout 0.2"
LITTLE = 20_000  # characters of tiny-shakespeare that "little.txt" is made of
# What the recipe is fitted on: texts and budgets, in minutes.
FITTED = {
    "little": ("little.txt", (1, 3)),
    "tales": (f"{TALES}", (1, 3)),
    "names": ("names.txt --lines", (1, 3)),
    "shakespeare": (SHAKESPEARE, (1, 3, 10)),
    "sentences": (f"{SENTENCES} --lines", (1, 3)),
    "ptb-characters": (PTB, (1, 3, 10)),
    "ptb-subwords": (f"{PTB} --level subword", (3, 10)),
    "ptb-words": (WORDS, (1, 3, 10, 60)),
    "tales-words": (f"{TALES} --level word", (1, 3)),
}
TRAINED = {
    f"{name}-{minutes}": f"{arguments} --minutes {minutes}"
    for name, (arguments, budgets) in FITTED.items()
    for minutes in budgets
} | {
    **{f"depth-{layers}": f"{DEEP} {layers}" for layers in (1, 2, 3, 4)},
    "depth-4-residual": f"{DEEP} 4 --residual",
    "plain-words": SHORT,
    "recurrent-words": f"{SHORT} --characters recurrent",
    "convolutional-words": f"{SHORT} --characters convolutional",
    "both-ptb": f"{WORDS} --minutes 10 --bidirectional",
    "both-sentences": f"{SENTENCES} --minutes 3 --bidirectional",
    "both-sentences-words": f"{SENTENCES} --minutes 3 --bidirectional --level word",
}
FILLED = {
    "both-ptb": "ptb.test.txt",
    "both-sentences": str(SENTENCES.with_suffix(".heldout.txt")),
    "both-sentences-words": str(SENTENCES.with_suffix(".heldout.txt")),
}
# What may be mixed in when a text is measured, at the program's own settings.
EXTRAS = {"cache": "--cache 1000", "ngram": "--ngram 5", "adapt": "--adapt"}
EXTRAS["all"] = " ".join(EXTRAS.values())
WITH_EXTRAS = ("ptb-words-10", "ptb-words-60")
WINDOW = 256  # characters that nanoGPT sees at once


def measure(name: str, data: Path, seed: int) -> dict[str, Any]:
    """Train, and say what came of it and how long the whole command took."""
    print(f"{name}: charlm train {TRAINED[name]} --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run, start = Path(folder) / name, time.monotonic()
        if name.startswith("little"):
            little = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:LITTLE]
            run.with_name("little.txt").write_text(little, encoding="utf-8")
        options = ["--seed", str(seed), "--quiet", "--out", str(run)]
        charlm(data, run, "train", *TRAINED[name].split(), *options)
        seconds = time.monotonic() - start
        card = json.loads(charlm(data, run, "info", str(run), "--json"))["card"]
        curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found = {
            "seconds": seconds, "trained": card["trained"], "nats": card["valid_nats"],
            "nats_by_line": card["valid_lines"], "bits_per_char": card["valid_bits_per_char"],
            "steps": curve[-1]["step"], "epochs": curve[-1]["epoch"],
            "train_nats": curve[-1]["train_nats_per_token"],
        }  # fmt: skip
        if name.startswith("shakespeare"):
            found["nats_in_windows"] = in_windows(run, data / "tinyshakespeare.txt", WINDOW)
        if name.startswith("ptb"):
            test = measured(data, run, "ptb.test.txt")
            found["test_perplexity"], found["test_bits"] = test["perplexity"], test["bits_per_char"]
        if name in WITH_EXTRAS:
            for extra, mixed_in in EXTRAS.items():
                test = measured(data, run, "ptb.test.txt", *mixed_in.split())
                found[f"with {extra}"] = test["perplexity"]
        if name in FILLED:
            found["filled"] = fillers(str(run), str(data / FILLED[name]))
    for figure, value in found.items():
        print(f"  {figure}: {value}", flush=True)
    return found


def in_windows(run: Path, text: Path, window: int) -> float:
    """Nats a character as nanoGPT evaluates: in windows of so many characters, from the zero state,
    and the character before, which is read and not predicted; over all of the validation part."""
    model = LanguageModel(run / "model.safetensors")
    characters = "".join(Corpus([str(text)]).blocks())
    cut = characters.index("\n", int(len(characters) * 0.9)) + 1
    ids = model.tokenizer.encode_ids(characters[cut:])
    ids = ids[: (len(ids) - 1) // window * window + 1]
    read, targets = (part.reshape(-1, window) for part in (ids[:-1], ids[1:]))
    network = model.network
    y, _ = network.read(as_inputs(read), network.initial_state(len(read)))
    return -float(network.logprobs(y, targets).astype(float).mean())


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


# --- the page ---


def page(results: dict[str, Any]) -> None:
    """Fill in docs/recipe.md, between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    for name, block in blocks(results).items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = marks.sub(lambda match, b=block: match[1] + b + match[2], text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """What the page says of these results, by the names of its marks."""
    runs = {
        (name, minutes): list(found.values())
        for name, (_, budgets) in FITTED.items()
        for minutes in budgets
        if (found := results.get(f"{name}-{minutes}"))
    }
    return {
        "figures": figures(runs), "windows": windows(runs), "test": test_figures(runs),
        "letters": letters(results),
    }  # fmt: skip


Runs = dict[tuple[str, int], list[dict[str, Any]]]  # by text and minutes, one for each seed


def figures(runs: Runs) -> str:
    rows = []
    for (name, minutes), found in runs.items():
        middle = sorted(found, key=lambda run: run["nats"])[(len(found) - 1) // 2]
        chosen = middle["trained"].rsplit(", ", 1)[0]
        rows.append(
            f"| {name} | {minutes} | {len(found)} | {chosen} | {middle['epochs']:.1f} | "
            f"{_median(found, 'nats')} | {_median(found, 'bits_per_char')} |"
        )
    return _table("text | minutes | seeds | chosen | epochs | nats/token | bits/char", rows)


def windows(runs: Runs) -> str:
    rows = [
        f"| {minutes} | {len(found)} | {_median(found, 'nats')} | "
        f"{_median(found, 'nats_in_windows')} | {_median(found, 'seconds', 0)} |"
        for (name, minutes), found in runs.items()
        if name == "shakespeare"
    ]
    return _table("minutes | seeds | carried | in windows of 256 | seconds, all told", rows)


def test_figures(runs: Runs) -> str:
    rows = []
    for (name, minutes), found in runs.items():
        if not name.startswith("ptb"):
            continue
        extras = [
            _median(found, f"with {extra}", 2) if f"with {extra}" in found[0] else ""
            for extra in EXTRAS
        ]
        cells = [_median(found, "test_bits"), _median(found, "test_perplexity", 2), *extras]
        rows.append(f"| {name} | {minutes} | {len(found)} | " + " | ".join(cells) + " |")
    columns = " | ".join(f"with {extra}" for extra in EXTRAS)
    return _table(f"text | minutes | seeds | bits/char | perplexity | {columns}", rows)


def letters(results: dict[str, Any]) -> str:
    rows = []
    for name in ("plain-words", "recurrent-words", "convolutional-words"):
        if name not in results:
            continue
        found = list(results[name].values())
        rows.append(
            f"| {name} | {len(found)} | {_median(found, 'epochs', 1)} | {_median(found, 'nats')} |"
        )
    return _table("training | seeds | epochs | nats/token", rows)


def _median(runs: list[dict[str, Any]], figure: str, digits: int = 4) -> str:
    return f"{median(run[figure] for run in runs):.{digits}f}"


def _table(heading: str, rows: list[str]) -> str:
    return "\n".join([f"| {heading} |", "|" + "---|" * (heading.count("|") + 1), *rows]) + "\n"


def main() -> None:
    if sys.argv[1:] == ["page"]:
        page(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    listed = "\n".join(f"    {name:<22}{arguments}" for name, arguments in TRAINED.items())
    parser = argparse.ArgumentParser(
        description=(__doc__ or "") + listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("names", nargs="*", default=["*"])
    chosen = parser.parse_intermixed_args()
    names = [name for name in TRAINED if any(fnmatch(name, wanted) for wanted in chosen.names)]
    if not names:
        parser.error(f"no training is named {' or '.join(chosen.names)}; --help lists them")
    for name in names:
        for seed in range(1, chosen.seeds + 1):
            found = measure(name, chosen.data.resolve(), seed)
            results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
            results.setdefault(name, {})[str(seed)] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
