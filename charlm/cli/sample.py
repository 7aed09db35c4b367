"""`charlm sample`: write text."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

import typer

from charlm.cli.common import ModelOption, NetworkOnlyOption, load_model, note, warn_unknown
from charlm.cli.interactive import interact
from charlm.cli.options import with_options
from charlm.cli.records import printable, write_json
from charlm.cli.session import Session
from charlm.engines.sampling import SampleOptions
from charlm.errors import OptionError


@with_options(SampleOptions)
def sample(
    prime: Annotated[
        str, typer.Option(metavar="TEXT", help="How the text begins; - reads standard input.")
    ] = "",
    prime_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The text begins with this file.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", metavar="N", help="How many samples.")] = 1,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            "-i",
            help="Continue what is typed, line by line; /help shows the commands.",
        ),
    ] = False,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a sample, with log p of every token."),
    ] = False,
    **options: Any,
) -> None:
    """Write text like the training text."""
    from charlm.tasks.lm import LanguageModel

    chosen = SampleOptions(**options)
    if n < 1:
        raise OptionError(f"`n={n}`: must be 1 or more")
    if chosen.beam and n > chosen.beam:
        raise OptionError(f"`n={n}`: a search with `beam={chosen.beam}` finds no more texts")
    if prime and prime_file:
        raise OptionError("`prime_file`: give a prime or a file, not both")
    if interactive and (as_json or n > 1):
        raise OptionError("`interactive`: does not go with `json` or `number`")
    if prime == "-" or prime_file:
        prime = _read(prime_file or prime)
    if interactive:
        loaded = load_model(model, LanguageModel, network_only=network_only)
        return interact(Session(loaded, prime, **options))
    drawn = "seed" not in options and not chosen.beam
    seed = options.setdefault("seed", secrets.randbits(32))
    loaded = load_model(model, LanguageModel, network_only=network_only)
    streams = loaded.streams(prime, n=n, **options)
    if drawn and options.get("temperature") != 0:
        note(f"seed: {seed}")
    warn_unknown(loaded.unknown_in_prime(prime))
    for k, pieces in enumerate(streams):
        if as_json:
            text = prime + "".join(pieces)
            tokens = [
                {"token": loaded.tokenizer.token(id), "logprob": logprob}
                for id, logprob in loaded.drawn_logprobs(prime, pieces.ids)
            ]
            write_json({"text": text, "prime": prime, "seed": seed, "sample": k, "tokens": tokens})
            continue
        sys.stdout.write(printable(prime))
        for piece in pieces:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
        if not loaded.independent_lines and k < n - 1:
            sys.stdout.write("\n")  # a blank line between texts of many lines


def _read(path: str) -> str:
    """The text of a file, without the end of its last line."""
    from charlm.corpus.reading import Corpus

    return "".join(Corpus([path], once=True).blocks()).removesuffix("\n")
