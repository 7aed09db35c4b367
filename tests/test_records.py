"""Tables of texts: TSV, CSV and JSON lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.corpus.records import BrokenLines, _goes_on, read_records
from charlm.errors import InputError

ROWS = [{"item": "1", "text": "a, b"}, {"item": "2", "text": 'say "hi"'}, {"item": "", "text": ""}]
JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = 'item,text\n1,"a, b"\n2,"say ""hi"""\n,\n'
TSV = 'item\ttext\n1\ta, b\n2\tsay "hi"\n\t\n'


def records(path: Path, warnings: list[str] | None = None) -> list[tuple[int, dict[str, object]]]:
    """strict, unless the warnings are collected"""
    warn = print if warnings is None else warnings.append
    broken = BrokenLines(str(path), warnings is None, warn)
    groups = read_records(str(path), "utf-8", ["text"], (), broken)
    return [(record.line, record.fields) for group in groups for record in group]


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("a.jsonl", JSON_LINES, 1),
        ("a.json", JSON_LINES, 1),
        ("a.json", json.dumps(ROWS), 1),
        ("a.txt", json.dumps(ROWS, indent=2), 1),
        ("a.csv", CSV, 2),
        ("a.csv", TSV, 2),
        ("a.tsv", CSV, 2),
        ("a.json", CSV.replace(",", ";").replace("a; b", "a, b"), 2),
        ("a.csv", 'item | text\n1 | a, b\n2 | "say ""hi"""\n |\n', 2),
        ("a.csv", 'item, text\n1, "a, b"\n2, "say ""hi"""\n,\n', 2),
        ("a.tsv", TSV, 2),
        ("no-suffix", JSON_LINES, 1),
        ("no-suffix", CSV, 2),
        ("no-suffix", TSV, 2),
    ],
)
def test_every_kind_of_table_is_read(tmp_path: Path, name: str, text: str, first: int) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert records(path) == list(enumerate(ROWS, first))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv", "a"])
def test_compressed_tables_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CSV.encode()))
    assert [fields for _, fields in records(path)] == ROWS


def test_a_blank_within_a_heading_is_a_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("my text,text\n a,  b\n", encoding="utf-8")
    assert records(path) == [(2, {"my text": " a", "text": "  b"})]


def test_a_problem_of_many_lines_is_one_warning(tmp_path: Path) -> None:
    path, warnings = tmp_path / "a.jsonl", list[str]()
    broken = ['{"text": null}', '{"other": 1}', '{"text": null}', "{", '{"text": null}'] * 2
    path.write_text("\n".join([*broken, '{"text": "a"}']), encoding="utf-8")
    assert [fields["text"] for _, fields in records(path, warnings)] == ["a"]
    assert [warning.split(f"{path}: ")[1] for warning in warnings] == [
        "6 lines (1, 3, 5, …): 'text' is null, and not text; skipped",
        "2 lines (2, 7): no field 'text'; there is 'other'; skipped",
        "2 lines (4, 9): not JSON (Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1)); skipped",
        "1 lines read, 10 skipped",
    ]


def test_a_file_without_any_such_record_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"sentence": "a"}\n' * 3, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"3 lines \(1, 2, 3\): no field 'text'; there is 'sentence'"
    ):
        records(path, [])


def test_json_that_is_neither_lines_nor_an_array_of_objects_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"},', encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        records(path)
    path.write_text('[{"text": "a"}, 1]', encoding="utf-8")
    with pytest.raises(InputError, match="other values than objects"):
        records(path)


def test_a_quoted_value_may_have_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"one\ntwo, ""three""\n",4\nfive,6\n', encoding="utf-8")
    assert records(path) == [
        (4, {"text": 'one\ntwo, "three"\n', "n": "4"}), (5, {"text": "five", "n": "6"}),
    ]  # fmt: skip


@given(st.lists(st.text('a",;', max_size=6), min_size=1, max_size=4), st.sampled_from(",;"))
def test_records_of_csv_end_where_the_csv_module_ends_them(
    lines: list[str], separator: str
) -> None:
    text = io.StringIO("\n".join([*lines, ""]), newline="")
    reader = csv.reader(text, delimiter=separator)
    expected = [reader.line_num for _ in reader]
    ends, inside = [], False
    for number, line in enumerate(lines, 1):
        inside = _goes_on(line, inside, separator)
        if not inside:
            ends.append(number)
    assert ends == (expected[:-1] if inside else expected)


def test_a_quotation_mark_within_a_value_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('item,text\n1,a 12" pipe\n2,the dog\n', encoding="utf-8")
    assert [fields["text"] for _, fields in records(path)] == ['a 12" pipe', "the dog"]


def test_two_columns_with_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\tid\n1\ta\t2\n", encoding="utf-8")
    with pytest.raises(InputError, match="two columns are named 'id'"):
        records(path)


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}\n', encoding="utf-8")
    assert [line for line, _ in records(path)] == [2, 5]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": 1}\n{"text": "b"}\n',
            "line 2: 'text' is a number, and not text",
        ),
        (
            "a.jsonl",
            '{"text": "a"}\n{"item": 1}\n{"text": "b"}\n',
            "line 2: no field 'text'; there is 'item'",
        ),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n{"text": "b"}\n', "line 2: 'text' is null"),
        ("a.jsonl", '{"text": "a"}\n[1]\n{"text": "b"}\n', "line 2: not a JSON object"),
        ("a.jsonl", '{"text": "a"}\n{"text\n{"text": "b"}\n', "line 2: not JSON"),
        ("a.tsv", "text\tn\na\t1\nx\nb\t2\n", "line 3: 1 values, and the heading has 2"),
        ("a.csv", "text,n\na,1\nx,2,3\nb,2\n", "line 3: 3 values, and the heading has 2"),
    ],
)
def test_broken_lines_are_named_and_skipped_or_fatal(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    path, warnings = tmp_path / name, list[str]()
    path.write_text(text, encoding="utf-8")
    assert [fields["text"] for _, fields in records(path, warnings)] == ["a", "b"]
    assert problem in warnings[0]
    assert warnings[1:] == [f"{path}: 2 lines read, 1 skipped"]
    with pytest.raises(InputError, match="strict"):
        records(path)


def test_a_quoted_value_that_does_not_end_is_named(tmp_path: Path) -> None:
    path, warnings = tmp_path / "a.csv", list[str]()
    path.write_text('text\na\n"b\nc\n', encoding="utf-8")
    assert [fields["text"] for _, fields in records(path, warnings)] == ["a"]
    assert "line 3: a quoted value begins here and does not end" in warnings[0]


def test_a_heading_without_the_column_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sentence,n\na,1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'text'; its heading has 'sentence', 'n'"):
        records(path, [])


def test_an_empty_table_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("", encoding="utf-8")
    assert records(path) == []


def test_carriage_returns_alone_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\r1,a\r2,b\r")
    with pytest.raises(InputError, match=r"a\.csv: carriage returns without line feeds"):
        records(path, [])
