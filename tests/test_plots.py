"""Plots: what they show is what was measured; the curve in characters."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner, Result

from charlm import LanguageModel
from charlm.cli.info import info
from charlm.cli.plots import (
    MOST_PANELS,
    check_plot,
    curve_rows,
    surprisal_figure,
    training_figure,
    write_plot,
)
from charlm.cli.score import score
from charlm.cli.scored import View
from charlm.errors import InputError, OptionError
from charlm.training.metrics import METRICS, Curve, read
from conftest import Command

pytest.importorskip("matplotlib")

TEXTS = ["the cat sat on the mat", "a $bird$ sang"]


def run(command: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def drawn(axes: Any) -> tuple[list[str], list[float]]:
    """The labels and the heights of the bars."""
    texts = [label.get_text() for label in axes.get_xticklabels()]
    return texts, [bar.get_height() for bar in axes.patches]


def svg_texts(path: Path) -> list[str]:
    texts = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return [text.text or "" for text in texts]


def test_bars_are_the_surprisal_of_the_words(model: LanguageModel) -> None:
    scores = model.score(TEXTS, details=True)
    figure = surprisal_figure(scores, View(words=True))
    labels, bits = drawn(figure.axes[0])
    assert labels == ["the", "cat", "sat", "on", "the", "mat", "¶"]
    assert bits == [word.bits for word in scores[0].words()]
    assert sum(bits) == pytest.approx(scores[0].bits, rel=1e-4)
    assert drawn(figure.axes[1])[0] == ["a", "$bird$", "sang", "¶"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["surprisal, bits"] * 2
    assert figure.axes[1].get_title("left") == f"{scores[1].bits:.1f} bits   a $bird$ sang"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_bars_of_tokens_need_no_details_and_show_unknown_ones_as_they_are(
    model: LanguageModel,
) -> None:
    (one,) = model.score(["the Ж\x01"])
    labels, bits = drawn(surprisal_figure([one], View()).axes[0])
    assert labels == ["t", "h", "e", "▁", "Ж", "\ufffd", "¶"]
    assert bits == [token.bits for token in one.token_scores]


def test_labels_are_turned_where_they_would_overlap_and_left_out_of_a_long_text(
    model: LanguageModel,
) -> None:
    def axes(text: str, view: View) -> Any:
        return surprisal_figure([model.score(text, details=True)], view).axes[0]

    angles = {
        text: {label.get_rotation() for label in axes(text, View(words=True)).get_xticklabels()}
        for text in ("the cat", "the cat sat on the mat " * 8)
    }
    assert list(angles.values()) == [{0.0}, {90.0}]
    long = "the cat sat on the mat " * 40
    words = axes(long, View(words=True))
    expected = [word.bits for word in model.score(long, details=True).words()]
    assert not words.patches and [*words.lines[0].get_ydata()] == expected
    assert words.get_xlabel() == "word"
    assert len(axes(long, View()).lines[0].get_xdata()) == len(long) + 1


def test_training_curve_has_the_losses_of_the_run(model: LanguageModel) -> None:
    lines = read(model.path.parent / METRICS)
    curve = Curve.of([*lines, lines[0] | {"valid_nats_per_token": math.nan}])
    figure = training_figure(curve, "", "token")
    axes: Any = figure.axes[0]
    training, validation = axes.lines
    assert [training.get_label(), validation.get_label()] == ["training", "validation"]
    for drawn, name in ((training, "train"), (validation, "valid")):
        expected = [[line["step"], line[f"{name}_nats_per_token"]] for line in lines]
        assert drawn.get_xydata().tolist() == expected and len(expected) == 12
    assert axes.get_ylabel() == "loss of the network, nats/token"


def test_score_writes_its_usual_output_and_a_plot(model: LanguageModel, tmp_path: Path) -> None:
    arguments = ["-m", model.path, "--words", "--format", "json", *TEXTS]
    plain = run(score, *arguments)
    path = tmp_path / "words.svg"
    ran = run(score, *arguments, "--plot", path)
    assert ran.exit_code == 0 and ran.stdout == plain.stdout and f"plot: {path}\n" in ran.stderr
    bits = [json.loads(line)["bits"] for line in ran.stdout.splitlines()]
    texts = svg_texts(path)
    assert {"cat", "$bird$", "surprisal, bits", f"{bits[1]:.1f} bits   {TEXTS[1]}"} <= {*texts}
    assert texts.count("¶") == 2 and [p.name for p in tmp_path.iterdir()] == ["words.svg"]


def test_a_plot_has_a_few_panels_at_most(model: LanguageModel, tmp_path: Path) -> None:
    def panels(number: int) -> tuple[int, str]:
        path, file = tmp_path / "many.svg", tmp_path / "many.txt"
        file.write_text("the cat\n" * number, encoding="utf-8")
        ran = run(score, "-m", model.path, "--file", file, "--plot", path)
        assert len(ran.stdout.splitlines()) == number + 1
        return svg_texts(path).count("surprisal, bits"), ran.stderr

    number, notes = panels(MOST_PANELS)
    assert number == MOST_PANELS and "first" not in notes
    number, notes = panels(MOST_PANELS + 3)
    assert number == MOST_PANELS and f"the first {MOST_PANELS} sentences\n" in notes


def test_selected_sentences_are_drawn_in_their_order(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "sorted.svg"
    texts = ["the cat sat at home", "tsa ehm tt"]
    run(score, "-m", model.path, "--sort", "bits", "--top", 1, "--plot", path, *texts)
    titles = [text for text in svg_texts(path) if " bits   " in text]
    assert len(titles) == 1 and titles[0].endswith("tsa ehm tt")


def test_info_writes_a_plot_as_png(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "curve.PNG"
    ran = run(info, model.path, "--plot", path)
    assert ran.exit_code == 0 and re.search("^curve .*nats/token$", ran.stdout, re.MULTILINE)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and b"IEND" in content[-8:]


def test_a_model_file_alone_has_no_curve(model: LanguageModel, tmp_path: Path) -> None:
    shutil.copy(model.path, tmp_path)
    (row,) = [r for r in run(info, tmp_path).stdout.splitlines() if r.startswith("curve")]
    assert row.split(maxsplit=1)[1] == f"no training curve ({METRICS}) beside it"
    ran = run(info, tmp_path, "--plot", tmp_path / "x.png")
    assert isinstance(ran.exception, InputError) and "no training curve" in str(ran.exception)
    assert not ran.stdout and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", [score, info])
@pytest.mark.parametrize(
    ("path", "message"), [("x.pdf", r"\.png or \.svg"), ("gone/x.png", "no folder gone")]
)
def test_a_plot_is_refused_before_the_work(
    command: Callable[..., None], path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_MODEL", "no-model-is-loaded")
    ran = run(command, "--plot", path)
    assert isinstance(ran.exception, OptionError) and re.search(message, str(ran.exception))
    assert "\n" not in str(ran.exception)


def test_matplotlib_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    check_plot(Path("x.png"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"^`plot` needs matplotlib; install it with [^\n]*$"):
        check_plot(Path("x.png"))


def test_no_sentence_is_no_plot(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    path = tmp_path / "x.png"
    ran = run(score, "-m", model.path, "--file", tmp_path / "empty.txt", "--plot", path)
    assert isinstance(ran.exception, InputError) and "no sentence" in str(ran.exception)
    assert not path.exists()


def test_characters_without_a_glyph_are_noted_in_a_png(
    model: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = surprisal_figure([model.score("the \U000f0000\u1234")], View())
    write_plot(tmp_path / "x.png", figure)
    write_plot(tmp_path / "x.svg", figure)
    warning, *rest = capsys.readouterr().err.splitlines()
    assert "font lacks some characters" in warning and len(rest) == 2
    assert "\u1234" in svg_texts(tmp_path / "x.svg")


def test_a_failed_plot_leaves_the_old_file(model: LanguageModel, tmp_path: Path) -> None:
    class Broken:
        def savefig(self, path: Path, **_: object) -> None:
            path.write_text("half", encoding="utf-8")
            raise OSError(28, "no space")

    path = tmp_path / "x.png"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.png: the disk is full"):
        write_plot(path, Broken())  # type: ignore[arg-type]
    assert path.read_text(encoding="utf-8") == "old" and len([*tmp_path.iterdir()]) == 1


def test_the_curve_in_characters() -> None:
    curve = Curve((100, 200, 1300), (4.0, 1.0, math.nan), (5.0, 3.0, 2.0))
    assert curve_rows(curve, width=24, height=4) == [
        "5 │⢣",
        "  │×⢇",
        "  │  ⠉⠉⠉⠉⠉⠒⠒⠒⠒⠒⠤⠤⠤⠤⠤⣀⣀⣀⣀",
        "1 │  ×",
        "  └─────────────────────",
        "   step 100   step 1,300",
    ]


def test_a_flat_curve_of_one_evaluation() -> None:
    assert curve_rows(Curve((7,), (2.5,), (2.5,)), width=20, height=2) == [
        "2.5 │×⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉",
        "2.5 │",
        "    └───────────────",
        "     step 7   step 7",
    ]


def test_info_draws_the_curve_on_a_terminal(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, charlm_command: Command
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    rows = charlm_command("info", model.path).text.splitlines()
    start = next(number for number, row in enumerate(rows) if row.startswith("charlm ")) + 1
    curve = Curve.of(read(model.path.parent / METRICS))
    assert rows[start:] == curve_rows(curve) and max(map(len, rows[start:])) == 80
    assert max(curve.steps) == 150 and rows[-1].endswith(" step 150")
