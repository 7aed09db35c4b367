"""Sentences that are compared: what their difference is made of, the ratio, the parting."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import charlm
from charlm import LanguageModel
from charlm.uses.comparison import LARGEST_BITS, Comparison
from conftest import Command

GOLDEN = Path(__file__).parent / "golden"
THREE = ["a bird sang", "the cat sat at home", "the cat sat at hame"]


def compared(model: LanguageModel, first: str, second: str, eos: bool = True) -> Comparison:
    return Comparison(*model.score([first, second], details=True, eos=eos))


@pytest.mark.parametrize("level", ["char-ngram", "word-ngram", "subword", "byte"])
@pytest.mark.parametrize(
    ("first", "second", "steps"),
    [
        ("the cat sat", "the dog sat", "the=the cat=dog sat=sat"),
        ("the cat sat", "the old grey cat sat", "the=the =old+grey cat=cat sat=sat"),
        ("a big dog", "a dog", "a=a big= dog=dog"),
        ("a b c", "x y", "a+b+c=x+y"),
        ("a b", "x y", "a=x b=y"),
        ("the cat sat", "the cat sat", "the=the cat=cat sat=sat"),
        ("", "the cat", "=the+cat"),
        ("", "", ""),
    ],
)
def test_the_steps_add_up_to_the_difference(
    level: str, first: str, second: str, steps: str
) -> None:
    model = charlm.load(GOLDEN / f"lm-{level}.safetensors", kind=LanguageModel)
    comparison = compared(model, first, second)
    texts = [step.replace("+", " ").split("=") for step in steps.split(" ") if step]
    assert [list(step.texts) for step in comparison.steps] == [*texts, ["<EOS>"] * 2]
    total = sum(step.difference for step in comparison.steps)
    assert total == pytest.approx(comparison.difference, abs=1e-4)
    log_odds = (model.score(first).logprob - model.score(second).logprob) / math.log(2)
    assert comparison.difference == pytest.approx(log_odds, abs=1e-4)
    for side, text in enumerate((first, second)):
        bits = sum(step.bits[side] for step in comparison.steps)
        assert bits == pytest.approx(model.score(text).bits, abs=1e-4)


@pytest.mark.parametrize(
    ("ratio", "written"),
    [
        ("1", "1"), ("3.14159", "3.14"), ("0.25", "0.25"), ("0.0001234", "0.000123"),
        ("99.94", "99.9"), ("150.4", "150"), ("270637", "270,637"), ("16000000", "16,000,000"),
        ("17000000", "1.7e+07"), ("1e-30", "1.0e-30"), ("3.24e+400", "3.2e+400"),
        ("3.26e-1313", "3.3e-1313"),
    ],
)  # fmt: skip
def test_the_ratio_is_written(model: LanguageModel, ratio: str, written: str) -> None:
    score = model.score("a")
    other = replace(score, logprob=score.logprob - float(Decimal(ratio).ln()))
    comparison = Comparison(score, other)
    assert comparison.ratio == written
    exact = Decimal(2) ** Decimal(comparison.difference)
    assert float(Decimal(written.replace(",", "")) / exact) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("first", "second", "after", "tokens"),
    [
        ("the cat", "the dog", "the ", "cd"),
        ("a bird", "the cat", "", "at"),
        ("the cat sat", "the cat", "the cat", "▁."),
        ("", "a", "", ".a"),
    ],
)
def test_sentences_part_at_the_first_token_that_differs(
    model: LanguageModel, first: str, second: str, after: str, tokens: str
) -> None:
    parting = compared(model, first, second).parting
    assert parting and parting[0] == after
    assert [t.token for t in parting[1:]] == ["<EOS>" if t == "." else t for t in tokens]
    for text, token in zip((first, second), parting[1:], strict=True):
        assert token.logprob == pytest.approx(model.score(text).logprobs[len(after)], abs=1e-4)


def test_sentences_that_have_all_tokens_in_common_do_not_part(model: LanguageModel) -> None:
    assert compared(model, "the cat", "the cat").parting is None
    assert compared(model, "the cat", "the cat sat", eos=False).parting is None
    assert "parting" not in compared(model, "a", "a").to_json()


@pytest.fixture
def compare(charlm_command: Command, model: LanguageModel) -> Command:
    return lambda *arguments: charlm_command("compare", "-m", model.path, *arguments)


def test_the_most_probable_sentence_is_compared_with_each_other_one(
    compare: Command, model: LanguageModel
) -> None:
    scores = dict(zip(THREE, model.score(THREE, details=True), strict=True))  # as the command does
    best, *others = sorted(THREE, key=lambda text: scores[text].logprob, reverse=True)
    records = compare(*THREE, "--format", "json").objects
    heading, *rows = compare(*THREE).rows
    table = compare(*THREE, "--format", "table").text
    assert " ".join(heading) == "comparison first first_bits second second_bits difference"
    assert [r["second"]["text"] for r in records] == others
    for number, (record, other) in enumerate(zip(records, others, strict=True), 1):
        odds = scores[best].logprob - scores[other].logprob
        assert record["first"]["text"] == best and odds > 0
        assert record["difference"] == pytest.approx(odds / math.log(2), abs=1e-4)
        assert record["first"]["logprob"] == pytest.approx(scores[best].logprob, abs=1e-4)
        assert rows[: len(record["words"])] == [
            [str(number), *(v if isinstance(v, str) else f"{v:.6g}" for v in step.values())]
            for step in record["words"]
        ]
        rows = rows[len(record["words"]) :]
        written = re.search(rf"{best!r} is (\S+) times as probable as {other!r}.\n", table)
        ratio = math.exp(odds)
        few_digits = ratio >= 2**LARGEST_BITS
        assert written and float(written[1].replace(",", "")) == pytest.approx(
            ratio, rel=0.05 if few_digits else 1e-3
        )
        parting = record["parting"]
        (a, b), after = parting["tokens"], parting["after"]
        assert f"{a['token']!r} has probability {math.exp(a['logprob']):.2g}, and " in table
        assert f"{b['token']!r} has probability {math.exp(b['logprob']):.2g}.\n" in table
        assert (f"After {after!r}, " if after else "At the start, ") in table
    assert rows == []


def test_bars_show_which_words_speak_for_a_sentence(compare: Command) -> None:
    (record,) = compare("the cat sat", "a dog sat", "--format", "json").objects
    table = compare("the cat sat", "a dog sat", "--format", "table").text
    *_, last = table.split("\n\n")
    longest = max(abs(step["difference"]) for step in record["words"])
    for line, step in zip(last.splitlines()[1:], record["words"], strict=True):
        bar = ("▇" if step["difference"] > 0 else "░") * round(
            24 * abs(step["difference"]) / longest
        )
        assert line.rstrip().endswith(f"{step['difference']:+.2f}  {bar}".rstrip())


def test_equal_sentences_are_equally_probable(compare: Command) -> None:
    table = compare("the cat", "the cat", "--format", "table").text
    assert table.endswith("\n\nThe sentences are the same.\n") and "After" not in table
    assert not {"▇", "░", "+"} & set(table)


def test_unknown_tokens_are_counted_where_their_numbers_differ(model: LanguageModel) -> None:
    first, second = model.score(["the cat", "жд cat"], details=True)
    assert (first.unknown, second.unknown) == (0, 2)
    said = "The sentences have 0 and 2 unknown tokens."
    assert Comparison(first, second).summary[-1] == said
    same = compared(model, "ж cat", "д cat")
    assert same.first.unknown == 1 and "unknown" not in " ".join(same.summary)


def test_one_sentence_is_one_line(compare: Command) -> None:
    assert compare("the cat").error.startswith("one sentence; give two or more, each in quotes")


def test_words_of_a_script_without_spaces_are_joined_as_they_stand(model: LanguageModel) -> None:
    (comparison,) = charlm.compare(model, ["the cat 深い海", "the cat sat on"])
    shown = {text for step in comparison.steps for text in step.texts}
    assert any("深い海" in text for text in shown) or {"深", "い", "海"} <= shown
    assert not any("深 い" in text for text in shown)
