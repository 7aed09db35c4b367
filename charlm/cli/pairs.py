"""`charlm pairs`: accuracy on minimal pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    DeviceOption,
    EncodingOption,
    ModelOption,
    NetworkOnlyOption,
    ThreadsOption,
    load_model,
    note,
    text_encoding,
)
from charlm.cli.inputs import StrictOption
from charlm.cli.records import choose_format, format_option, write_json, write_table, write_tsv
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore


def pairs(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="BLiMP's JSON lines, tables of two columns (the acceptable sentence first), or "
            "suites of SyntaxGym (.json).",
        ),
    ],
    eos: Annotated[
        bool, typer.Option("--eos/--no-eos", help="Score the end of the line as a token.")
    ] = True,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    format: Annotated[str | None, format_option()] = None,
    strict: StrictOption = False,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Measure how often the better sentence of a pair is the more probable one.

    A pair that the model reads as the same tokens, such as <UNK>, is a tie. A tie is not right.
    """
    chosen = choose_format(format)
    from charlm.corpus.records import BrokenLines
    from charlm.tasks.lm import LanguageModel
    from charlm.uses.pairs import accuracies, read_items

    loaded = load_model(model, LanguageModel, device, threads, network_only)
    name = text_encoding([loaded], encoding)
    items = [
        item for file in files for item in read_items(file, name, BrokenLines(file, strict, note))
    ]
    total = sum(len(item.sentences) for item in items)

    def score(sentences: Iterable[str]) -> Iterator[SentenceScore]:
        for number, scored in enumerate(loaded.iter_scores(sentences, eos=eos), 1):
            progress(number / total)
            yield scored

    with show_progress() as progress:
        results = accuracies(items, score)
    records = [result.to_json() for result in results]
    if chosen == "json":
        for record in records:
            write_json(record)
    elif chosen == "tsv":
        write_tsv(records)
    elif results:
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
    if ties := sum(r.ties for r in results if r.phenomenon != "total"):
        note(f"note: {ties:,} ties: pairs that the model reads as the same tokens")
