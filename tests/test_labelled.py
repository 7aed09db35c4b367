"""Labelled texts in every format: which line is which text with which label, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import pytest

from charlm.corpus.examples import ExampleError
from charlm.corpus.labelled import ColumnOptions, labelled_texts

Pairs = list[tuple[str, str]]
BY_NAME = {"text_column": "text", "label_column": "label"}


def pairs(blocks: str | Iterable[str], **columns: str | None) -> Pairs:
    """The texts of a file with their labels."""
    blocks = [blocks] if isinstance(blocks, str) else blocks
    read = labelled_texts(blocks, ColumnOptions(**columns))
    return [pair for texts, labels in read for pair in zip(texts, labels, strict=True)]


def error(text: str, **columns: str | None) -> ExampleError:
    with pytest.raises(ExampleError) as caught:
        pairs(text, **columns)
    return caught.value


# --- a text, a TAB and a label ---


def test_the_label_stands_behind_the_tab() -> None:
    assert pairs("a fine day\tgood\n\tgood\n") == [("a fine day", "good"), ("", "good")]


def test_of_more_columns_the_right_ones_must_be_named() -> None:
    text = "a fine day\tgood\tvery good\nthe dull film\tbad\tawful\n"
    problem = error(text)
    assert problem.line == 1 and problem.problem.startswith("has 3 columns; name those of the text")
    found = pairs(text, text_column="1", label_column="3")
    assert found == [("a fine day", "very good"), ("the dull film", "awful")]


def test_a_file_without_examples_has_none() -> None:
    for text in ("", "\n", " \n\n\t\n"):
        assert pairs(text) == []


def test_blank_lines_are_skipped_and_counted() -> None:
    assert pairs("\n  \na\tgood\n\n\nb\tbad\n\t \n") == [("a", "good"), ("b", "bad")]
    assert error("\n  \na\tgood\n\n\nb\n").line == 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no label", "line 2: should be a text, a TAB and a label; for a table"),
        ("a text\t", "line 2: the label is empty"),
        ("a text\t ", "line 2: the label is empty"),
    ],
)
def test_a_line_without_a_label_is_refused(line: str, message: str) -> None:
    problem = error(f"fine\tgood\n{line}\n")
    assert problem.line == 2
    assert str(problem).startswith(message)


def test_a_label_is_trimmed_and_in_one_normal_form() -> None:
    text = "a\t tale\u0301 \nb\ttal\u00e9\nc\tvery  good\n"
    assert pairs(text) == [("a", "tal\u00e9"), ("b", "tal\u00e9"), ("c", "very  good")]
    as_json = json.dumps({"text": " e\u0301 ", "label": "\ta\tb\n"})
    assert pairs(as_json) == [(" e\u0301 ", "a b")]


# --- fastText ---


def test_a_label_of_fasttext_stands_first_or_last() -> None:
    text = "__label__good a fine  day\nthe dull film __label__bad\n  __label__a-b,c x\n"
    assert pairs(text) == [("a fine  day", "good"), ("the dull film", "bad"), ("x", "a-b,c")]
    assert pairs("__label__good\n") == [("", "good")]


def test_a_tab_separates_a_label_of_fasttext_as_a_space_does() -> None:
    text = "__label__good\ta fine day\nthe dull\tfilm\t__label__bad\n"
    assert pairs(text) == [("a fine day", "good"), ("the dull\tfilm", "bad")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no label here", "should be __label__X and a text"),
        ("not__label__x\ttab", "should be __label__X and a text"),
        ("__label__a __label__b x", "has 2 labels"),
        ("__label__a x __label__a", "has 2 labels"),
        ("__label__ x", "the label is empty"),
    ],
)
def test_a_line_of_fasttext_has_one_label(line: str, message: str) -> None:
    problem = error(f"__label__a x\n\n{line}\n")
    assert problem.line == 3 and message in problem.problem


def test_the_first_line_says_what_the_lines_are() -> None:
    """Labels such as fastText's in a file of another format are text."""
    assert pairs("a\tgood\n__label__x b\tbad\n") == [("a", "good"), ("__label__x b", "bad")]
    assert pairs('\n{"text": "x", "label": "y"}\n') == [("x", "y")]
    assert pairs("b __label__x\n__label__y c\n") == [("b", "x"), ("c", "y")]
    braces = '{well} then\tgood\n{"text": "x", "label": "y"}\tbad\n'
    assert pairs(braces) == [("{well} then", "good"), ('{"text": "x", "label": "y"}', "bad")]


# --- JSON ---


def lines_of(*records: Mapping[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_json_has_a_text_and_a_label() -> None:
    text = lines_of(
        {"text": "a fine day", "label": "good", "id": 7},
        {"label": 3, "text": "one\ttab\nand lines\r\nand \u2028more"},
        {"text": "", "label": 0},
    )
    assert pairs(text) == [
        ("a fine day", "good"),
        ("one\ttab and lines and  more", "3"),
        ("", "0"),
    ]


def test_a_label_of_json_is_written_as_there() -> None:
    text = lines_of(*({"text": "a", "label": label} for label in (True, 1, 1.5, "yes")))
    assert [label for _, label in pairs(text)] == ["true", "1", "1.5", "yes"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text_column": "body", "label_column": "stars"}, ("b", "4")),
        ({"text_column": "body"}, ("b", "l")),
        ({"label_column": "stars"}, ("t", "4")),
    ],
)
def test_columns_of_json_have_names(columns: dict[str, str], expected: tuple[str, str]) -> None:
    record = {"text": "t", "label": "l", "body": "b", "stars": 4}
    assert pairs(lines_of(record), **columns) == [expected]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": null, "label": "x"}', "'text' is null, and not text"),
        ('{"text": 5, "label": "x"}', "'text' is a number, and not text"),
        ('{"text": "a", "label": null}', "'label' is null, and not text"),
        ('{"text": "a", "label": ["x"]}', "'label' is a list, and not text"),
        ('{"text": "a", "label": " "}', "the label is empty"),
        ('{"text": "a"}', "no field 'label'; there is 'text'"),
        ('["a", "x"]', "not a JSON object"),
        ('{"text": "a", ', "not JSON"),
        ("a\tx", "not JSON"),
    ],
)
def test_an_object_without_text_or_label_is_refused(line: str, message: str) -> None:
    problem = error('{"text": "a", "label": "x"}\n\n' + line + "\n")
    assert problem.line == 3 and message in problem.problem


# --- tables ---


def test_a_table_of_tabs_has_a_heading() -> None:
    text = "id\tlabel\ttext\n1\tgood\ta, fine day\n\n2\tbad\tthe dull film\n"
    assert pairs(text, **BY_NAME) == [("a, fine day", "good"), ("the dull film", "bad")]
    assert pairs(text, text_column="id") == [("1", "good"), ("2", "bad")]
    assert error(text.replace("2\t", ""), **BY_NAME).line == 4


def test_a_value_of_csv_may_hold_commas_quotes_and_line_ends() -> None:
    text = 'text,label\n"a, ""fine"" day",good\n"two\nlines","very, good"\nplain,bad\n'
    assert pairs(text, **BY_NAME) == [
        ('a, "fine" day', "good"),
        ("two lines", "very, good"),
        ("plain", "bad"),
    ]
    problem = error(f"{text}too,many,values\n", **BY_NAME)
    assert (problem.line, problem.problem) == (6, "3 values, and the heading has 2")


def test_semicolons_separate_values_where_the_heading_has_no_comma() -> None:
    text = 'text;label\n"a; fine day, all in all";good\ndull, dull;bad\n'
    assert pairs(text, **BY_NAME) == [("a; fine day, all in all", "good"), ("dull, dull", "bad")]


def test_a_blank_line_in_a_value_of_csv_is_a_line_end_of_it() -> None:
    assert pairs('text,label\n"two\n\nparagraphs",good\n', **BY_NAME) == [
        ("two  paragraphs", "good")
    ]


def test_a_value_of_csv_that_does_not_end_is_refused() -> None:
    """Otherwise a stray quotation mark takes all lines behind it along."""
    text = 'text,label\na,good\n"b,bad\n' + "c,good\n" * 5
    problem = error(text, **BY_NAME)
    assert problem.line == 3 and "does not end" in problem.problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,tag\na,x\n", "no column 'label'; its heading has 'text', 'tag'"),
        ("a\tx\n", "no column 'text'; its heading has 'a', 'x'"),
        ("text\tlabel\tlabel\na\tx\ty\n", "two columns are named 'label'"),
    ],
)
def test_a_heading_without_the_columns_is_refused(text: str, message: str) -> None:
    problem = error(f"\n{text}", **BY_NAME)
    assert problem.line == 2 and message in problem.problem


def test_columns_by_number_have_no_heading() -> None:
    text = "7\tgood\ta, fine day\tx\n8\tbad\tthe dull film\n"
    assert pairs(text, text_column="3", label_column="2") == [
        ("a, fine day", "good"),
        ("the dull film", "bad"),
    ]
    as_json = '{"text": "x"}\t__label__y\n'  # a table, whatever it looks like
    expected = [("__label__y", '{"text": "x"}')]
    assert pairs(as_json, text_column="2", label_column="1") == expected
    problem = error(text, text_column="3", label_column="4")
    assert problem.line == 2 and "has 3 columns, and column 4 is asked for" in problem.problem
    assert error("a\t\n", text_column="1", label_column="2").problem == "the label is empty"


# --- every format ---

EXPECTED = [("a, fine day", "good"), ("the dull film", "bad")]
FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    "TAB": ("a, fine day\tgood\n\nthe dull film\tbad\n", {}),
    "fastText": ("__label__good a, fine day\nthe dull film __label__bad\n", {}),
    "JSON": (lines_of(*({"text": text, "label": label} for text, label in EXPECTED)), {}),
    "TSV": ("label\ttext\ngood\ta, fine day\nbad\tthe dull film\n", BY_NAME),
    "TSV, label last": ("text\tlabel\na, fine day\tgood\nthe dull film\tbad\n", BY_NAME),
    "CSV": ('text,label\n"a, fine day",good\n"the dull\nfilm",bad\n', BY_NAME),
    "numbers": (
        "good\ta, fine day\nbad\tthe dull film\n",
        {"text_column": "2", "label_column": "1"},
    ),
}
every_format = pytest.mark.parametrize("name", FORMATS)


@every_format
def test_every_format_holds_the_same_examples(name: str) -> None:
    text, columns = FORMATS[name]
    assert pairs(text, **columns) == EXPECTED
    assert pairs(text.removesuffix("\n"), **columns) == EXPECTED


@every_format
def test_blocks_may_end_anywhere(name: str) -> None:
    text, columns = FORMATS[name]
    for size in (1, 2, 7, 30):
        blocks = [text[start : start + size] for start in range(0, len(text), size)]
        assert pairs(blocks, **columns) == EXPECTED
    lines = text.splitlines(keepends=True)
    read = labelled_texts(iter(lines), ColumnOptions(**columns))
    assert [len(texts) for texts, _ in read] == [1, 1]  # each as soon as its block is there


@every_format
def test_line_ends_of_windows_are_line_ends(name: str) -> None:
    text, columns = FORMATS[name]
    assert pairs(text.replace("\n", "\r\n"), **columns) == EXPECTED
