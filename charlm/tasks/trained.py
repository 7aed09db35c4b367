"""What all trained models have in common, and what commands ask of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from charlm.corpus.labelled import STANDARD, ColumnOptions
from charlm.corpus.trees import TreeLines
from charlm.engines.activations import Reading
from charlm.errors import InputError, OptionError
from charlm.model.backend import OF_TOKENS, Backend, Twins
from charlm.model.config import StackConfig
from charlm.model.file import ModelFile
from charlm.options import argument
from charlm.pages.predicted import Looked
from charlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pandas import Index


class LoadOptions(NamedTuple):
    """How a model is loaded, see `charlm.load`."""

    backend: str | Backend = "auto"
    device: str = "auto"
    threads: int | None = None
    network_only: bool = False
    ngram_only: bool = False
    precision: str = "fp32"


class TrainedModel:
    """A model in one file: its network, its vocabularies and its card. The base of all models.

    path:       the model file
    config:     the network's shape
    tokenizer:  of the text that it reads; not there for a model of trees
    card:       where the model comes from, and how good it is

    task:           the name of its task
    purpose:        what it does, in words, for messages
    predicted:      what it predicts one of at a time, in words, such as "token" or "label"
    next_commands:  commands to try after training
    reads_columns:  its examples stand in the columns of a table
    columns:        where those stood that it was trained on
    twins:          the classes of its network
    """

    task: ClassVar[str]
    purpose: ClassVar[str]
    predicted: ClassVar[str] = "token"
    reads_columns: ClassVar[bool] = False
    twins: ClassVar[Twins] = OF_TOKENS
    next_commands: ClassVar[Sequence[str]] = ()
    config: StackConfig
    tokenizer: Tokenizer
    columns: ColumnOptions = STANDARD

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        """options: for the parts of a model that compute, which subclasses make"""
        self.path, self.card = path, file.card

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without what is computed when it is first used."""
        kind = type(self)
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def independent_lines(self) -> bool:
        """Whether the model reads every line by itself."""
        return True

    def _columns(self, options: Mapping[str, Any]) -> ColumnOptions:
        """The columns that these options of `evaluate` name; without any, those of the training.

        Raises OptionError for options that are not for this model.
        """
        named = {name: value for name, value in options.items() if name != "progress"}
        known = [field.name for field in fields(ColumnOptions)] if self.reads_columns else []
        for name, value in named.items():
            if name not in known:
                raise OptionError(f"{argument(name, value)}: is not for `task={self.task}`")
        return ColumnOptions(**named) if named else self.columns

    @property
    def reads_bytes(self) -> bool:
        """Whether the model reads the bytes of a text, in whatever encoding it is."""
        return self.tokenizer.reads_bytes

    def validation(self) -> str:
        """The validation figures of the card, in words."""
        return f"{self.card.valid_nats:.4f} nats/{self.predicted}"

    def about(self) -> dict[str, str]:
        """Further lines about the model, by their headings, for `charlm info`."""
        return {}

    def record(self) -> dict[str, Any]:
        """Further fields about the model, for `charlm info --json`."""
        return {}

    def example(self) -> str | None:
        """A text that the model writes, to be shown after training; None if it writes none."""
        return None


class Measure(Protocol):
    """How well a model predicts a text. The measures of several texts add up.

    columns:  the names of the figures that a table shows, and their formats
    """

    columns: ClassVar[Mapping[str, str]]

    @property
    def predicted(self) -> int:
        """The number of tokens, or labels, that were predicted."""

    def figures(self) -> dict[str, Any]:
        """The figures under their names in JSON output."""

    def __add__(self, other: Any) -> Any: ...


@runtime_checkable
class Measurable(Protocol):
    """A model that can be measured on a text, by `charlm evaluate`."""

    def evaluate(self, text: str | Iterable[str], **options: Any) -> Measure:
        """Measure a text. progress: called with the fraction that is done; options: of the task"""

    def warning(self, measure: Any, **options: Any) -> str | None:
        """What the figures do not say about a text that was measured with these options."""


@runtime_checkable
class Predicts(Protocol):
    """A model that predicts something else than the text itself, for `charlm predict`.

    numbered:   what the answers of a text are numbered by: "rank" or "word"
    page_note:  what a page of predictions shows, in words
    """

    numbered: ClassVar[str]

    @property
    def page_note(self) -> str: ...

    def looked(self, text: str) -> list[tuple[list[Looked], str]]:
        """Lines for a page of predictions: the pieces of a text, and the answer in words."""

    def iter_predict(self, texts: Iterable[str], *, k: int = ...) -> Iterator[Sequence[Any]]:
        """Up to k answers for each text, the most probable one first: named tuples."""


@runtime_checkable
class HasUnits(Protocol):
    """A model whose recurrent layers read a text token by token, for `charlm units`."""

    def reading(self, text: str) -> Reading:
        """The text as the recurrent layers read it."""


@runtime_checkable
class ReadsTrees(Protocol):
    """A model that reads trees in brackets, for `charlm predict`."""

    def tree_lines(self) -> TreeLines:
        """What joins the lines of a file of trees."""


@runtime_checkable
class KnowsTokens(Protocol):
    """A model of texts whose tokens it may not know, for `charlm predict`."""

    def unknown(self, source: str) -> list[str]:
        """The tokens of a text that the model has never seen."""


@runtime_checkable
class Annotates(Protocol):
    """A model that adds a column to a file of columns."""

    def are_columns(self, path: str) -> bool:
        """Whether a file looks like one of columns, and not like text."""

    def annotate(self, blocks: Iterable[str]) -> Iterator[str]:
        """The blocks of such a file, with a further column."""


def several(texts: object) -> Iterable[str]:
    """The texts. Raises InputError for what is not an iterable, and for a table of columns.

    The error for a row of a pandas Series that is no text names the row.
    """
    if not isinstance(texts, Iterable):
        raise InputError(f"{texts!r}: is no text; give a string, or several")
    if getattr(texts, "ndim", 1) != 1:
        raise InputError('a table is no text; give one of its columns, such as `table["text"]`')
    index = index_of(texts)
    return texts if index is None else _rows(index, texts)


def _rows(index: Iterable[object], texts: Iterable[str]) -> Iterator[str]:
    for label, text in zip(index, texts, strict=True):
        if not isinstance(text, str):
            raise InputError(
                f"row {label}: {text!r} is no text; leave such rows out, such as by `dropna()`"
            )
        yield text


def index_of(texts: object) -> Index | None:
    """The index of a pandas Series; None for anything else."""
    return getattr(texts, "index", None) if hasattr(texts, "iloc") else None


def one_line_end(text: str) -> str:
    """The text with "\\n" for "\\r\\n", as in training texts. Raises InputError for no text."""
    if not isinstance(text, str):
        raise InputError(f"{text!r}: is no text; give a string, or several")
    return text.replace("\r\n", "\n")


def one_line(text: str) -> str:
    """The text, if it is a single line. Raises InputError otherwise."""
    if "\n" in one_line_end(text):
        raise InputError("a line end in the text; give one line at a time")
    return text
