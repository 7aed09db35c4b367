"""The figures of docs/cells.md.

    python benchmarks/cells.py speed
    python benchmarks/cells.py learn TEXT [MINUTES]
    python benchmarks/cells.py gradients TEXT [MINUTES]
    python benchmarks/cells.py page

`speed` times every cell over one layer of H features, forward and backward, in turns with
`torch.nn.GRU`. `learn` trains each on the same text for the same minutes (2), with one hidden size
and one seed. `gradients` trains `rnn` and `lstm` with three seeds each (1 minute), measures how far
their gradients reach and draws docs/gradients.svg. What they find is kept in benchmarks/cells.json,
from which `page` fills in the page. Nothing else should run on the machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE, PLOT = ROOT / "benchmarks/cells.json", ROOT / "docs/cells.md", "gradients.svg"
HIDDEN, DROPOUT = 256, 0.1  # of what learns: the same for all
TIMED = {"hidden": 512, "inputs": 128, "steps": 32, "batch": 32}
ROUNDS = 9
CELLS = {
    "rnn": "--cell rnn",
    "rnn, ReLU": "--cell rnn --activation relu",
    "lstm": "--cell lstm",
    "lstm, no forget gate": "--no-forget-gate",
    "lstm, peepholes": "--peepholes ifo",
    "gru": "--cell gru",
    "gru, reset before": "--cell gru --reset before",
    "gru-simple": "--cell gru-simple",
}
CELLS |= {f"{name}, layer norm": f"{options} --layer-norm" for name, options in CELLS.items()}


def options_of(arguments: str) -> dict[str, Any]:
    """Command-line options as `ModelConfig` has them."""
    words, found = arguments.split(), {}
    while words:
        name = words.pop(0).removeprefix("--").replace("-", "_")
        if name.startswith("no_"):
            found[name.removeprefix("no_")] = False
        else:
            found[name] = words.pop(0) if words and not words[0].startswith("--") else True
    return found


def speed() -> dict[str, dict[str, float]]:
    """Tokens a second of each cell and of torch.nn.GRU, by precision; medians, in turns."""
    import torch

    from charlm.model.config import ModelConfig
    from charlm.model.layers import Layer

    torch.set_flush_denormal(True)
    hidden, inputs, steps, batch = TIMED.values()
    x = torch.randn(steps, batch, inputs)
    gru = torch.nn.GRU(inputs, hidden)
    runs: dict[str, Callable[[], torch.Tensor]] = {"torch.nn.GRU": lambda: gru(x)[0]}
    for name, arguments in CELLS.items():
        config = ModelConfig(99, hidden=hidden, **options_of(arguments))
        layer = Layer(config.recurrence, inputs, hidden, config.layer_norm)
        layer.initialise(torch.Generator().manual_seed(0))
        state = tuple(torch.zeros(batch, hidden) for _ in layer.cell.state)
        runs[name] = lambda layer=layer, state=state: layer(x, state)[0]
    seconds: dict[str, dict[str, list[float]]] = {n: {"fp32": [], "bf16": []} for n in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            for precision, found in seconds[name].items():
                start = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    y = run()
                y.float().square().sum().backward()
                found.append(time.perf_counter() - start)
    tokens = steps * batch
    return {n: {p: tokens / median(s[1:]) for p, s in by.items()} for n, by in seconds.items()}


def charlm(folder: str, *arguments: str) -> str:
    """Run a command in a folder; its standard output."""
    command = [sys.executable, "-m", "charlm", *arguments]
    ran = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True)
    return ran.stdout


def trained(text: str, minutes: float, folder: str, arguments: str, seed: int = 1) -> Path:
    run = Path(folder) / f"run{len(list(Path(folder).iterdir()))}"
    charlm(
        folder, "train", text, "--hidden", str(HIDDEN), "--dropout", str(DROPOUT), "--minutes",
        str(minutes), "--seed", str(seed), "--quiet", "--out", str(run), *arguments.split(),
    )  # fmt: skip
    return run


def learn(text: str, minutes: float = 2.0) -> dict[str, Any]:
    """Of each cell the validation loss and the tokens a second of the whole training."""
    found: dict[str, Any] = {"minutes": minutes, "text": Path(text).name, "cells": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in CELLS.items():
            run = trained(text, minutes, folder, arguments)
            about = json.loads(charlm(folder, "info", str(run), "--json"))
            metrics = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            speeds = [json.loads(line)["tokens_per_second"] for line in metrics]
            found["cells"][name] = {
                "nats": about["card"]["valid_nats"], "weights": about["weights"],
                "tokens_per_second": median(speeds), "trained": about["card"]["trained"],
            }  # fmt: skip
            print(name, found["cells"][name], flush=True)
    return found


def gradients(text: str, minutes: float = 1.0) -> dict[str, Any]:
    """The decay of the gradients of three `rnn` and three `lstm`, and a plot of the first two."""
    found: dict[str, Any] = {"minutes": minutes, "text": Path(text).name, "decay": {}}
    with tempfile.TemporaryDirectory() as folder:
        cells = ("rnn", "lstm")
        runs = {
            c: [trained(text, minutes, folder, f"--cell {c}", s) for s in (1, 2, 3)] for c in cells
        }
        for cell in cells:
            lines = charlm(folder, "gradients", *map(str, runs[cell]), text, "--format", "json")
            about = [json.loads(line) for line in lines.splitlines()]
            found["decay"][cell] = [model["decay_nats_per_step"] for model in about]
        for cell in cells:
            runs[cell][0].rename(Path(folder) / cell)
        plot = str(ROOT / "docs" / PLOT)
        charlm(folder, "gradients", *cells, text, "--plot", plot, "--format", "json")
    return found


def page(results: dict[str, Any]) -> None:
    """Put the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, block in blocks(results).items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        text = re.sub(pattern, lambda m: m[1] + block + m[2], text, flags=re.DOTALL)  # noqa: B023
    PAGE.write_text(text, encoding="utf-8")


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """What the page says of these results, by the names of its marks."""
    return {"figures": figures(results), "gradients": reach(results["gradients"])}


def figures(results: dict[str, Any]) -> str:
    learnt, timed = results["learn"], results["speed"]
    reference = timed["torch.nn.GRU"]
    rows = [
        f"| {name} | `{CELLS[name]}` | {cell['nats']:.4f} | {cell['tokens_per_second']:,.0f} | "
        f"{precision(cell)} | "
        f"{timed[name]['fp32'] / reference['fp32']:.2f} | "
        f"{timed[name]['bf16'] / reference['bf16']:.2f} |"
        for name, cell in learnt["cells"].items()
    ]
    hidden, inputs, steps, batch = TIMED.values()
    return (
        f"Each trained for {learnt['minutes']:g} minutes on {learnt['text']} with "
        f"`--hidden {HIDDEN} --dropout {DROPOUT:g}`, one seed: the validation loss in nats a "
        "character, and the median training speed, in the precision that `train` chose. The last "
        f"two columns compare one layer's forward and backward pass ({inputs} inputs, {hidden} "
        f"features, {batch} sequences of {steps} tokens) with `torch.nn.GRU`, which did "
        f"{reference['fp32']:,.0f} tokens a second in float32 and {reference['bf16']:,.0f} in bf16 "
        "in the same run.\n\n"
        "| cell | options | nats/char | tokens/s | in | × nn.GRU, fp32 | × nn.GRU, bf16 |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def precision(cell: dict[str, Any]) -> str:
    (found,) = re.findall(r"fp32|bf16", cell["trained"])
    return str(found)


def reach(found: dict[str, Any]) -> str:
    described = [
        f"{mean(d):.4f} ± {stdev(d):.4f} nats a step for `{cell}`"
        for cell, d in found["decay"].items()
    ]
    return (
        f"![The norm of the gradient of a token's loss by the states before it]({PLOT})\n\n"
        "The norm of ∂L_t/∂h_{t−k}, the gradient of a token's loss by the hidden state k steps "
        "before (of an LSTM by its cell, dashed, too). The models were trained for "
        f"{60 * found['minutes']:g} seconds on {found['text']}; drawn by "
        f"`charlm gradients rnn lstm {found['text']} --plot {PLOT}`. A line fitted to its "
        "logarithm falls by "
        f"{' and by '.join(described)} (mean and standard deviation of three seeds).\n"
    )


def main(name: str, *arguments: str) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if name == "page":
        page(results)
        return
    text = [str(Path(name).resolve()) for name in arguments[:1]]
    minutes = [float(value) for value in arguments[1:2]]
    measure = {"speed": speed, "learn": learn, "gradients": gradients}[name]
    results[name] = measure(*text, *minutes)
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if not {"speed", "learn", "gradients", "page"} & set(sys.argv[1:2]):
        sys.exit(__doc__)
    main(*sys.argv[1:])
