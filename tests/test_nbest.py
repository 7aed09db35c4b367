"""n-best lists: their formats, their order, and weights that are tuned."""

from __future__ import annotations

import json
import math

import pytest

from charlm import LanguageModel
from charlm.corpus.records import BrokenLines
from charlm.errors import InputError
from charlm.uses.nbest import ScoredHypothesis, Weights, edits, scored_lists, tuned
from charlm.uses.nbest_formats import Hypothesis, Json, Kaldi, hypotheses, opened

GOOD, BAD = "the cat sat at home", "the cat sad at home"
MOSES = f"0 ||| {BAD} ||| d= -1 ||| -2.5\n0 ||| {GOOD} ||| d= -2 ||| -3\n1 ||| a bird ||| ||| -1\n"
SRILM = f"-12.5 -3 5 {BAD}\n-12.75 -4 5 {GOOD}\n"
KALDI = f"utt-1-1 {BAD}\nutt-1-2 {GOOD}\nutt-2-1\n"
TSV = f"id\tscore\thypothesis\n7\t-2.5\t{BAD}\n7\t-3\t{GOOD}\n"
JSON = "".join(
    json.dumps({"id": 7, "hypothesis": text, "score": score, "more": [1]}) + "\n"
    for text, score in ((BAD, -2.5), (GOOD, -3))
)
EXPECTED = {
    "moses": ([["0", "0"], ["1"]], -3.0, math.e),
    "srilm": ([["file", "file"]], -12.75, 10.0),
    "kaldi": ([["utt-1", "utt-1"], ["utt-2"]], 0.0, math.e),
    "tsv": ([["7", "7"]], -3.0, math.e),
    "json": ([["7", "7"]], -3.0, math.e),
}
LISTS = {"moses": MOSES, "srilm": SRILM, "kaldi": KALDI, "tsv": TSV, "json": JSON}


def read(text: str, model: LanguageModel) -> tuple[object, list[list[ScoredHypothesis]]]:
    kind, lines = opened(iter(text.splitlines()), None)
    broken = BrokenLines("file", True, print)
    found = hypotheses(kind, lines, "file", broken)
    return kind, list(scored_lists(found, model.iter_scores, kind.base))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_format_is_recognised_and_read(name: str, model: LanguageModel) -> None:
    names, score, base = EXPECTED[name]
    kind, lists = read(LISTS[name], model)
    assert kind.name == name  # type: ignore[attr-defined]
    assert [[s.hypothesis.list for s in one] for one in lists] == names
    second = lists[0][1]
    assert (second.hypothesis.text, second.hypothesis.score) == (GOOD, score)
    assert second.logprob == pytest.approx(model.score(GOOD).logprob / math.log(base), abs=1e-4)
    total = second.total(Weights(2.0, 0.5))
    assert total == pytest.approx(score + 2 * second.logprob + 0.5 * 5)


def test_lists_are_written_in_kind(model: LanguageModel) -> None:
    written = {}
    for name, text in LISTS.items():
        kind, lists = read(text, model)
        written[name] = [kind.written(s.hypothesis, -1.5, -4.25) for s in lists[0]]  # type: ignore[attr-defined]
    assert written["moses"][1] == f"0 ||| {GOOD} ||| d= -2 charlm= -1.5 ||| -4.25"
    assert written["srilm"][1] == f"-12.75 -1.5 5 {GOOD}"
    assert written["kaldi"] == ["utt-1-1 4.25", "utt-1-2 4.25"]
    assert written["tsv"][1] == f"7\t-3\t{GOOD}\t-1.5\t-4.25"
    assert json.loads(written["json"][1]) == {
        "id": 7, "hypothesis": GOOD, "score": -3, "more": [1], "logprob": -1.5, "total": -4.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f"utt-1-1 {BAD}\nutt-1-2 {GOOD} \n",
        f"utt-1-1\t{BAD}\nutt-1-2\t{GOOD}\n",
        f"utt-1-1  {BAD}\n  utt-1-2\t {GOOD.replace(' ', '  ')}\t\n",
        f"0 |||  {BAD} ||| ||| 0\n0 ||| {GOOD.replace(' ', '  ')} ||| ||| 0\n",
        f"-12.5 -3 5  {BAD}\n-12.75 -4 5 {GOOD.replace(' ', '  ')} \n",
        f"id,hypothesis\n1,{BAD}\n1,{GOOD}\n",
        f"id; hypothesis\n1; {BAD}\n1; {GOOD}\n",
    ],
)
def test_white_space_of_a_format_is_not_a_part_of_a_hypothesis(
    text: str, model: LanguageModel
) -> None:
    _, ((first, second),) = read(text, model)
    assert [first.hypothesis.text, second.hypothesis.text] == [BAD, GOOD]
    assert second.hypothesis.written_text.split() == GOOD.split()


def test_white_space_of_a_value_is_a_part_of_a_hypothesis(model: LanguageModel) -> None:
    for text in (f"id\thypothesis\n1\t{GOOD} \n", '{"id": 1, "hypothesis": "' + GOOD + ' "}\n'):
        _, ((only,),) = read(text, model)
        assert only.hypothesis.text == f"{GOOD} "


def test_a_table_with_commas_is_written_with_commas(model: LanguageModel) -> None:
    kind, ((only,),) = read('id,hypothesis,score\n1,"a, b",2\n', model)
    assert only.hypothesis.text == "a, b" and only.hypothesis.score == 2
    assert kind.heading() == "id,hypothesis,score,logprob,total"  # type: ignore[attr-defined]
    assert kind.written(only.hypothesis, -1.5, -4.25) == '1,"a, b",2,-1.5,-4.25'  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}, 5, True])
def test_a_hypothesis_that_is_not_text_is_skipped(model: LanguageModel, value: object) -> None:
    lines = [json.dumps({"id": 1, "hypothesis": text}) for text in (GOOD, value)]
    warnings: list[str] = []
    broken = BrokenLines("file", False, warnings.append)
    kind, read_lines = opened(iter(lines), None)
    assert [h.text for h in hypotheses(kind, read_lines, "file", broken)] == [GOOD]
    assert "line 2: 'hypothesis' is" in warnings[0] and "not text" in warnings[0]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("moses", "0 ||| a"),
        ("moses", "0 ||| a ||| ||| x"),
        ("srilm", "-1 -2 three words here"),
        ("kaldi", "utterance words"),
        ("tsv", "7\t-3"),
        ("json", "[]"),
        ("json", '{"id": 1}'),
    ],
)
def test_broken_lines_are_named(name: str, line: str, model: LanguageModel) -> None:
    text, warnings = LISTS[name], list[str]()
    kind, lines = opened(iter([*text.splitlines(), line]), name)
    whole = list(hypotheses(kind, lines, "file", BrokenLines("file", False, warnings.append)))
    assert len(whole) == len(text.splitlines()) - (name == "tsv")
    number = len(text.splitlines()) + 1
    assert f"file, line {number}: " in warnings[0]
    assert warnings[1:] == [f"file: {len(whole)} lines read, 1 skipped"]


def test_a_table_without_the_columns_is_refused() -> None:
    kind, lines = opened(iter(["number\ttext"]), "tsv")
    with pytest.raises(InputError, match="'id'"):
        list(hypotheses(kind, lines, "file", BrokenLines("file", False, print)))


@pytest.mark.parametrize(
    ("words", "reference", "expected"),
    [("", "", 0), ("a b", "", 2), ("", "a", 1), ("a b c", "a c", 1), ("b a", "a b", 2),
     ("x b y d", "a b c d", 2)],
)  # fmt: skip
def test_edits_are_the_least_number(words: str, reference: str, expected: int) -> None:
    assert edits(words.split(), reference.split()) == expected


def listed(*rows: tuple[str, float, float]) -> list[ScoredHypothesis]:
    return [
        ScoredHypothesis(Hypothesis("x", text, score, None, text), logprob)
        for text, score, logprob in rows
    ]


def test_tuned_weights_leave_the_fewest_wrong_words() -> None:
    """The first list needs a weight above 0.5, the second one below 2."""
    lists = [listed(("a b", 0, -3), ("a c", -1, -1)), listed(("d", 0, -1), ("d e f", -1, -0.5))]
    result = tuned(lists, ["a c", "d"])
    assert 0.5 < result.weights.language_model < 2
    assert (result.errors, result.before, result.fewest, result.words) == (0, 1, 0, 3)


def test_a_word_penalty_is_found_where_the_language_model_does_not_help() -> None:
    lists = [listed(("a", 0, -1), ("a b c", -1, -1)), listed(("d", 0, -1), ("d e", -1.5, -1))]
    result = tuned(lists, ["a b c", "d"])
    assert 0.5 < result.weights.word_penalty < 1.5 and result.errors == 0


def test_there_must_be_a_reference_for_each_list() -> None:
    with pytest.raises(InputError, match="2 references for 1 lists"):
        tuned([listed(("a", 0, 0))], ["a", "b"])


def test_lists_without_lines_are_empty() -> None:
    kind, lines = opened(iter([]), None)
    assert list(hypotheses(kind, lines, "file", BrokenLines("file", True, print))) == []


def test_a_line_end_in_a_value_of_csv_is_written_in_quotes(model: LanguageModel) -> None:
    kind, ((first, second),) = read('id,hypothesis\n1,"a\nb"\n1,c\n', model)
    assert first.hypothesis.text == "a\nb"
    written = kind.written(first.hypothesis, -1, -2)  # type: ignore[attr-defined]
    assert written == '1,"a\nb",-1,-2'
    assert second.hypothesis.text == "c"


def test_an_array_is_read_and_written_as_lines(model: LanguageModel) -> None:
    for indent in (None, 1):
        text = json.dumps([{"id": 1, "hypothesis": t} for t in (GOOD, BAD)], indent=indent)
        kind, (scored,) = read(text, model)
        assert [s.hypothesis.text for s in scored] == [GOOD, BAD]
        assert kind.name == "json"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="score"):
        list(Json().read('{"id": 1, "hypothesis": "a", "score": true}').text)


def test_a_table_without_a_hypothesis_names_the_file(model: LanguageModel) -> None:
    for text in ("id;text;score\n1;a;2\n", "id\ttext\n1\ta\n"):
        kind, lines = opened(iter(text.splitlines()), None, "x.tsv")
        with pytest.raises(InputError, match=r"x\.tsv: no column 'hypothesis'"):
            list(hypotheses(kind, lines, "x.tsv", BrokenLines("x.tsv", False, print)))


def test_a_cost_is_never_minus_zero() -> None:
    hypothesis = Hypothesis("u", "a", 0.0, "u-1", "a")
    assert Kaldi().written(hypothesis, 0.0, 0.0) == "u-1 0"
