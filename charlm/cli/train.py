"""`charlm train`: from a text to a model."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli.common import STARTED, note, printable, write


def train(
    ctx: typer.Context,
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...", help="Text files, .gz .xz .bz2 too; - is standard input."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run folder; else runs/CORPUS.", show_default=False)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an unfinished run, or any with a larger budget."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace --out, once training is complete.")
    ] = False,
    level: Annotated[
        str, typer.Option(metavar="char|word|subword|byte", help="What a token is.")
    ] = "char",
    vocab_size: Annotated[
        int | None, typer.Option(help="At most so many tokens.", show_default=False)
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="lossless|whitespace", help="How words are told apart.")
    ] = "lossless",
    normalize: Annotated[
        str, typer.Option(metavar="nfc|none", help="Unicode normalisation of characters and words.")
    ] = "nfc",
    lines: Annotated[
        bool, typer.Option("--lines", help="The lines are independent: shuffle them.")
    ] = False,
    unit: Annotated[
        str,
        typer.Option(
            metavar="line|paragraph", help="Paragraph joins hard-wrapped lines up to a blank one."
        ),
    ] = "line",
    encoding: Annotated[
        str, typer.Option(help="Of the files, such as latin-1 or cp1252.")
    ] = "utf-8",
    cell: Annotated[
        str, typer.Option(metavar="lstm|gru|gru-simple|rnn", help="The recurrent cell.")
    ] = "lstm",
    layers: Annotated[
        int | None, typer.Option(help="Recurrent layers, 1 to 4.", show_default=False)
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Features of each layer.", show_default=False)
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(metavar="tanh|relu", help="Of --cell rnn.", show_default=False),
    ] = None,
    forget_gate: Annotated[
        bool, typer.Option("--forget-gate/--no-forget-gate", help="Of --cell lstm.")
    ] = True,
    forget_bias: Annotated[
        float, typer.Option(help="At which the forget gate's bias starts.")
    ] = 1.0,
    peepholes: Annotated[
        str | None,
        typer.Option(
            metavar="GATES",
            help="Gates of --cell lstm that see its cell, such as ifo.",
            show_default=False,
        ),
    ] = None,
    reset: Annotated[
        str | None,
        typer.Option(
            metavar="before|after",
            help="Of --cell gru: where the reset gate acts; else after.",
            show_default=False,
        ),
    ] = None,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="Normalise the gates within the cell.")
    ] = False,
    residual: Annotated[
        bool, typer.Option("--residual", help="Add each layer's input to its output.")
    ] = False,
    feedforward: Annotated[
        int | None,
        typer.Option(help="Feed-forward layers below the softmax.", show_default=False),
    ] = None,
    highway: Annotated[
        int | None,
        typer.Option(help="Highway layers above the embedding.", show_default=False),
    ] = None,
    bidirectional: Annotated[
        bool,
        typer.Option("--bidirectional", help="Read lines from both ends, to fill blanks."),
    ] = False,
    characters: Annotated[
        str | None,
        typer.Option(
            metavar="recurrent|convolutional",
            help="Words are read by their letters, too.",
            show_default=False,
        ),
    ] = None,
    embedding: Annotated[
        int | None, typer.Option(help="Features of a token's vector.", show_default=False)
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Word vectors to start from, as word2vec or GloVe write them.",
            show_default=False,
        ),
    ] = None,
    freeze_embeddings: Annotated[
        bool, typer.Option("--freeze-embeddings", help="Leave those vectors as they are.")
    ] = False,
    dropout: Annotated[
        float | None,
        typer.Option(help="Of every layer's output: a probability, 0 to 0.9.", show_default=False),
    ] = None,
    input_dropout: Annotated[
        float | None,
        typer.Option(
            help="Of what the first layer reads; else of words as --dropout, or none.",
            show_default=False,
        ),
    ] = None,
    state_dropout: Annotated[
        float, typer.Option(help="Of the state within a layer, one mask a sequence.")
    ] = 0.0,
    weight_dropout: Annotated[
        float | None,
        typer.Option(
            help="Of the recurrent weights, one mask a sequence; else none, but for characters "
            "that are seen very often.",
            show_default=False,
        ),
    ] = None,
    dropout_per_step: Annotated[
        bool,
        typer.Option(
            "--dropout-per-step", help="A new mask every step for --dropout, not one a sequence."
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="Budget: wall time; else 0.5 to 4.5, by the text.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Budget: times through the text.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Budget: updates of the weights.", show_default=False)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Streams side by side.", show_default=False)
    ] = None,
    bptt: Annotated[
        int | None, typer.Option(help="Tokens that a gradient reaches back.", show_default=False)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="The highest learning rate.", show_default=False)
    ] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="By which matrices shrink, times the learning rate, a step.", show_default=False
        ),
    ] = None,
    valid: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validate on this text.", show_default=False)
    ] = None,
    valid_fraction: Annotated[float, typer.Option(help="Else hold out this part.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|bf16|fp16", help="Auto takes bf16 where it is faster.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Of the CPU; else all cores.", show_default=False)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")
    ] = False,
) -> None:
    """Train a model of a text. With nothing but the text it chooses everything itself."""
    from charlm.language_model import train as train_model

    given = {
        name: value
        for name, value in ctx.params.items()
        if (source := ctx.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    model = train_model(given.pop("corpus"), started=STARTED, **given)
    write(str(model.path))
    if quiet:
        return
    card = model.card
    both_sides = ", each token given all others" if model.config.bidirectional else ""
    perplexity = math.exp(min(card.valid_nats, 700))
    shown = f"{perplexity:.2f}" if perplexity < 1e9 else f"{perplexity:.3g}"
    note(
        f"validation{both_sides}: {card.valid_nats:.4f} nats/token, perplexity "
        f"{shown}, {card.valid_bits_per_char:.4f} bits/char, "
        f"after {card.seconds:.0f} s"
    )
    folder = shlex.quote(str(model.path.parent))
    if model.config.bidirectional:
        note(f'\nnext: charlm fill "a sentence with a ___ in it" --model {folder}')
        return
    note("a sample:\n")
    note(printable(model.sample(length=200, temperature=0.8, seed=1)))
    note(f"\nnext: charlm sample --model {folder}")
    note(f'      charlm score "a sentence" --model {folder}')
