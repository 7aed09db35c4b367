"""`charlm pairs`: accuracy on minimal pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.options import with_options
from charlm.cli.records import FormatOptions, write_json, write_table, write_tsv
from charlm.options import option
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore
    from charlm.uses.pairs import Accuracy, Item


@dataclass(frozen=True)
class PairOptions:
    """How pairs are scored. The field describes itself."""

    eos: bool = option(True, "Score the end of the line as a token.")


@with_options
def pairs(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="BLiMP's JSON lines, tables of two columns (the acceptable sentence first), or "
            "suites of SyntaxGym (.json).",
        ),
    ],
    options: PairOptions,
    models: ModelOptions,
    output: FormatOptions,
    input: InputOptions,
    machine: MachineOptions,
) -> None:
    """Measure how often the better sentence of a pair is the more probable one.

    A pair that the model reads as the same tokens, such as <UNK>, is a tie. A tie is not right.
    """
    from charlm.tasks.language_model import LanguageModel
    from charlm.uses.pairs import accuracies

    loaded = load_model(LanguageModel, models, machine)
    items = list(_read(files, text_encoding([loaded], input.encoding), input.strict))
    total = sum(len(item.sentences) for item in items)

    def score(sentences: Iterable[str]) -> Iterator[SentenceScore]:
        for number, scored in enumerate(loaded.iter_scores(sentences, eos=options.eos), 1):
            progress(number / total)
            yield scored

    with show_progress() as progress:
        results = accuracies(items, score)
    _write(output.chosen_format, results)
    if ties := sum(r.ties for r in results if r.phenomenon != "total"):
        note(f"note: {ties:,} ties: pairs that the model reads as the same tokens")


def _read(files: Iterable[str], encoding: str, strict: bool) -> Iterator[Item]:
    from charlm.corpus.records import BrokenLines
    from charlm.uses.pairs import read_items

    for file in files:
        yield from read_items(file, encoding, BrokenLines(file, strict, note))


def _write(format: str, results: Sequence[Accuracy]) -> None:
    records = [result.to_json() for result in results]
    if format == "json":
        for record in records:
            write_json(record)
    elif format == "tsv":
        write_tsv(records)
    elif results:
        _table(results)


def _table(results: Iterable[Accuracy]) -> None:
    columns = [("phenomenon", "left"), ("items", "right"), ("right", "right")]
    columns += [("ties", "right"), ("accuracy", "right"), ("95 % interval", "right")]
    rows = (
        (
            r.phenomenon,
            f"{r.items:,}",
            f"{r.right:,}",
            f"{r.ties:,}" if r.ties else "",
            f"{r.accuracy:.1%}",
            "{:.1%} – {:.1%}".format(*r.interval),
        )
        for r in results
    )
    write_table(columns, rows)
