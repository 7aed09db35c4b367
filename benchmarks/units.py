"""Searches the hidden units of a model of prose and of one of program code, and of untrained ones.

    python -m benchmarks.units DATA [RUNS]

DATA is the folder with tinyshakespeare.txt, the prose. The code is that of this project. RUNS is
the folder of the two models and their texts: a model is trained for three minutes, unless it is
there already. The results are written to benchmarks/units.json and to docs/units.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import charlm
from benchmarks.markdown import replace_blocks, table
from benchmarks.project import ROOT, load_results, save_results
from charlm.cli.units import bars
from charlm.engines.activations import Reading
from charlm.model.activations import ObservedStack
from charlm.model.names import strip_prefix
from charlm.tokenizer import START
from charlm.uses.unit_search import Search, search_units

RESULTS, PAGE = ROOT / "benchmarks/units.json", ROOT / "docs/units.md"
NAMES = ("prose", "code")
OPTIONS: dict[str, Any] = {"hidden": 256, "layers": 1, "ngram": "none", "minutes": 3}
HELD_OUT = 10  # every tenth file of code is held out, and the last tenth of the prose
SEARCHED = 50_000  # characters
UNTRAINED = 5  # networks
WIDTH = 88


def texts(data: Path) -> dict[str, tuple[str, str]]:
    """The training text and the held-out text of each model."""
    prose = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")
    cut = prose.rindex("\n\n", 0, len(prose) * (HELD_OUT - 1) // HELD_OUT) + 2
    folders = ("charlm", "tests", "benchmarks")
    files = sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))
    code = [path.read_text(encoding="utf-8") for path in files]
    held_out = code[::HELD_OUT]
    rest = [text for k, text in enumerate(code) if k % HELD_OUT]
    return {"prose": (prose[:cut], prose[cut:]), "code": ("\n\n".join(rest), "\n\n".join(held_out))}


def measure(data: Path, runs: Path) -> dict[str, Any]:
    """The results of both models."""
    for name, parts in texts(data).items():
        for path, text in zip((runs / f"{name}.txt", runs / f"{name}.heldout.txt"), parts,
                              strict=True):  # fmt: skip
            if not path.exists():
                path.write_text(text, encoding="utf-8")
    return {name: _of_model(name, runs) for name in NAMES}


def _of_model(name: str, runs: Path) -> dict[str, Any]:
    corpus, held_out = (runs / f"{name}{end}" for end in (".txt", ".heldout.txt"))
    if not (runs / name).exists():
        charlm.train(corpus, out=runs / name, quiet=True, **OPTIONS)
    model = charlm.load(runs / name, kind=charlm.LanguageModel)
    text = held_out.read_text(encoding="utf-8")
    pieces = [text[:SEARCHED], text[SEARCHED : 2 * SEARCHED]]
    found, other = (charlm.units(model, search=piece) for piece in pieces)
    again = {finding.text_property.name: finding.unit.name for finding in other.findings}
    untrained = [_untrained(model, pieces[0], seed) for seed in range(UNTRAINED)]
    return {
        "characters": len(corpus.read_text(encoding="utf-8")),
        "bits_per_char": model.evaluate(pieces[0]).bits_per_char,
        "findings": [
            finding.to_json() | {"again": again.get(finding.text_property.name)}
            for finding in found.findings
        ],
        "rare": found.rare,
        "pictures": {
            f"{picture.finding.text_property.name}: {picture.unit.name}": list(bars(picture, WIDTH))
            for picture in found.pictures
            if picture.finding
        },
        "untrained": [len(search.believed) for search in untrained],
        "untrained_findings": sum(len(search.findings) for search in untrained),
    }


def _untrained(model: charlm.LanguageModel, text: str, seed: int) -> Search:
    """The search in a network of the same shape with its first, random weights."""
    import torch

    from charlm.model.network import Network

    network = Network(model.config, generator=torch.Generator().manual_seed(seed))
    weights = network.weights()
    layers, table = strip_prefix("layers", weights), weights["embedding"]
    stack = ObservedStack.of(model.config, layers, table, before=START)
    encoding = model.tokenizer.encode(text)
    return search_units(Reading.of(text, encoding, [stack], carried=True))


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page."""
    made = {}
    for name in NAMES:
        of_model = results[name]
        made[name] = table(
            "property | unit | figure | token | two tokens | line | shuffled | error | believed | "
            "in other text",
            map(_row, of_model["findings"]),
        )
        made[f"{name} pictures"] = "".join(
            f"{title}\n\n```text\n{_lines(lines)}```\n\n"
            for title, lines in of_model["pictures"].items()
        )
    made["facts"] = "".join(
        f"- {name}: trained on {of['characters']:,} characters; "
        f"{of['bits_per_char']:.2f} bits/char on the held-out text. Untrained networks of the same "
        f"shape: {sum(of['untrained'])} of {of['untrained_findings']} units believed, in "
        f"{len(of['untrained'])} networks.\n"
        for name, of in results.items()
    )
    return made


def _row(finding: dict[str, Any]) -> Sequence[str]:
    figures = (
        finding[key] for key in ("figure", "token", "two_tokens", "line", "shuffled", "error")
    )
    return (
        finding["property"],
        f"`{finding['unit']}`",
        *("" if figure is None else f"{figure:.3f}" for figure in figures),
        finding["verdict"],
        f"`{finding['again']}`" if finding["again"] else "",
    )


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = arguments.runs or Path(folder)
        runs.mkdir(exist_ok=True)
        results = measure(arguments.data, runs)
    save_results(RESULTS, results)
    replace_blocks(PAGE, blocks(load_results(RESULTS)))


if __name__ == "__main__":
    main()
