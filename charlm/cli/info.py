"""`charlm info`: the card of a model."""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import parts_alone
from charlm.cli.plots import check_plot, curve_rows, plot_option, training_figure, write_plot
from charlm.cli.records import write, write_json
from charlm.errors import InputError
from charlm.progress import sparkline
from charlm.training import metrics

if TYPE_CHECKING:
    from charlm.model.file import Card
    from charlm.model.mixture import Mixture

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
            "level": loaded.tokenizer.level,
            "model": dataclasses.asdict(config),
            "card": dataclasses.asdict(card),
            "ngram": _ngram_record(loaded.mixture),
            "curve": curve.validation,
        }
        write_json(record)
        return
    kind = "independent lines" if loaded.independent_lines else "one document"
    note = f"{loaded.validation_note}, " if loaded.validation_note else ""
    rows = {
        "model": str(loaded.path),
        "task": f"{loaded.task}: {loaded.purpose}",
        "network": f"{config.described()}, {weights:,} weights",
        "n-grams": _ngrams(loaded.mixture),
        "tokens": f"{loaded.tokenizer.level}, a vocabulary of {config.vocab:,}",
        "corpus": f"{card.corpus} ({card.train_tokens:,} tokens, {kind})",
        "validation": note
        + _validation(card.valid_nats, card.valid_bits_per_char, card.valid_is_held_out),
        "of its parts": parts_alone(card),
        "by line": _both_ways(card),
        "trained": f"{card.trained}; {card.seconds:.0f} s",
        "curve": _curve(curve),
        "charlm": card.charlm_version,
    }
    for name, value in rows.items():
        if value:
            write(f"{name:<16}{value}")
    if curve.steps and sys.stdout.isatty():
        for row in curve_rows(curve, min(shutil.get_terminal_size().columns, MOST_COLUMNS)):
            write(row)


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


def _validation(nats: float, bits_per_char: float, held_out: bool) -> str:
    where = (
        "" if held_out else " (on the training text: the corpus was too small to hold a part out)"
    )
    return (
        f"{nats:.4f} nats/token, perplexity {math.exp(min(nats, 700)):.2f}, "
        f"{bits_per_char:.4f} bits/char{where}"
    )
