"""`charlm info`: the card of a model."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.plots import check_plot, curve_rows, plot_option, training_figure, write_plot
from charlm.cli.records import write, write_json
from charlm.errors import InputError
from charlm.progress import sparkline
from charlm.training import metrics

NO_CURVE = f"no training curve ({metrics.METRICS}) beside it"
MOST_COLUMNS = 80  # of the drawn curve


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model file or its folder. [default: as --model elsewhere]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[str | None, plot_option("the training curve")] = None,
) -> None:
    """Show a model's card, its configuration and its training curve."""
    if plot is not None:
        check_plot(Path(plot))
    from charlm.api import load

    loaded = load(model)
    card, config = loaded.card, loaded.config
    shapes = config.shapes()
    shapes.pop("char_features", None)  # computed from the other weights
    weights = sum(map(math.prod, shapes.values()))
    curve = metrics.Curve.of(metrics.read(loaded.path.parent / metrics.METRICS))
    if plot is not None:
        if not curve.steps:
            raise InputError(f"`plot`: {loaded.path} has {NO_CURVE}")
        figure = training_figure(
            curve, f"{loaded.path.absolute().parent.name}: {config.described()}"
        )
        write_plot(Path(plot), figure)
    if as_json:
        record = {
            "path": str(loaded.path),
            "task": loaded.task,
            "weights": weights,
            "model": dataclasses.asdict(config),
            "card": card.to_json(),
            "curve": curve.validation,
            **loaded.record(),
        }
        write_json(record)
        return
    kind = "independent lines" if loaded.independent_lines else "one document"
    where = (
        ""
        if card.valid_is_held_out
        else " (on the training text: the corpus was too small to hold a part out)"
    )
    rows = {
        "model": str(loaded.path),
        "task": f"{loaded.task}: {loaded.purpose}",
        "network": f"{config.described()}, {weights:,} weights",
        "corpus": f"{card.corpus} ({card.train_tokens:,} tokens, {kind})",
        "validation": loaded.validation() + where,
        **loaded.about(),
        "trained": f"{card.trained}; {card.seconds:.0f} s",
        "curve": _curve(curve, loaded.predicted),
        "charlm": card.charlm_version,
    }
    for name, value in rows.items():
        if value:
            write(f"{name:<16}{value}")
    if curve.steps and sys.stdout.isatty():
        for row in curve_rows(curve, min(shutil.get_terminal_size().columns, MOST_COLUMNS)):
            write(row)


def _curve(curve: metrics.Curve, predicted: str) -> str:
    """The curve in one line; on a terminal its legend, since the curve is drawn below."""
    if not curve.steps:
        return NO_CURVE
    first, best = curve.validation[0], min(curve.validation)
    losses = f"{first:.3f} to {best:.3f} nats/{predicted}"
    if sys.stdout.isatty():
        return f"{losses} of validation text (the line); × is the training text"
    return f"{sparkline(curve.validation)}  {losses}"
