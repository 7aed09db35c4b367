"""`charlm score`: the probability of sentences."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    GivenOptions,
    InputOptions,
    MachineOptions,
    ModelOptions,
    PrecisionOptions,
    SeveralModels,
    is_file,
    load_language_model,
    load_model,
    note,
    refuse,
    text_encoding,
    warn_unknown,
)
from charlm.cli.inputs import Sentence, from_lines, from_table, from_texts, show_read
from charlm.cli.options import with_options
from charlm.cli.page import check_page, page_option, source_of
from charlm.cli.plots import check_plot, plot_option, plot_surprisal, remember
from charlm.cli.records import FormatOptions, format_option
from charlm.cli.scored import (
    IN_LOG10,
    LOG10,
    Groups,
    Row,
    RowScorer,
    ScoreSentences,
    Selection,
    View,
    write_rows,
)
from charlm.cli.side_by_side import names_of, write_side_by_side
from charlm.engines.scoring import ScoreOptions
from charlm.errors import InputError
from charlm.options import option, options_of
from charlm.parts import WHOLE, Part, parse_shard
from charlm.progress import show_progress

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore
    from charlm.tasks.fill import FillModel
    from charlm.tasks.language_model import LanguageModel

    Model = FillModel | LanguageModel

TABLES = "Tables"
# Options that go with one model only, and options of files.
OF_ONE_MODEL = ("tokens", "words", "plot", "pseudo", "sort", "best_by", *IN_LOG10)
LINES_NAMED = 3  # of those that are left out
OF_FILES = ("shard", "text_column")


@dataclass(frozen=True)
class SourceOptions:
    """Where the sentences come from. The fields describe themselves."""

    file: str | None = option(
        None, "Score the lines of a file; - is standard input.", metavar="FILE"
    )
    text_column: str | None = option(
        None,
        "The file is a table (TSV, CSV or JSON lines) with the sentences in this column. The other "
        "columns come out beside the scores.",
        panel=TABLES,
        metavar="NAME",
    )
    columns: str | None = option(
        None,
        "Only these of the other columns.",
        panel=TABLES,
        metavar="NAME,...",
        goes_with="text_column",
    )
    shard: str | None = option(
        None,
        "Only part I of N of the file: lines I, I+N, …",
        metavar="I/N",
        excludes=("document",),
    )

    @property
    def path(self) -> str:
        """The file; "-" is standard input."""
        return self.file or "-"

    @property
    def part(self) -> Part:
        """The part of the sentences that is scored."""
        return parse_shard(self.shard) if self.shard else WHOLE


@dataclass(frozen=True)
class ScoreOutput(FormatOptions):
    """What is written of each sentence. The fields describe themselves."""

    format: str | None = format_option(*LOG10)
    html: str | None = page_option(
        "the sentences in the colours of their tokens, or with `words` of their words"
    )
    plot: str | None = plot_option("the surprisal of every token, or with `words` of every word")
    pseudo: bool = option(
        False,
        "Pseudo-log-likelihood, by a model of `task=fill`.",
        excludes=(
            "words",
            "html",
            *IN_LOG10,
            *(field.name for field, _ in options_of(ScoreOptions)),
        ),
    )

    def check_files(self) -> None:
        """Raise InputError or OptionError for a file that cannot be written."""
        check_page(self.html)
        if self.plot is not None:
            check_plot(Path(self.plot))


Texts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TEXT...",
        help="Sentences; without any, lines from standard input.",
        show_default=False,
    ),
]


@with_options
def score(
    texts: Texts = None,
    *,
    options: ScoreOptions,
    source: SourceOptions,
    given: GivenOptions,
    models: SeveralModels,
    shared: Annotated[ModelOptions, "network_only", "ngram_only"],
    view: View,
    output: ScoreOutput,
    input: InputOptions,
    selection: Selection,
    machine: MachineOptions,
    precision: PrecisionOptions,
) -> None:
    """Give the probability of sentences, or the surprisal of every token or word."""
    names: Sequence[str | None] = models.model or [None]
    if len(names) > 1:
        refuse(OF_ONE_MODEL, "goes with one model, not with several", view, output, selection)
    if texts:
        refuse(OF_FILES, "goes with `file`, or with standard input", source)
    if texts and source.file:
        raise InputError("give sentences or `file`, not both")
    output.check_files()
    loaded = [
        _load(replace(shared, model=name), machine, output.pseudo, given, precision)
        for name in names
    ]
    encoding = text_encoding(loaded, input.encoding, lenient=not input.strict)
    input = replace(input, encoding=encoding)
    sentences = _sentences(texts, source, input, selection.best_by)
    if options.document:
        sentences = [list(chain.from_iterable(sentences))]
    is_carried = source.columns is None or source.text_column in source.columns.split(",")
    text_column = source.text_column if is_carried else None
    view = replace(view, file=source.path, text_column=text_column)
    details, shard = view.details or output.html is not None, source.part
    drawn: list[SentenceScore] = []
    with show_progress() as progress:
        done = show_read(progress, [source.path], shard.of)
        scorer = RowScorer([_scorer(m, details, options) for m in loaded], shard, done)
        aside: list[Row] = []
        rows = selection.of(scorer.groups(sentences), None if options.unknown else aside)
        rows = rows if output.plot is None else remember(drawn, rows)
        if output.html is None:
            _write(rows, output, view, loaded)
        else:
            from charlm.cli.score_page import write_score_page

            origin, others = source_of(None if texts else source.path), (given, shared, precision)
            write_score_page(Path(output.html), rows, view, loaded, origin, options, *others)
    if output.html:
        note(f"page: {output.html}")
    if output.plot is not None:
        plot_surprisal(Path(output.plot), drawn, view)
    if aside:
        numbers = ", ".join(str(row.number) for row in aside[:LINES_NAMED])
        more = ", …" if len(aside) > LINES_NAMED else ""
        note(
            f"{len(aside):,} lines ({numbers}{more}) are left out: most of their tokens are "
            "unknown; `unknown=include` sorts them, too"
        )
    _warn(texts or (), options, loaded, scorer.unknown)


def _load(
    options: ModelOptions,
    machine: MachineOptions,
    pseudo: bool,
    given: GivenOptions,
    precision: PrecisionOptions,
) -> Model:
    if pseudo:
        from charlm.tasks.fill import FillModel

        return load_model(FillModel, options, machine, precision)
    return load_language_model(options, given, machine, precision)


def _scorer(model: Model, details: bool, options: ScoreOptions) -> ScoreSentences:
    """The function of a model that scores sentences."""
    from charlm.tasks.language_model import LanguageModel

    if isinstance(model, LanguageModel):
        return partial(model.iter_scores, details=details, **vars(options))
    return model.iter_pseudo_scores


def _sentences(
    texts: Sequence[str] | None, source: SourceOptions, input: InputOptions, best_by: str | None
) -> Iterable[Sequence[Sentence]]:
    """The sentences in groups, each with the columns that come out beside its score."""
    if texts:
        return [from_texts(texts)]
    if not source.text_column:
        return from_lines(source.path, input.encoding)
    kept = None
    if source.columns is not None:
        named = [*filter(None, [best_by]), *source.columns.split(",")]
        kept = [name for name in named if name != source.text_column]
    return from_table(source.path, input.encoding, source.text_column, kept, input.strict)


def _write(groups: Groups, output: ScoreOutput, view: View, models: Sequence[Model]) -> None:
    try:
        if len(models) > 1:
            write_side_by_side(output.chosen_format, models, groups)
        else:
            write_rows(output.chosen_format, groups, view)
    finally:
        sys.stdout.flush()


def _warn(
    texts: Iterable[str],
    options: ScoreOptions,
    models: Sequence[Model],
    unknown: Sequence[Iterable[str]],
) -> None:
    """Warn about pieces that each model does not know, and about sentences that are files."""
    from charlm.engines.unknown_words import UnknownWords

    names = names_of(models) if len(models) > 1 else ["the model"]
    for model, name, pieces in zip(models, names, unknown, strict=True):
        read_as = UnknownWords.of(options, model.lexicon).read_as
        warn_unknown([*model.unknown_in(options.context), *pieces], read_as, name)
    for text in texts:
        if is_file(text):
            name = shlex.quote(text)
            note(f"warning: {text!r} was scored as a sentence; for the lines: --file {name}")
