"""`charlm sample`: write text."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from charlm.cli.common import ModelOption, NetworkOnlyOption, load_model, note, warn_unknown
from charlm.cli.options import with_options
from charlm.cli.records import printable, write_json
from charlm.errors import OptionError
from charlm.sampling import SampleOptions


@with_options(SampleOptions)
def sample(
    prime: Annotated[str, typer.Option(metavar="TEXT", help="How the text begins.")] = "",
    n: Annotated[int, typer.Option("-n", "--number", metavar="N", help="How many samples.")] = 1,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a sample.")] = False,
    **options: Any,
) -> None:
    """Write text like the training text."""
    from charlm.tasks.lm import LanguageModel

    SampleOptions(**options)
    if n < 1:
        raise OptionError(f"`n={n}`: must be 1 or more")
    drawn = "seed" not in options
    seed = options.setdefault("seed", secrets.randbits(32))
    loaded = load_model(model, LanguageModel, network_only=network_only)
    streams = loaded.streams(prime, n=n, **options)
    if drawn and options.get("temperature") != 0:
        note(f"seed: {seed}")
    warn_unknown(loaded.unknown_in_prime(prime))
    for k, pieces in enumerate(streams):
        if as_json:
            text = prime + "".join(pieces)
            write_json({"text": text, "prime": prime, "seed": seed, "sample": k})
            continue
        sys.stdout.write(printable(prime))
        for piece in pieces:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
        if not loaded.independent_lines and k < n - 1:
            sys.stdout.write("\n")  # a blank line between texts of many lines
