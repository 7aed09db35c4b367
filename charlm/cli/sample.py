"""`charlm sample`: write text."""

from __future__ import annotations

import json
import secrets
import sys
from typing import Annotated

import typer

from charlm.cli.common import ModelOption, load_named, note, printable, warn_unknown, write
from charlm.errors import OptionError


def sample(
    prime: Annotated[str, typer.Option(help="How the text begins.")] = "",
    model: ModelOption = None,
    n: Annotated[int, typer.Option("-n", "--number", help="How many texts.")] = 1,
    length: Annotated[
        int | None,
        typer.Option(
            help="Characters after the prime; else 500, or to the end of an independent line.",
            show_default=False,
        ),
    ] = None,
    max_lines: Annotated[
        int | None, typer.Option(help="Stop after so many lines.", show_default=False)
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            "-t",
            help="Below 1 safer, above 1 wilder; 0 always takes the likeliest.",
        ),
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Draw from the K likeliest tokens only.", show_default=False)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the likeliest tokens that make up P.", show_default=False),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Draw from tokens at least P times as likely as the likeliest.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed, the same text.", show_default=False)
    ] = None,
    stop: Annotated[
        str | None, typer.Option(help="End where this text appears.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a text.")] = False,
) -> None:
    """Write text like what the model learnt from, as it comes."""
    from charlm.sampling import SampleOptions

    given, seed = seed, secrets.randbits(32) if seed is None else seed
    options = {
        "length": length, "max_lines": max_lines, "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "min_p": min_p, "seed": seed, "stop": stop,
    }  # fmt: skip
    SampleOptions(**options)  # type: ignore[arg-type]
    if n < 1:
        raise OptionError(f"-n {n}: must be 1 or more")
    loaded = load_named(model)
    texts = loaded.streams(prime, n=n, **options)
    if given is None:
        note(f"seed: {seed}")
    warn_unknown(loaded.unknown_in(prime, prime=True))
    for k, pieces in enumerate(texts):
        if as_json:
            text = prime + "".join(pieces)
            write(
                json.dumps(
                    {"text": text, "prime": prime, "seed": seed, "sample": k}, ensure_ascii=False
                )
            )
            continue
        sys.stdout.write(printable(prime))
        for piece in pieces:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
        if n > 1 and not loaded.card.lines and k < n - 1:
            sys.stdout.write("\n")  # texts of many lines are parted by a blank one
