"""Training on several processes: the same model as from one, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import charlm
from benchmarks.scale import worker_of
from charlm.corpus.batches import Batches, BatchShape, Cursor, find_rare
from charlm.corpus.encoding import TokenFile, encode_to_file
from charlm.corpus.lines import line_batches
from charlm.corpus.streams import StreamBatches
from charlm.errors import InputError, OptionError, Stopped
from charlm.model.config import Dropout, ModelConfig
from charlm.model.network import Network
from charlm.parts import WHOLE, Part
from charlm.tasks import load_task
from charlm.tasks.fill import LineValidation
from charlm.tasks.lm import TextValidation
from charlm.tokenizer import train_tokenizer
from charlm.training import metrics
from charlm.training.checkpoint import Checkpoint
from charlm.training.distributed import weave
from charlm.training.folder import CHECKPOINT
from conftest import stopped_after
from tests.processes import free_port, launch

ROOT = Path(__file__).parent.parent
OPTIONS: dict[str, Any] = {
    "hidden": 16,
    "bptt": 16,
    "batch": 5,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
}
PARTS = [Part(k, 3) for k in range(3)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


# --- what each process does ---


def batches_of(kind: str, tokens: TokenFile, part: Part = WHOLE) -> Batches:
    rare = find_rare(tokens, 99, True)
    if kind == "fill":
        return line_batches(tokens, BatchShape(2, 16, True, 3, part), rare)
    return StreamBatches(tokens, BatchShape(5, 7, kind == "lines", 3, part), rare)


def parts_of(kind: str) -> dict[str, Any]:
    return {"bidirectional": True, "feedforward": 1} if kind == "fill" else {}


def tokens_of(corpus: Path, folder: Path) -> TokenFile:
    def blocks() -> list[str]:
        rare = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"  # some become <UNK>
        return [corpus.read_text(encoding="utf-8"), f"{'a long line ' * 30}\n", f"{rare}\n"]

    tokenizer = train_tokenizer("char", blocks, None, "lossless", "nfc")
    return encode_to_file(blocks(), tokenizer, folder / "text")


@pytest.mark.parametrize("kind", ["document", "lines", "fill"])
def test_the_processes_have_the_columns_of_the_batches_of_one(
    corpus: Path, tmp_path: Path, kind: str
) -> None:
    tokens = tokens_of(corpus, tmp_path)
    cursors = [Cursor() for _ in range(4)]
    sources = [batches_of(kind, tokens, part) for part in (WHOLE, *PARTS)]
    iterators = [source.iterate(c) for source, c in zip(sources, cursors, strict=True)]
    empty = 0
    for whole, *parts in islice(zip(*iterators, strict=True), 120):
        arrays: list[Any] = [whole, *parts]
        assert {batch.predicted for batch in arrays} == {np.count_nonzero(arrays[0].targets)}
        for name in [n for n in arrays[0]._fields if n != "share"]:
            columns, *own = [torch.from_numpy(getattr(batch, name)) for batch in arrays]
            woven = weave([part.movedim(-1, 0) for part in own]).movedim(0, -1)
            assert torch.equal(columns, woven)
        empty += any(not batch.targets.size for batch in arrays)
    assert all(cursor == cursors[0] for cursor in cursors)
    assert empty > 0 or kind != "fill"  # long lines are few in a batch


@pytest.mark.parametrize("kind", ["lm", "fill"])
def test_the_gradients_of_the_processes_add_up_with_dropout_of_every_kind(
    corpus: Path, tmp_path: Path, kind: str
) -> None:
    tokens, task = tokens_of(corpus, tmp_path), load_task(kind)
    for cell, dropout in (
        ("lstm", Dropout(outputs=0.3, inputs=0.3)),
        ("gru", Dropout(outputs=0.3, state=0.3, weights=0.3, per_step=True)),
    ):
        parts: dict[str, Any] = {"layer_norm": cell == "gru", **parts_of(kind)}
        config = ModelConfig(99, cell=cell, layers=2, hidden=12, embedding=8, **parts)
        found: list[list[torch.Tensor]] = []
        for part in (WHOLE, *PARTS):
            network = Network(config, dropout, torch.Generator().manual_seed(3))
            network.double()
            for batch in islice(batches_of(kind, tokens, part).iterate(Cursor()), 6):
                loss, _ = task.loss(network, batch, [])
                torch.autograd.backward(loss)
            gradients = [p.grad for p in network.parameters()]
            found.append([torch.zeros(1) if g is None else g for g in gradients])
        for whole, *own in zip(*found, strict=True):
            torch.testing.assert_close(sum(own), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "lines"), [("lm", False), ("lm", True), ("fill", True)])
def test_the_parts_of_a_validation_add_up(corpus: Path, kind: str, lines: bool) -> None:
    ids = np.random.default_rng(0).integers(3, 20, 9000)
    ids[::37] = 2
    ids[-1] = 2
    bounds = np.append(0, np.flatnonzero(ids == 2) + 1)
    config = ModelConfig(20, cell="gru", layers=1, hidden=12, embedding=8, **parts_of(kind))
    network = Network(config, generator=torch.Generator().manual_seed(1)).eval()
    of_kind = TextValidation if kind == "lm" else LineValidation
    validation = of_kind(ids, bounds, independent_lines=lines)
    total = validation.total(network)
    assert 2 < total / validation.predicted < 4
    parts = [validation.total(network, part) for part in PARTS]
    assert min(parts) > 0.3 * total and sum(parts) == pytest.approx(total, rel=1e-6)


# --- several processes, as torchrun starts them ---


def torchrun(
    *arguments: object, processes: int = 2, options: Sequence[object] = (), cwd: Path
) -> subprocess.Popen[str]:
    command = [*options, "-m", "charlm", *arguments]
    if "--nnodes" not in options:
        command = ["--nproc-per-node", processes, *command]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, command)],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )


def flags(**options: object) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def messages(stderr: str) -> list[str]:
    """The lines that charlm itself wrote."""
    return [line for line in stderr.splitlines() if line.startswith("charlm: ")]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for the condition; fail if the process ends before, or after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


def steps_in(folder: Path) -> int:
    """Steps of the last checkpoint; 0 if there is none."""
    path = folder / CHECKPOINT
    return Checkpoint.load(path).state.step if path.is_file() else 0


@pytest.mark.parametrize(
    ("processes", "task"),
    [(2, {}), (3, {"lines": True}), (2, {"task": "fill", "lr": 0.001})],
    ids=["document", "lines", "fill"],
)
def test_several_processes_train_the_model_of_one(
    corpus: Path, tmp_path: Path, processes: int, task: dict[str, Any]
) -> None:
    """Step by step, with dropout: every process draws the masks of the whole batch."""
    options = {**OPTIONS, "dropout": 0.2, "steps": 30, **task}
    one = charlm.train(corpus, out=tmp_path / "one", quiet=True, **options)
    words = ["--lines"] if options.pop("lines", False) else []
    command = ["train", corpus, *words, *flags(**options), "--out", "several"]
    if task:
        codes, outputs, errors = zip(
            *launch([command] * processes, [tmp_path] * processes), strict=True
        )
        code, stdout, stderr = max(codes), "".join(outputs), "".join(errors)
    else:
        process = torchrun(*command, processes=processes, cwd=tmp_path)
        stdout, stderr = process.communicate(timeout=120)
        code = process.returncode
    assert code == 0, stderr
    assert stdout == "several/model.safetensors\n"  # one process reports
    assert stderr.count(": lstm of 16, ") == 1 and stderr.count("next: ") == 1
    assert f"{processes} processes" in stderr
    rows = [metrics.read(tmp_path / run / metrics.METRICS) for run in ("one", "several")]
    for name in ("train_nats_per_token", "valid_nats_per_token"):
        expected, found = (np.array([row[name] for row in run]) for run in rows)
        np.testing.assert_allclose(expected, found, rtol=0, atol=1e-4)
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    several = charlm.load(tmp_path / "several")
    assert several.card.valid_nats == pytest.approx(one.card.valid_nats, abs=1e-4)
    assert several.card.valid_tokens == one.card.valid_tokens
    weights = load_file(several.path)
    for name, value in load_file(one.path).items():
        np.testing.assert_allclose(value, weights[name], atol=1e-3)
    folders = [{path.name for path in (tmp_path / run).iterdir()} for run in ("one", "several")]
    assert folders[0] == folders[1]


LABELLED = "".join(f"{word} day {k % 7}\t{word}\n" for k in range(40) for word in ("good", "bad"))
TAGGED = LABELLED.replace(" day ", "\tA\nday\tB\n").replace("\tgood\n", "\tN\n\n")


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("classify", LABELLED),
        ("tag", TAGGED.replace("\tbad\n", "\tN\n\n")),
        ("tree", "(not-x (not not) (x x))\n(x very x)\n" * 40),
        ("seq2seq", "".join(f"{10 * k}\t{10 * k + 1}\n" for k in range(80))),
    ],
    ids=["classify", "tag", "tree", "seq2seq"],
)
def test_several_processes_train_both_halves_of_one(tmp_path: Path, task: str, text: str) -> None:
    """The counted half is that of the first process."""
    corpus = tmp_path / "labelled.tsv"
    corpus.write_text(text, encoding="utf-8")
    options: dict[str, Any] = {
        "task": task, "steps": 10, "hidden": 8, "batch": 4, "precision": "fp32", "threads": 1
    }  # fmt: skip
    one = charlm.train(corpus, out=tmp_path / "one", quiet=True, **options)
    command = ["train", corpus, *flags(**options), "--out", "several"]
    for code, _, stderr in launch([command] * 2, [tmp_path] * 2):
        assert code == 0, stderr
    several = charlm.load(tmp_path / "several")
    assert several.card.valid_nats == pytest.approx(one.card.valid_nats, abs=1e-4)
    weights = load_file(several.path)
    assert {"parts.linear.weights", "parts.joint.chunks"} & weights.keys()
    for name, value in load_file(one.path).items():
        np.testing.assert_allclose(value, weights[name], atol=1e-3)


@pytest.mark.slow
def test_a_run_goes_from_one_process_to_several_and_back(corpus: Path, tmp_path: Path) -> None:
    """Stopped by a signal to torchrun, which reaches all processes and is answered after saving."""
    options = {**OPTIONS, "dropout": 0.2}
    whole = charlm.train(corpus, out=tmp_path / "whole", steps=800, quiet=True, **options)
    out = tmp_path / "out"
    started = ["train", corpus, "--out", "out", *flags(**options), "--steps", 800]
    process = torchrun(*started, cwd=tmp_path)
    wait_until(lambda: steps_in(out) > 0, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    (message,) = messages(stderr)
    assert message.startswith("charlm: stopped; the model so far is in out")
    first = steps_in(out)
    assert 0 < first < 800 and not list(out.glob(".*"))
    one = subprocess.Popen(
        [sys.executable, "-m", "charlm", "train", str(corpus), "--out", "out", "--resume"],
        cwd=tmp_path, text=True, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    wait_until(lambda: steps_in(out) > first, one)
    one.send_signal(signal.SIGTERM)
    assert f"resuming after step {first:,}" in one.communicate(timeout=60)[1]
    second = steps_in(out)
    assert first < second < 800
    ended = launch([["train", corpus, "--out", "out", "--resume"]] * 3, [tmp_path] * 3)
    assert [code for code, _, _ in ended] == [0] * 3
    assert f"resuming after step {second:,}" in ended[0][2]
    found = charlm.load(out)
    assert found.card.trained == whole.card.trained
    assert found.card.valid_nats == pytest.approx(whole.card.valid_nats, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_whose_process_is_killed_goes_on_by_itself(
    corpus: Path, tmp_path: Path, rank: int
) -> None:
    out = tmp_path / "runs/corpus"
    process = torchrun(
        "train", corpus, *flags(**OPTIONS), "--steps", 500,
        options=["--max-restarts", 3], cwd=tmp_path,
    )  # fmt: skip
    wait_until(lambda: steps_in(out) > 0, process)
    os.kill(worker_of(process.pid, rank), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout == "runs/corpus/model.safetensors\n" and "resuming after step" in stderr
    assert {path.name for path in out.parent.iterdir()} == {".last", "corpus"}
    assert "500 steps" in charlm.load(out).card.trained


def test_the_runs_of_a_start_are_recognised(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torchrun sets when it starts a process again, here without other processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")

    def train(**more: Any) -> tuple[Path, str]:
        model = charlm.train(corpus, quiet=True, **{**OPTIONS, "steps": 40, **more})
        return model.path.parent, model.card.trained

    with monkeypatch.context() as patch:
        stopped_after(5, patch)
        with pytest.raises(Stopped):
            train()
    assert train(lr=0.001)[0] == Path("runs/corpus-2")  # with other options: another run
    assert train()[0] == Path("runs/corpus")
    finished = Path("runs/corpus/model.safetensors").stat().st_mtime_ns
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train()[0] == Path("runs/corpus")  # it was finished when another process died
    assert Path("runs/corpus/model.safetensors").stat().st_mtime_ns == finished
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert train()[0] == Path("runs/corpus-3")
    assert train(out="out")[0] == Path("out") == train(out="out")[0]
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    with pytest.raises(InputError, match="out exists"):
        train(out="out")


def test_more_processes_than_streams_are_one_line(corpus: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "steps": 5, "batch": 1}
    ended = launch([["train", corpus, *flags(**options)]] * 2, [tmp_path] * 2)
    assert messages("".join(stderr for _, _, stderr in ended)) == [
        "charlm: --batch 1: too small to be shared by 2 processes; use a larger one, or start "
        "fewer processes"
    ]
    assert [(code, stdout) for code, stdout, _ in ended] == [(1, "")] * 2
    assert not list(tmp_path.glob("runs/*"))


# --- two machines ---


def two_machines(folders: Sequence[Path], corpora: Sequence[Path]) -> list[tuple[int, str, str]]:
    """Train with a process on each of two machines. Exit code, stdout and stderr of each."""
    port, started = free_port(), []
    for node in (0, 1):
        options = ["--nnodes", 2, "--node-rank", node, "--nproc-per-node", 1]
        options += ["--master-addr", "localhost", "--master-port", port]
        arguments = ["train", corpora[node], *flags(**OPTIONS), "--steps", 20]
        started.append(torchrun(*arguments, options=options, cwd=folders[node]))
    ended = [process.communicate(timeout=120) for process in started]
    return [(p.returncode, *streams) for p, streams in zip(started, ended, strict=True)]


@pytest.mark.slow
def test_machines_without_a_common_folder_train_together(corpus: Path, tmp_path: Path) -> None:
    """The second one encodes the text itself, and leaves nothing behind."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    first, second = two_machines(folders, [corpus, corpus])
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert first[1] == "runs/corpus/model.safetensors\n" and second[1] == ""
    one = charlm.train(corpus, out=tmp_path / "one", steps=20, quiet=True, **OPTIONS)
    found = charlm.load(folders[0] / "runs/corpus")
    assert found.card.valid_nats == pytest.approx(one.card.valid_nats, abs=1e-4)
    assert not list(folders[1].iterdir())


@pytest.mark.parametrize("what", ["text", "options", "file"])
def test_machines_that_differ_are_one_line(corpus: Path, tmp_path: Path, what: str) -> None:
    other = tmp_path / "corpus.txt"
    text = corpus.read_text(encoding="utf-8")
    other.write_text(text.replace("cat", "cow", 1), encoding="utf-8")
    corpora = [corpus, {"text": other, "options": corpus, "file": tmp_path / "no.txt"}[what]]
    more: list[Sequence[object]] = [[], ["--lr", 0.5] if what == "options" else []]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    commands = [
        ["train", corpora[rank], *flags(**OPTIONS), "--steps", 20, *more[rank]] for rank in (0, 1)
    ]
    first, second = launch(commands, folders, machines=True)
    (message,) = messages(first[2])
    expected = {
        "text": "rank 1: {} is not the text that rank 0 reads; copy the same files",
        "options": "rank 1 differs from rank 0 in its options",
        "file": "rank 1: {}: no such file",
    }[what]
    assert expected.format(corpora[1]) in message
    assert (first[0], second[0]) == (1, 1) and not messages(second[2])
    assert not list(folders[0].glob("runs/*"))


def test_processes_that_cannot_meet_are_one_line(corpus: Path, tmp_path: Path) -> None:
    """Started by hand on an address that is in use."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(taken.getsockname()[1])}
        ran = subprocess.run(
            [sys.executable, "-m", "charlm", "train", str(corpus), "--steps", "5"],
            cwd=tmp_path, text=True, capture_output=True, timeout=60, check=False,
            env={**ENVIRONMENT, "RANK": "0", "WORLD_SIZE": "2", **place},
        )  # fmt: skip
    (message,) = messages(ran.stderr)
    assert ran.returncode == 1 and f"cannot meet at localhost:{place['MASTER_PORT']}" in message


# --- shards ---


def test_the_shards_of_a_text_add_up(model: charlm.LanguageModel, corpus: Path) -> None:
    text = corpus.read_text(encoding="utf-8") * 8 + "the cät sat\n" + "the end"
    for reset in (False, True):
        whole = model.evaluate(text, reset_lines=reset).to_json()
        shards = [
            model.evaluate(text, reset_lines=reset, shard=f"{k}/3").to_json() for k in (1, 2, 3)
        ]
        for name in ("logprob", "tokens", "chars", "bytes", "unknown"):
            assert sum(s[name] for s in shards) == pytest.approx(whole[name], rel=1e-6), name
        assert min(s["tokens"] for s in shards) > 0.3 * whole["tokens"]
    with pytest.raises(OptionError, match=r"`shard=4/3`: give I/N"):
        model.evaluate(text, shard="4/3")
    with pytest.raises(OptionError, match="does not go with `cache`"):
        model.evaluate(text, shard="1/3", cache=100)


def test_the_shards_of_scores_are_the_scores(
    model: charlm.LanguageModel, corpus: Path, tmp_path: Path
) -> None:
    def score(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "charlm", "score", "-m", str(model.path), *arguments]
        ran = subprocess.run(command, text=True, capture_output=True, check=True)
        return ran.stdout.splitlines()

    lines = score("--file", str(corpus), "--format", "json")
    shards = [
        score("--file", str(corpus), "--format", "json", "--shard", f"{k}/3") for k in (1, 2, 3)
    ]
    woven = [shards[k % 3][k // 3] for k in range(80)]
    for whole, line in zip(map(json.loads, lines), map(json.loads, woven), strict=True):
        assert whole["text"] == line["text"]
        assert whole["logprob"] == pytest.approx(line["logprob"], abs=1e-4)
    tokens = score("--file", str(corpus), "--format", "tsv", "--tokens", "--shard", "2/30")
    assert {row.split("\t")[0] for row in tokens[1:]} == {"2", "32", "62"}  # numbers of lines
