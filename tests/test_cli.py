"""The command line. Commands run in this process, by the fixture `charlm`, or in their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from charlm import FillModel, LanguageModel
from conftest import Command, Trained

Result = subprocess.CompletedProcess[str]
Charlm = Callable[..., Result]


def run(*arguments: object, cwd: Path | None = None, stdin: str = "") -> Result:
    """Run a command in a process of its own. Its standard streams are UTF-8."""
    ran = subprocess.run(
        [sys.executable, "-m", "charlm", *map(str, arguments)],
        input=stdin.encode(),
        capture_output=True,
        cwd=cwd,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    stdout, stderr = ran.stdout.decode(), ran.stderr.decode()
    return subprocess.CompletedProcess(ran.args, ran.returncode, stdout, stderr)


@pytest.fixture
def charlm(charlm_command: Command, monkeypatch: pytest.MonkeyPatch) -> Charlm:
    """Run a command in this process, which has loaded torch already."""

    def command(*arguments: object, cwd: Path | None = None, stdin: str = "") -> Result:
        with monkeypatch.context() as patch:
            if cwd:
                patch.chdir(cwd)
            code, stdout, notes = charlm_command(*arguments, stdin=stdin.encode())
        stderr = "".join(f"{note}\n" for note in notes)
        return subprocess.CompletedProcess([], code, stdout.decode(), stderr)

    return command


@pytest.fixture(scope="module")
def path(model: LanguageModel) -> Path:
    return model.path


def error_message(ran: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The message of a command that failed with this exit code and one line on stderr."""
    lines = [line for line in ran.stderr.splitlines() if not line.startswith("model: ")]
    assert ran.returncode == code and len(lines) == 1, ran.stderr
    assert lines[0].startswith("charlm: ")
    return lines[0].removeprefix("charlm: ")


def test_score_and_sample_use_the_model_trained_last_from_the_folder(
    corpus: Path, tmp_path: Path
) -> None:
    trained = run("train", corpus, "--lines", "--steps", 30, "--hidden", 16, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout == "runs/corpus/model.safetensors\n"
    assert "lstm of 16" in trained.stderr and "next: charlm sample" in trained.stderr
    scored = run("score", "the cat", "", cwd=tmp_path)
    heading, first, second = scored.stdout.splitlines()
    assert heading.split("\t")[:2] == ["logprob", "log10prob"]
    assert first.endswith("\tthe cat") and second.split("\t")[-1] == ""
    assert "model: runs/corpus/model.safetensors" in scored.stderr
    sampled = run("sample", "--prime", "the c", "-n", 2, "--seed", 1, cwd=tmp_path)
    assert [line[:5] for line in sampled.stdout.splitlines()] == ["the c", "the c"]
    info = run("info", "--json", cwd=tmp_path)
    record = json.loads(info.stdout)
    assert record["model"]["hidden"] == 16 and len(record["curve"]) == 12
    assert "lstm of 16, " in run("info", cwd=tmp_path).stdout


def test_a_budget_in_minutes_is_met_from_the_start_to_the_model(
    corpus: Path, tmp_path: Path
) -> None:
    start = time.monotonic()
    trained = run("train", corpus, "--minutes", 0.12, "--quiet", cwd=tmp_path)
    assert trained.returncode == 0 and 0.8 * 7.2 < time.monotonic() - start < 3 * 7.2
    assert trained.stderr == ""


def test_score_formats(charlm: Charlm, path: Path) -> None:
    text = "the cat\nжaж\n\na\tb\n"
    objects = [
        json.loads(line)
        for line in charlm("score", "-m", path, "--format", "json", stdin=text).stdout.splitlines()
    ]
    assert [o["text"] for o in objects] == ["the cat", "жaж", "", "a\tb"]
    assert " ".join(objects[0]) == (
        "text logprob log10prob bits tokens chars bytes unknown "
        "perplexity bits_per_char bits_per_byte"
    )
    assert [o["unknown"] for o in objects] == [0, 2, 0, 1]
    tsv = charlm("score", "-m", path, stdin=text)
    rows = [line.split("\t") for line in tsv.stdout.splitlines()]
    assert [row[-1] for row in rows] == ["text", "the cat", "жaж", "", "a\\tb"]
    assert float(rows[1][0]) == pytest.approx(objects[0]["logprob"], rel=1e-5)
    assert "never seen 'ж', '\\t'" in tsv.stderr
    tokens = charlm("score", "-m", path, "--format", "json", "--tokens", "ab").stdout
    scores = json.loads(tokens)["token_scores"]
    spans = [(score["token"], score["start"], score["end"]) for score in scores]
    assert spans == [("a", 0, 1), ("b", 1, 2), ("<EOS>", 2, 2)]
    table = charlm("score", "-m", path, "--format", "table", "the cat", "жaж").stdout
    assert "perplexity" in table and "жaж" in table


def test_the_total_of_the_kenlm_format_is_the_sum_of_its_tokens(charlm: Charlm, path: Path) -> None:
    ran = charlm("score", "-m", path, "--format", "kenlm", "ab", "ж")
    first, second, *summary = ran.stdout.splitlines()
    *tokens, total = first.split("\t")
    words = [t.split()[0].split("=") for t in tokens]
    assert [word for word, _ in words] == ["a", "b", "</s>"] and words[2][1] == "1"
    assert second.startswith("<UNK>=0 2 ")
    summed = sum(float(t.split()[2]) for t in tokens)
    assert float(total.split()[1]) == pytest.approx(summed, abs=1e-3)
    assert total.endswith("OOV: 0") and second.endswith("OOV: 1")
    assert [line.split(":")[0] for line in summary] == [
        "Perplexity including OOVs",
        "Perplexity excluding OOVs",
        "OOVs",
        "Tokens",
    ]
    assert summary[2:] == ["OOVs:\t1", "Tokens:\t5"]


def test_evaluate_agrees_with_score(charlm: Charlm, path: Path, corpus: Path) -> None:
    ran = charlm("evaluate", corpus, "-m", path, "--reset-lines", "--format", "json")
    evaluated = json.loads(ran.stdout)
    scored = charlm("score", "--file", corpus, "-m", path, "--format", "json").stdout.splitlines()
    assert evaluated["logprob"] == pytest.approx(
        sum(json.loads(line)["logprob"] for line in scored), abs=1e-3 * len(scored)
    )
    assert evaluated["chars"] == evaluated["tokens"] == len(corpus.read_text(encoding="utf-8"))
    tsv = charlm("evaluate", corpus, corpus, "-m", path)
    names = [line.split("\t")[0] for line in tsv.stdout.splitlines()]
    assert names == ["file", str(corpus), str(corpus), "total"]
    logprobs = [float(line.split("\t")[1]) for line in tsv.stdout.splitlines()[1:]]
    assert logprobs[2] == pytest.approx(logprobs[0] + logprobs[1], rel=1e-5)


def test_sample_writes_json_and_warns_about_unknown_characters_of_the_prime(
    charlm: Charlm, path: Path
) -> None:
    ran = charlm("sample", "-m", path, "--prime", "é the", "--json", "-n", 2, "--seed", 4)
    objects = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [o["sample"] for o in objects] == [0, 1] and objects[0]["seed"] == 4
    assert all(o["text"].startswith("é the") for o in objects)
    assert "warning: the model has never seen 'é'" in ran.stderr


def test_a_closed_pipe_is_not_an_error(path: Path) -> None:
    command = f"{sys.executable} -m charlm sample -m {path} -n 300 --seed 1 | head -n 1"
    ran = subprocess.run(command, shell=True, capture_output=True, timeout=600, check=False)
    assert ran.stdout.count(b"\n") == 1 and b"Traceback" not in ran.stderr


def test_undecodable_arguments_do_not_crash(path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "charlm", "score", "-m", str(path), b"the \xff cat"],
        capture_output=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr


def test_a_sentence_that_names_a_file_is_scored_with_a_warning(
    charlm: Charlm, path: Path, corpus: Path
) -> None:
    scored = charlm("score", corpus, 300 * "a", "-", "-m", path)
    assert len(scored.stdout.splitlines()) == 4
    warnings = [line for line in scored.stderr.splitlines() if "scored as a sentence" in line]
    assert [line.split("--file ")[1] for line in warnings] == [str(corpus), "-"]


def test_help_score_sample_and_fill_load_no_heavy_package(path: Path) -> None:
    program = (
        "import sys\nfrom charlm.__main__ import main\n"
        "sys.argv[1:] = {arguments!r}\n"
        "try:\n main()\nexcept SystemExit as e:\n assert not e.code, e.code\n"
        "loaded = {{'torch', 'sentencepiece', 'rich', 'numpy'}} & set(sys.modules)\n"
        "print(sorted(loaded), file=sys.stderr)\n"
    )
    for arguments, expected in (
        (["--help"], "[]"),
        (["score", "the cat", "-m", str(path)], "['numpy']"),
        (["sample", "-m", str(path), "--seed", "1"], "['numpy']"),
        (["fill", "the ___ sat", "-m", str(path), "--format", "tsv"], "['numpy']"),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", program.format(arguments=arguments)],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        assert ran.stderr.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.txt"], "missing.txt: no such file"),
        (["train", "."], ". is a folder"),
        (["train", "empty.txt"], "empty.txt: the corpus is empty"),
        (["train", "latin.txt"], "latin.txt, line 2: not utf-8 text"),
        (["train", "nul.txt"], "nul.txt, line 1: holds a NUL"),
        (
            ["train", "fine.txt", "--cell", "mamba"],
            "--cell mamba: choose lstm, gru, gru-simple or rnn",
        ),
        (["train", "fine.txt", "--minutes", "0"], "--minutes 0: must be above 0, at most 1e+09"),
        (
            ["train", "fine.txt", "--bidirectional", "--task", "lm"],
            "--bidirectional and --task lm: give only one of them",
        ),
        (["train", "fine.txt", "--out", "here"], "here exists; add --force"),
        (["train", "fine.txt", "--resume"], "no run of fine to resume"),
        (["train", "fine.txt", "--valid", "gone.txt"], "gone.txt: no such file"),
        (["score", "x"], "no model: looked for --model, $CHARLM_MODEL"),
        (["score", "x", "--model", "fine.txt"], "fine.txt: not a charlm model"),
        (["score", "x", "--model", "gone"], "gone: no such model"),
        (["score", "x", "--model", "here"], "here: no model.safetensors in this folder"),
        (["score", "x", "--format", "xml"], "--format xml: choose"),
        (["sample", "--temperature", "-1"], "--temperature -1: must be 0 or more"),
        (["sample", "-i", "--json"], "--interactive: does not go with --json or --number"),
        (["evaluate", "gone.txt", "--model", "fine.txt"], "fine.txt: not a charlm model"),
        (["train", "fine.txt", "--out", "no", "--resume"], "no: no run to resume in this folder"),
        (["evaluate", "empty.txt", "--model", "gone"], "gone: no such model"),
        (["info", "fine.txt"], "fine.txt: not a charlm model"),
    ],
)
def test_invalid_input_is_a_message_of_one_line_and_changes_no_file(
    charlm: Charlm, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").touch()
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "fine.txt").write_bytes(b"a text\n" * 50)
    (tmp_path / "latin.txt").write_bytes(b"a\nna\xefve\n")
    (tmp_path / "nul.txt").write_bytes(b"a\0b\n")
    before = sorted(tmp_path.rglob("*"))
    assert message in error_message(charlm(*arguments, cwd=tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_foreign_and_newer_models_are_refused(
    charlm: Charlm, path: Path, tmp_path: Path
) -> None:
    whole = path.read_bytes()
    weights = load_file(path)
    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "truncated": (lambda p: p.write_bytes(whole[: len(whole) // 2]), "a damaged one"),
        "foreign": (lambda p: save_file(weights, p), "not a charlm model"),
        "newer": (
            lambda p: p.write_bytes(whole.replace(b'{\\"format\\": 5', b'{\\"format\\": 9')),
            "a model of format 9",
        ),
        "own": (
            lambda p: p.write_bytes(whole.replace(b'\\"cell\\": \\"lstm', b'\\"cell\\": \\"mine')),
            "its cell, mine, is not one of charlm's",
        ),
    }
    for name, (write, message) in cases.items():
        file = tmp_path / f"{name}.safetensors"
        write(file)
        assert message in error_message(charlm("score", "x", "--model", file))


def test_wrong_usage_is_exit_code_2(charlm: Charlm) -> None:
    for arguments in (["tran"], ["score", "--nonsense"], ["train"]):
        ran = charlm(*arguments)
        assert ran.returncode == 2 and "Usage:" in ran.stderr


def test_a_traceback_appears_only_with_debug(charlm: Charlm, tmp_path: Path) -> None:
    assert "Traceback" not in charlm("train", "gone", cwd=tmp_path).stderr
    for arguments in (["--debug", "train", "gone"], ["train", "gone", "--debug"]):
        ran = charlm(*arguments, cwd=tmp_path)
        assert "Traceback" in ran.stderr and ran.returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_training_and_saves_the_model(
    charlm: Charlm, corpus: Path, tmp_path: Path, number: int, code: int
) -> None:
    command = ["train", str(corpus), "--minutes", "0.5", "--hidden", "16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    metrics = tmp_path / "runs/corpus/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code
    assert "stopped; the model so far is in runs/corpus" in stderr.decode().splitlines()[-1]
    assert charlm("score", "the cat", "-m", "runs/corpus", cwd=tmp_path).returncode == 0
    note = charlm("train", corpus, "--steps", 2, "--hidden", 8, cwd=tmp_path).stderr
    assert "--out runs/corpus --resume" in note and "unfinished run of this corpus" in note


@pytest.fixture(scope="module")
def fill_run(trained: Trained) -> Path:
    """The run folder of a character-aware fill model of words."""
    options = {"level": "word", "characters": "convolutional", "task": "fill", "lr": 0.01}
    model: FillModel = trained(**options, steps=100, hidden=24)
    return model.path.parent


def test_fill_formats(charlm: Charlm, fill_run: Path, path: Path) -> None:
    line = "the ___ sat on ___ mat"
    shown = charlm("fill", line, "a bird ___ all day", "--model", fill_run)
    heading, *rows = [row.split("\t") for row in shown.stdout.splitlines()]
    assert heading == ["sentence", "blank", "rank", "filler", "probability"]
    assert rows[0][:3] == ["1", "1", "1"] and rows[6][:3] == ["1", "2", "2"]
    assert len(rows) == 15 and rows[-1][0] == "2" and rows[5][3] == "the"
    as_json = charlm("fill", line, "-k", 2, "--format", "json", "--model", fill_run).stdout
    record = json.loads(as_json)
    assert record["text"] == line and [len(blank) for blank in record["blanks"]] == [2, 2]
    assert record["blanks"][1][0]["filler"] == "the"
    no_blank = charlm("fill", "the [] sat", "--model", fill_run)
    assert "no blank in 'the [] sat'" in error_message(no_blank)
    some = charlm("fill", "-k", 1, "--model", fill_run, stdin="the ___ sat\nnone\nthe ___ sat\n")
    assert [row[0] for row in some.stdout.splitlines()] == ["s", "1", "3"]
    assert "warning: line 2: no blank in 'none'" in some.stderr and not some.returncode
    empty = charlm("fill", "the ___ sat", "--blank", "", "--model", fill_run)
    assert "--blank: give the text that marks a blank" in error_message(empty)
    options = ["--blank", "[]", "--format", "table", "--model", path]
    table = charlm("fill", *options, stdin="the [] slept at home\n").stdout
    assert table.splitlines()[0] == "the [] slept at home" and "cat" in table


def test_other_commands_refuse_a_fill_model_and_say_what_it_is_for(
    charlm: Charlm, fill_run: Path, corpus: Path, tmp_path: Path
) -> None:
    options = ["--bidirectional", "--steps", 2, "--hidden", 8]
    charlm("train", corpus, *options, cwd=tmp_path)
    message = error_message(charlm("sample", cwd=tmp_path))
    assert "runs/corpus/model.safetensors was trained with --task fill" in message
    for command in (["score", "the cat"], ["sample"], ["evaluate", corpus]):
        message = error_message(charlm(*command, "--model", fill_run))
        assert "was trained with --task fill: it fills blanks (charlm fill)" in message
    scored = charlm("score", "--pseudo", "the cat sat", "--format", "json", "--model", fill_run)
    assert {"pseudo_logprob", "pseudo_perplexity", "tokens"} < set(json.loads(scored.stdout))
    table = charlm("score", "--pseudo", "the cat sat", "--format", "table", "--model", fill_run)
    assert "pseudo-probability" in table.stdout
    info = charlm("info", fill_run).stdout
    assert "convolutional characters" in info and "each token given all others" in info


def test_embed_writes_tokens_lines_and_words(
    charlm: Charlm, fill_run: Path, path: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat\n\na dog sat\n", encoding="utf-8")
    ran = charlm("embed", text, "--model", path, cwd=tmp_path)
    assert ran.stdout == "text.safetensors\n", ran.stderr
    arrays = load_file(tmp_path / "text.safetensors")
    assert arrays["vectors"].shape == (16, 32) and arrays["lines"].tolist()[-1] == 2
    assert "exists; remove it, or use another --out" in error_message(
        charlm("embed", text, "--model", path, cwd=tmp_path)
    )
    lines = charlm("embed", text, "--mean", "--out", "lines.npz", "--model", fill_run, cwd=tmp_path)
    assert np.load(tmp_path / "lines.npz")["vectors"].shape == (3, 48) and not lines.returncode
    words = tmp_path / "words.txt"
    words.write_text("cat\nunheard\n", encoding="utf-8")
    charlm("embed", words, "--words", "--out", "two.txt", "--model", fill_run, cwd=tmp_path)
    first, *rows = (tmp_path / "two.txt").read_text(encoding="utf-8").splitlines()
    assert first == "2 174" and [row.split()[0] for row in rows] == ["cat", "unheard"]
    charlm("embed", "--words", "--model", fill_run, cwd=tmp_path)
    arrays = load_file(tmp_path / "words.safetensors")
    names = arrays["words"].tobytes().decode().split("\n")
    assert names[:3] == ["<START>", "<EOS>", "<UNK>"] and len(names) == len(arrays["vectors"])
    assert "--out a.csv: the file's name must end in" in error_message(
        charlm("embed", text, "--out", "a.csv")
    )
    assert "add --words" in error_message(charlm("embed"))


def test_train_starts_from_the_word_vectors_that_embed_writes(
    charlm: Charlm, fill_run: Path, corpus: Path, tmp_path: Path
) -> None:
    charlm("embed", "--words", "--model", fill_run, "--out", "all.txt", cwd=tmp_path)
    ran = charlm(
        "train", corpus, "--level", "word", "--embeddings", "all.txt", "--steps", 2, cwd=tmp_path
    )
    assert "embeddings: 26 of 26 tokens have a vector" in ran.stderr, ran.stderr


def test_gradients_of_several_models(
    charlm: Charlm, path: Path, tmp_path: Path, corpus: Path
) -> None:
    options = ["--cell", "rnn", "--steps", 5, "--hidden", 8, "--out", "rnn"]
    charlm("train", corpus, *options, cwd=tmp_path)
    ran = charlm("gradients", path, "rnn", corpus, "--steps", 9, cwd=tmp_path)
    rows = [row.split("\t") for row in ran.stdout.splitlines()]
    assert rows[0] == ["model", "k", "dh", "dc"] and len(rows) == 21, ran.stderr
    assert {row[0] for row in rows[1:]} == {str(path), "rnn"}


def test_evaluate_with_a_cache(charlm: Charlm, corpus: Path, tmp_path: Path) -> None:
    charlm(
        "train",
        corpus,
        "--steps",
        5,
        "--hidden",
        8,
        "--ngram",
        "none",
        "--out",
        "run",
        cwd=tmp_path,
    )

    def evaluate(*options: object) -> subprocess.CompletedProcess[str]:
        return charlm("evaluate", corpus, *options, "--model", "run", cwd=tmp_path)

    plain, cached, one_token = (
        json.loads(evaluate(*options, "--format", "json").stdout)["perplexity"]
        for options in ([], ["--cache", 200, "--cache-flatness", 0.3], ["--cache", 1])
    )
    assert cached < plain and cached != one_token
    without_cache = evaluate("--cache-weight", 0.2)
    assert "--cache-weight 0.2: goes with --cache" in error_message(without_cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell", "gru", "--peepholes", "ifo"], "--peepholes ifo: is not for --cell gru"),
        (["--reset", "after"], "--reset after: is not for --cell lstm, but for --cell gru"),
        (["--cell", "rnn", "--no-forget-gate"], "--no-forget-gate: is not for --cell rnn"),
        (["--embeddings", "malformed.txt", "--level", "word"], "malformed.txt, line 2: should be"),
        (["--embeddings", "wide.txt", "--level", "word", "--embedding", 5], "have 2 features"),
        (["--embeddings", "none.txt", "--level", "word"], "none.txt"),
    ],
)
def test_invalid_combinations_are_refused_before_training(
    charlm: Charlm, corpus: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    (tmp_path / "malformed.txt").write_text("the 1 2\ncat 1\n", encoding="utf-8")
    (tmp_path / "wide.txt").write_text("the 1 2\ncat 1 2\n", encoding="utf-8")
    ran = charlm("train", corpus, "--steps", 5, *options, cwd=tmp_path)
    assert message in error_message(ran) and not list(tmp_path.glob("runs/*"))


# --- what broke when strangers tried it


def start(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a command whose standard streams are pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "charlm", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )


def test_a_text_from_standard_input_is_trained_on_and_resumed(
    charlm: Charlm, corpus: Path, tmp_path: Path
) -> None:
    text = corpus.read_text(encoding="utf-8")
    options = ["--hidden", 8, "--quiet"]
    first = charlm("train", "-", "--steps", 3, *options, cwd=tmp_path, stdin=text)
    assert first.stdout == "runs/stdin/model.safetensors\n", first.stderr
    more = charlm("train", "-", "--resume", "--steps", 6, "--quiet", cwd=tmp_path, stdin=text)
    assert more.stdout == first.stdout, more.stderr
    other = charlm("train", "-", "--resume", "--steps", 9, cwd=tmp_path, stdin="else\n" * 99)
    assert "no run of stdin to resume" in error_message(other)


@contextmanager
def pipe(text: str) -> Iterator[str]:
    """The name of a pipe that holds a short text, as `<(command)` has one."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


def test_a_pipe_of_the_shell_is_trained_on(corpus: Path, tmp_path: Path) -> None:
    train = f"{sys.executable} -m charlm train --steps 3 --hidden 8 -q"
    ran = subprocess.run(
        ["bash", "-c", f"{train} <(cat {corpus}) --valid <(tail {corpus})"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.stdout == "runs/pipe/model.safetensors\n", ran.stderr


def test_a_pipe_with_a_name_is_a_text_like_any_other(
    charlm: Charlm, corpus: Path, path: Path, tmp_path: Path
) -> None:
    text = corpus.read_text(encoding="utf-8")
    for command in (["score", "--file"], ["evaluate"]):
        options = ["-m", path, "--format", "json"]
        with pipe(text) as name:
            piped = charlm(*command, name, *options).stdout
        plain = charlm(*command, corpus, *options).stdout
        assert piped.replace(name, str(corpus)) == plain != ""
    options = ["--level", "word", "--steps", 2, "--hidden", 8, "--out", "words"]
    with pipe("the 1 2\ncat 3 4\n") as vectors:
        trained = charlm("train", corpus, *options, "--embeddings", vectors, cwd=tmp_path)
    assert "embeddings: 2 of " in trained.stderr
    with pipe(text) as name:
        embedded = charlm("embed", name, "-m", path, cwd=tmp_path)
    assert embedded.stdout == "pipe.safetensors\n"


@pytest.mark.parametrize(
    ("command", "line", "answer"),
    [
        (["score", "--format", "json"], "the cat", '"text": "the cat"'),
        (["score", "--format", "table"], "the cat", "the cat"),
        (["fill", "--format", "json"], "the ___ sat", '"text": "the ___ sat"'),
    ],
)
def test_a_line_is_answered_before_the_next_one_is_there(
    path: Path, command: list[str], line: str, answer: str
) -> None:
    process = start(*command, "-m", path)
    assert process.stdin and process.stdout
    for _ in range(2):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        while answer not in (row := process.stdout.readline().decode()):
            assert row, "the command ended"
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_samples_of_several_lines_are_separated(charlm: Charlm, path: Path) -> None:
    options = ["sample", "-m", path, "-n", 3, "--seed", 1, "--max-lines"]
    one = charlm(*options, 1).stdout
    assert len(one.splitlines()) == 3 and "\n\n" not in one
    two = charlm(*options, 2).stdout.split("\n\n")
    assert len(two) == 3 and all(len(sample.strip().splitlines()) == 2 for sample in two)


def test_the_rows_before_a_line_that_is_not_text_are_written(charlm: Charlm, path: Path) -> None:
    stdin = "the cat\n" * 5000 + "a\0b\nthe cat\n"
    ran = charlm("score", "-m", path, "--strict", stdin=stdin)
    assert "line 5001: holds a NUL" in error_message(ran)
    assert len(ran.stdout.splitlines()) == 5001  # with the heading


def test_a_metrics_file_that_was_cut_off_is_no_obstacle(
    charlm: Charlm, corpus: Path, tmp_path: Path
) -> None:
    charlm("train", corpus, "--steps", 5, "--hidden", 8, "--out", "run", cwd=tmp_path)
    before = charlm("info", "run", "--json", cwd=tmp_path).stdout
    with (tmp_path / "run/metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "valid_na')
    ran = charlm("info", "run", "--json", cwd=tmp_path)
    assert ran.returncode == 0 and ran.stdout == before
    assert len(json.loads(before)["curve"]) == 5


def test_info_compares_only_what_was_measured_on_the_same_text(
    charlm: Charlm, corpus: Path, tmp_path: Path
) -> None:
    trained = charlm("train", corpus, "--steps", 5, "--hidden", 8, "--out", "run", cwd=tmp_path)
    tokens = json.loads(charlm("info", "run", "--json", cwd=tmp_path).stdout)["card"]
    rows = charlm("info", "run", cwd=tmp_path).stdout.splitlines()
    (row,) = [row for row in rows if row.startswith("lines alone")]
    assert f"{tokens['valid_lines']:.4f} nats/token with each line alone" in row
    assert f"{tokens['valid_carried']:.4f} with the state carried" in row
    assert f"the first {tokens['valid_both_tokens']:,} tokens" in row
    measured = tokens["valid_tokens"]
    assert f"the final loss is of {measured:,} in fp32, by the whole model" in trained.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "-m", "A", "-m", "B"], "--model/-m is given more than once"),
        (["train", "a", "--steps", "2", "--steps", "3"], "--steps is given more than once"),
        (["score", "-ein"], "No such option: -e. Texts that begin with - come last, after --"),
    ],
)
def test_wrong_usage_says_what_to_do(charlm: Charlm, arguments: list[str], message: str) -> None:
    ran = charlm(*arguments)
    shown = " ".join(ran.stderr.replace("│", " ").split())
    assert ran.returncode == 2 and message in shown, ran.stderr


def test_several_stop_texts_are_taken(charlm: Charlm, path: Path) -> None:
    options = ["-m", path, "--seed", 1, "--length", 60, "-n", 8, "--stop", "a", "--stop", "e"]
    texts = charlm("sample", *options, "--max-lines", 1).stdout
    assert texts.strip() and not {"a", "e"} & set(texts)


def test_weights_that_are_not_numbers_are_refused(
    charlm: Charlm, path: Path, tmp_path: Path
) -> None:
    weights, broken = load_file(path), tmp_path / "broken.safetensors"
    weights["norm.gain"][0] = np.nan
    with safe_open(path, framework="np") as file:
        save_file(weights, broken, file.metadata())
    message = error_message(charlm("score", "the cat", "-m", broken))
    assert "norm.gain holds values that are not numbers" in message


def test_a_file_that_cannot_be_written_is_one_line(
    charlm: Charlm, corpus: Path, path: Path
) -> None:
    ran = charlm("train", corpus, "--steps", 2, "--hidden", 8, "--out", "/proc/run")
    assert error_message(ran).startswith("/proc/run: ")
    ran = charlm("embed", corpus, "-m", path, "--out", "/proc/out.npz")
    assert error_message(ran).startswith("/proc/out.npz: ")


def test_a_signal_while_modules_are_loaded_ends_with_its_code(tmp_path: Path) -> None:
    """An exception that a handler raises within a compiled module's start aborts the process."""
    (tmp_path / "compiled.py").write_text(
        "import ctypes, os, signal\n"
        "@ctypes.CFUNCTYPE(None)\n"
        "def code():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        for _ in range(10): pass\n"
        "    except BaseException:\n"
        "        os.abort()\n"
        "code()\n",
        encoding="utf-8",
    )
    program = "import charlm.cli, charlm.__main__\ncharlm.cli.run = {}\ncharlm.__main__.main()\n"
    loading = "lambda: (__import__('compiled'), __import__('time').sleep(9))"
    late = "lambda: 0\nimport atexit, os\natexit.register(lambda: os.kill(os.getpid(), 2))"
    for run, code in ((loading, 130), (late, 0)):
        ran = subprocess.run(
            [sys.executable, "-c", program.format(run)], cwd=tmp_path, check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())}, capture_output=True,
        )  # fmt: skip
        assert ran.returncode == code and not ran.stderr, ran.stderr


def test_commands_share_the_cores(charlm: Charlm, path: Path) -> None:
    """What makes two commands at once as fast as they can be; `benchmarks.strain` measures it."""
    program = (
        "import os, sys, charlm.cli, charlm.__main__\n"
        "charlm.cli.run = lambda: print(os.environ['GOMP_SPINCOUNT'], "
        "os.environ['OPENBLAS_NUM_THREADS'])\n"
        "charlm.__main__.main()\n"
    )
    for own, expected in (({}, "2000 1\n"), ({"GOMP_SPINCOUNT": "7"}, "7 1\n")):
        environment = {
            k: v
            for k, v in os.environ.items()
            if k not in ("GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")
        }
        ran = subprocess.run(
            [sys.executable, "-c", program], env={**environment, **own}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert ran.stdout == expected
    too_many = charlm("score", "the cat", "-m", path, "--threads", 9999)
    assert "--threads 9999: must be from 1 to" in error_message(too_many)
    one = charlm("score", "the cat", "-m", path, "--threads", 1)
    assert one.stdout == charlm("score", "the cat", "-m", path).stdout != ""
