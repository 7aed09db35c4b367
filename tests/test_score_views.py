"""The output of `charlm score`: words, tables, sorting, formats, the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from charlm import LanguageModel
from charlm.engines.words import bits_of
from conftest import TEXT, Command

GOLDEN = Path(__file__).parent / "golden"
SENTENCES = ["the cat sat, at home", "  Oh, naïve  ", "", "my aunt"]
LINES = TEXT.splitlines()
FORMATS = ("table", "tsv", "json", "kenlm", "srilm")


@pytest.fixture
def score(charlm_command: Command, model: LanguageModel) -> Command:
    return lambda *arguments, **more: charlm_command("score", "-m", model.path, *arguments, **more)


def as_tsv(record: dict[str, Any]) -> list[str]:
    """The fields of a row, whose values have no tabs and line ends."""
    values = (f"{v:.6g}" if isinstance(v, float) else v for v in record.values())
    return [v if isinstance(v, str) else json.dumps(v) for v in values]


@pytest.mark.parametrize("level", ["char-ngram", "word-ngram", "subword", "byte"])
@pytest.mark.parametrize(("marks", "word"), [([], r"\S+"), (["--punctuation"], r"\w+|[^\w\s]")])
def test_words(charlm_command: Command, level: str, marks: list[str], word: str) -> None:
    model = GOLDEN / f"lm-{level}.safetensors"
    arguments = ["score", *SENTENCES, "--words", *marks, "-m", model, "--format"]
    records, expected = charlm_command(*arguments, "json").objects, []
    for number, (text, record) in enumerate(zip(SENTENCES, records, strict=True), 1):
        *words, end = record["words"]
        found = [(m[0], m.start(), m.end(), len(m[0])) for m in re.finditer(word, text)]
        assert [(w["word"], w["start"], w["end"], w["length"]) for w in words] == found
        assert (end["word"], end["start"], end["end"]) == ("<EOS>", len(text), len(text))
        assert sum(w["bits"] for w in [*words, end]) == pytest.approx(record["bits"], abs=1e-5)
        assert any(w["unknown"] for w in words) == (record["unknown"] > 0)
        for word_id, w in enumerate([*words, end], 1):
            expected.append({"sentence": number, "word_id": word_id, **w})
    heading, *rows = charlm_command(*arguments, "tsv").rows
    assert " ".join(heading) == ("sentence word_id word start end bits entropy_bits length unknown")
    assert rows == [as_tsv(record) for record in expected]


def test_tokens(score: Command, model: LanguageModel) -> None:
    heading, *rows = score("the cat", "a", "--tokens").rows
    assert " ".join(heading) == (
        "sentence token logprob log10prob bits start end rank entropy_bits"
    )
    assert [row[0] for row in rows] == ["1"] * 8 + ["2"] * 2
    assert "".join(row[1] for row in rows) == "the▁cat<EOS>a<EOS>"
    for number, text in enumerate(["the cat", "a"], 1):
        bits = sum(float(row[4]) for row in rows if row[0] == str(number))
        assert bits == pytest.approx(model.score(text).bits, abs=1e-3)


# --- tables

ITEMS = [
    {"id": "1", "sentence": "the cat sat, at home", "note": "a, b"},
    {"id": "2", "sentence": "a bird sang", "note": 'say "x"'},
    {"id": "3", "sentence": "", "note": ""},
]
CSV = 'id,sentence,note\n1,"the cat sat, at home","a, b"\n2,a bird sang,"say ""x"""\n3,,\n'
TSV = 'id\tsentence\tnote\n1\tthe cat sat, at home\ta, b\n2\ta bird sang\tsay "x"\n3\t\t\n'
JSON = "".join(json.dumps(item) + "\n" for item in ITEMS)


@pytest.mark.parametrize(
    ("name", "table"), [("a.csv", CSV), ("a.tsv", TSV), ("a.jsonl", JSON), ("-", TSV)]
)
def test_columns_of_a_table_come_out_beside_the_scores(
    score: Command, model: LanguageModel, tmp_path: Path, name: str, table: str
) -> None:
    file = name if name == "-" else tmp_path / name
    if file != "-":
        (tmp_path / name).write_text(table, encoding="utf-8")
    arguments = ["--file", file, "--text-column", "sentence"]
    records = score(*arguments, "--format", "json", stdin=table.encode()).objects
    scores = model.score([item["sentence"] for item in ITEMS])
    for item, record, of_item in zip(ITEMS, records, scores, strict=True):
        expected = {"id": item["id"], "note": item["note"], **of_item.to_json()}
        assert list(record) == list(expected) and record == pytest.approx(expected)
    heading, *rows = score(*arguments, stdin=table.encode()).rows
    assert heading[:3] == ["id", "note", "logprob"] and heading[-1] == "text"
    shown = [{"id": row[0], "sentence": row[-1], "note": row[1]} for row in rows]
    assert shown == ITEMS
    words = score(*arguments, "--words", "--columns", "id", stdin=table.encode()).rows
    assert words[0][:3] == ["id", "sentence", "word_id"]
    assert [row[:2] + row[3:4] for row in words[-4:]] == [
        ["2", "2", "bird"], ["2", "2", "sang"], ["2", "2", "<EOS>"], ["3", "3", "<EOS>"],
    ]  # fmt: skip


def test_values_are_carried_whole(score: Command, tmp_path: Path) -> None:
    csv, objects = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text('n,t\n"one\ntwo\tthree","a\nb"\n', encoding="utf-8")
    assert score("--file", csv, "--text-column", "t").rows[1][::11] == [r"one\ntwo\tthree", r"a\nb"]
    record = {"n": 1.5, "more": [{"é": None}], "t": "a bird"}
    objects.write_text(json.dumps(record), encoding="utf-8")
    (scored,) = score("--file", objects, "--text-column", "t", "--format", "json").objects
    assert {name: scored[name] for name in ("n", "more")} == {"n": 1.5, "more": [{"é": None}]}
    assert score("--file", objects, "--text-column", "t").rows[1][:2] == ["1.5", '[{"é": null}]']


def test_columns_are_chosen_by_name(score: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,text,b,words,c\n1,x,2,3,4\n", encoding="utf-8")
    arguments = ["--file", file, "--text-column", "text"]
    assert score(*arguments, "--columns", "c,a").rows[0][:3] == ["c", "a", "logprob"]
    assert "a.csv: no column 'd'; its heading has 'a', 'text', 'b', 'words', 'c'" in (
        score(*arguments, "--columns", "a,d").error
    )
    heading = score(*arguments, "--columns", "a,text").rows[0]
    assert heading[:2] == ["a", "logprob"] and heading.count("text") == 1
    assert "charlm_text" not in score(*arguments).rows[0]
    (record,) = score(*arguments, "--words", "--format", "json").objects
    assert record["words"] == "3" and [w["word"] for w in record["charlm_words"]] == ["x", "<EOS>"]
    stdin = file.read_bytes()
    error = score("--text-column", "text", "--columns", "d", stdin=stdin).error
    assert error.startswith("standard input: no column 'd'")
    assert "goes with --text-column" in score("--file", file, "--columns", "a").error


def test_the_text_comes_out_beside_its_words_under_its_name(score: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("item,sentence\n7,a bird\n", encoding="utf-8")
    arguments = ["--file", file, "--text-column", "sentence", "--words"]
    heading, *rows = score(*arguments).rows
    assert heading[:5] == ["item", "sentence", "charlm_sentence", "word_id", "word"]
    assert [row[:5] for row in rows] == [
        ["7", "a bird", "1", "1", "a"], ["7", "a bird", "1", "2", "bird"],
        ["7", "a bird", "1", "3", "<EOS>"],
    ]  # fmt: skip
    assert score(*arguments, "--columns", "item").rows[0][:3] == ["item", "sentence", "word_id"]


def test_a_column_has_its_place_whatever_its_values(score: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,chars\na bird,7\nthe cat,7\n", encoding="utf-8")
    heading, *rows = score("--file", file, "--text-column", "text").rows
    assert heading[0] == "chars" and "charlm_chars" in heading
    assert [row[heading.index("charlm_chars")] for row in rows] == ["7", "8"]
    words = score("--file", file, "--text-column", "text", "--columns", "text", "--words")
    assert words.rows[0][:3] == ["text", "sentence", "word_id"]


def test_lines_of_unknown_characters_are_not_sorted_unless_asked_for(score: Command) -> None:
    stdin = "the cat\n漢字漢字\nesa nhm\nкошка\nthe c漢t\n".encode()
    ran = score("--sort", "bits_per_char", stdin=stdin)
    assert {row[-1] for row in ran.rows[1:]} == {"the cat", "esa nhm", "the c漢t"}
    assert ran.notes[0] == (
        "2 lines (2, 4) are left out: most of their tokens are unknown; --unknown include sorts "
        "them, too"
    )
    ran = score("--sort", "bits_per_char", "--unknown", "include", stdin=stdin)
    assert len(ran.rows) == 6 and "left out" not in ran.notes[0]


def test_no_surprisal_is_below_zero(model: LanguageModel) -> None:
    for score in model.score(["the cat sat on the mat"] * 3, details=True):
        words = (*score.words(), *score.words(punctuation=True))
        for bits in [*(t.bits for t in score.token_scores), *(w.bits for w in words)]:
            assert bits >= 0 and math.copysign(1, bits) == 1
    assert [str(bits_of(x)) for x in (0.0, -0.0, 1e-9)] == ["0.0"] * 3
    assert bits_of(-1e-9) == pytest.approx(1.44e-9, rel=0.01)
    assert bits_of(0.1) < 0  # an error is not hidden


def test_broken_lines_are_named_and_skipped_or_fatal(score: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("n\tt\n1\ta bird\n2\n3\tx\ty\n4\tthe cat\n", encoding="utf-8")
    ran = score("--file", file, "--text-column", "t", "--words")
    assert [(row[0], row[2], row[4]) for row in ran.rows[1:]] == [
        ("1", "1", "a"), ("1", "1", "bird"), ("1", "1", "<EOS>"),
        ("4", "2", "the"), ("4", "2", "cat"), ("4", "2", "<EOS>"),
    ]  # fmt: skip
    assert ran.notes == [
        f"warning: {file}, line 3: 1 values, and the heading has 2; skipped",
        f"warning: {file}, line 4: 3 values, and the heading has 2; skipped",
        f"{file}: 2 lines read, 2 skipped",
    ]
    strict = score("--file", file, "--text-column", "t", "--strict")
    assert strict.error.startswith(f"{file}, line 3: ")


EMPTY = {
    "kenlm": "Perplexity including OOVs:\t1\nPerplexity excluding OOVs:\t1\nOOVs:\t0\nTokens:\t0\n",
    "srilm": "file {file}: 0 sentences, 0 words, 0 OOVs\n"
    "0 zeroprobs, logprob= 0 ppl= undefined ppl1= undefined\n",
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("options", [[], ["--words"], ["--text-column", "t"], ["--sort", "bits"]])
def test_an_empty_file_gives_an_empty_result(
    score: Command, tmp_path: Path, format: str, options: list[str]
) -> None:
    (tmp_path / "empty").touch()
    file = tmp_path / "empty"
    if options == ["--words"] and format in EMPTY:
        return  # they do not go together
    ran = score("--file", file, "--format", format, *options)
    assert ran.text == EMPTY.get(format, "").format(file=file) and ran.notes == []


# --- which sentences, and in which order


def ordered(records: list[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    """Sorted by hand: a measure, with - the lowest first. Equal ones stay in their order."""
    sign = 1 if measure.startswith("-") else -1
    return sorted(records, key=lambda record: sign * record[measure.removeprefix("-")])


def best(records: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    groups = dict.fromkeys(record[column] for record in records)
    return [
        max((r for r in records if r[column] == group), key=lambda r: r["logprob"])
        for group in groups
    ]


def test_sentences_are_sorted_and_selected(score: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    rows = "".join(f"{line[:5]}\t{line}\n" for line in LINES)
    file.write_text(f"who\tsentence\n{rows}", encoding="utf-8")
    arguments = ["--file", file, "--text-column", "sentence", "--format", "json"]
    all = score(*arguments).objects
    for measure in ("bits_per_char", "-perplexity", "tokens", "-chars"):
        expected = ordered(all, measure)
        assert score(*arguments, "--sort", measure).objects == expected
        assert score(*arguments, "--sort", measure, "--top", 7).objects == expected[:7]
    of_each = best(all, "who")
    assert len(of_each) == 4
    assert score(*arguments, "--best-by", "who").objects == of_each
    two = score(*arguments, "--best-by", "who", "--columns", "who", "--sort", "bits", "--top", 2)
    assert two.objects == ordered(of_each, "bits")[:2]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--sort", "surprise"], "--sort surprise: choose logprob, bits, "),
        (["--top", "3"], "--top: goes with --sort"),
        (["--sort", "bits", "--top", "0"], "--top 0: must be 1 or more"),
        (["--best-by", "who"], "--best-by who: goes with --text-column"),
        (["--text-column", "t", "--best-by", "who"], "--best-by who: there is no such column"),
        (["--text-column", "x"], "no column 'x'; its heading has 't', 'n'"),
        (["--html", "no/page.html"], "no: no such folder"),
    ],
)
def test_a_selection_that_makes_no_sense_is_one_line(
    score: Command, options: list[str], error: str
) -> None:
    assert error in score(*options, stdin=b"t\tn\nthe cat\t1\n").error


# --- the formats of other programs

KNOWN_AND_UNKNOWN = ["the cat sat", "жa", "", "a bird ж"]


def tokens_of(model: LanguageModel, texts: list[str]) -> list[list[tuple[float, bool]]]:
    """log10 p of each token, and whether it is unknown."""
    return [
        [(t.logprob / math.log(10), t.is_unknown) for t in score.token_scores]
        for score in model.score(texts)
    ]


def test_the_totals_of_kenlm(score: Command, model: LanguageModel) -> None:
    *lines, including, excluding, oovs, number = score(
        *KNOWN_AND_UNKNOWN, "--format", "kenlm"
    ).text.splitlines()
    sentences = tokens_of(model, KNOWN_AND_UNKNOWN)
    for line, tokens in zip(lines, sentences, strict=True):
        total = re.search(r"Total: (\S+) OOV: (\d+)$", line)
        assert total and float(total[1]) == pytest.approx(sum(p for p, _ in tokens), rel=1e-5)
        assert int(total[2]) == sum(unknown for _, unknown in tokens) == line.count("=0 ")
    every = [token for tokens in sentences for token in tokens]
    known = [p for p, unknown in every if not unknown]
    for line, values in ((including, [p for p, _ in every]), (excluding, known)):
        perplexity = 10 ** (-sum(values) / len(values))
        assert float(line.split(":")[1]) == pytest.approx(perplexity, rel=1e-5)
    assert (oovs, number) == (f"OOVs:\t{len(every) - len(known)}", f"Tokens:\t{len(every)}")
    assert len(known) == len(every) - 2


def srilm_totals(text: str) -> list[tuple[float, ...]]:
    """sentences, words, OOVs, zeroprobs, logprob, ppl and ppl1 of each summary."""
    number = r"(\S+)"
    pattern = (
        rf"{number} sentences, {number} words, {number} OOVs\n"
        rf"{number} zeroprobs, logprob= {number} ppl= {number} ppl1= {number}\n"
    )
    found = re.findall(pattern, text.replace("undefined", "inf"))
    return [tuple(map(float, values)) for values in found]


def expected_totals(sentences: list[list[tuple[float, bool]]]) -> tuple[float, ...]:
    """As SRILM counts: unknown words have no part in logprob and in the perplexities."""
    known = [p for tokens in sentences for p, unknown in tokens if not unknown]
    ends, oovs = len(sentences), sum(map(len, sentences)) - len(known)
    words = sum(map(len, sentences)) - ends
    ppl = 10 ** (-sum(known) / len(known))
    ppl1 = 10 ** (-sum(known) / (len(known) - ends)) if len(known) > ends else math.inf
    return ends, words, oovs, 0, sum(known), ppl, ppl1


def test_the_totals_of_srilm(score: Command, model: LanguageModel) -> None:
    text = score(*KNOWN_AND_UNKNOWN, "--format", "srilm").text
    sentences = tokens_of(model, KNOWN_AND_UNKNOWN)
    *each, total = srilm_totals(text)
    for found, tokens in zip(each, sentences, strict=True):
        assert found == pytest.approx(expected_totals([tokens]), rel=1e-5)
    assert total == pytest.approx(expected_totals(sentences), rel=1e-5)
    assert text.splitlines()[-2].startswith("file -: 4 sentences")
    known = re.findall(r"= \[\d+gram\] (\S+) \[ (\S+) \]", text)
    for (p, log10), (value, _) in zip(
        known, [t for tokens in sentences for t in tokens if not t[1]], strict=True
    ):
        assert (float(p), float(log10)) == pytest.approx((10**value, value), rel=1e-4)
    assert text.count("\t= [OOV] 0 [ -inf ]\n") == total[2] == 2
    assert text.startswith("the cat sat\n\tp( t | <s> ) \t= [2gram] ")
    assert "\tp( h | t ...) \t= [3gram] " in text and "\tp( </s> | <s> ) \t= [2gram] " in text


def test_srilm_totals_of_a_text_are_those_of_its_lines(
    charlm_command: Command, score: Command, model: LanguageModel, tmp_path: Path
) -> None:
    file = tmp_path / "text"
    file.write_text("".join(f"{line}\n" for line in [*LINES, "жa"]), encoding="utf-8")
    options = ["--reset-lines", "--format", "srilm", "-m", model.path]
    evaluated = charlm_command("evaluate", file, *options)
    assert evaluated.text.startswith(f"file {file}: 81 sentences, ")
    (found,) = srilm_totals(evaluated.text)
    *_, of_lines = srilm_totals(score("--file", file, "--format", "srilm").text)
    assert found == pytest.approx(of_lines, rel=1e-5)
    log10 = [r["log10prob"] for r in score("--file", file, "--format", "json").objects]
    unknown = next(p for p, is_unknown in tokens_of(model, ["жa"])[0] if is_unknown)
    assert found[4] == pytest.approx(sum(log10) - unknown, rel=1e-5)
