"""`charlm predict`: what a model says of texts: labels, tags, trees, targets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    note,
    read_groups,
    read_lines,
    text_encoding,
    warn_unknown,
)
from charlm.cli.inputs import Sentence, from_lines, from_table, from_texts
from charlm.cli.options import with_options
from charlm.cli.page import check_page, page_option, source_of
from charlm.cli.records import (
    FormatOptions,
    beside,
    write,
    write_json,
    write_table,
    write_tsv,
)
from charlm.corpus.records import has_column
from charlm.engines.drawn_trees import branches
from charlm.errors import InputError, ModelError
from charlm.options import ANSWERS, option

if TYPE_CHECKING:
    from charlm.corpus.trees import TreeLines
    from charlm.tasks.trained import Predicts


PREFIX = "predicted_"  # of an answer with the name of a column
NODE = "node"  # what the answers of a model of trees are numbered by


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted. The fields describe themselves."""

    file: str | None = option(
        None, "Predict for the lines of a file; - is standard input.", metavar="FILE"
    )
    text_column: str | None = option(
        None,
        "The file is a table, or JSON lines, and this column has the texts. The other columns are "
        "written, too.",
        metavar="NAME",
    )
    k: int = option(1, "Answers for each text.", ANSWERS, metavar="K")
    html: str | None = page_option("what the model looked at")


class Answered(NamedTuple):
    """The answers of a text, the best first; of a tagger and a tree labeller those of its words and
    nodes, in their order."""

    sentence: Sentence
    answers: Sequence[Any]


@with_options
def predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Texts; without any, lines from standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    options: PredictOptions,
    models: ModelOptions,
    output: FormatOptions,
    input: InputOptions,
    machine: MachineOptions,
) -> None:
    """Print what a model predicts: a label, tags, a labelled tree, a target.

    A tagger reads files of columns (CoNLL), too, and adds a column. A model of trees reads a tree
    in brackets on each line, or a text without any.
    """
    from charlm.tasks.trained import Annotates, Predicts, ReadsTrees, TrainedModel

    if texts and (options.file is not None or options.text_column is not None):
        raise InputError("give texts or `file`, not both")
    check_page(options.html)
    loaded = load_model(TrainedModel, models, machine)
    if not isinstance(loaded, Predicts):
        raise ModelError(
            f"{loaded.path} was trained with `task={loaded.task}`: it {loaded.purpose}; "
            "`predict` is for models of `task=classify`, `task=tag`, `task=tree` and `task=seq2seq`"
        )
    path, encoding = options.file or "-", text_encoding([loaded], input.encoding)
    plain = not (texts or options.text_column or options.html or output.format)
    if plain and isinstance(loaded, Annotates) and path != "-" and loaded.are_columns(path):
        blocks = ("".join(f"{line}\n" for line in g) for g in read_groups(path, encoding))
        for annotated in loaded.annotate(blocks):
            sys.stdout.write(annotated)
        return
    groups: Iterable[Sequence[Sentence]] = [from_texts(texts or ())]
    trained_on = getattr(getattr(loaded, "columns", None), "text_column", None)
    if trained_on and path != "-" and not texts and not options.text_column:
        first = next(read_lines(path, encoding), "")
        if not trained_on.isdecimal() and has_column(first, trained_on):
            options = replace(options, text_column=trained_on)
    if options.text_column:
        groups = from_table(path, encoding, options.text_column, None, input.strict)
    elif not texts:
        groups = from_lines(path, encoding)
        if isinstance(loaded, ReadsTrees):
            groups = _with_whole_trees(groups, loaded.tree_lines())
    answers = _answered(loaded, groups, options.k, "" if texts else path)
    if options.html:
        from charlm.cli.predicted_page import write_predicted_page

        answered = list(answers)
        read = [answer.sentence.text for answer in answered]
        write_predicted_page(Path(options.html), loaded, read, source_of(None if texts else path))
        note(f"page: {options.html}")
        answers = chain(answered)
    writers = {"table": _table, "tsv": _tsv, "json": _json}
    writers[output.chosen_format](answers, loaded.numbered, options)


def _with_whole_trees(
    groups: Iterable[Sequence[Sentence]], lines: TreeLines
) -> Iterator[Sequence[Sentence]]:
    for group in groups:
        yield from_texts(lines.whole(sentence.text for sentence in group))
    yield from_texts(lines.rest())


def _answered(
    model: Predicts, groups: Iterable[Sequence[Sentence]], k: int, path: str
) -> Iterator[Answered]:
    """The answers for groups of texts. Those of a group are written before the next is read.

    path:  of the file, for messages; "" without one
    """
    from charlm.tasks.trained import KnowsTokens

    number = 0
    unknown: dict[str, None] = {}  # a set that keeps the order
    for sentences in groups:
        answers = model.iter_predict([sentence.text for sentence in sentences], k=k)
        try:
            for answered in map(Answered, sentences, answers):
                number += 1
                yield answered
        except InputError as error:
            place = f"{path}, text" if path else "text"
            raise InputError(f"{place} {number + 1:,}: {error}") from None
        if isinstance(model, KnowsTokens):
            unknown |= dict.fromkeys(t for s in sentences for t in model.unknown(s.text))
        sys.stdout.flush()
    warn_unknown(unknown)


def _records(
    answers: Iterable[Answered], numbered: str, options: PredictOptions
) -> Iterator[dict[str, Any]]:
    """A record for each answer, the text last, since it may be long.

    Columns of the input come first; then the text is where it was.
    """
    for number, (sentence, best) in enumerate(answers, 1):
        for rank, answer in enumerate(best, 1):
            found = answer._asdict()
            if options.text_column is None:
                text = {} if numbered == NODE else {"text": sentence.text}  # the root has it
                yield {"number": number, numbered: rank, **found, **text}
                continue
            carried = {**sentence.columns, options.text_column: sentence.text}
            ranked = found if options.k == 1 and numbered == "rank" else {numbered: rank, **found}
            yield beside(carried, ranked, PREFIX)


def _tsv(answers: Iterable[Answered], numbered: str, options: PredictOptions) -> None:
    write_tsv(_records(answers, numbered, options))


def _table(answers: Iterable[Answered], numbered: str, options: PredictOptions) -> None:
    if numbered == NODE:
        return _drawn(answers)
    records = list(_records(answers, numbered, options))
    if not records:
        return
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in record.values()]
        for record in records
    ]
    write_table([(name, "left") for name in records[0]], rows)


def _drawn(answers: Iterable[Answered]) -> None:
    """The labelled nodes of trees, each tree in lines with branches."""
    for _, nodes in answers:
        for branch, node in zip(branches([n.depth for n in nodes]), nodes, strict=True):
            write(f"{branch}{node.label} {node.probability:.2f}  {node.phrase}")
        write("")


def _json(answers: Iterable[Answered], numbered: str, options: PredictOptions) -> None:
    for sentence, best in answers:
        found = [answer._asdict() for answer in best]
        name = options.text_column or "text"
        carried = {**sentence.columns, name: sentence.text}
        flat = found[0] if options.text_column and options.k == 1 and numbered == "rank" else {}
        write_json(beside(carried, flat or {"answers": found}, PREFIX))
