"""What the pages of commands have in common: the option, and the facts about model and text."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm import __version__
from charlm.cli.info import described
from charlm.cli.options import as_flags
from charlm.errors import InputError
from charlm.options import argument, option, overrides_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from charlm.engines.scores import TextScore
    from charlm.engines.scoring import SentenceOptions
    from charlm.tasks.tokens import TokenModel
    from charlm.tasks.trained import TrainedModel

COMMAND_LINE = "given on the command line"
SUFFIXES = (".html", ".htm")


def page_option(what: str) -> Any:
    """The option `html` of a dataclass.

    what:  the page shows
    """
    return option(None, f"Write a page for a browser: {what}.", metavar="FILE")


def check_page(path: str | None) -> None:
    """Raise InputError if the page cannot be written. Called before the work.

    The name of the file shows that it is a page: a text after `html` would be taken for it.
    """
    if path is None:
        return
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"`html={path}`: give a file whose name ends in .html, or .htm")
    if not Path(path).parent.is_dir():
        raise InputError(f"{Path(path).parent}: no such folder; make it first")


def source_of(path: str | None) -> str:
    """Where texts come from, in words. path: of the file, "-" for standard input; None for none"""
    return COMMAND_LINE if path is None else "standard input" if path == "-" else path


def counted(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def model_facts(model: TrainedModel, name: str) -> dict[str, str]:
    """The rows about a model, with its name."""
    rows = {"model": f"{name}, trained by charlm {model.card.charlm_version}", **described(model)}
    del rows["trained"]  # the recipe: `charlm info` shows it
    return {row.capitalize(): value for row, value in rows.items()}


def score_facts(
    source: str,
    count: int,
    totals: Mapping[str, tuple[TokenModel, TextScore]],
    options: SentenceOptions,
    *more: DataclassInstance,
) -> dict[str, str]:
    """The rows about a scored text and the models that scored it.

    source:  see `source_of`
    count:   of sentences
    totals:  by the name of each model: the model, and the score of all sentences
    options, more:  that change a score
    """
    from charlm.engines.scores import written_perplexity
    from charlm.engines.unknown_words import UnknownWords

    by_model = {}
    for name, (model, total) in totals.items():
        read_as = UnknownWords.of(options, model.lexicon).read_as
        unknown = f"{total.unknown:,} of them unknown, {read_as}" if total.unknown else "all known"
        by_model[name] = {
            **model_facts(model, name),
            "Text": f"{source}: {counted(count, 'sentence')}, {counted(total.tokens, 'token')}, "
            f"{unknown}; {counted(total.chars, 'character')}",
            "Scored": _conditions(options, *more),
            "Total": f"{total.bits:,.1f} bits, {total.bits_per_char:.4f} bits per character, "
            f"perplexity {written_perplexity(total.perplexity)}, by charlm {__version__}",
        }
    return _merged(by_model)


def _merged(by_model: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The rows of all models. A row that is not the same for all has the name of its model."""
    merged: dict[str, str] = {}
    for heading in dict.fromkeys(chain.from_iterable(by_model.values())):
        values = {name: rows[heading] for name, rows in by_model.items() if heading in rows}
        if len(values) == len(by_model) and len({*values.values()}) == 1:
            merged[heading] = next(iter(values.values()))
        else:
            merged |= {f"{heading} ({name})": value for name, value in values.items()}
    return merged


def _conditions(*options: DataclassInstance) -> str:
    """How the sentences are scored, in words; rare options as they are written."""
    given = {name: value for group in options for name, value in overrides_of(group).items()}
    given.pop("model", None)
    document, eos = given.pop("document", False), given.pop("eos", True)
    parts = ["as the lines of one text" if document else "each sentence by itself"]
    parts += ["with the line end" if eos else "without the line end"]
    if context := given.pop("context", ""):
        parts.append(f"after {context!r}")
    return ", ".join([*parts, *(as_flags(argument(n, value)) for n, value in given.items())])
