"""Measures training on several processes.

    python -m benchmarks.scale DATA [PART]

DATA is the folder with tinyshakespeare.txt. A PART is "equal", "speed", "kills" or "hosts"; without
one all are measured, in about 25 minutes. "hosts" needs Linux and root, see `benchmarks.link`.
The results are written to benchmarks/scale.json and to docs/scale.md. Nothing else may run
meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import charlm
from benchmarks import link
from benchmarks.markdown import table
from benchmarks.project import ROOT, TALES, measure
from charlm.model.config import ModelConfig
from charlm.training import metrics
from charlm.training.distributed import Ranks
from charlm.training.folder import CHECKPOINT
from charlm.training.loop import Loop
from charlm.training.saver import Saver

RESULTS, PAGE = ROOT / "benchmarks/scale.json", ROOT / "docs/scale.md"
EXACT: dict[str, Any] = {"precision": "fp32", "dropout": 0.0, "threads": 1, "seed": 1}
STEPS, WARM_UP = 60, 20  # of a measurement of speed
ROUNDS = 3
SIZES = (128, 256, 512, 1024)
PORT = 29_511


# --- one process of a training, watched ---


def watched(out: Path, kind: str, text: str, options: dict[str, Any]) -> None:
    """Train; write the loss and the seconds of every step to `out`.

    kind:  "charlm"; or "ddp", with torch's DistributedDataParallel around the same network
    """
    losses: list[float] = []
    seconds: list[float] = []
    predicted: list[int] = []
    update, total = Loop._update, Ranks.sum_gradients

    def timed(self: Loop, batch: Any, *more: Any) -> None:
        if kind == "ddp" and not losses:
            _wrap(self)
        start = time.perf_counter()
        update(self, batch, *more)
        seconds.append(time.perf_counter() - start)
        predicted.append(batch.predicted)

    def kept(self: Ranks, parameters: Iterable[Tensor], numbers: Sequence[float]) -> list[float]:
        result = list(numbers) if kind == "ddp" else total(self, parameters, numbers)
        losses.append(result[0])
        return result

    if kind == "ddp":  # nothing but gradients travels: the processes have no common time
        Saver.save_if_due = lambda *_: None  # type: ignore[method-assign]
    Loop._update, Ranks.sum_gradients = timed, kept  # type: ignore[method-assign, assignment]
    model = charlm.train(text, out=out.with_suffix(""), ngram="none", quiet=True, **options)
    if Ranks().is_first:
        speed = statistics.median(predicted[WARM_UP:]) / statistics.median(seconds[WARM_UP:])
        weights = sum(value.size for value in model._weights.values())
        result = {"losses": losses, "tokens_per_second": speed, "weights": weights}
        out.write_text(json.dumps(result), encoding="utf-8")
    if kind == "ddp":
        os._exit(0)  # DistributedDataParallel sometimes aborts at the end


def _wrap(trainer: Loop) -> None:
    """Put DistributedDataParallel around the network and its loss."""
    task, network = trainer.task, trainer.network

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, batch: Any, state: Any) -> Any:
            return task.loss(self.network, batch, state)

    wrapped = nn.parallel.DistributedDataParallel(Loss())
    loss: Any = SimpleNamespace(loss=lambda network, batch, state: wrapped(batch, state))
    trainer.task = loss


def process(
    out: Path, text: Path, options: dict[str, Any], *launch: object, kind: str = "charlm"
) -> list[str]:
    """The command for a watched training; `launch` are options of torchrun."""
    start = ["-m", "torch.distributed.run", *launch] if launch else []
    worker = ["-m", "benchmarks.scale", "watched", out, kind, text, json.dumps(options)]
    return list(map(str, [sys.executable, *start, *worker]))


def run(command: Sequence[str], **more: Any) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment, **more)


def read(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


# --- the parts ---


def equal(folder: Path, text: Path) -> list[dict[str, Any]]:
    """One process against two and three: the greatest difference of losses, and of scores."""
    tasks: dict[str, dict[str, Any]] = {
        "a document": {},
        "independent lines": {"lines": True},
        "fill": {"task": "fill", "lr": 0.002},
    }
    results = []
    lines = [line for line in TALES.read_text(encoding="utf-8").splitlines() if line][:100]
    for name, task in tasks.items():
        options = {**EXACT, **task, "steps": 300, "hidden": 64, "batch": 12}
        outs = [folder / f"{name}-{count}.json" for count in (1, 2, 3)]
        for count, out in enumerate(outs, 1):
            run(process(out, TALES, options, *(["--nproc-per-node", count] if count > 1 else [])))
        first, *others = [read(out)["losses"] for out in outs]
        models = [charlm.load(out.with_suffix("")) for out in outs]
        scores = [_score(model, lines) for model in models]
        for count, losses, found in zip((2, 3), others, scores[1:], strict=True):
            assert len(losses) == len(first) == 300
            results.append(
                {
                    "text": name,
                    "processes": count,
                    "loss": max(abs(a - b) for a, b in zip(first, losses, strict=True)),
                    "score": max(abs(a - b) for a, b in zip(scores[0], found, strict=True)),
                }
            )
    return results


def _score(model: Any, lines: Sequence[str]) -> list[float]:
    """Log-probabilities of lines, in nats."""
    score = model.pseudo_score if isinstance(model, charlm.FillModel) else model.score
    return [s.logprob for s in score(lines)]


def speed(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Tokens per second on this machine: one process of all threads, and two of one thread."""
    ways: dict[str, tuple[dict[str, Any], list[object], str]] = {
        "one process, one thread": ({"threads": 1}, [], "charlm"),
        "one process, two threads": ({"threads": 2}, [], "charlm"),
        "two processes, one thread each": ({"threads": 1}, ["--nproc-per-node", 2], "charlm"),
        "the same with torch's DistributedDataParallel": (
            {"threads": 1},
            ["--nproc-per-node", 2],
            "ddp",
        ),
    }
    results = []
    for hidden in SIZES:
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for way, (name, (threads, launch, kind)) in enumerate(ways.items()):
                out = folder / f"speed-{hidden}-{number}-{way}.json"
                options = {**EXACT, **threads, "steps": STEPS, "hidden": hidden, "batch": 32}
                run(process(out, TALES, options, *launch, kind=kind))
                rates[name].append(read(out)["tokens_per_second"])
        results.append({"hidden": hidden, "weights": read(out)["weights"], "rates": rates})
    return results


def kills(folder: Path, text: Path) -> dict[str, Any]:
    """A training of two processes, of which one is killed three times; and other resumed ones."""
    options = ["--hidden", "256", "--precision", "fp32"]
    generator, out = random.Random(1), folder / "killed"
    started = time.time()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = ["-m", "charlm", "train", str(text), *options, "--steps", "3000", "--out", str(out)]
    training = subprocess.Popen(
        [*torchrun, "--max-restarts", "3", *command],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    events = []
    for _ in range(3):
        seconds = generator.uniform(8, 14)
        time.sleep(seconds)
        worker = worker_of(training.pid, generator.randrange(2))
        os.kill(worker, signal.SIGKILL)
        killed = time.time()
        saved = (out / CHECKPOINT).stat().st_mtime
        _wait_for_checkpoint(out, killed)
        events.append({"seconds_lost": killed - saved, "seconds_to_go_on": time.time() - killed})
    code = training.wait()
    last = metrics.read(out / metrics.METRICS)[-1]
    for event in events:  # at the mean speed
        event["steps_lost"] = event["seconds_lost"] * last["step"] / last["seconds"]
    result: dict[str, Any] = {
        "events": events,
        "exit_code": code,
        "seconds": time.time() - started,
        "loss": charlm.load(out).card.valid_nats,
    }
    run([sys.executable, *command[:-1], str(folder / "whole")], stdout=subprocess.DEVNULL)
    result["loss_of_one"] = charlm.load(folder / "whole").card.valid_nats
    for name, first, second in (
        ("two, then one", torchrun, [sys.executable]),
        ("one, then two", [sys.executable], torchrun),
    ):
        part = folder / name.replace(", ", "-").replace(" ", "-")
        stopped = subprocess.Popen(
            [*first, *command[:-1], str(part)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _wait_for_checkpoint(part, 0.0)
        time.sleep(8)
        stopped.send_signal(signal.SIGINT)
        stopped.wait()
        resume = ["-m", "charlm", "train", str(text), "--out", str(part), "--resume"]
        run([*second, *resume], stdout=subprocess.DEVNULL)
        result[name] = charlm.load(part).card.valid_nats
    return result


def worker_of(parent: int, rank: int) -> int:
    """The process with this rank that torchrun has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_child = f"\nPPid:\t{parent}\n" in (entry / "status").read_text()
            if is_child and f"\0RANK={rank}\0".encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except OSError:
            pass
    raise ProcessLookupError(rank)


def _wait_for_checkpoint(folder: Path, after: float) -> None:
    path = folder / CHECKPOINT
    while not path.exists() or path.stat().st_mtime <= after:
        time.sleep(0.02)


def hosts(folder: Path, text: Path) -> list[dict[str, Any]]:
    """Two hosts with a core each: tokens per second, by the link between them."""
    results = []
    for hidden in (128, 256, 512):
        options = {**EXACT, "steps": STEPS, "hidden": hidden, "batch": 32}
        alone = folder / f"alone-{hidden}.json"
        run(process(alone, TALES, options))
        half = folder / f"half-{hidden}.json"
        run(process(half, TALES, {**options, "batch": 16}))
        found = read(half)
        step = 16 * 32 / found["tokens_per_second"]  # of a host's half of the batch
        for name, rate, delay in (
            ("10 Gbit/s, 0.01 ms", 1e10, 1e-5),
            ("1 Gbit/s, 1 ms", 1e9, 1e-3),
            ("100 Mbit/s, 1 ms", 1e8, 1e-3),
        ):
            with link.two_hosts(rate, delay):
                measured, there_and_back = link.measure()
                out = folder / f"hosts-{hidden}-{rate:g}.json"
                _on_two_hosts(out, TALES, options)
            results.append(
                {
                    "hidden": hidden,
                    "weights": found["weights"],
                    "link": name,
                    "measured_rate": measured,
                    "measured_there_and_back": there_and_back,
                    "one_host": read(alone)["tokens_per_second"],
                    "two_hosts": read(out)["tokens_per_second"],
                    "arithmetic": 32 * 32 / (step + exchange(found["weights"], rate, delay, 2)),
                }
            )
            print(results[-1], flush=True)
    return results


def exchange(weights: float, rate: float, delay: float, machines: int) -> float:
    """Seconds to sum the gradients of a step over machines, in a ring.

    Each sends 2·(M − 1)/M of the 4 bytes of each weight, in 2·(M − 1) turns.
    """
    turns = 2 * (machines - 1)
    return turns / machines * 32 * weights / rate + turns * delay


def _on_two_hosts(out: Path, text: Path, options: dict[str, Any]) -> None:
    """Train on two hosts, one process each."""
    place = ["--master-addr", link.ADDRESSES[0], "--master-port", PORT]
    started = [
        subprocess.Popen(
            link.on_host(
                host,
                process(out, text, options, "--nnodes", 2, "--node-rank", k, *place),
            ),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": link.DEVICE},
        )
        for k, host in enumerate(link.HOSTS)
    ]
    assert not any(p.wait() for p in started)


PARTS: dict[str, Callable[[Path, Path], Any]] = {
    "equal": equal,
    "speed": speed,
    "kills": kills,
    "hosts": hosts,
}


# --- the page ---


def page(results: dict[str, Any]) -> dict[str, str]:
    """The tables of the page."""
    blocks = {"arithmetic": _arithmetic()}
    if "equal" in results:
        rows = [
            [r["text"], str(r["processes"]), f"{r['loss']:.1e}", f"{r['score']:.1e}"]
            for r in results["equal"]
        ]
        blocks["equal"] = table("text | processes | losses | log-probabilities of lines", rows)
    if "speed" in results:
        heading = "tokens/s | " + " | ".join(
            f"hidden {r['hidden']} ({r['weights'] / 1e6:.1f} M weights)" for r in results["speed"]
        )
        names = results["speed"][0]["rates"]
        rows = [
            [name, *(f"{statistics.median(r['rates'][name]):,.0f}" for r in results["speed"])]
            for name in names
        ]
        blocks["speed"] = table(heading, rows)
    if "kills" in results:
        k = results["kills"]
        lost = [e["seconds_lost"] for e in k["events"]]
        steps = [e["steps_lost"] for e in k["events"]]
        on = [e["seconds_to_go_on"] for e in k["events"]]
        blocks["kills"] = (
            f"A training of two processes, of which one was killed {len(lost)} times, ended by "
            f"itself after {k['seconds']:.0f} s. Each time it lost {min(lost):.1f} to "
            f"{max(lost):.1f} s of training, about {min(steps):.0f} to {max(steps):.0f} steps, and "
            f"trained again after {min(on):.1f} to {max(on):.1f} s. Its loss is {k['loss']:.4f} "
            f"nats/token; that of one process that nobody killed is {k['loss_of_one']:.4f}. "
            f"Stopped and resumed with another number of processes: two, then one "
            f"{k['two, then one']:.4f}; one, then two {k['one, then two']:.4f}.\n"
        )
    if "hosts" in results:
        rows = [
            [
                f"{r['hidden']} ({r['weights'] / 1e6:.2f} M)",
                r["link"],
                *(f"{r[name]:,.0f}" for name in ("one_host", "two_hosts", "arithmetic")),
            ]
            for r in results["hosts"]
        ]
        blocks["hosts"] = table(
            "hidden (weights) | link | one host, tokens/s | two hosts | arithmetic", rows
        )
    return blocks


LARGE = (256, 1024, 2048, 4096)
LINKS = (("1 Gbit/s", 1e9, 1e-4), ("10 Gbit/s", 1e10, 5e-5), ("100 Gbit/s", 1e11, 1e-5))
MACHINES, FLOPS = 8, 1e12


def _arithmetic() -> str:
    """Seconds of exchange a step for larger networks, and the tokens that it takes to pay."""
    rows = []
    for hidden in LARGE:
        config = ModelConfig(256, cell="lstm", layers=2, hidden=hidden, embedding=min(hidden, 1024))
        weights = sum(torch.Size(shape).numel() for shape in config.shapes().values())
        row = [f"2 × {hidden}", f"{weights / 1e6:.1f} M", f"{4 * weights / 1e6:,.0f} MB"]
        for _, rate, delay in LINKS:
            seconds = exchange(weights, rate, delay, MACHINES)
            # As many tokens on each machine that computing takes as long as the exchange.
            tokens = seconds * FLOPS / (6 * weights)
            row.append(f"{1e3 * seconds:,.1f} ms; {tokens:,.0f}")
        rows.append(row)
    heading = " | ".join(name for name, *_ in LINKS)
    size = f"{MACHINES} machines of {FLOPS:g} FLOP/s each"
    return f"{size}:\n\n{table(f'LSTM | weights | gradient | {heading}', rows)}"


def main(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] == "watched":
        out, kind, text, options = arguments[1:]
        watched(Path(out), kind, text, json.loads(options))
        return
    measure(arguments, str(__doc__), PARTS, RESULTS, PAGE, page)


if __name__ == "__main__":
    main(sys.argv[1:])
