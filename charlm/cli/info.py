"""`charlm info`: the card of a model."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.options import with_options
from charlm.cli.plots import check_plot, curve_rows, plot_option, training_figure, write_plot
from charlm.cli.records import write, write_json
from charlm.errors import InputError
from charlm.options import option
from charlm.progress import sparkline
from charlm.training import metrics

if TYPE_CHECKING:
    from charlm.tasks.trained import TrainedModel

NO_CURVE = f"no training curve ({metrics.METRICS}) beside it"
NAME_WIDTH = 16  # characters of the names of the rows
MOST_COLUMNS = 80  # of the drawn curve


@dataclass(frozen=True)
class InfoOptions:
    """How the card is shown. The fields describe themselves."""

    json: bool = option(False, "Print one JSON object.")
    plot: str | None = plot_option("the training curve")


@with_options
def info(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model file or its folder. [default: as --model elsewhere]",
            show_default=False,
        ),
    ] = None,
    *,
    options: InfoOptions,
) -> None:
    """Show a model's card, its configuration and its training curve."""
    if options.plot is not None:
        check_plot(Path(options.plot))
    from charlm.api import load

    loaded = load(model)
    curve = metrics.Curve.of(metrics.read(loaded.path.parent / metrics.METRICS))
    if options.plot is not None:
        _plot(Path(options.plot), curve, loaded)
    if options.json:
        write_json(_record(loaded, curve))
        return
    for name, value in _rows(loaded, curve).items():
        write(f"{name:<{NAME_WIDTH}}{value}")
    if curve.steps and sys.stdout.isatty():
        for row in curve_rows(curve, min(shutil.get_terminal_size().columns, MOST_COLUMNS)):
            write(row)


def _plot(path: Path, curve: metrics.Curve, model: TrainedModel) -> None:
    if not curve.steps:
        raise InputError(f"`plot`: {model.path} has {NO_CURVE}")
    title = f"{model.path.absolute().parent.name}: {model.config.described()}"
    write_plot(path, training_figure(curve, title, model.predicted))


def _weights(model: TrainedModel) -> int:
    """The number of trained weights."""
    shapes = model.config.shapes().items()
    # Character features are computed from the other weights.
    return sum(math.prod(shape) for name, shape in shapes if not name.endswith("char_features"))


def _record(model: TrainedModel, curve: metrics.Curve) -> dict[str, Any]:
    return {
        "path": str(model.path),
        "task": model.task,
        "weights": _weights(model),
        "model": dataclasses.asdict(model.config),
        "card": model.card.to_json(),
        "curve": curve.validation,
        **model.record(),
    }


def described(model: TrainedModel) -> dict[str, str]:
    """What a model is, where it comes from and how good it is: rows by their names."""
    card = model.card
    lines = "independent lines" if model.independent_lines else "one document"
    on_training = " (on the training text: the corpus was too small to hold a part out)"
    return {
        "task": f"{model.task}: {model.purpose}",
        "network": f"{model.config.described()}, {_weights(model):,} weights",
        "corpus": f"{card.corpus} ({card.train_tokens:,} tokens, {lines})",
        **({"started from": _origin(card.started_from)} if card.started_from else {}),
        "validation": model.validation() + ("" if card.valid_is_held_out else on_training),
        **model.about(),
        "trained": f"{card.trained}; {card.seconds:.0f} s",
    }


def _origin(origin: Mapping[str, Any]) -> str:
    return (
        f"{origin['corpus']} ({origin['train_tokens']:,} tokens, {origin['valid_nats']:.4f} nats)"
    )


def _rows(model: TrainedModel, curve: metrics.Curve) -> dict[str, str]:
    """The rows of the text, by their names."""
    return {
        "model": str(model.path),
        **described(model),
        "curve": _curve(curve, model.predicted),
        "charlm": model.card.charlm_version,
    }


def _curve(curve: metrics.Curve, predicted: str) -> str:
    """The curve in one line; on a terminal its legend, since the curve is drawn below."""
    if not curve.steps:
        return NO_CURVE
    first, best = curve.validation[0], min(curve.validation)
    losses = f"{first:.3f} to {best:.3f} nats/{predicted}"
    if sys.stdout.isatty():
        return f"{losses} of validation text (the line); × is the training text"
    return f"{sparkline(curve.validation)}  {losses}"
