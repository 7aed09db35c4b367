"""The figures of docs/recipe.md."""

from __future__ import annotations

from itertools import product
from statistics import median
from typing import Any

from benchmarks.markdown import replace_blocks, table
from benchmarks.project import ROOT
from benchmarks.quality.trainings import EXTRAS, FITTED, NUMBERS, SEVERAL

PAGE = ROOT / "docs/recipe.md"
CHARACTER_TRAININGS = ("plain-words", "recurrent-words", "convolutional-words")
Seeds = list[dict[str, Any]]  # the figures of each seed
Runs = dict[tuple[str, int], Seeds]  # by text and minutes


def write_page(results: dict[str, Any]) -> None:
    """Replace the tables in docs/recipe.md."""
    replace_blocks(PAGE, blocks(results))


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by the names of their marks."""
    runs = {
        (name, minutes): list(results[f"{name}-{minutes}"].values())
        for name, (_, budgets) in FITTED.items()
        for minutes in budgets
        if f"{name}-{minutes}" in results
    }
    return {
        "figures": recipe_table(runs),
        "windows": window_table(runs),
        "test": treebank_table(runs),
        "letters": character_table(results),
        "networks": networks_table(results),
    }


def recipe_table(runs: Runs) -> str:
    rows = []
    for (name, minutes), seeds in runs.items():
        middle = sorted(seeds, key=lambda figures: figures["nats"])[(len(seeds) - 1) // 2]
        chosen = middle["trained"].rsplit(", ", 1)[0]  # without the budget
        epochs = f"{middle['epochs']:.1f}"
        losses = [_median(seeds, f"{part}nats") for part in ("network_", "ngram_", "")]
        losses.append(_median(seeds, "bits_per_char"))
        rows.append([name, str(minutes), str(len(seeds)), chosen, epochs, *losses])
    columns = "text | minutes | seeds | chosen | epochs | network | n-gram | mixture | bits/char"
    return table(columns, rows)


def window_table(runs: Runs) -> str:
    rows = [
        [
            str(minutes),
            str(len(seeds)),
            _median(seeds, "network_nats"),
            _median(seeds, "nats"),
            _median(seeds, "network_in_windows"),
            _median(seeds, "nats_in_windows"),
            _median(seeds, "seconds", 0),
        ]
        for (name, minutes), seeds in runs.items()
        if name == "shakespeare"
    ]
    columns = "network, carried | mixture | network, in windows of 256 | mixture | seconds in all"
    return table(f"minutes | seeds | {columns}", rows)


def treebank_table(runs: Runs) -> str:
    rows = []
    for (name, minutes), seeds in runs.items():
        if name.startswith("ptb"):
            extras = [_median(seeds, f"with {extra}", 2) for extra in EXTRAS]
            scores = [
                _median(seeds, f"{part}test_{figure}", digits)
                for part in ("network_", "")
                for figure, digits in (("bits", 4), ("perplexity", 2))
            ]
            rows.append([name, str(minutes), str(len(seeds)), *scores, *extras])
    columns = " | ".join(f"with {extra}" for extra in EXTRAS)
    measures = "network: bits/char | perplexity | mixture: bits/char | perplexity"
    return table(f"text | minutes | seeds | {measures} | {columns}", rows)


def character_table(results: dict[str, Any]) -> str:
    rows = []
    for name in CHARACTER_TRAININGS:
        if name in results:
            seeds = list(results[name].values())
            epochs, loss = _median(seeds, "epochs", 1), _median(seeds, "nats")
            rows.append([name, str(len(seeds)), epochs, loss])
    return table("training | seeds | epochs | nats/token", rows)


def networks_table(results: dict[str, Any]) -> str:
    rows = []
    for (name, (_, minutes)), networks in product(SEVERAL.items(), NUMBERS):
        if not (seeds := list(results.get(f"{name}-of-{networks}", {}).values())):
            continue
        losses = [_median(seeds, figure) for figure in ("network_nats", "nats")]
        speeds = [_median(seeds, f"{kind}_per_second", 0) for kind in ("sampled", "scored")]
        megabytes = f"{median(figures['bytes'] for figures in seeds) / 1e6:.1f}"
        run = [name, str(minutes), str(networks), str(len(seeds)), _median(seeds, "epochs", 1)]
        rows.append([*run, *losses, _median(seeds, "test_perplexity", 2), *speeds, megabytes])
    quality = "networks alone | mixture | test perplexity"
    costs = "tokens/s, one sample | lines/s, scored | MB"
    return table(f"text | minutes | networks | seeds | epochs of each | {quality} | {costs}", rows)


def _median(seeds: Seeds, figure: str, digits: int = 4) -> str:
    """The median of a figure; nothing where it was not measured."""
    values = [figures[figure] for figures in seeds if figures.get(figure) is not None]
    return f"{median(values):.{digits}f}" if values else ""
