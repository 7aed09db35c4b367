"""Plots: of the training curve and of surprisal, in files or drawn with characters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.cli.common import note
from charlm.errors import InputError, OptionError
from charlm.files import replacing
from charlm.options import option

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from charlm.cli.scored import Groups, Row, View
    from charlm.engines.scores import SentenceScore
    from charlm.training.metrics import Curve

PLOTS = (".png", ".svg")
BLUE, RED = "#0072B2", "#D55E00"  # of Okabe and Ito, which colour-blind readers can tell apart
WIDTH = 10.0  # inches
MOST_PANELS = 6  # sentences in one plot
CELL, GAP = 0.075, 0.03  # inches of a character of a label, and between two labels, approximately
LINE = 0.14  # inches of a line of labels
LONGEST_LABEL, LONGEST_TITLE = 15, 100  # characters
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a braille character


def plot_option(what: str) -> Any:
    """The option `plot` of a dataclass.

    what:  is drawn
    """
    return option(None, f"Also draw {what}, with matplotlib.", metavar="FILE.png|FILE.svg")


def check_plot(path: Path) -> None:
    """Raise OptionError if the plot cannot be drawn. Called before the work."""
    from importlib.util import find_spec

    if path.suffix.lower() not in PLOTS:
        raise OptionError(f"`plot={path}`: the file's name must end in {' or '.join(PLOTS)}")
    if not path.parent.is_dir():
        raise OptionError(f"`plot={path}`: there is no folder {path.parent}")
    if find_spec("matplotlib") is None:
        raise OptionError("`plot` needs matplotlib; install it with `pip install matplotlib`")


def write_plot(path: Path, figure: Figure) -> None:
    """Write a figure, and name its file on stderr. The text of an SVG stays text."""
    from matplotlib import rc_context

    kind = path.suffix[1:].lower()
    with rc_context({"svg.fonttype": "none"}), replacing(path) as temporary:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            figure.savefig(temporary, format=kind, dpi=150)
    if kind == "png" and any("missing from" in str(warning.message) for warning in caught):
        note("warning: the plot's font lacks some characters; a plot in .svg shows them")
    note(f"plot: {path}")


def training_figure(curve: Curve, title: str, predicted: str) -> Figure:
    """The loss by step, in training and validation. predicted: the unit, such as "token"."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.steps, curve.training, ".--", color=RED, label="training")
    axes.plot(curve.steps, curve.validation, ".-", color=BLUE, label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss of the network, nats/{predicted}")
    axes.set_title(title, loc="left", fontsize="medium", parse_math=False)
    _tidy(axes)
    axes.legend()
    return figure


def remember(scores: list[SentenceScore], groups: Groups) -> Groups:
    """The groups. On the way, the scores for `plot_surprisal` are added to `scores`."""
    for group in groups:
        yield _remembered(scores, group)


def _remembered(scores: list[SentenceScore], rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if len(scores) <= MOST_PANELS:  # one more than is drawn, to know that there are more
            scores.append(row.score)
        yield row


def plot_surprisal(path: Path, scores: Sequence[SentenceScore], view: View) -> None:
    """Write a plot of the first sentences. Raises InputError if there is none."""
    if not scores:
        raise InputError(f"`plot={path}`: there is no sentence to draw")
    if len(scores) > MOST_PANELS:
        note(f"the plot shows the first {MOST_PANELS} sentences")
    write_plot(path, surprisal_figure(scores[:MOST_PANELS], view))


def surprisal_figure(scores: Sequence[SentenceScore], view: View) -> Figure:
    """The surprisal along each sentence, in bits: of its words with `view.words`, else its tokens.

    scores:  at least one; each has a panel
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.5 + 2.2 * len(scores)), layout="constrained")
    panels = figure.subplots(len(scores), sharey=True, squeeze=False)[:, 0]
    for axes, score in zip(panels, scores, strict=True):
        _draw_sentence(axes, score, view)
    panels[0].set_ylim(bottom=0)
    return figure


def _draw_sentence(axes: Axes, score: SentenceScore, view: View) -> None:
    """Bars with the words or tokens as labels; a line where the labels have no space."""
    kind, records = "word" if view.words else "token", view.records(score)
    bits, numbers = [r["bits"] for r in records], range(1, len(records) + 1)
    labels = [_label(r[kind], score.text[r["start"] : r["end"]]) for r in records]
    rotation = _rotation(labels)
    if rotation is None:
        axes.plot(numbers, bits, color=BLUE, linewidth=0.8)
        axes.set_xlabel(kind)
    else:
        axes.bar(numbers, bits, width=min(0.6, 0.05 * len(bits)), color=BLUE)
        axes.set_xticks(numbers, labels, rotation=rotation, fontsize=9, parse_math=False)
        axes.tick_params(axis="x", length=0)
    axes.set_xlim(0.5, max(len(bits), 1) + 0.5)
    axes.set_ylabel("surprisal, bits")
    title = f"{score.bits:,.1f} {score.prefix}bits   {_cut(_visible(score.text), LONGEST_TITLE)}"
    axes.set_title(title, loc="left", fontsize="medium", parse_math=False)
    _tidy(axes)


def _rotation(labels: Sequence[str]) -> float | None:
    """The angle at which labels fit side by side; None if there is none."""
    from rich.cells import cell_len

    space = 0.9 * WIDTH / max(len(labels), 1)
    widths = [CELL * cell_len(label) + GAP for label in labels]
    if all((a + b) / 2 <= space for a, b in pairwise(widths)):
        return 0.0
    return 90.0 if space >= LINE else None


def _label(name: str, text: str) -> str:
    """The label of a word or token: "¶" for a line end, the text for an unknown token."""
    from charlm.tokenizer import EOS, SPECIALS, UNK

    if name == SPECIALS[EOS] and not text:
        return "¶"
    return _cut(_visible(text if name == SPECIALS[UNK] else name), LONGEST_LABEL)


def _visible(text: str) -> str:
    """The text in one line, without what fonts and files cannot hold."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def curve_rows(curve: Curve, width: int = 80, height: int = 10) -> list[str]:
    """The training curve in characters: validation as a line, training as ×, axes with labels.

    curve:   with one evaluation at least
    width:   of the rows
    height:  of the curve, in rows
    """
    import numpy as np

    losses = [loss for loss in (*curve.validation, *curve.training) if math.isfinite(loss)]
    low, high = min(losses), max(losses)
    top, bottom = f"{high:.4g} ", f"{low:.4g} "
    margin = max(len(top), len(bottom))
    columns = max(width - margin - 1, 1)

    def levels(losses: Any, number: int) -> Any:
        """The levels of losses on a scale of this number of levels, from the top."""
        return np.rint((high - losses) / ((high - low) or 1.0) * (number - 1)).astype(int)

    steps, training = np.array(curve.steps), np.array(curve.training)
    at = (steps - steps[0]) / max(steps[-1] - steps[0], 1)  # 0 to 1
    line = np.interp(np.linspace(0, 1, 2 * columns), at, curve.validation)
    rows = _braille(levels(line, 4 * height), height)
    seen = np.isfinite(training)
    for x, level in zip(at[seen], levels(training[seen], height), strict=True):
        rows[level][round(x * (columns - 1))] = "×"
    labels = [top, *[""] * (height - 2), bottom]
    first, last = (f"step {step:,}" for step in (curve.steps[0], curve.steps[-1]))
    return [
        *(f"{a:>{margin}}│{''.join(row)}".rstrip() for a, row in zip(labels, rows, strict=True)),
        " " * margin + "└" + "─" * columns,
        " " * (margin + 1) + first + last.rjust(columns - len(first)),
    ]


def _braille(levels: Sequence[int], height: int) -> list[list[str]]:
    """A line in rows of braille characters. Each has two columns of four dots.

    levels:  of each column of dots, from the top
    height:  in characters
    """
    import numpy as np

    dots = np.zeros((4 * height, len(levels)), int)
    for column, (a, b) in enumerate(pairwise([*levels, levels[-1]])):
        dots[[*range(a, b, 1 if a < b else -1)] or a, column] = 1  # up to the next level
    cells = dots.reshape(height, 4, -1, 2) * np.array(DOTS)[:, None]
    return [[chr(0x2800 + bits) if bits else " " for bits in row] for row in cells.sum((1, 3))]
