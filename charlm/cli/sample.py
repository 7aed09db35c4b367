"""`charlm sample`: write text."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from charlm.cli.common import (
    GivenOptions,
    ModelOptions,
    load_language_model,
    note,
    warn_unknown,
)
from charlm.cli.interactive import interact
from charlm.cli.options import with_options
from charlm.cli.records import printable, write_json
from charlm.cli.session import Session
from charlm.engines.sampling import SampleOptions
from charlm.errors import OptionError
from charlm.options import Range, option, overrides_of

if TYPE_CHECKING:
    from charlm.engines.stream import Stream
    from charlm.tasks.language_model import LanguageModel

TOGETHER = "does not go with `json` or `number`"


@dataclass(frozen=True)
class PrimeOptions:
    """How the text begins. The fields describe themselves."""

    prime: str = option("", "How the text begins; - reads standard input.", metavar="TEXT")
    prime_file: str | None = option(
        None, "The text begins with this file.", metavar="FILE", excludes=("prime",)
    )

    @property
    def text(self) -> str:
        """The prime. A file is read, without the end of its last line."""
        if self.prime != "-" and not self.prime_file:
            return self.prime
        from charlm.corpus.reading import Corpus

        blocks = Corpus([self.prime_file or self.prime], once=True).blocks()
        return "".join(blocks).removesuffix("\n")


@dataclass(frozen=True)
class SampleOutput:
    """How samples are written. The fields describe themselves."""

    number: int = option(1, "How many samples.", Range(1), metavar="N", short="-n")
    interactive: bool = option(
        False,
        "Continue what is typed, line by line; /help shows the commands.",
        short="-i",
        excludes={"json": TOGETHER, "number": TOGETHER},
    )
    json: bool = option(False, "One JSON object a sample, with log p of every token.")


@with_options
def sample(
    prime: PrimeOptions,
    given: GivenOptions,
    options: SampleOptions,
    output: SampleOutput,
    models: ModelOptions,
) -> None:
    """Write text like the training text."""
    if options.beam and output.number > options.beam:
        raise OptionError(
            f"`number={output.number}`: a search with `beam={options.beam}` finds no more texts"
        )
    text = prime.text
    loaded = load_language_model(models, given)
    if output.interactive:
        return interact(Session(loaded, text, **overrides_of(options)))
    is_drawn = options.seed is None and not options.beam and options.temperature != 0
    if options.seed is None:
        options = replace(options, seed=secrets.randbits(32))
    streams = loaded.streams(text, n=output.number, **vars(options))
    if is_drawn:
        note(f"seed: {options.seed}")
    warn_unknown(loaded.unknown_in_prime(text))
    if output.json:
        _write_json(loaded, text, streams, options.seed)
    else:
        one_line = loaded.independent_lines and options.max_lines in (None, 1)
        _write_text(text, streams, "" if one_line else "\n")


def _write_text(prime: str, streams: Iterable[Stream], between: str) -> None:
    """Write the texts, piece by piece. between: two texts"""
    for number, pieces in enumerate(streams):
        sys.stdout.write(between if number else "")
        sys.stdout.write(printable(prime))
        for piece in pieces:
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")


def _write_json(
    model: LanguageModel, prime: str, streams: Iterable[Stream], seed: int | None
) -> None:
    for number, pieces in enumerate(streams):
        text = prime + "".join(pieces)
        tokens = [
            {"token": model.tokenizer.token(id), "logprob": logprob}
            for id, logprob in model.drawn_logprobs(prime, pieces.ids)
        ]
        record = {"text": text, "prime": prime, "seed": seed, "sample": number, "tokens": tokens}
        write_json(record)
