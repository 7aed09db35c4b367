"""The figures of docs/cells.md."""

from __future__ import annotations

import re
from statistics import mean, stdev
from typing import Any

from benchmarks.cells import speed
from benchmarks.cells.learning import DROPOUT, HIDDEN, PLOT
from benchmarks.cells.variants import CELLS
from benchmarks.markdown import replace_blocks, table
from benchmarks.project import ROOT

PAGE = ROOT / "docs/cells.md"


def write_page(results: dict[str, Any]) -> None:
    """Replace the generated parts of docs/cells.md."""
    replace_blocks(PAGE, blocks(results))


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page, by the names of their marks."""
    return {
        "figures": cell_table(results["learn"], results["speed"]),
        "gradients": gradient_plot(results["gradients"]),
    }


def cell_table(learning: dict[str, Any], speeds: dict[str, dict[str, float]]) -> str:
    reference = speeds[speed.REFERENCE]
    rows = [
        [
            name,
            f"`{CELLS[name]}`",
            f"{cell['nats']:.4f}",
            f"{cell['tokens_per_second']:,.0f}",
            precision(cell["trained"]),
            *(f"{speeds[name][p] / reference[p]:.2f}" for p in speed.PRECISIONS),
        ]
        for name, cell in learning["cells"].items()
    ]
    return (
        f"Each cell was trained for {learning['minutes']:g} minutes on {learning['text']} with "
        f"`--hidden {HIDDEN} --dropout {DROPOUT:g}` and one seed. The table shows the validation "
        "loss, the median training speed, and the precision that `train` chose. The last two "
        "columns compare the forward and backward pass of one layer "
        f"({speed.INPUTS} inputs, {speed.HIDDEN} features, {speed.BATCH} sequences of "
        f"{speed.STEPS} tokens) with `{speed.REFERENCE}`. In the same run `{speed.REFERENCE}` "
        f"reached {reference['fp32']:,.0f} tokens/s in fp32 and {reference['bf16']:,.0f} in bf16."
        "\n\n"
    ) + table(
        "cell | options | nats/char | tokens/s | precision | × nn.GRU, fp32 | × nn.GRU, bf16", rows
    )


def precision(trained: str) -> str:
    """The precision in the description of a recipe."""
    (name,) = re.findall("|".join(speed.PRECISIONS), trained)
    return str(name)


def gradient_plot(results: dict[str, Any]) -> str:
    text, plot, cells = results["text"], PLOT.name, " ".join(results["decay"])
    decays = [
        f"{mean(values):.4f} ± {stdev(values):.4f} nats per step for `{cell}`"
        for cell, values in results["decay"].items()
    ]
    return (
        f"![The norm of the gradient of a token's loss, by the number of steps back]({plot})\n\n"
        "The norm of ∂L_t/∂h_{t−k}: the gradient of a token's loss with respect to the hidden "
        "state k steps earlier. For an LSTM the dashed line is the same for its cell c. The models "
        f"were trained for {60 * results['minutes']:g} seconds on {text}. The plot is drawn by "
        f"`charlm gradients {cells} {text} --plot {plot}`. A line fitted to the logarithm of the "
        f"norm falls by {' and by '.join(decays)} (mean and standard deviation of three seeds).\n"
    )
