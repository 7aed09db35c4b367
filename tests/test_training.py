"""Training: recipes, schedules, resuming exactly, and what is written when."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_overloads

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import charlm
from charlm import FillModel, LanguageModel, api
from charlm.corpus.examples import TEXT
from charlm.errors import CharlmError, InputError, ModelError, OptionError, Stopped
from charlm.model.config import ModelConfig
from charlm.model.devices import autocast
from charlm.model.layers import Stack
from charlm.model.network import Network
from charlm.model.prediction import NetworkPredictor
from charlm.model.split_softmax import ROWS_OF_TAIL, softmax_rows, split_softmax
from charlm.tasks import load_task
from charlm.tasks.base import Sizes
from charlm.tasks.lm import TextValidation
from charlm.training.clock import Clock
from charlm.training.distributed import Ranks
from charlm.training.folder import Folder
from charlm.training.loop import Loop, schedule
from charlm.training.optimizer import BETAS, AdamW
from charlm.training.options import TrainOptions
from charlm.training.plan import PLAN, Plan
from charlm.training.recipe import (
    HIDDEN_SIZES,
    MOST_NETWORKS,
    Machine,
    Recipe,
    choose,
    hidden_sizes,
)
from charlm.training.reporter import Reporter
from charlm.training.saver import Saver
from charlm.training.stopping import StopSignals
from charlm.training.train import _warn_about_result
from conftest import stopped_after

SMALL: dict[str, Any] = {"hidden": 16, "bptt": 16, "batch": 4, "quiet": True, "precision": "fp32"}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recipe_for(chars: int, rate: float = 1e11, threads: int = 1, **options: Any) -> Recipe:
    """The recipe for a text of 80 different tokens that are equally frequent."""
    asked, counts = TrainOptions(**options), np.full(80, -(-chars // 80))
    data: Any = SimpleNamespace(fields={TEXT: SimpleNamespace(counts=lambda vocab: counts)})
    task, tokens = load_task(asked.task), int(counts.sum())
    defaults = task.defaults(asked, tokens)
    candidates = task.candidates(
        asked, data, Sizes({TEXT: len(counts)}), hidden_sizes(asked, defaults)
    )
    machine = Machine(rate, "cpu", "fp32", threads)
    return choose(
        asked,
        candidates,
        defaults,
        train_tokens=tokens,
        chars=chars,
        machine=machine,
    )


def test_larger_corpora_longer_budgets_and_faster_machines_get_larger_networks() -> None:
    def sizes(recipes: list[Recipe]) -> list[int]:
        return [recipe.model.hidden for recipe in recipes]

    by_corpus = sizes([recipe_for(n, minutes=3.0) for n in (10_000, 100_000, 1_000_000)])
    by_budget = sizes([recipe_for(10**6, minutes=m) for m in (0.5, 2.0, 10.0)])
    by_rate = sizes([recipe_for(10**6, r, minutes=2.0) for r in (1e10, 1e11, 1e12)])
    for found in (by_corpus, by_budget, by_rate):
        assert found == sorted(found) and len(set(found)) > 1 and set(found) <= {*HIDDEN_SIZES}


@pytest.mark.parametrize(("steps", "hidden"), [(1_000, 128), (2_500, 192), (5_000, 256)])
def test_networks_of_a_large_vocabulary_need_the_more_tokens_for_each_weight_the_larger_they_are(
    steps: int, hidden: int
) -> None:
    model = recipe_for(5_000_000, level="word", steps=steps).model
    assert model.hidden == hidden
    tokens, larger = steps * 32 * 64, HIDDEN_SIZES[HIDDEN_SIZES.index(hidden) + 1]
    assert 8 * hidden**2 <= 15 * tokens ** (2 / 3) < 8 * larger**2


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"minutes": 0.02}, 1), ({"steps": 3}, 2), ({"minutes": 0.02, "threads": 2}, 2)],
)
def test_one_thread_trains_while_others_would_only_wait(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: dict[str, Any], expected: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        "charlm.training.machine.training_rates",
        lambda settings, *_: {(precision, n): 1e9 / n for precision, n in settings},
    )
    seen, update, before = set(), Loop._update, torch.get_num_threads()

    def counted(*arguments: Any) -> None:
        seen.add(torch.get_num_threads())
        update(*arguments)

    monkeypatch.setattr(Loop, "_update", counted)
    torch.set_num_threads(2)
    try:
        charlm.train(corpus, hidden=8, **options)
        assert seen == {expected} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert ("one thread, which measured faster" in capsys.readouterr().err) == (expected == 1)


def test_the_softmax_of_a_large_vocabulary_is_split_where_it_saves_most() -> None:
    zipf = np.append(0, 10**6 // np.arange(1, 10_000))
    cutoffs = split_softmax(zipf)
    assert len(cutoffs) == 2 and softmax_rows(zipf, cutoffs) < 0.25 * softmax_rows(zipf, ())
    others = [(c,) for c in range(100, 9000, 100)] + [
        (a, b) for a in (100, 500) for b in (600, 5000)
    ]
    assert all(softmax_rows(zipf, cutoffs) <= 1.02 * softmax_rows(zipf, other) for other in others)
    for few_or_equal in (zipf[:80], np.full(10_000, 7), np.array([0, 3])):
        assert split_softmax(few_or_equal) == ()


def test_rows_of_the_softmax_are_those_that_tokens_are_multiplied_with() -> None:
    counts, tail = np.array([9, 50, 20, 10, 10, 5, 5]), ROWS_OF_TAIL  # <START> is not predicted
    assert softmax_rows(counts, ()) == 6
    assert softmax_rows(counts, (2,)) == pytest.approx(2 + tail + 4 * 0.3)
    assert softmax_rows(counts, (1, 4)) == pytest.approx(1 + 2 * tail + 3 * 0.4 + 2 * 0.1)


def test_nothing_but_a_corpus_ends_within_five_minutes() -> None:
    for chars in (20, 10_000, 10**6, 10**9):
        minutes = recipe_for(chars).minutes
        assert minutes is not None and 0 < minutes < 5


def test_what_is_asked_for_is_what_is_done() -> None:
    asked: dict[str, Any] = {
        "cell": "gru", "layers": 2, "hidden": 100, "dropout": 0.25, "steps": 7, "batch": 3,
        "bptt": 11, "lr": 0.1, "weight_decay": 0.0,
    }  # fmt: skip
    recipe = recipe_for(10**6, **asked)
    found = {**dataclasses.asdict(recipe), **dataclasses.asdict(recipe.model)}
    found["dropout"] = recipe.dropout.outputs
    assert {name: found[name] for name in asked} == asked
    assert recipe.tokens == 7 * 3 * 11


def test_a_step_takes_time_however_fast_the_products_of_the_machine_are() -> None:
    options: dict[str, Any] = {"minutes": 1.0, "hidden": 64, "networks": 1}
    slow, fast = (recipe_for(20_000, rate, **options) for rate in (1e9, 1e18))
    steps = fast.tokens / (fast.batch * fast.bptt)
    assert slow.tokens < fast.tokens and 60 / 0.01 < steps < 60 / 0.001


def test_minutes_for_many_epochs_train_several_networks() -> None:
    def networks(chars: int, **options: Any) -> int:
        return getattr(recipe_for(chars, **options).model, "networks", 0)

    assert networks(1_000_000, minutes=0.5) == 1
    numbers = [networks(50_000, minutes=m) for m in (0.1, 1.0, 2.0, 60.0)]
    assert numbers == sorted(numbers) and numbers[0] == 1 and numbers[-1] == MOST_NETWORKS
    assert len(set(numbers)) > 2
    for one in ({"epochs": 500.0}, {"steps": 10_000}, {"minutes": 60.0, "networks": 1}):
        assert networks(20_000, **one) == 1  # each costs as much time as the first


def test_every_thread_has_as_many_networks() -> None:
    def numbers(threads: int) -> set[int]:
        minutes = (0.2 * k for k in range(1, 40))
        recipes = [recipe_for(50_000, threads=threads, minutes=m) for m in minutes]
        return {getattr(recipe.model, "networks", 0) for recipe in recipes}

    assert {3, 5} <= numbers(1) and {1, 2, 4} <= numbers(2) <= {1, 2, 4, 6, 8}


def test_several_networks_share_the_threads() -> None:
    def speed(networks: int, threads: int) -> float:
        return Machine(1e11, "cpu", "fp32", threads, thread_rate=8e10).speed(networks).rate

    assert speed(1, 2) == 1e11
    # Two networks on two threads: 0.85 of the speed of one thread each.
    assert speed(2, 2) == pytest.approx(0.85 * 8e10) and speed(4, 2) == pytest.approx(
        speed(2, 2) / 2
    )
    assert speed(2, 1) == pytest.approx(1e11 / 2)


def test_texts_that_are_seen_often_are_held_back() -> None:
    recipes = [recipe_for(10**6, epochs=epochs, hidden=64) for epochs in (1.0, 5.0, 40.0)]
    for held_back in ([r.weight_decay for r in recipes], [r.dropout.outputs for r in recipes]):
        assert held_back == sorted(held_back) and held_back[0] < held_back[-1]


def test_dropout_grows_with_the_weights_for_each_character_and_little_is_none() -> None:
    def dropout(hidden: int, epochs: float) -> float:
        return recipe_for(10**5, hidden=hidden, epochs=epochs).dropout.outputs

    assert 0 < dropout(64, 12.0) < dropout(256, 12.0)
    assert dropout(256, 2.1) == dropout(64, 3.0) == 0


def test_recurrent_weights_are_dropped_where_dropout_of_outputs_does_not_suffice() -> None:
    def weights(chars: int, **options: Any) -> float:
        return recipe_for(chars, hidden=128, **options).dropout.weights

    assert weights(10**6, epochs=10.0) == weights(20_000, epochs=10.0) == 0
    assert 0 < weights(20_000, epochs=60.0) < weights(20_000, epochs=100.0) <= 0.5
    assert weights(20_000, epochs=100.0, level="word") == 0
    assert 0 < weights(20_000, epochs=200.0, level="word") <= 0.5
    assert weights(20_000, epochs=100.0, dropout=0.5) == 0
    assert weights(20_000, epochs=1.0, weight_dropout=0.2) == 0.2


def test_matrices_shrink_by_weight_decay_times_the_learning_rate(corpus: Path) -> None:
    kept = {}
    for decay in (0.0, 10.0):
        run = charlm.train(
            corpus, hidden=8, steps=1, lr=0.01, weight_decay=decay, precision="fp32", quiet=True,
            out=f"runs/{decay}",
        )  # fmt: skip
        kept[decay] = run.backends.numpy.encoder.embedding
    # One step, at the warm-up's first rate: the rest of the update is the same.
    shrunk = kept[0.0] - kept[10.0]
    start = Network(run.config, generator=torch.Generator().manual_seed(1)).encoder.embedding
    rate = 0.01 * schedule(0)
    np.testing.assert_allclose(shrunk, 10 * rate * start.detach().numpy(), rtol=1e-3, atol=1e-7)


def test_recipes_survive_json() -> None:
    recipe = recipe_for(10**6)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json())), ModelConfig) == recipe


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "transformer"}, "`cell=transformer`.*lstm"),
        ({"level": "letter"}, "`level=letter`.*char"),
        ({"minutes": 0}, "`minutes=0`: must be above 0"),
        ({"epochs": -1}, "`epochs=-1`"),
        ({"steps": 0}, "`steps=0`"),
        ({"minutes": 1, "steps": 5}, "`minutes` and `steps`"),
        ({"layers": 9}, "`layers=9`"),
        ({"dropout": 1.0}, "`dropout=1`"),
        ({"weight_decay": -0.1}, "`weight_decay=-0.1`"),
        ({"valid_fraction": 0.0}, "`valid_fraction=0`"),
        ({"precision": "fp8"}, "`precision=fp8`"),
        ({"lines": True, "unit": "paragraph"}, "`lines` and `unit`"),
        ({"minutes": math.inf}, "`minutes=inf`: must be a finite number"),
        ({"minutes": math.nan}, "`minutes=nan`"),
        ({"epochs": 1e300}, "`epochs=1e.300`"),
        ({"lr": math.inf}, "`lr=inf`"),
        ({"threads": 9999}, "`threads=9999`: must be from 1 to .* cores"),
        ({"level": "byte", "vocab_size": 100}, "`vocab_size=100`: is not for `level=byte`"),
        ({"level": "subword", "split": "whitespace"}, "`split=whitespace`: is not for"),
        ({"level": "byte", "encoding": "latin-1"}, "`encoding=latin-1`: is not for `level=byte`"),
        ({"valid": "a.txt", "valid_fraction": 0.2}, "`valid` and `valid_fraction`"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        TrainOptions(**options)


@pytest.mark.parametrize("option", ["hidden", "batch", "bptt"])
def test_what_does_not_fit_into_memory_is_refused(
    corpus: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlm.training.machine.free_memory", lambda device: 2 * 10**9)
    with pytest.raises(OptionError, match=r"would take about [\d,.]+ GB .* 2\.0 GB are free"):
        sizes: dict[str, Any] = {"hidden": 64, "layers": 2, option: 10**6}
        charlm.train(corpus, steps=2, quiet=True, **sizes)
    assert not list(Path("runs").iterdir())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize(("hidden", "batch", "bptt"), [(64, 512, 64), (800, 2, 4)])
def test_the_estimate_of_memory_is_not_far_from_what_training_takes(
    corpus: Path, hidden: int, batch: int, bptt: int
) -> None:
    """Measured in a process of its own, against its memory before the network is made."""
    program = (
        "import re, charlm, charlm.training.train as train\n"
        "from pathlib import Path\n"
        "from charlm.training.machine import training_bytes\n"
        "def peak():\n"
        "    status = Path('/proc/self/status').read_text(encoding='ascii')\n"
        "    return 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', status)[1])\n"
        "make, finish, before = train._loop, train.Saver.finish, []\n"
        "def loop(*arguments):\n"
        "    before.append(peak())\n"
        "    return make(*arguments)\n"
        "def measured(self, clock):\n"
        "    print(training_bytes(self.recipe) / (peak() - before[0]))\n"
        "    finish(self, clock)\n"
        "train._loop, train.Saver.finish = loop, measured\n"
        f"charlm.train({str(corpus)!r}, steps=4, hidden={hidden}, batch={batch}, bptt={bptt}, "
        "precision='fp32', quiet=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 0.5 < float(ran.stdout) < 2.5, ran.stderr


def test_a_precision_that_the_machine_cannot_compute_is_refused(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_bf16(precision: str, device: torch.device) -> torch.autocast:
        if precision == "bf16":
            raise RuntimeError("could not create a primitive")
        return autocast(precision, device)

    monkeypatch.setattr("charlm.training.machine.autocast", without_bf16)
    with pytest.raises(OptionError, match="`precision=bf16`: this machine cannot train in it"):
        charlm.train(corpus, steps=2, hidden=8, precision="bf16", quiet=True)
    assert "fp32 on cpu" in charlm.train(corpus, steps=2, hidden=8, quiet=True).card.trained


def test_a_resumed_run_has_the_threads_of_before(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charlm.train(corpus, steps=2, threads=1, **SMALL)
    counts: list[int] = []
    update = Loop._update

    def counting(self: Loop, *arguments: Any) -> None:
        counts.append(torch.get_num_threads())
        update(self, *arguments)

    monkeypatch.setattr(Loop, "_update", counting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        charlm.train(corpus, steps=4, resume=True, quiet=True)
        assert counts == [1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_long_budget_is_evaluated_every_few_minutes(corpus: Path) -> None:
    recipe = recipe_for(10**5, minutes=600.0, hidden=16)
    assert isinstance(recipe.model, ModelConfig)
    network = Network(recipe.model)
    validation = TextValidation(np.ones(9, np.int64), np.array([0, 9]), independent_lines=False)
    task: Any = None
    batches: Any = None
    assert Loop(task, recipe, network, batches, validation, Ranks()).planned == 120
    short = dataclasses.replace(recipe, minutes=3.0)
    assert Loop(task, short, network, batches, validation, Ranks()).planned == 12


def test_the_learning_rate_warms_up_and_anneals_to_nothing() -> None:
    rates = [schedule(k / 1000) for k in range(1001)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(1) and 40 <= top <= 60
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] > 0 and rates[-1] == pytest.approx(0) and rates[525] == pytest.approx(0.5)


def clock_of(
    minutes: float | None = 1.0,
    passed: float = 0.0,
    start_up: float = 0.0,
    reserve: float = 0.0,
    **facts: Any,
) -> Clock:
    """A clock of a run that started so many seconds ago, just read."""
    budget = {"minutes": minutes} if minutes else {"steps": 300}
    recipe = recipe_for(10**6, **budget)
    clock = Clock(recipe, 100, started=time.monotonic() - passed, **facts)
    clock.update(clock.to_share())
    clock.start_up, clock.reserve = start_up, reserve
    return clock


def test_a_clock_counts_earlier_seconds_and_keeps_a_reserve() -> None:
    assert clock_of(passed=10, earlier=20).fraction(0) == pytest.approx(0.5, abs=0.01)
    reserved = clock_of(passed=10, earlier=20, reserve=15)
    assert reserved.fraction(0) == pytest.approx(30 / 45, abs=0.01)
    # Of the 30 seconds: start-up is not training.
    reserved = clock_of(passed=10, earlier=20, reserve=15, start_up=25)
    assert reserved.fraction(0) == pytest.approx(5 / 20, abs=0.01)
    epochs = Clock(recipe_for(10**6, epochs=2.0), 100, started=time.monotonic())
    assert [epochs.fraction(s) for s in (0, 100, 200, 300)] == [0, 0.5, 1, 1]
    # Starting used all of the budget: there is still a second of training.
    assert clock_of(passed=60, start_up=60).fraction(0) < 0.5


def test_a_clock_hears_the_time_of_the_first_process_and_the_signals_of_all() -> None:
    signals = StopSignals()
    first, second = clock_of(passed=30), clock_of(passed=99, signals=signals, is_first=False)
    signals.received = signal.SIGTERM
    messages = [sum(pair) for pair in zip(first.to_share(), second.to_share(), strict=True)]
    for clock in (first, second):
        clock.update(messages)
        assert clock.fraction(0) == pytest.approx(0.5, abs=0.01)
        assert clock.stopped_by == signal.SIGTERM


def test_the_time_left_counts_training_alone() -> None:
    clock = clock_of(passed=25, reserve=10, start_up=20)
    assert clock.left(clock.fraction(0)) == pytest.approx(60 - 10 - 25, abs=0.1)
    steps = clock_of(None, passed=30, start_up=20)
    assert steps.left(steps.fraction(100)) == pytest.approx(20, abs=0.1)
    assert steps.left(0) == math.inf


def test_the_schedule_begins_with_the_first_step_however_long_the_start_took(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fractions: list[float] = []

    def watched(fraction: float) -> float:
        fractions.append(fraction)
        return schedule(fraction)

    monkeypatch.setattr("charlm.training.loop.schedule", watched)
    now = itertools.count(60.0, 0.25)  # so much later whenever the time is asked for
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=time.perf_counter)
    monkeypatch.setattr("charlm.training.clock.time", clock)
    charlm.train(corpus, minutes=2, started=0.0, hidden=8, quiet=True)
    assert fractions[0] < 0.01 and 0.5 < fractions[-1] < 1 and fractions == sorted(fractions)


def test_adamw_is_torchs_own() -> None:
    torch.manual_seed(0)
    start = {"W": torch.randn(4, 3), "b": torch.randn(3)}
    ours = {name: p.clone().requires_grad_() for name, p in start.items()}
    theirs = {name: p.clone().requires_grad_() for name, p in start.items()}
    optimizer = AdamW(ours, 0.1)
    groups: list[dict[str, Any]] = [
        {"params": [theirs["W"]], "weight_decay": 0.1},
        {"params": [theirs["b"]]},
    ]
    reference = torch.optim.AdamW(groups, weight_decay=0.0, betas=BETAS)
    for step in range(5):
        for a, b in zip(ours.values(), theirs.values(), strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        optimizer.step(0.01 * (step + 1))
        for group in reference.param_groups:
            group["lr"] = 0.01 * (step + 1)
        reference.step()
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru-simple", "rnn"])
def test_every_cell_learns(corpus: Path, cell: str) -> None:
    model = charlm.train(corpus, cell=cell, steps=60, **{**SMALL, "hidden": 32})
    letters = model.tokenizer.size - 1
    assert model.card.valid_nats < 0.75 * math.log(letters)


@pytest.mark.parametrize("level", ["char", "byte", "word", "subword"])
def test_every_level_trains_scores_and_samples(corpus: Path, level: str) -> None:
    model = charlm.train(corpus, level=level, steps=20, **SMALL)
    assert model.tokenizer.level == level
    assert model.config.tied == (level in ("word", "subword"))
    assert model.score("the cat sat").logprob < 0
    assert model.sample("the c", length=20, seed=1).startswith("the c")
    assert (
        charlm.load(model.path, kind=LanguageModel).score("a dog").logprob
        == model.score("a dog").logprob
    )


def test_words_split_at_white_space_are_trained(corpus: Path) -> None:
    """The small network that measures the machine has characters, which are not split."""
    model = charlm.train(corpus, level="word", split="whitespace", vocab_size=12, steps=2, **SMALL)
    assert model.tokenizer.size == 12


def test_a_lines_model_knows_its_lines_as_well_from_zero_as_carried(corpus: Path) -> None:
    model = charlm.train(corpus, lines=True, steps=400, **{**SMALL, "hidden": 48, "batch": 8})
    assert model.card.valid_lines == pytest.approx(model.card.valid_carried, abs=0.02)
    assert model.card.valid_nats == model.card.valid_lines


def test_independent_lines_are_validated_one_by_one(model: LanguageModel) -> None:
    model = charlm.load(model.path, network_only=True, kind=LanguageModel)
    ids = model.tokenizer.encode_ids("the cat sat\na bird\nmy aunt\n")
    bounds = np.array([0, 12, 19, 27])
    apart = TextValidation(ids, bounds, independent_lines=True)
    network, predictor = model.backends.torch, NetworkPredictor(model.backends.numpy)
    score = model.evaluate(["the cat sat\n", "a bird\n"], reset_lines=True)
    cut = apart.first(22)  # within the third line, which is left out
    assert cut.predicted == score.tokens == 19 and apart.first(99).predicted == 27
    assert cut.total(network) == pytest.approx(-score.logprob, abs=1e-4)
    assert apart.total(network) != pytest.approx(apart.carried(predictor), abs=1e-4)
    no_line = apart.first(5)
    assert no_line.total(network) == pytest.approx(no_line.carried(predictor), abs=1e-4)


def test_the_card_is_what_evaluate_measures(corpus: Path, tmp_path: Path) -> None:
    text = corpus.read_text(encoding="utf-8")
    valid = tmp_path / "valid.txt"
    valid.write_text(text[: len(text) // 2], encoding="utf-8")
    model = charlm.train(corpus, valid=str(valid), steps=10, **SMALL)
    carried = model.evaluate(valid.read_text(encoding="utf-8"))
    assert model.card.valid_nats == pytest.approx(-carried.logprob / carried.tokens, abs=1e-5)
    assert model.card.valid_carried == pytest.approx(model.card.valid_nats, abs=1e-5)
    assert model.card.valid_bits_per_char == pytest.approx(carried.bits_per_char, abs=1e-5)
    alone = model.evaluate(valid.read_text(encoding="utf-8"), reset_lines=True)
    assert model.card.valid_lines == pytest.approx(-alone.logprob / alone.tokens, abs=1e-5)
    assert model.card.valid_tokens == carried.tokens


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_resumed_run_ends_with_the_very_same_weights(
    corpus: Path, tmp_path: Path, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "cell": cell, "steps": 60, "dropout": 0.3, "lines": True}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    charlm.train(corpus, out=whole, **options)
    with monkeypatch.context() as patch:
        stopped_after(37, patch)
        with pytest.raises(Stopped, match="the model so far is in") as stopped:
            charlm.train(corpus, out=parts, **options)
    assert stopped.value.exit_code == 130
    assert charlm.load(parts).card.valid_nats < math.inf
    charlm.train(corpus, out=parts, resume=True, quiet=True)
    expected, found = weights(whole), weights(parts)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name])


def test_a_finished_run_goes_on_with_a_larger_budget_only(corpus: Path) -> None:
    first = charlm.train(corpus, steps=20, ngram="none", **SMALL)
    with pytest.raises(OptionError, match=r"the run is finished; .* more than 20 steps"):
        charlm.train(corpus, resume=True, quiet=True)
    with pytest.raises(OptionError, match="`steps=10`: the run's budget is 20 steps"):
        charlm.train(corpus, resume=True, quiet=True, steps=10)
    with pytest.raises(OptionError, match="`minutes=9`"):
        charlm.train(corpus, resume=True, quiet=True, minutes=9)
    more = charlm.train(corpus, resume=True, quiet=True, steps=120)
    assert more.path == first.path
    assert more.card.valid_nats < first.card.valid_nats
    metrics = (more.path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = {m["step"]: m["valid_nats_per_token"] for m in map(json.loads, metrics)}
    on_the_way = [loss for step, loss in losses.items() if 20 <= step < 60]
    assert len(set(on_the_way)) == len(on_the_way) > 2  # not of the averaged weights of before


def test_time_that_was_reserved_for_finishing_is_given_back(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was busy when the reserve was measured first: the run would end after 2 s."""
    measured = iter([4.0, 0.2, 0.2])
    monkeypatch.setattr(Saver, "seconds_to_finish", lambda self: next(measured))
    started = time.monotonic()
    model = charlm.train(corpus, minutes=0.1, started=started, **SMALL)
    assert time.monotonic() - started > 5.5
    assert model.card.seconds > 5.4
    assert next(measured, None) is None


def test_other_settings_cannot_change_on_resuming(corpus: Path, tmp_path: Path) -> None:
    charlm.train(corpus, steps=5, **SMALL)
    with pytest.raises(OptionError, match="`hidden=64`: the run was started with 16"):
        charlm.train(corpus, resume=True, quiet=True, steps=9, hidden=64)
    with pytest.raises(OptionError, match=r"`cell=gru`: .* lstm"):
        charlm.train(corpus, resume=True, quiet=True, steps=9, cell="gru")
    with pytest.raises(OptionError, match=r"`hidden=16`: .* with 8|`seed=1`: .* with 2"):
        charlm.train(corpus, steps=2, **{**SMALL, "seed": 2, "hidden": 8}, out="seeded")
        charlm.train(corpus, out="seeded", resume=True, quiet=True, steps=9, seed=1)
    other = tmp_path / "corpus.txt"
    other.write_text("another text of the same name\n" * 9, encoding="utf-8")
    with pytest.raises(ModelError, match="no run of corpus to resume"):
        charlm.train(other, resume=True, quiet=True)
    with pytest.raises(InputError, match="was trained on another text"):
        charlm.train(other, out="runs/corpus", resume=True, quiet=True)


def test_run_folders_are_never_overwritten_unasked(corpus: Path, tmp_path: Path) -> None:
    runs = [charlm.train(corpus, steps=2, **SMALL).path.parent for _ in range(2)]
    assert [str(run) for run in runs] == ["runs/corpus", "runs/corpus-2"]
    with pytest.raises(InputError, match="exists; add `force`"):
        charlm.train(corpus, out="runs/corpus", steps=2, **SMALL)
    Path("mine").mkdir()
    for name in ("precious.txt", "valid-de.lines"):
        path = Path("mine", name)
        path.touch()
        with pytest.raises(InputError, match="mine exists; add `force`"):
            charlm.train(corpus, out="mine", steps=2, **SMALL)
        with pytest.raises(InputError, match="mine is not a run folder and is not replaced"):
            charlm.train(corpus, out="mine", force=True, steps=2, **SMALL)
        path.unlink()
    before = weights(runs[0])
    forced = charlm.train(corpus, out="runs/corpus", force=True, steps=3, **{**SMALL, "hidden": 8})
    assert forced.path.parent == runs[0] and forced.config.hidden == 8
    assert before["output.W"].shape[1] == 16
    assert sorted(p.name for p in Path("runs").iterdir()) == [".last", "corpus", "corpus-2"]


def test_a_plan_that_cannot_be_read_is_named(corpus: Path) -> None:
    folder = charlm.train(corpus, steps=2, **SMALL).path.parent
    plan = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for damaged in ("{", json.dumps({**plan, "options": {"of a later version": 1}})):
        (folder / "run.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(ModelError, match=r"run\.json is damaged, or of a later version"):
            charlm.train(corpus, out=folder, resume=True, steps=4, quiet=True)


def test_a_finished_run_of_an_earlier_version_is_not_taken_for_an_unfinished_one(
    corpus: Path,
) -> None:
    old, new = (charlm.train(corpus, steps=2, **SMALL).path.parent for _ in range(2))
    plan = json.loads((old / "run.json").read_text(encoding="utf-8"))
    del plan["finished"], plan["recipe"]
    (old / "run.json").write_text(json.dumps(plan), encoding="utf-8")
    assert charlm.train(corpus, resume=True, steps=4, quiet=True).path.parent == new


def test_the_model_trained_last_is_the_one_that_is_loaded(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"looked for `model`, \$CHARLM_MODEL and .*runs"):
        charlm.load()
    charlm.train(corpus, steps=2, **SMALL)
    charlm.train(corpus, out="elsewhere/mine", steps=2, **SMALL)
    assert charlm.load().path == Path("elsewhere/mine/model.safetensors")
    monkeypatch.setenv("CHARLM_MODEL", "runs/corpus")
    assert charlm.load().path == Path("runs/corpus/model.safetensors")


def test_metrics_are_written_as_training_goes(corpus: Path) -> None:
    folder = charlm.train(corpus, steps=48, **SMALL).path.parent
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    assert [m["step"] for m in metrics] == [4 * k for k in range(1, 13)]
    assert metrics[-1]["valid_nats_per_token"] < metrics[0]["valid_nats_per_token"]
    assert all(m["tokens_per_second"] > 0 for m in metrics)
    card = charlm.load(folder).card
    assert metrics[-1]["model_nats_per_token"] == pytest.approx(card.valid_nats)
    assert "model_nats_per_token" not in metrics[0]


def test_metrics_after_the_checkpoint_of_a_killed_run_are_forgotten(corpus: Path) -> None:
    folder = charlm.train(corpus, steps=12, **SMALL).path.parent
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_text(encoding="utf-8")
    metrics.write_text(whole + '{"step": 13, "epoch": 1}\n{"step": 1', encoding="utf-8")
    charlm.train(corpus, resume=True, steps=24, quiet=True)
    steps = [json.loads(line)["step"] for line in metrics.read_text("utf-8").splitlines()]
    assert steps == [*range(1, 13), *range(14, 25, 2)]


def test_the_best_weights_are_kept_not_the_last(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    evaluate = Loop.evaluate

    def ruined_later(self: Loop) -> float:
        if self.step > 30:
            with torch.no_grad():
                for parameters in (self.parameters, self.average):
                    for parameter in parameters.values():
                        parameter.mul_(3)
        seen.append(evaluate(self))
        return seen[-1]

    monkeypatch.setattr(Loop, "evaluate", ruined_later)
    model = charlm.train(corpus, steps=48, ngram="none", **SMALL)
    assert min(seen) < seen[-1] - 0.5
    assert model.card.valid_nats == pytest.approx(min(seen), abs=0.05)


def test_a_stream_that_restarts_starts_from_the_zero_state(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[torch.Tensor] = []
    restarts: list[np.ndarray] = []
    forward, update = Stack.forward, Loop._update

    def watched_forward(self: Stack[Any], x: Any, state: Any, *more: Any) -> Any:
        if self.training:
            states.append(torch.cat([s for layer in state for s in layer], dim=1).detach())
        return forward(self, x, state, *more)

    def watched_update(self: Loop, batch: Any, *others: Any) -> None:
        restarts.append(batch.restarted)
        update(self, batch, *others)

    monkeypatch.setattr(Stack, "forward", watched_forward)
    monkeypatch.setattr(Loop, "_update", watched_update)
    charlm.train(corpus, lines=True, steps=120, **SMALL)
    states = states[-120:]  # those before measured this machine's speed
    is_zero = np.array([(state == 0).all(dim=1).numpy() for state in states])
    np.testing.assert_array_equal(is_zero, np.array(restarts))
    assert 0 < is_zero[1:].mean() < 0.5


def test_the_weights_that_are_kept_are_the_averaged_ones(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bool] = []
    evaluate = Loop.evaluate

    def watched(self: Loop) -> float:
        found = evaluate(self)
        if self.average and found == self.best_loss:
            kept.append(all(torch.equal(self.best[n], a) for n, a in self.average.items()))
        return found

    monkeypatch.setattr(Loop, "evaluate", watched)
    charlm.train(corpus, steps=48, **SMALL)
    assert len(kept) > 3 and all(kept)


def test_a_step_without_finite_gradient_is_left_out(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = torch.nn.utils.clip_grad_norm_
    calls = iter(range(10**6))
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_",
        lambda *a: torch.tensor(math.nan) if next(calls) % 3 == 0 else clip(*a),
    )  # fmt: skip
    model = charlm.train(corpus, steps=60, **SMALL)
    assert model.card.valid_nats < 3
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a: torch.tensor(math.inf))
    with pytest.raises(CharlmError, match=r"training diverged.*lower `lr`"):
        charlm.train(corpus, steps=200, **SMALL)


def test_twenty_characters_train_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("to be or not to be!\n", encoding="utf-8")
    model = charlm.train(tiny, steps=5, quiet=True)
    assert not model.card.valid_is_held_out
    assert "too small to hold a part out" in capsys.readouterr().err


def test_a_corpus_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n\xff\n")
    with pytest.raises(InputError, match=r"bad\.txt, line 2"):
        charlm.train(bad, steps=5)
    with pytest.raises(InputError):
        charlm.train(tmp_path, steps=5)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.txt"]


def test_bytes_of_any_kind_train(tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(bytes(range(256)) * 20)
    model = charlm.train(data, level="byte", steps=5, **SMALL)
    assert model.card.train_tokens > 4000 and model.tokenizer.size == 259


def test_training_outside_the_main_thread_works(corpus: Path) -> None:
    found: list[float] = []
    thread = threading.Thread(
        target=lambda: found.append(charlm.train(corpus, steps=3, **SMALL).card.valid_nats)
    )
    thread.start()
    thread.join()
    assert found and math.isfinite(found[0])


def test_the_same_seed_trains_the_same_model(corpus: Path) -> None:
    a, b, c = (
        weights(charlm.train(corpus, steps=12, seed=s, **SMALL).path.parent) for s in (3, 3, 4)
    )
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["layers.0.U"], c["layers.0.U"])


def test_weights_that_a_token_is_multiplied_with() -> None:
    assert (
        ModelConfig(10, cell="lstm", layers=1, hidden=4, embedding=3).multiplied_weights()
        == 16 * 3 + 16 * 4 + 9 * 4
    )
    assert (
        ModelConfig(10, cell="gru", layers=2, hidden=4, embedding=4, tied=True).multiplied_weights()
        == 4 * 12 * 4 + 9 * 4
    )


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"one\ntwo\n\nthree\n" * 40, {"unit": "paragraph"}),
        ("naïve café\n".encode("cp1252") * 40, {"encoding": "cp1252"}),
        (bytes(range(256)) * 4, {"level": "byte"}),
    ],
)
def test_a_run_is_resumed_with_its_own_way_of_reading(
    tmp_path: Path, data: bytes, options: dict[str, Any]
) -> None:
    text = tmp_path / "a[1].txt"
    text.write_bytes(data)
    charlm.train(text, steps=3, **SMALL, **options)
    more = charlm.train(text, resume=True, steps=6, quiet=True)
    assert more.path.parent == Path("runs/a[1]")


def test_a_budget_that_is_spent_at_once_still_gives_a_whole_run(corpus: Path) -> None:
    model = charlm.train(corpus, minutes=0.0001, **SMALL)
    assert math.isfinite(model.score("the cat").logprob)
    lines = (model.path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["step"] > 1 or first["learning_rate"] > 0


def test_a_model_that_learnt_nothing_comes_with_a_warning(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charlm.train(corpus, steps=30, hidden=8, quiet=True)
    assert capsys.readouterr().err == ""
    charlm.train(corpus, steps=10, lr=1e9, hidden=8, quiet=True)
    assert "predicts no better than chance" in capsys.readouterr().err


@pytest.mark.parametrize("whole_model", [1.5, 3.5])
def test_the_warning_about_chance_looks_at_the_whole_model(
    whole_model: float, capsys: pytest.CaptureFixture[str]
) -> None:
    task = SimpleNamespace(model=SimpleNamespace(predicted="token"))
    loop: Any = SimpleNamespace(best_loss=3.2, step=1000, task=task)
    saver: Any = SimpleNamespace(companions={"ngram": None}, model_loss=whole_model)
    validation: Any = SimpleNamespace(chance=3.0)
    _warn_about_result(loop, saver, recipe_for(10**5), validation, Reporter(quiet=False))
    err = capsys.readouterr().err
    assert "the network alone predicts no better than chance (3.2 nats/token" in err
    assert err.startswith("note: " if whole_model < 3.0 else "warning: ")
    assert ("the whole model has 1.5" in err) == (whole_model < 3.0)


def test_a_resumed_run_looks_at_the_machine_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choose(precision: str, *_: Any) -> tuple[str, int, float, float]:
        asked.append(precision)
        return "fp32", 1, 1e9, 1e9

    monkeypatch.setattr("charlm.training.prepare.choose_precision", choose)
    folder = charlm.train(corpus, minutes=0.02, hidden=8, quiet=True).path.parent
    charlm.train(corpus, out=folder, resume=True, minutes=0.04, quiet=True)
    # Twice each time: to choose a network, and for the network. The precision of the run stays.
    assert asked == ["auto", "auto", "fp32", "fp32"]
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    assert plan["recipe"]["threads"] == 1


def test_a_folder_that_another_training_has_just_made_is_left_alone(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("prepare", "folder"):  # it was made after this check
        monkeypatch.setattr(f"charlm.training.{module}.check_target", lambda out, force: None)
    start = Plan(TrainOptions(), "")
    other = Folder.make("made", Path("made"), False, start)
    with pytest.raises(InputError, match="made exists; add `force`"):
        charlm.train(corpus, out="made", **SMALL)
    assert [file.name for file in other.path.iterdir()] == ["run.json"]
    folders = [Folder.make("made", None, False, start) for _ in range(2)]
    assert [folder.path.name for folder in folders] == ["made", "made-2"]


def test_force_goes_with_a_folder_only(corpus: Path) -> None:
    with pytest.raises(OptionError, match="`force=True`: goes with `out`"):
        charlm.train(corpus, force=True, steps=2)


def test_the_class_of_a_model_is_asked_for_and_checked(corpus: Path) -> None:
    fill = charlm.train(corpus, kind=FillModel, steps=2, **SMALL)
    assert isinstance(fill, FillModel)
    with pytest.raises(OptionError, match="`task=lm`: the run was started with fill"):
        charlm.train(corpus, kind=LanguageModel, steps=4, resume=True, out="runs/corpus")
    more = charlm.train(corpus, resume=True, steps=4, quiet=True)  # its type is TrainedModel
    assert isinstance(more, FillModel)
    types = [overload.__annotations__ for overload in get_overloads(api.train)]
    exact = [hints["resume"] for hints in types if hints["return"] == "LanguageModel"]
    assert exact == ["Literal[False]"]
