"""`charlm info`: the card of a model."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import parts_alone
from charlm.cli.options import with_options
from charlm.cli.plots import check_plot, curve_rows, plot_option, training_figure, write_plot
from charlm.cli.records import write, write_json
from charlm.errors import InputError
from charlm.options import option
from charlm.progress import sparkline
from charlm.training import metrics

if TYPE_CHECKING:
    from charlm.model.file import Card
    from charlm.model.mixture import Mixture
    from charlm.tasks.base import TrainedModel

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
        if value:
            write(f"{name:<{NAME_WIDTH}}{value}")
    if curve.steps and sys.stdout.isatty():
        for row in curve_rows(curve, min(shutil.get_terminal_size().columns, MOST_COLUMNS)):
            write(row)


def _plot(path: Path, curve: metrics.Curve, model: TrainedModel) -> None:
    if not curve.steps:
        raise InputError(f"`plot`: {model.path} has {NO_CURVE}")
    title = f"{model.path.absolute().parent.name}: {model.config.described()}"
    write_plot(path, training_figure(curve, title))


def _weights(model: TrainedModel) -> int:
    """The number of trained weights."""
    shapes = model.config.shapes()
    shapes.pop("char_features", None)  # computed from the other weights
    return sum(map(math.prod, shapes.values()))


def _record(model: TrainedModel, curve: metrics.Curve) -> dict[str, Any]:
    return {
        "path": str(model.path),
        "task": model.task,
        "weights": _weights(model),
        "level": model.tokenizer.level,
        "model": dataclasses.asdict(model.config),
        "card": dataclasses.asdict(model.card),
        "ngram": _ngram_record(model.mixture),
        "curve": curve.validation,
    }


def _rows(model: TrainedModel, curve: metrics.Curve) -> dict[str, str]:
    """The rows of the text, by their names; empty for what the model does not have."""
    card, config = model.card, model.config
    lines = "independent lines" if model.independent_lines else "one document"
    measured = f"{model.validation_note}, " if model.validation_note else ""
    return {
        "model": str(model.path),
        "task": f"{model.task}: {model.purpose}",
        "network": f"{config.described()}, {_weights(model):,} weights",
        "n-grams": _ngrams(model.mixture),
        "tokens": f"{model.tokenizer.level}, a vocabulary of {config.vocab:,}",
        "corpus": f"{card.corpus} ({card.train_tokens:,} tokens, {lines})",
        "validation": measured + _validation(card),
        "network/n-grams": parts_alone(card),
        "lines alone": _both_ways(card),
        "trained": f"{card.trained}; {card.seconds:.0f} s",
        "curve": _curve(curve),
        "charlm": card.charlm_version,
    }


def _curve(curve: metrics.Curve) -> str:
    """The curve in one line; on a terminal its legend, since the curve is drawn below."""
    if not curve.steps:
        return NO_CURVE
    first, best = curve.validation[0], min(curve.validation)
    losses = f"{first:.3f} to {best:.3f} nats/token"
    if sys.stdout.isatty():
        return f"{losses} of validation text (the line); × is the training text"
    return f"{sparkline(curve.validation)}  {losses}"


def _ngrams(mixture: Mixture | None) -> str:
    if not mixture:
        return ""
    ngram = mixture.ngram
    return (
        f"{len(ngram):,} of up to {ngram.order} tokens; {mixture.combination.name} combination "
        "with the network"
    )


def _ngram_record(mixture: Mixture | None) -> dict[str, Any] | None:
    if not mixture:
        return None
    return {
        "order": mixture.ngram.order,
        "ngrams": len(mixture.ngram),
        "combination": mixture.combination.name,
        "weights": mixture.combination.weights.tolist(),
    }


def _both_ways(card: Card) -> str:
    """The loss of the same text with the state carried, and with each line alone."""
    if card.valid_carried is None or card.valid_lines is None:
        return ""
    part = f"the first {card.valid_both_tokens:,} tokens" if card.valid_both_tokens else "a part"
    return (
        f"{card.valid_lines:.4f} nats/token with each line alone, {card.valid_carried:.4f} with "
        f"the state carried: of {part} of the validation text"
    )


def _validation(card: Card) -> str:
    on_training = " (on the training text: the corpus was too small to hold a part out)"
    return (
        f"{card.valid_nats:.4f} nats/token, "
        f"perplexity {math.exp(min(card.valid_nats, 700)):.2f}, "
        f"{card.valid_bits_per_char:.4f} bits/char"
        f"{'' if card.valid_is_held_out else on_training}"
    )
