"""Sentences in CoNLL columns: one token a line, and a blank line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from charlm.corpus.examples import ExampleError
from charlm.corpus.labelled import ColumnOptions
from charlm.corpus.reading import BYTE_ORDER_MARK
from charlm.errors import InputError, OptionError
from charlm.options import argument
from charlm.tokenizer.symbols import SEPARATOR

BLANKS = " \t\r"  # U+00A0 and other spaces of Unicode are characters of a token
DOCUMENT_START = "-DOCSTART-"
CONLLU_COLUMNS = 10
CONLLU_ID = re.compile(r"[0-9]+([-.][0-9]+)?")  # 1, or 1-2 (several words), or 1.1 (no word)


class Layout(NamedTuple):
    """How the columns of a text are written. The first token line of the text decides.

    separator:  "\\t" if that line has a TAB: a token may then hold a space; otherwise " ", for any
                number of spaces and TABs
    columns:    the number of columns of that line
    is_conllu:  ten columns separated by TAB, and the first is an id: CoNLL-U, also CoNLL-X
    """

    separator: str
    columns: int
    is_conllu: bool

    @classmethod
    def of(cls, line: str) -> Layout:
        """The layout of a text with this token line."""
        separator = "\t" if "\t" in line else " "
        columns = _split(line, separator)
        is_conllu = (
            separator == "\t"
            and len(columns) == CONLLU_COLUMNS
            and CONLLU_ID.fullmatch(columns[0]) is not None
        )
        return cls(separator, len(columns), is_conllu)

    def split(self, line: str) -> list[str]:
        """The columns of a line."""
        return _split(line, self.separator)

    def is_token(self, line: str, columns: Sequence[str], first: bool) -> bool:
        """Whether a line that is not blank is a token line. Other lines are only kept.

        columns:  of the line
        first:    no token line of the sentence comes before it

        "-DOCSTART-" is no token. In CoNLL-U, a line that begins with "#" is a comment, and the ids
        1-2 and 1.1 are no tokens. In other texts, "#" may be a token. There a line that begins with
        "#" is a comment only before the first token of a sentence, and only if it has not as many
        columns as token lines have, or if it has a TAB and they have none.
        """
        if line.startswith(DOCUMENT_START):
            return False
        if self.is_conllu:
            id = CONLLU_ID.fullmatch(columns[0])
            return not line.startswith("#") and (id is None or id[1] is None)
        other_columns = len(columns) != self.columns or (self.separator == " " and "\t" in line)
        return not (first and line.startswith("#") and other_columns)


def _split(line: str, separator: str) -> list[str]:
    line = line.rstrip("\r")
    return line.split("\t") if separator == "\t" else re.findall(r"[^ \t]+", line)


class Sentence(NamedTuple):
    """One sentence, with all lines of the text since the sentence before it.

    rows:       (tokens,) the columns of each token, as they stand. Their number may differ. No
                rows: the lines after the last sentence, such as "#end document"
    lines:      the lines without "\\n": tokens, comments and "-DOCSTART-". The blank line after the
                sentence is not one of them
    number:     of the first of these lines in the text, from 1
    positions:  (tokens,) the index in `lines` of each token
    layout:     of the text
    """

    rows: list[list[str]]
    lines: list[str]
    number: int
    positions: list[int]
    layout: Layout


def sentences(blocks: Iterable[str]) -> Iterator[Sentence]:
    """The sentences of a text, read in the memory of one sentence.

    blocks:  the text in pieces that may end anywhere, also within a line

    Several blank lines count as one, and may hold spaces and TABs. "-DOCSTART-" also ends a
    sentence. A line end may be "\\r\\n". A byte order mark is dropped. All lines that are not blank
    are in `Sentence.lines`, so that a text can be written back. The last sentence has no rows if
    other lines follow the last token.

    >>> [sentence.rows for sentence in sentences(["A DT\\ncat NN\\n\\nYe", "s UH\\n"])]
    [[['A', 'DT'], ['cat', 'NN']], [['Yes', 'UH']]]
    """
    lines = _lines(blocks)
    head = _up_to_first_token(lines)
    layout = Layout.of(_last_candidate(head))
    rows: list[list[str]] = []
    kept: list[str] = []
    positions: list[int] = []
    start = 1
    for number, line in enumerate(chain(head, lines), 1):
        blank = _is_blank(line)
        if rows and (blank or line.startswith(DOCUMENT_START)):
            yield Sentence(rows, kept, start, positions, layout)
            rows, kept, positions = [], [], []
        if blank and not kept:
            continue
        if not kept:
            start = number
        columns = layout.split(line)
        if not blank and layout.is_token(line, columns, first=not rows):
            rows.append(columns)
            positions.append(len(kept))
        kept.append(line)
    if kept:
        yield Sentence(rows, kept, start, positions, layout)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """The lines of a text without "\\n", and without a byte order mark."""
    mark, parts = BYTE_ORDER_MARK, [""]
    for block in filter(None, blocks):
        first, *others = block.removeprefix(mark).split("\n")
        mark = ""
        parts.append(first)
        if others:
            yield "".join(parts)
            yield from others[:-1]
            parts = [others[-1]]
    yield "".join(parts)


def _is_blank(line: str) -> bool:
    return not line.strip(BLANKS)


def _up_to_first_token(lines: Iterator[str]) -> list[str]:
    """The lines up to the first one that is neither blank nor a comment nor "-DOCSTART-"."""
    head = []
    for line in lines:
        head.append(line)
        if not _is_blank(line) and not line.startswith(("#", DOCUMENT_START)):
            break
    return head


def _last_candidate(head: Sequence[str]) -> str:
    """The line that decides the layout. A text may hold only lines that begin with "#"."""
    candidates = (
        line for line in reversed(head) if not (_is_blank(line) or line.startswith(DOCUMENT_START))
    )
    return next(candidates, "")


class Columns(NamedTuple):
    """The numbers of two columns, from 1, or from the end: -1 is the last."""

    word: int
    tag: int


def columns_of(
    sentence: Sentence, text_column: int | None = None, label_column: int | None = None
) -> Columns:
    """The columns of the words and of the tags, with a default for None.

    The defaults are the first and the last column; in CoNLL-U, FORM and UPOS.

    >>> (sentence,) = sentences(["A DT B-NP\\ncat NN I-NP\\n"])
    >>> columns_of(sentence), columns_of(sentence, label_column=2)
    (Columns(word=1, tag=-1), Columns(word=1, tag=2))
    """
    default = Columns(2, 4) if sentence.layout.is_conllu else Columns(1, -1)
    return Columns(
        default.word if text_column is None else text_column,
        default.tag if label_column is None else label_column,
    )


def words(sentence: Sentence, text_column: int | None = None) -> list[str]:
    """(tokens,) the words of a sentence.

    text_column:  see `columns_of`

    Raises ExampleError for a line without the column, or with an empty word.
    """
    return _column(sentence, columns_of(sentence, text_column).word, "text_column")


def words_and_tags(
    sentence: Sentence, text_column: int | None = None, label_column: int | None = None
) -> tuple[list[str], list[str]]:
    """(tokens,) the words of a sentence, and (tokens,) their tags, without spaces around a tag.

    text_column, label_column:  see `columns_of`

    Raises ExampleError for a line without one of the columns, with an empty word or tag, or with
    the word and the tag in the same column.

    >>> (sentence,) = sentences(["A DT B-NP\\ncat NN I-NP\\n"])
    >>> words_and_tags(sentence)
    (['A', 'cat'], ['B-NP', 'I-NP'])
    """
    columns = columns_of(sentence, text_column, label_column)
    for line, row in _numbered_rows(sentence):
        if _from_start(columns.word, row) == _from_start(columns.tag, row):
            raise ExampleError(
                line,
                f"`text_column={columns.word}` and `label_column={columns.tag}` are the same "
                f"column: {_describe(row, sentence.layout)}; write a word and its tag in two "
                "columns",
            )
    tags = _column(sentence, columns.tag, "label_column")
    return words(sentence, text_column), [tag.strip(BLANKS) for tag in tags]


def _column(sentence: Sentence, column: int, option: str) -> list[str]:
    """(tokens,) the values of a column.

    option:  that chooses the column
    """
    values = []
    for line, row in _numbered_rows(sentence):
        index = _from_start(column, row)
        if not 0 <= index < len(row):
            raise ExampleError(
                line,
                f"`{option}={column}`: no such column: {_describe(row, sentence.layout)}; "
                "count them from 1, or from the end: -1 is the last",
            )
        if not row[index].strip(BLANKS):
            raise ExampleError(
                line, f"`{option}={column}`: column {index + 1} is empty; write a value in it"
            )
        values.append(row[index])
    return values


def _numbered_rows(sentence: Sentence) -> Iterator[tuple[int, list[str]]]:
    """The rows, each with the number of its line in the text."""
    for position, row in zip(sentence.positions, sentence.rows, strict=True):
        yield sentence.number + position, row


def _from_start(column: int, row: Sequence[str]) -> int:
    """The index of a column in a row, from 0. Outside of the row if there is no such column."""
    return len(row) + column if column < 0 else column - 1


def _describe(row: Sequence[str], layout: Layout) -> str:
    """Such as "the line has 2 columns (separated by TAB)"."""
    columns = "1 column" if len(row) == 1 else f"{len(row)} columns"
    separator = "TAB" if layout.separator == "\t" else "spaces"
    return f"the line has {columns} (separated by {separator})"


def with_tags(sentence: Sentence, tags: Sequence[str], label_column: int | None = None) -> str:
    """The text of a sentence with one more column, and a blank line at the end.

    tags:  (tokens,) the values of the new column, the last one

    A TAB separates the new column if TAB separates the others; otherwise a space does. CoNLL-U has
    ten columns and no more: there the tags replace what is in the column of the tags, see
    `columns_of`. Comments and all other lines stay as they are. Raises ValueError for another
    number of tags than tokens.

    >>> (sentence,) = sentences(["# greeting =\\nHi UH\\n"])
    >>> with_tags(sentence, ["O"])
    '# greeting =\\nHi UH O\\n\\n'
    """
    lines = list(sentence.lines)
    separator, replaced = sentence.layout.separator, columns_of(sentence, None, label_column).tag
    for position, row, tag in zip(sentence.positions, sentence.rows, tags, strict=True):
        line = lines[position].rstrip("\r")
        line_end = lines[position][len(line) :]
        if sentence.layout.is_conllu:
            index = _from_start(replaced, row)
            line = separator.join([*row[:index], tag, *row[index + 1 :]])
        else:
            line += f"{separator}{tag}"
        lines[position] = line + line_end
    blank_line = "\r" if lines[-1].endswith("\r") else ""
    return "\n".join([*lines, blank_line, ""])


def tagged_sentences(
    blocks: Iterable[str], columns: ColumnOptions
) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each sentence. Raises ExampleError, naming the line."""
    word = column_number("text_column", columns.text_column)
    tag = column_number("label_column", columns.label_column)
    for sentence in sentences(blocks):
        if sentence.rows:
            yield words_and_tags(sentence, word, tag)


def column_number(name: str, column: str | None) -> int | None:
    """The number of a column. Raises OptionError for a name."""
    try:
        return None if column is None else int(column)
    except ValueError:
        raise OptionError(f"{argument(name, column)}: give a number, from 1") from None


def as_lines(of_sentences: Iterable[Sequence[str]]) -> str:
    """A line for each sentence, with a TAB between two words.

    A line end or a TAB within a word becomes a space. Raises InputError for an empty word.
    """
    return "".join(f"{SEPARATOR.join(map(_without_tabs, words))}\n" for words in of_sentences)


def _without_tabs(word: str) -> str:
    if not word:
        raise InputError("a word is empty; leave it out")
    return word.replace(SEPARATOR, " ").replace("\n", " ")
