"""What a command can do, a function of the package can do, with the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm import LanguageModel
from charlm.errors import InputError, OptionError
from conftest import TEXT, Command, shuffled

LINES = [line for line in shuffled(TEXT).splitlines() if line]


def test_compare(charlm_command: Command, model: LanguageModel) -> None:
    texts = ["the cat sad", "the cat sat", "a bird"]
    found = [comparison.to_json() for comparison in charlm.compare(model, texts, context="a ")]
    command = ["compare", "-m", model.path, *texts, "--context", "a ", "--format", "json"]
    records = charlm_command(*command).objects
    for one, other in zip(found, records, strict=True):
        assert one["difference"] == pytest.approx(other["difference"], abs=1e-4)
        assert [one[k]["text"] for k in ("first", "second")] == [
            other[k]["text"] for k in ("first", "second")
        ]
    with pytest.raises(InputError, match="fewer than two"):
        charlm.compare(model, ["a"])


def test_pairs(charlm_command: Command, model: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("the cat sat\tthe cat sad\na bird\ta brid\n", encoding="utf-8")
    found = [accuracy.to_json() for accuracy in charlm.pairs(model, file)]
    assert found == charlm_command("pairs", file, "-m", model.path, "--format", "json").objects
    with file.open("a", encoding="utf-8") as more:
        more.write("alone\n")
    warnings: list[str] = []
    assert charlm.pairs(model, file, warn=warnings.append)[0].items == 2
    assert "line 3" in warnings[0]
    with pytest.raises(InputError, match="line 3"):
        charlm.pairs(model, file, strict=True)


def test_filter(charlm_command: Command, model: LanguageModel, corpus: Path) -> None:
    bound = float(np.median([score.bits_per_char for score in model.score(LINES)]))
    kept = list(charlm.filter(model, LINES * 2, max=bound, dedupe="exact"))
    stdin = "".join(f"{line}\n" for line in LINES * 2).encode()
    ran = charlm_command(
        "filter", "--max", bound, "--dedupe", "exact", "-m", model.path, stdin=stdin
    )
    assert kept == ran.text.splitlines() and 0 < len(kept) < len(set(LINES))
    rest = list(charlm.filter(model, LINES, max=bound, drop=True))
    assert sorted([*kept, *rest]) == sorted(LINES)


def test_rescore(charlm_command: Command, model: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "nbest"
    lines = ["0 ||| the cat zqx ||| ||| -1", "0 ||| the cat sat ||| ||| -2", "1 ||| a ||| ||| -1"]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    options: dict[str, Any] = {"weight": 2.0, "word_penalty": 0.5}
    found = charlm.rescore(model, file, **options)
    assert found == charlm.rescore(model, lines, **options)
    ran = charlm_command("rescore", file, "-m", model.path, "--weight", 2, "--word-penalty", 0.5)
    totals = [float(line.split("|||")[3]) for line in ran.text.splitlines()]
    assert [h.total for of_list in found for h in of_list] == pytest.approx(totals, rel=1e-4)
    best = found[0][0]
    assert best.text == "the cat sat" and best.score == -2
    assert best.total == pytest.approx(-2 + 2 * best.logprob + 0.5 * 3)
    assert best.logprob == pytest.approx(model.score("the cat sat").logprob, abs=1e-4)


def test_copied(charlm_command: Command, corpus: Path) -> None:
    text = f"xyz {LINES[3]} xyz\n{LINES[5]}"
    found = charlm.copied(text, corpus, min_length=10)
    arguments = ["copied", "-", "--corpus", corpus, "--min-length", 10, "--format", "json"]
    ran = charlm_command(*arguments, stdin=text.encode())
    assert [piece.to_json() for piece in found.pieces] == ran.objects
    assert (found.lines, found.copied_lines) == (2, 1)


def test_gradients(charlm_command: Command, model: LanguageModel) -> None:
    norms = charlm.gradients(model, "the cat sat on the mat", steps=4)
    arguments = ["gradients", model.path, "the cat sat on the mat", "--steps", 4]
    (row,) = charlm_command(*arguments, "--format", "json").objects
    assert norms.dh.tolist() == pytest.approx(row["dh"], rel=1e-5)


@pytest.mark.parametrize(
    ("function", "arguments", "keyword", "nearest"),
    [
        ("sample", [], "temprature", "temperature"),
        ("score", ["a"], "contxt", "context"),
        ("stream", ["a"], "tpo_k", "top_k"),
        ("fill", ["a ___"], "blnk", "blank"),
        ("evaluate", ["a"], "reset_line", "reset_lines"),
    ],
)
def test_an_unknown_keyword_names_the_function_and_the_nearest_option(
    model: LanguageModel, function: str, arguments: list[str], keyword: str, nearest: str
) -> None:
    message = rf"{function}\(\) has no option `{keyword}`; did you mean `{nearest}`\?"
    with pytest.raises(TypeError, match=message):
        getattr(model, function)(*arguments, **{keyword: 1})


def test_an_unknown_keyword_of_a_function_of_the_package(
    model: LanguageModel, corpus: Path
) -> None:
    wrong: dict[str, Any] = {"hiden": 8}
    with pytest.raises(TypeError, match=r"train\(\) has no option `hiden`; did you mean `hidden`"):
        charlm.train(corpus, **wrong)
    wrong = {"eso": False}
    with pytest.raises(TypeError, match=r"compare\(\) has no option `eso`; did you mean `eos`"):
        charlm.compare(model, ["a", "b"], **wrong)
    for name, given, near in (
        ("filter", [["a"]], "maxx"), ("pairs", [[]], "eso"), ("rescore", [[]], "wieght"),
        ("gradients", ["a b"], "step"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"{name}\(\) has no option `{near}`; did you mean"):
            getattr(charlm, name)(model, *given, **{near: 1})
    with pytest.raises(TypeError, match=r"copied\(\) .* did you mean `min_length`"):
        wrong = {"min_lenght": 3}
        charlm.copied("a", corpus, **wrong)
    wrong = {"colour": 1}
    with pytest.raises(TypeError, match=r"sample\(\) has no option `colour`; it has length, "):
        model.sample(**wrong)


def test_every_column_of_tokens_and_words_is_an_attribute(model: LanguageModel) -> None:
    score = model.score("the cat", details=True)
    items: list[Any] = [*score.token_scores, *score.words()]
    for item in items:
        for name, value in item.to_json().items():
            assert getattr(item, name) == value


def test_a_text_in_place_of_several_is_refused(model: LanguageModel) -> None:
    with pytest.raises(TypeError, match="several texts"):
        list(charlm.filter(model, "the cat", max=3))
    with pytest.raises(TypeError, match="several texts"):
        charlm.compare(model, "ab")
    with pytest.raises(OptionError, match="`dedupe=nera`: choose exact or near"):
        list(charlm.filter(model, ["a"], dedupe="nera"))
    with pytest.raises(OptionError, match="nothing is between"):
        list(charlm.filter(model, ["a"], min=3, max=1))
