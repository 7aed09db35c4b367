"""`charlm rescore`: order n-best lists by the scores of a language model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    PrecisionOptions,
    load_model,
    note,
    read_lines,
    text_encoding,
)
from charlm.cli.inputs import show_read
from charlm.cli.options import with_options
from charlm.cli.records import write
from charlm.engines.scores import byte_length
from charlm.errors import OptionError
from charlm.options import Choices, Range, option
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore
    from charlm.uses.nbest import ScoredHypothesis, Weights
    from charlm.uses.nbest_formats import Format

    Lists = Iterable[list[ScoredHypothesis]]

FORMATS = ("moses", "srilm", "kaldi", "tsv", "json")
FINITE = Range(-1e9, 1e9)
CHOSEN = {"references": "does not go with `references`, which chooses it"}


@dataclass(frozen=True)
class RescoreOptions:
    """How hypotheses are ordered and written. The fields describe themselves."""

    weight: float | None = option(
        None, "Weight of log P(hypothesis).", FINITE, metavar="W", auto="1", excludes=CHOSEN
    )
    word_penalty: float | None = option(
        None,
        "Added for each word; below 0 for fewer.",
        FINITE,
        metavar="P",
        auto="0",
        excludes=CHOSEN,
    )
    references: str | None = option(
        None,
        "The right sentence of each list, one a line, in their order: choose the weights that "
        "leave the fewest wrong words, and name them.",
        metavar="FILE",
    )
    best: bool = option(False, "Only the text of the best hypothesis of each list.")
    format: str | None = option(None, "Of the lists.", Choices(FORMATS), auto="by their first line")
    eos: bool = option(True, "Score the end of the line as a token.")


@with_options
def rescore(
    files: Annotated[
        list[str],
        typer.Argument(metavar="NBEST...", help="n-best lists; - is standard input."),
    ],
    options: RescoreOptions,
    models: ModelOptions,
    input: InputOptions,
    machine: MachineOptions,
    precision: PrecisionOptions,
) -> None:
    """Order the hypotheses of n-best lists by score, log P and number of words.

    The lists are written in the format that they are read in, the best hypothesis first.
    """
    if options.references == "-" and "-" in files:
        raise OptionError("`references=-`: standard input is the list; name a file")
    from charlm.tasks.language_model import LanguageModel
    from charlm.uses.nbest import Weights

    loaded = load_model(LanguageModel, models, machine, precision)
    score = partial(loaded.iter_scores, eos=options.eos)
    encoding = text_encoding([loaded], input.encoding, lenient=not input.strict)
    read = replace(input, encoding=encoding)
    weights = Weights(
        1.0 if options.weight is None else options.weight, options.word_penalty or 0.0
    )
    with show_progress() as progress:
        lists = _scored_lists(files, options.format, read, score, show_read(progress, files))
        if options.references is None:
            return _write(lists, weights, options.best)
        in_memory = [(format, list(of_file)) for format, of_file in lists]
    references = list(read_lines(options.references, input.encoding))
    weights = _tuned([scored for _, of_file in in_memory for scored in of_file], references)
    _write(in_memory, weights, options.best)


def _scored_lists(
    files: Iterable[str],
    format: str | None,
    input: InputOptions,
    score: Callable[[Iterable[str]], Iterator[SentenceScore]],
    done: Callable[[int], None],
) -> Iterator[tuple[Format, Lists]]:
    """The format of each file, and its lists. `done` is called with the bytes of each line."""
    from charlm.corpus.records import BrokenLines
    from charlm.uses.nbest import scored_lists
    from charlm.uses.nbest_formats import hypotheses, opened

    def lines(file: str) -> Iterator[str]:
        for line in read_lines(file, input.encoding):
            done(byte_length(line) + 1)
            yield line

    for file in files:
        broken = BrokenLines(file, input.strict, note)
        kind, read = opened(lines(file), format, broken.name)
        yield kind, scored_lists(hypotheses(kind, read, file, broken), score, kind.base)


def _tuned(lists: Sequence[Sequence[ScoredHypothesis]], references: Sequence[str]) -> Weights:
    """The weights that leave the fewest wrong words, which are named on stderr."""
    from charlm.uses.nbest import tuned

    result = tuned(lists, references)
    weights = result.weights
    note(
        f"`weight={weights.language_model:.4g}` `word_penalty={weights.word_penalty:.4g}`: "
        f"{result.errors:,} of {result.words:,} words are wrong; by the scores of the lists "
        f"{result.before:,}, and {result.fewest:,} in the best hypotheses"
    )
    return weights


def _write(lists: Iterable[tuple[Format, Lists]], weights: Weights, best: bool) -> None:
    """Write the lists of the files, or the text of the best hypothesis of each."""
    from charlm.uses.nbest import best_texts, rescored

    for format, of_file in lists:
        lines = best_texts(of_file, weights) if best else rescored(format, of_file, weights)
        for line in lines:
            write(line)
