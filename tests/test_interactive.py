"""`sample --interactive`: continuations, the commands of a session, and its end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from charlm import LanguageModel
from charlm.cli.interactive import interact
from charlm.cli.session import HELP, OPTIONS, Session
from charlm.engines.sampling import SampleOptions
from charlm.errors import CharlmError, InputError, OptionError
from conftest import Trained

INTRODUCTION = (
    "Type how the text goes on; an empty line for more, /again for other words, /help for the "
    "rest. Set now: /seed 3 /length 30"
)


@pytest.fixture(scope="module")
def running(trained: Trained) -> LanguageModel:
    """A character model of a running text."""
    model: LanguageModel = trained(steps=30, hidden=16)
    return model


def session_of(model: LanguageModel, *lines: str, **options: Any) -> Session:
    """A session with seed 3 after these lines."""
    session = Session(model, **{"seed": 3, "length": 30, **options})
    for line in lines:
        answer(session, line)
    return session


def answer(session: Session, line: str) -> str:
    return "".join(session.answer(line))


def continuation(model: LanguageModel, text: str, sample: int, **options: Any) -> str:
    return "".join(model.stream(text, sample=sample, **{"seed": 3, "length": 30, **options}))


def test_typed_text_is_continued_as_a_stream_continues_it(running: LanguageModel) -> None:
    session = session_of(running)
    pieces = list(session.answer("the c"))
    assert pieces == ["the c", *running.stream("the c", seed=3, length=30)]
    assert session.step.text == "the c" and session.step.continuation == "".join(pieces[1:])


def test_each_continuation_is_a_further_sample(running: LanguageModel) -> None:
    session = session_of(running, "the c")
    for k in (1, 2):
        expected = continuation(running, "the c", sample=k)
        assert answer(session, "/again") == "the c" + expected
        assert session.step.text == "the c" and session.step.continuation == expected
    drawn = {continuation(running, "the c", sample=k) for k in range(3)}
    assert len(drawn) == 3


def test_an_empty_line_continues_the_text(
    running: LanguageModel,
) -> None:
    kept = continuation(running, "the c", sample=0)
    session = session_of(running, "the c", "")
    assert session.step.text == "the c" + kept
    assert session.step.continuation == continuation(running, "the c" + kept, sample=1)


def test_typed_text_follows_the_continuation_or_takes_its_place(running: LanguageModel) -> None:
    kept = continuation(running, "the c", sample=0)
    assert session_of(running, "the c", " at").step.text == f"the c{kept} at"
    session = session_of(running, "the c")
    assert answer(session, "/show") == f"the c{kept}"
    assert answer(session, "/drop at") == "the cat" + continuation(running, "the cat", sample=1)
    assert session.step.text == "the cat"
    assert answer(session, "/drop") == "the cat" and session.step.whole == "the cat"


def test_keep_ends_with_the_first_occurrence_of_its_text(model: LanguageModel) -> None:
    session = session_of(model, "the cat")
    session.step.continuation = " sat on the mat"
    assert answer(session, "/keep at") == "the cat sat"
    assert session.step.text == "the cat sat" and session.step.continuation == ""


def test_undo_takes_each_step_back(running: LanguageModel) -> None:
    session, before = Session(running, seed=3, length=8), []
    for line in ("the c", "/again", "/keep", "x", "", "/new", "/new a", "/again"):
        before.append((session.step.text, session.step.continuation))
        answer(session, line)
    for expected in reversed(before):
        text, following = expected
        assert answer(session, "/undo") == text[text.rfind("\n") + 1 :] + following
        assert (session.step.text, session.step.continuation) == expected
    with pytest.raises(InputError, match="no step before"):
        answer(session, "/undo")


def test_a_line_of_a_model_of_lines_is_kept_with_its_end(model: LanguageModel) -> None:
    line = continuation(model, "the c", sample=0, length=None)
    session = session_of(model, length=None)
    assert answer(session, "the c") == f"the c{line}\n"
    following = continuation(model, f"the c{line}\n", sample=1, length=None)
    assert answer(session, "") == f"{following}\n"
    assert following == continuation(model, "", sample=1, length=None)


def test_a_line_end_and_a_slash_can_be_typed(running: LanguageModel) -> None:
    session = session_of(running, r"//the\ncat")
    assert session.step.text == "/the\ncat"
    assert answer(session, "/show").startswith("/the\ncat")
    assert answer(session, "/again").startswith("cat")


def test_only_the_end_of_a_long_line_is_shown(running: LanguageModel) -> None:
    session = session_of(running, length=0)
    assert answer(session, "a" * 30 + "b" * 60) == "…" + "b" * 60


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("/temperature 0.3", {"temperature": 0.3}),
        ("/length 5", {"length": 5}),
        ("/top-p 0.5", {"top_p": 0.5}),
        ("/top_k 1", {"top_k": 1}),
        ("/repetition-penalty 2", {"repetition_penalty": 2.0}),
        ("/max-lines 1", {"max_lines": 1}),
        ("/beam 3", {"beam": 3}),
        ("/stop t", {"stop": ["t"]}),
        (r"/stop \n", {"stop": ["\n"]}),
        ("/seed 8", {"seed": 8}),
    ],
)
def test_options_are_those_of_sampling(
    running: LanguageModel, line: str, options: dict[str, Any]
) -> None:
    session = session_of(running, "x", "/seed 3", "/length 80", line, "/drop the cat")
    options = {"length": 80, **options}
    expected = continuation(running, "xthe cat", sample=0, **options)
    assert expected != continuation(running, "xthe cat", sample=0, length=80)
    assert session.step.continuation == expected + "\n" * ("max_lines" in options)


def test_an_option_without_a_value_has_its_default_again(running: LanguageModel) -> None:
    session = session_of(running)
    for line in ("/stop the", "/stop a", "/top-k 3"):
        answer(session, line)
    assert session.options == {"seed": 3, "length": 30, "stop": ["the", "a"], "top_k": 3}
    assert session.settings == "/seed 3 /length 30 /stop the /stop a /top-k 3"
    for line in ("/stop", "/top-k", "/seed"):
        answer(session, line)
    assert session.options.keys() == {"seed", "length"} and session.options["seed"] != 3


def test_a_search_gives_its_next_best_text_again(running: LanguageModel) -> None:
    best = ["".join(s) for s in running.streams("the c", n=3, beam=3, length=4)]
    session = session_of(running, "x", "/length 4", "/beam 3", "/new the c")
    found = [session.step.continuation]
    for _ in range(2):
        answer(session, "/again")
        found.append(session.step.continuation)
    assert found == best and len(set(best)) == 3
    with pytest.raises(OptionError, match="`beam=3`: the search finds no more texts"):
        answer(session, "/again")
    assert session.step.continuation == best[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/top-p 2", "`top_p=2`: must be above 0, at most 1"),
        ("/length 1.5", "`length=1.5`: must be a whole number"),
        ("/temperature hot", "`temperature=hot`: must be a number"),
        ("/temperature nan", "`temperature=nan`: must be 0 or more"),
        ("/top-k 3", "`beam=2`: draws nothing, so it does not go with `top_k`"),
        ("/colour red", "/colour: no such command; /help lists them"),
        ("/", "/: no such command"),
        ("/again 3", "/again: nothing follows this command"),
        ("/keep it", "/keep: 'it' is not in the continuation"),
        ("/save", "/save: name a file"),
        ("/save no/where", "/save no/where: no such file"),
    ],
)
def test_a_line_that_cannot_be_followed_changes_nothing(
    running: LanguageModel, tmp_path: Path, line: str, message: str
) -> None:
    session = session_of(running, "the c", beam=2, length=1)
    options, steps = dict(session.options), list(session.steps)
    with pytest.raises(CharlmError) as caught:
        answer(session, line.replace("no/where", str(tmp_path / "no/where")))
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(message)
    assert session.options == options and session.steps == steps


def test_the_text_is_saved(running: LanguageModel, tmp_path: Path) -> None:
    session = session_of(running, r"the cat\nthe", "/drop")
    assert answer(session, f"/save {tmp_path / 'my text.txt'}").startswith("11 characters")
    assert (tmp_path / "my text.txt").read_bytes() == b"the cat\nthe\n"


def test_help_names_every_option_and_what_is_set(running: LanguageModel) -> None:
    text = answer(session_of(running, r"/stop a\nb"), "/help")
    assert text.startswith(HELP) and text.endswith(r"Set now: /seed 3 /length 30 /stop a\nb")
    assert len(OPTIONS) == len(SampleOptions.__dataclass_fields__)
    assert "/top-p /min-p /typical-p" in text


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_came(running: LanguageModel) -> None:
    session = session_of(running)
    pieces = session.answer("the c")
    shown = "".join(next(pieces) for _ in range(8))
    del pieces
    assert answer(session, "/show") == shown and len(shown) == len("the c") + 7


def test_errors_leave_the_session_running_until_the_input_ends(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/top-p 2\n/nothing\nжat\n/again\n/show\n"))
    interact(session_of(model))
    out, err = capsys.readouterr()
    first, second = (continuation(model, "жat", sample=k) for k in (0, 1))
    assert out == f"жat{first}\nжat{second}\nжat{second}\n"
    assert err.splitlines() == [
        INTRODUCTION,
        "/top-p 2: must be above 0, at most 1",
        "/nothing: no such command; /help lists them",
        "warning: the model has never seen 'ж'; read as <UNK>",
    ]


def command(model: LanguageModel, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "charlm", "sample", "-i", "-m", str(model.path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONUTF8": "1"},
        encoding="utf-8",
    )


def test_the_command_continues_its_prime_and_then_what_is_piped_to_it(
    running: LanguageModel,
) -> None:
    options = ("--seed", "3", "--length", "30", "--prime", "the c")
    out, err = command(running, *options).communicate("/again\n/quit\nunread\n", timeout=60)
    first, second = running.sample("the c", n=2, seed=3, length=30)
    assert out == f"{first}\n{second}\n"
    assert err.splitlines() == [
        f"model: {running.path}",
        INTRODUCTION,
    ]


def test_ctrl_c_stops_the_continuation_and_not_the_program(running: LanguageModel) -> None:
    process = command(running, "--length", "1000000000")
    assert process.stdin and process.stdout
    process.stdin.write("the c\n")
    process.stdin.flush()
    assert process.stdout.read(20).startswith("the c")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate("/new\n/length 0\nthe end\n", timeout=60)
    assert process.returncode == 0 and out.endswith("/length 0\nthe end\n")
