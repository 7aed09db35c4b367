"""`charlm info`: the card of a model."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.records import write, write_json
from charlm.progress import sparkline


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
) -> None:
    """Show a model's card, its configuration and its training curve."""
    from charlm.api import load

    loaded = load(model)
    card, config = loaded.card, loaded.config
    shapes = config.shapes()
    shapes.pop("char_features", None)  # computed from the other weights
    weights = sum(map(math.prod, shapes.values()))
    curve = _curve(loaded.path.parent / "metrics.jsonl")
    if as_json:
        record = {
            "path": str(loaded.path),
            "task": loaded.task,
            "weights": weights,
            "level": loaded.tokenizer.level,
            "model": dataclasses.asdict(config),
            "card": dataclasses.asdict(card),
            "curve": curve,
        }
        write_json(record)
        return
    kind = "independent lines" if loaded.independent_lines else "one document"
    if card.lines:
        other_validation, nats = "state carried", card.valid_carried
    else:
        other_validation, nats = "each line alone", card.valid_lines
    note = f"{loaded.validation_note}, " if loaded.validation_note else ""
    rows = {
        "model": str(loaded.path),
        "task": f"{loaded.task}: {loaded.purpose}",
        "network": f"{config.described()}, {weights:,} weights",
        "tokens": f"{loaded.tokenizer.level}, a vocabulary of {config.vocab:,}",
        "corpus": f"{card.corpus} ({card.train_tokens:,} tokens, {kind})",
        "validation": note
        + _validation(card.valid_nats, card.valid_bits_per_char, card.valid_is_held_out),
        other_validation: "" if nats is None else f"{nats:.4f} nats/token",
        "trained": f"{card.trained}; {card.seconds:.0f} s",
        "curve": f"{sparkline(curve)}  {curve[0]:.3f} to {min(curve):.3f} nats/token"
        if curve
        else "",
        "charlm": card.charlm_version,
    }
    for name, value in rows.items():
        if value:
            write(f"{name:<16}{value}")


def _validation(nats: float, bits_per_char: float, held_out: bool) -> str:
    where = (
        "" if held_out else " (on the training text: the corpus was too small to hold a part out)"
    )
    return (
        f"{nats:.4f} nats/token, perplexity {math.exp(min(nats, 700)):.2f}, "
        f"{bits_per_char:.4f} bits/char{where}"
    )


def _curve(path: Path) -> list[float]:
    """The validation losses during training, in nats per token; [] if there is no such file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["valid_nats_per_token"] for line in lines if line.strip()]
