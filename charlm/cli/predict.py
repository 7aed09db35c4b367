"""`charlm predict`: what a model says of texts, such as their labels."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    InputOptions,
    MachineOptions,
    ModelOptions,
    load_model,
    read_groups,
    text_encoding,
)
from charlm.cli.options import with_options
from charlm.cli.records import FormatOptions, write_json, write_table, write_tsv
from charlm.errors import InputError, ModelError
from charlm.options import Range, check_options, option

if TYPE_CHECKING:
    from charlm.tasks.trained import Predicts

# The answers of a text, the best first, after the text.
Answered = tuple[str, Sequence[Any]]


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted. The fields describe themselves."""

    file: str | None = option(
        None, "Predict for the lines of a file; - is standard input.", metavar="FILE"
    )
    k: int = option(1, "Answers for each text.", Range(1), metavar="K")

    def __post_init__(self) -> None:
        check_options(self)


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
    models: Annotated[ModelOptions, "model"],
    output: FormatOptions,
    input: Annotated[InputOptions, "encoding"],
    machine: MachineOptions,
) -> None:
    """Print what a model predicts for each text, such as its label."""
    from charlm.tasks.trained import Predicts, TrainedModel

    if texts and options.file is not None:
        raise InputError("give texts or `file`, not both")
    loaded = load_model(TrainedModel, models, machine)
    if not isinstance(loaded, Predicts):
        raise ModelError(
            f"{loaded.path} was trained with `task={loaded.task}`: it {loaded.purpose}; for labels "
            "train a model with `task=classify`"
        )
    groups: Iterable[Sequence[str]] = [texts] if texts else []
    if not texts:
        groups = read_groups(options.file or "-", text_encoding([loaded], input.encoding))
    answers = chain.from_iterable(_answered(loaded, group, options.k) for group in groups)
    {"table": _table, "tsv": _tsv, "json": _json}[output.chosen_format](answers)


def _answered(model: Predicts, texts: Sequence[str], k: int) -> Iterator[Answered]:
    """The answers for a group of texts, which are written before the next group is read."""
    yield from zip(texts, model.iter_predict(texts, k=k), strict=True)
    sys.stdout.flush()


def _records(answers: Iterable[Answered]) -> Iterator[dict[str, Any]]:
    """A record for each answer, the text last, since it may be long."""
    for number, (text, best) in enumerate(answers, 1):
        for rank, answer in enumerate(best, 1):
            yield {"number": number, "rank": rank, **answer._asdict(), "text": text}


def _tsv(answers: Iterable[Answered]) -> None:
    write_tsv(_records(answers))


def _table(answers: Iterable[Answered]) -> None:
    records = list(_records(answers))
    if not records:
        return
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in record.values()]
        for record in records
    ]
    write_table([(name, "left") for name in records[0]], rows)


def _json(answers: Iterable[Answered]) -> None:
    for text, best in answers:
        write_json({"text": text, "answers": [answer._asdict() for answer in best]})
