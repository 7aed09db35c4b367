"""`charlm filter`: which lines are kept, and that they stay as they are."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from charlm import LanguageModel
from charlm.uses import filtering
from conftest import TEXT, Command, shuffled

GOLDEN = Path(__file__).parent / "golden"
LINES = shuffled(TEXT).splitlines()


@pytest.fixture
def filter(charlm_command: Command, model: LanguageModel) -> Command:
    return lambda *arguments, **more: charlm_command("filter", "-m", model.path, *arguments, **more)


@pytest.fixture(scope="module")
def bits(model: LanguageModel) -> np.ndarray:
    """The bits per character of `LINES`."""
    return np.array([score.bits_per_char for score in model.score(LINES)])


def kept(bits: np.ndarray, low: float, high: float) -> str:
    return "".join(f"{LINES[k]}\n" for k in np.flatnonzero((bits >= low) & (bits <= high)))


def between(bits: np.ndarray, rank: int) -> float:
    """A bound between two lines, which rounding does not move."""
    return float(np.sort(bits)[rank : rank + 2].mean())


def test_lines_within_bounds_are_kept_in_their_order(
    filter: Command, corpus: Path, bits: np.ndarray
) -> None:
    low, high = between(bits, 9), between(bits, 69)
    assert len(kept(bits, low, high).splitlines()) == 60
    for options, bounds in (
        (["--min", low], (low, np.inf)),
        (["--max", high], (-np.inf, high)),
        (["--min", low, "--max", high], (low, high)),
    ):
        assert filter(corpus, *options).text == kept(bits, *bounds)
        dropped = filter(corpus, *options, "--drop").text.splitlines()
        complement = {*LINES} - {*kept(bits, *bounds).splitlines()}
        assert dropped == [line for line in LINES if line in complement]
    stdin = corpus.read_bytes()
    assert filter("--max", high, stdin=stdin).text == kept(bits, -np.inf, high)
    assert filter("-", corpus, "--max", high, stdin=stdin).text == 2 * kept(bits, -np.inf, high)


@pytest.mark.parametrize(("low", "high"), [(0, 0.9), (0.1, 1), (0.25, 0.75), (0, 1)])
def test_quantiles_are_those_of_all_lines(
    filter: Command, corpus: Path, tmp_path: Path, bits: np.ndarray, low: float, high: float
) -> None:
    quantiles = f"{low}:{high}"
    edges = np.quantile(bits, [low, high])
    expected = kept(bits, edges[0] if low else -np.inf, edges[1] if high < 1 else np.inf)
    assert filter(corpus, "--quantiles", quantiles).text == expected
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("".join(f"{line}\n" for line in LINES[:30]), encoding="utf-8")
    second.write_text("".join(f"{line}\n" for line in LINES[30:]), encoding="utf-8")
    assert filter(first, second, "--quantiles", quantiles).text == expected


def test_all_lines_are_written_into_three_files(
    filter: Command, corpus: Path, tmp_path: Path, bits: np.ndarray
) -> None:
    first, second = np.quantile(bits, [0.3, 0.6])
    assert filter(corpus, "--into", tmp_path / "part").text == ""
    found = {path.suffix: path.read_text(encoding="utf-8") for path in tmp_path.glob("part.*")}
    assert found == {
        ".head": kept(bits, -np.inf, first),
        ".middle": kept(bits, first, second),
        ".tail": kept(bits, second, np.inf),
    }
    assert sum(len(part.splitlines()) for part in found.values()) == len(LINES) == 80


@pytest.mark.parametrize("options", [["--max", 99], ["--quantiles", "0:1"]])
def test_the_score_is_a_column(
    filter: Command, corpus: Path, bits: np.ndarray, options: list[object]
) -> None:
    rows = filter(corpus, *options, "--score").rows
    assert [line for _, line in rows] == LINES
    np.testing.assert_allclose([float(score) for score, _ in rows], bits, rtol=1e-4)


OBJECTS = [
    r'{"text": "the cat sat",   "n": 1.50e3, "bytes": "\u00e9é\ud800"}',
    r'  {"id": {"a": [1, {}]}, "text": "a b\u0069rd"}  ',
    r'{"text":""}' + "\r",
]
TEXTS = ["the cat sat", "a bird", ""]


def test_objects_are_kept_as_they_are(
    filter: Command, model: LanguageModel, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes("".join(f"{line}\n" for line in OBJECTS).encode())
    assert filter(file, "--field", "text", "--max", 99).stdout == file.read_bytes()
    scored = filter(file, "--field", "text", "--max", 99, "--score").stdout.decode()
    for line, before, text in zip(scored.split("\n"), OBJECTS, TEXTS, strict=False):
        start, end = before.rstrip()[:-1], before[len(before.rstrip()) :]
        assert line.startswith(f'{start}, "bits_per_char": ') and line.endswith(f"}}{end}")
        found = json.loads(line)
        expected = model.score(text).bits_per_char
        assert found.pop("bits_per_char") == pytest.approx(expected, rel=1e-4)
        assert found == json.loads(before)


def test_broken_objects_are_named_and_skipped_or_fatal(filter: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = ['{"text": "a"}', '{"text": 1}', '["text"]', '{"te', '{"text": "b"}', "{}"]
    file.write_text("\n".join(lines), encoding="utf-8")
    problems = ["'text' is a number", "not a JSON object", "not JSON (", "no field 'text'"]
    for options in (["--max", 99], ["--quantiles", "0:1"]):
        ran = filter(file, "--field", "text", *options)
        assert ran.text.splitlines() == [lines[0], lines[4]]
        *notes, summary = ran.notes
        for note, number, problem in zip(notes, (2, 3, 4, 6), problems, strict=True):
            assert note.startswith(f"warning: {file}, line {number}: {problem}")
        assert summary == "6 lines read: 2 kept, 0 dropped, 4 skipped"
        error = filter(file, "--field", "text", *options, "--strict").error
        assert error.startswith(f"{file}, line 2: {problems[0]}")


def test_jobs_do_not_change_a_byte(
    filter: Command, corpus: Path, bits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "LINES_AT_ONCE", 7)
    options = [corpus, "--max", between(bits, 39), "--score"]
    one = filter(*options)
    assert len(one.rows) == 40 and filter(*options, "--jobs", 2) == one


def test_a_field_that_no_object_has_is_an_error(filter: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n' * 5, encoding="utf-8")
    error = filter(file, "--field", "sentence", "--max", 9).error
    assert error == (
        f"{file}: 5 lines (1, 2, 3, …): no field 'sentence'; there is 'text'; no line of it can be "
        "read"
    )
    file.write_text('[{"text": "a"}]', encoding="utf-8")
    assert "not an object on each line" in filter(file, "--field", "text", "--max", 9).error


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"\xef\xbb\xbfthe cat\nthe dog\n", b"\xef\xbb\xbfthe cat\nthe dog\n"),
        (b"\xef\xbb\xbfzqxj zqxj\nthe dog\n", b"\xef\xbb\xbfthe dog\n"),
        (b"the cat\nthe dog", b"the cat\nthe dog"),
        (b"the cat\r\nthe dog\r\nzqxj zqxj", b"the cat\r\nthe dog\r\n"),
        (b"the cat\0\n\xff\n", b"the cat\0\n"),
    ],
)
def test_marks_and_line_ends_of_a_file_stay(
    filter: Command, tmp_path: Path, text: bytes, kept: bytes
) -> None:
    file = tmp_path / "text"
    file.write_bytes(text)
    assert filter(file, "--max", 5).stdout == kept
    assert filter(file, "--max", 999).stdout == text
    rest = filter(file, "--max", 5, "--drop").stdout.removeprefix(b"\xef\xbb\xbf")
    assert len(rest) + len(kept) == len(text)
    two = filter(file, file, "--max", 999).stdout
    mark = b"\xef\xbb\xbf"
    assert two == text + b"\n" * (not text.endswith(b"\n")) + text.removeprefix(mark)


def test_each_file_has_an_output_in_a_folder(filter: Command, tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt.gz", tmp_path / "b.txt"
    a.write_bytes(gzip.compress(b"the cat\nzqxj zqxj\n"))
    b.write_bytes(b"\xef\xbb\xbfzqxj zqxj\nthe dog")
    ran = filter(a, b, "--max", 4, "--out", tmp_path / "kept")
    assert ran.text == "" and ran.notes[-1] == "4 lines read: 2 kept, 2 dropped"
    found = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert found == {"a.txt": b"the cat\n", "b.txt": b"\xef\xbb\xbfthe dog"}
    assert "would be replaced" in filter(b, "--max", 4, "--out", tmp_path).error
    assert "two files are named b.txt" in filter(b, b, "--max", 4, "--out", tmp_path / "x").error
    assert "standard input has no name" in filter("--max", 4, "--out", tmp_path / "x").error


def test_shards_have_all_lines_together(filter: Command, corpus: Path) -> None:
    shards = [filter(corpus, "--max", 3, "--shard", f"{k}/3").text.splitlines() for k in (1, 2, 3)]
    whole = filter(corpus, "--max", 3).text.splitlines()
    assert sorted(line for shard in shards for line in shard) == sorted(whole)
    expected = [line for k, line in enumerate(LINES) if line in whole and k % 3 == 1]
    assert shards[1] == expected
    assert "give I/N" in filter(corpus, "--max", 3, "--shard", "4/3").error


def test_lines_that_were_there_before_are_dropped(charlm_command: Command, tmp_path: Path) -> None:
    text = "The cat, 12!\n\nthe cat  99\nThe cat, 12!\n\nthe dog\n"
    ran = charlm_command("filter", "--dedupe", "exact", stdin=text.encode())
    assert ran.text == "The cat, 12!\n\nthe cat  99\n\nthe dog\n"
    assert ran.notes == ["6 lines read: 5 kept, 0 dropped, 1 duplicates"]
    ran = charlm_command("filter", "--dedupe", "near", stdin=text.encode())
    assert ran.text == "The cat, 12!\n\n\nthe dog\n"
    file = tmp_path / "text"
    file.write_text(text, encoding="utf-8")
    ran = charlm_command("filter", file, file, "--dedupe", "near")
    assert ran.text.count("the dog") == 1


RAW = b"the cat\r\n\xff\xfe\n\xc3\n\r\n\n a\rb \0\t\r\r\nna\xc3\xafve\n\xed\xa0\x80\n"


def test_bytes_stay_as_they_are(charlm_command: Command) -> None:
    arguments = ["filter", "-m", GOLDEN / "lm-byte.safetensors"]
    assert charlm_command(*arguments, "--max", 999, stdin=RAW).stdout == RAW
    low, high = (
        charlm_command(*arguments, "--max", 10, *options, stdin=RAW).stdout.split(b"\n")
        for options in ([], ["--drop"])
    )
    assert len(low) > 1 < len(high)
    assert sorted(low[:-1] + high[:-1]) == sorted(RAW.split(b"\n")[:-1])
    scored = charlm_command(*arguments, "--max", 999, "--score", stdin=RAW).stdout
    lines = [line.partition(b"\t")[2] + b"\n" for line in scored.split(b"\n")[:-1]]
    assert b"".join(lines) == RAW


def test_the_end_of_a_line_has_no_part_in_its_score(filter: Command, model: LanguageModel) -> None:
    lines = [b"the cat", b"the cat\r"]
    (first, _), (second, _) = (
        filter("--max", 99, "--score", stdin=line + b"\n").rows[0] for line in lines
    )
    assert first == second


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16", "utf-16-be"])
def test_the_encoding_stays(filter: Command, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "text"
    file.write_bytes("the café\nöl\r\na bird\n".encode(encoding))
    assert filter(file, "--max", 99, "--encoding", encoding).stdout == file.read_bytes()


@pytest.mark.parametrize("options", [["--max", 3], ["--quantiles", "0.1:0.9"], ["--into", "part"]])
@pytest.mark.parametrize("field", [[], ["--field", "text"]])
def test_an_empty_file_gives_an_empty_result(
    filter: Command, tmp_path: Path, options: list[str], field: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    ran = filter("empty", *options, *field)
    counts = "0 in part.head, 0 in part.middle, 0 in part.tail"
    counted = counts if "--into" in options else "0 kept, 0 dropped"
    assert ran.text == "" and ran.notes == [f"0 lines read: {counted}"]
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    parts = ["part.head", "part.middle", "part.tail"] if "--into" in options else []
    assert sizes == dict.fromkeys(["empty", *parts], 0)


NO_BOUNDS = "give --min and --max, or --quantiles, or --into, or --dedupe"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], NO_BOUNDS),
        (
            ["--max", "3", "--quantiles", "0:1"],
            NO_BOUNDS,
        ),
        (["--min", "3", "--max", "2"], "--min 3 and --max 2: nothing is between them"),
        (["--min", "nan"], "--min nan and --max inf: nothing is between them"),
        (["--quantiles", "0.9:0.1"], "--quantiles 0.9:0.1: give two numbers from 0 to 1"),
        (["--quantiles", "5"], "--quantiles 5: give two numbers from 0 to 1"),
        (["--quantiles", "0:1"], "--quantiles and --into read twice: name a file"),
        (["--into", "part"], "--quantiles and --into read twice: name a file"),
        (["--into", "no/part"], "no: no such folder"),
        (["--into", "part", "--drop"], "--drop: goes with bounds"),
        (["--max", "3", "--jobs", "0"], "--jobs 0: must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_one_line(filter: Command, options: list[str], error: str) -> None:
    assert filter(*options).error.startswith(error)


def test_a_pipe_with_a_name_is_not_read_twice(filter: Command) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    error = filter(f"/dev/fd/{reader}", "--quantiles", "0:1").error
    os.close(reader)
    assert error.startswith("--quantiles and --into read twice")


def test_the_ngram_model_alone_filters_without_torch(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("the harbour was quiet\n" * 20_000, encoding="utf-8")  # torch would pay
    code = (
        "import sys; from charlm.cli import run; "
        f"sys.argv = ['charlm', 'filter', {str(text)!r}, '--max', '99', '--ngram-only', "
        f"'-m', {str(GOLDEN / 'lm-char-ngram.safetensors')!r}]\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(str('torch' in sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert ran.stdout == text.read_bytes()
    assert ran.stderr.decode().endswith("False")
