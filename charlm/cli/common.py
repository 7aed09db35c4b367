"""What commands share: the options that several have, loading a model, and notes on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import typer

from charlm.cli.options import as_flags
from charlm.errors import OptionError
from charlm.model.devices import DEVICES
from charlm.options import Choices, argument, option, overrides_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from charlm.tasks.language_model import LanguageModel
    from charlm.tasks.trained import TrainedModel

    M = TypeVar("M", bound=TrainedModel)

STARTED = time.monotonic()  # about the start of the program: the command line is loaded first

THE_MODEL = "$CHARLM_MODEL, else the run trained last from here"  # where none is named
MOST_UNKNOWN_NAMED = 10


@dataclass(frozen=True)
class ModelOptions:
    """The model of a command. The fields describe themselves."""

    model: str | None = option(
        None, "The model.", metavar="FILE|FOLDER", short="-m", auto=THE_MODEL
    )
    network_only: bool = option(False, "Leave the model's n-gram part out.")
    ngram_only: bool = option(
        False,
        "The n-gram part of a language model alone: many times as fast.",
        excludes=("network_only",),
    )


@dataclass(frozen=True)
class SeveralModels:
    """The models of a command. The field describes itself."""

    model: Sequence[str] | None = option(
        None,
        "The model; several are put side by side.",
        metavar="FILE|FOLDER",
        short="-m",
        auto=THE_MODEL,
    )


@dataclass(frozen=True)
class InputOptions:
    """How a command reads its files. The fields describe themselves."""

    strict: bool = option(False, "A line that cannot be read is an error, and is not skipped.")
    encoding: str = option(
        "utf-8", "Encoding of the file, such as latin-1 or cp1252.", metavar="NAME"
    )


@dataclass(frozen=True)
class MachineOptions:
    """Where a command computes. The fields describe themselves."""

    device: str = option("auto", "Where to compute large amounts of text.", DEVICES)
    threads: int | None = option(None, "Threads of the CPU.", metavar="N", auto="all cores")


@dataclass(frozen=True)
class PrecisionOptions:
    """How exactly a command computes. The field describes itself."""

    precision: str = option(
        "fp32",
        "Of the products of a language model's network in torch: bf16 is faster where the machine "
        "has it, and less exact; auto is the faster one.",
        Choices(("fp32", "bf16", "auto")),
    )


ANY_MACHINE, EXACT = MachineOptions(), PrecisionOptions()


@dataclass(frozen=True)
class GivenOptions:
    """What a text is written for. The fields describe themselves."""

    given: str | None = option(
        None, "The source of the text, for a model of `task=seq2seq`.", metavar="SOURCE"
    )


def load_model(
    kind: type[M],
    options: ModelOptions,
    machine: MachineOptions = ANY_MACHINE,
    precision: PrecisionOptions = EXACT,
) -> M:
    """Load a model that must be of this kind, and name it on stderr."""
    from charlm.api import load

    loaded = load(
        options.model,
        kind=kind,
        device=machine.device,
        threads=machine.threads,
        network_only=options.network_only,
        ngram_only=options.ngram_only,
        precision=precision.precision,
    )
    note(f"model: {loaded.path}")
    return loaded


def load_language_model(
    options: ModelOptions,
    given: GivenOptions,
    machine: MachineOptions = ANY_MACHINE,
    precision: PrecisionOptions = EXACT,
) -> LanguageModel:
    """Load a language model, or the one that a model of `seq2seq` is for a source."""
    from charlm.tasks.language_model import LanguageModel

    if given.given is None:
        return load_model(LanguageModel, options, machine, precision)
    from charlm.tasks.transducer import Transducer

    loaded = load_model(Transducer, options, machine)
    warn_unknown(loaded.unknown(given.given))
    return loaded.given(given.given)


def text_encoding(models: Sequence[TrainedModel], encoding: str, lenient: bool = False) -> str:
    """The encoding of a text for these models: byte models take every byte as it is.

    lenient:  bytes that are not UTF-8 are no error
    """
    from charlm.corpus.reading import LENIENT, RAW

    if not models or not all(model.reads_bytes for model in models):
        return LENIENT if lenient and encoding == "utf-8" else encoding
    if encoding != "utf-8":
        raise OptionError(f"`encoding={encoding}`: the model reads bytes; leave the option out")
    return RAW


def refuse(names: Collection[str], why: str, *options: DataclassInstance) -> None:
    """Raise OptionError if an option is given that must not be given here.

    names:  of these options, or "format=kenlm" for one value
    why:    what is wrong with them
    """
    for group in options:
        for name, value in overrides_of(group).items():
            if name in names or f"{name}={value}" in names:
                raise OptionError(f"{argument(name, value)}: {why}")


def read_groups(path: str, encoding: str) -> Iterator[list[str]]:
    """The lines of a file in groups; of standard input, "-", those that have arrived together."""
    from charlm.corpus.reading import LENIENT, Corpus, count_broken_lines

    if path == "-" and sys.stdin.isatty():
        note("reading sentences, one a line, until Ctrl-D")
    broken = 0
    for group in Corpus([path], encoding=encoding, once=True).line_groups():
        broken += count_broken_lines(group) if encoding == LENIENT else 0
        yield group
    if broken:
        name = "standard input" if path == "-" else path
        note(
            f"warning: {name}: {broken:,} lines are not utf-8, and their bytes are unknown; name "
            "the `encoding` of the file, such as latin-1 or cp1252"
        )


def read_lines(path: str, encoding: str) -> Iterator[str]:
    """The lines of a file; "-" is standard input."""
    return chain.from_iterable(read_groups(path, encoding))


def note(text: str) -> None:
    """Write a line to stderr. Arguments in backticks become options."""
    typer.echo(as_flags(text), err=True)


def is_file(text: str) -> bool:
    """Whether a text that was given is the name of a file, or - for standard input."""
    if text == "-":
        return True
    # A long name is no error for these.
    return os.path.exists(text) and not os.path.isdir(text)  # noqa: PTH110, PTH112


def warn_unknown(
    pieces: Iterable[str], read_as: str = "read as <UNK>", model: str = "the model"
) -> None:
    """Warn about pieces of a text that are not in the vocabulary, if there are any."""
    distinct = list(dict.fromkeys(pieces))
    if not distinct:
        return
    named = ", ".join(repr(piece) for piece in distinct[:MOST_UNKNOWN_NAMED])
    more = ", …" if len(distinct) > MOST_UNKNOWN_NAMED else ""
    typer.echo(f"warning: {model} has never seen {named}{more}; {read_as}", err=True)
