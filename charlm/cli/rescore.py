"""`charlm rescore`: order n-best lists anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
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
    read_lines,
    refuse,
    text_encoding,
)
from charlm.cli.inputs import StrictOption, show_read
from charlm.cli.records import write
from charlm.engines.scores import byte_length
from charlm.errors import OptionError
from charlm.options import Choices
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.uses.nbest import Format, Scored, Weights

FORMATS = ("moses", "srilm", "kaldi", "tsv", "json")


def rescore(
    files: Annotated[
        list[str],
        typer.Argument(metavar="NBEST...", help="n-best lists; - is standard input."),
    ],
    weight: Annotated[
        float | None,
        typer.Option(metavar="W", help="Weight of log P(hypothesis). [default: 1]"),
    ] = None,
    word_penalty: Annotated[
        float | None,
        typer.Option(metavar="P", help="Added for each word; below 0 for fewer. [default: 0]"),
    ] = None,
    references: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The right sentence of each list, one a line, in their order: choose the weights "
            "that leave the fewest wrong words, and name them.",
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Only the text of the best hypothesis of each list.")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(FORMATS),
            help="Of the lists. [default: by their first line]",
            autocompletion=lambda: FORMATS,
        ),
    ] = None,
    eos: Annotated[
        bool, typer.Option("--eos/--no-eos", help="Score the end of the line as a token.")
    ] = True,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    strict: StrictOption = False,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Order the hypotheses of n-best lists by score, log P and number of words.

    The lists are written in the format that they are read in, the best hypothesis first.
    """
    if format is not None:
        Choices(FORMATS).check("format", format)
    given = {"weight": weight, "word_penalty": word_penalty}
    for option, value in given.items():
        if value is not None and not math.isfinite(value):
            raise OptionError(f"`{option}={value}`: must be a number")
    refuse(references is not None, "does not go with `references`, which chooses it", **given)
    refuse("-" in files, "standard input is the list; name a file", references=references == "-")
    from charlm.corpus.records import BrokenLines
    from charlm.tasks.lm import LanguageModel
    from charlm.uses.nbest import Weights, hypotheses, opened, scored_lists, tuned

    loaded = load_model(model, LanguageModel, device, threads, network_only)
    name, weights = (
        text_encoding([loaded], encoding),
        Weights(1.0 if weight is None else weight, word_penalty or 0.0),
    )
    score = partial(loaded.iter_scores, eos=eos)

    def shown(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            show(byte_length(line) + 1)
            yield line

    def lists() -> Iterator[tuple[Format, Iterator[list[Scored]]]]:
        for file in files:
            kind, lines = opened(shown(read_lines(file, name)), format)
            broken = BrokenLines(file, strict, note)
            yield kind, scored_lists(hypotheses(kind, lines, file, broken), score, kind.base)

    found: Iterable[tuple[Format, Iterable[list[Scored]]]] = lists()
    if references is not None:
        with show_progress() as progress:
            show = show_read(progress, files)
            found = [(kind, list(scored)) for kind, scored in found]
        right = list(read_lines(references, encoding))
        result = tuned([one for _, scored in found for one in scored], right)
        weights = result.weights
        note(
            f"`weight={weights.language_model:.4g}` `word_penalty={weights.word_penalty:.4g}`: "
            f"{result.errors:,} of {result.words:,} words are wrong; by the scores of the lists "
            f"{result.before:,}, and {result.fewest:,} in the best hypotheses"
        )
    with show_progress() as progress:
        show = show_read(progress, files)
        for kind, scored in found:
            _write(kind, scored, weights, best)


def _write(kind: Format, lists: Iterable[list[Scored]], weights: Weights, best: bool) -> None:
    """Write the lists of a file, or the text of the best hypothesis of each."""
    headed = best
    for one in lists:
        ordered = sorted(one, key=lambda s: -s.total(weights))
        if best:
            write(ordered[0].hypothesis.text)
            continue
        if not headed and (heading := kind.heading()):
            write(heading)
        headed = True
        for s in ordered if kind.is_sorted else one:
            write(kind.written(s.hypothesis, s.logprob, s.total(weights)))
