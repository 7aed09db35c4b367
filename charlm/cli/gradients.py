"""`charlm gradients`: how far back gradients reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    text_encoding,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.plots import check_plot, plot_option, write_plot
from charlm.cli.records import FormatOptions, write, write_json, write_table, write_tsv
from charlm.errors import InputError
from charlm.options import Range, option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from charlm.model.config import ModelConfig
    from charlm.model.gradients import GradientNorms
    from charlm.tasks.language_model import LanguageModel

MAX_ROWS = 31  # of a table
TABLE_WIDTH = 76  # characters, approximately


class ModelNorms(NamedTuple):
    """The gradient norms of one model.

    name:    of the model in the output
    config:  the shape of its network
    norms:   the gradient norms
    """

    name: str
    config: ModelConfig
    norms: GradientNorms


@dataclass(frozen=True)
class GradientOptions:
    """What is measured and drawn. The fields describe themselves."""

    steps: int = option(60, "How many steps back.", Range(1), metavar="K")
    plot: str | None = plot_option("the curves")


@with_options
def gradients(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL]... TEXT",
            help="Model files or folders [default: as --model elsewhere], then a text or its file.",
            show_default=False,
        ),
    ],
    options: GradientOptions,
    output: FormatOptions,
    input: Annotated[InputOptions, "encoding"],
    machine: Annotated[MachineOptions, "threads"],
) -> None:
    """Show how far back gradients reach.

    The figure is the norm of the gradient of a token's loss with respect to the state K steps
    before the token.
    """
    from charlm.tasks.language_model import LanguageModel

    if options.plot is not None:
        check_plot(Path(options.plot))
    *models, text = arguments
    names: list[str | None] = [*models] or [None]
    results = []
    for name in names:
        loaded = load_model(LanguageModel, ModelOptions(name), machine)
        norms = _measure(loaded, _read_text(loaded, text, input.encoding), options.steps)
        results.append(ModelNorms(name or str(loaded.path.parent), loaded.config, norms))
    writers = {"table": _print_table, "tsv": _print_tsv, "json": _print_json}
    writers[output.chosen_format](results)
    if options.plot is not None:
        write_plot(Path(options.plot), _figure(results))


def _measure(model: LanguageModel, text: str, steps: int) -> GradientNorms:
    """The gradient norms, with a note about a text that is too short or has unknown pieces."""
    from charlm.uses import influence

    norms = influence.gradients(model, text, steps=steps)
    warn_unknown(model.unknown_in(text))
    if norms.steps < steps:
        note(f"the text has {norms.steps + 1} tokens: gradients can reach back {norms.steps} steps")
    return norms


def _read_text(model: LanguageModel, text: str, encoding: str) -> str:
    """The content of the file with this name, or the text itself if there is no such file."""
    path = Path(text)
    try:
        if not text or not path.exists():
            if path.suffix and not any(char.isspace() for char in text):
                raise InputError(f"{text}: no such file; check the name and the folder you are in")
            return text
    except OSError:  # too long for a file name
        return text
    if path.is_dir():
        raise InputError(f"{text} is a folder; give a text, or its file, after the models")
    from charlm.corpus.reading import Corpus

    return "".join(Corpus([path], model.card.unit, text_encoding([model], encoding)).blocks())


def _curves(results: Sequence[ModelNorms]) -> Iterator[tuple[str, list[float]]]:
    """(name, norms) of each model: of the hidden state, and of an LSTM's cell."""
    for name, _, norms in results:
        yield f"{name} dh", norms.dh.tolist()
        if norms.dc is not None:
            yield f"{name} dc", norms.dc.tolist()


def _print_table(results: Sequence[ModelNorms]) -> None:
    names, curves = zip(*_curves(results), strict=True)
    bars = _bars(curves, max(TABLE_WIDTH // len(curves) - 10, 4))
    longest = max(map(len, curves))
    write_table(
        [("k", "right"), *((name, "left") for name in names)],
        (
            (str(k), *(f"{c[k]:.1e} {b[k]}" if k < len(c) else "" for c, b in bars))
            for k in range(0, longest, -(-longest // MAX_ROWS))
        ),
    )
    for name, _, norms in results:
        write(f"{name}: {_describe(norms)}")


def _bars(curves: Sequence[list[float]], width: int) -> list[tuple[list[float], list[str]]]:
    """Each curve, with a bar for each of its values.

    All bars have the same logarithmic scale; the longest has `width` characters.
    """
    logs = [math.log(value) for curve in curves for value in curve if 0 < value < math.inf]
    low, high = min(logs, default=0.0), max(logs, default=0.0)

    def bar(value: float) -> str:
        log = min(math.log(value), high) if value > 0 else low
        return "▇" * round(width * (log - low) / ((high - low) or 1))

    return [(curve, [bar(value) for value in curve]) for curve in curves]


def _describe(norms: GradientNorms) -> str:
    """How fast the gradient changes, in words."""
    if not math.isfinite(norms.decay):
        return "the gradient of h is zero"
    change = "halves" if norms.decay > 0 else "doubles"
    every = f"every {abs(math.log(2) / norms.decay):.1f} steps back" if norms.decay else "never"
    return f"the gradient of h {change} {every} ({norms.decay:.4f} nats/step)"


def _print_tsv(results: Sequence[ModelNorms]) -> None:
    records = (
        {"model": name, "k": k, "dh": dh, "dc": "" if norms.dc is None else norms.dc[k]}
        for name, _, norms in results
        for k, dh in enumerate(norms.dh)
    )
    write_tsv(records)


def _print_json(results: Sequence[ModelNorms]) -> None:
    for name, config, norms in results:
        record = {
            "model": name,
            "cell": config.cell,
            "layers": config.layers,
            "hidden": config.hidden,
            "steps": norms.steps,
            "windows": norms.windows,
            "decay_nats_per_step": _finite_or_none(norms.decay),
            "half_life_steps": _finite_or_none(norms.half_life),
            "dh": norms.dh.tolist(),
            "dc": None if norms.dc is None else norms.dc.tolist(),
        }
        write_json(record)


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure(results: Sequence[ModelNorms]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, norms in _curves(results):
        style = "--" if name.endswith(" dc") else "-"
        axes.semilogy(norms, style, label=name)
    axes.set_xlabel("k, steps back")
    axes.set_ylabel("norm of the gradient of the loss by the state at t − k")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
