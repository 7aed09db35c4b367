"""How fast charlm is, beside the machine's limits and plain torch.

    python benchmarks/speed.py [--only PART ...] [--nanogpt PATH TEXT]
    python benchmarks/speed.py page

The parts are limits, training, sampling, profile, scoring, reading, start-up and memory; and, only
if it is named, gigabyte, which takes long. What is compared is measured in turns within one
part, so that the ratios hold on a noisy machine; figures are medians. Networks have random weights,
as fast as trained ones. With --nanogpt the CPU recipe of nanoGPT, from a clone of it at PATH, is
trained on TEXT, and then charlm for as long. What is found is kept in benchmarks/speed.json, from
which `page` fills in docs/speed.md; figures of another machine are not kept beside it. Nothing else
should run on the machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pickle
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality import in_windows
from torch import nn
from torch.nn import functional as F

from charlm.corpus.batches import Batches
from charlm.corpus.encoding import TokenFile
from charlm.language_model import LanguageModel
from charlm.model.config import Dropout, ModelConfig, multiplied_weights
from charlm.model.file import Card, ModelFile
from charlm.model.network import Network, as_arrays
from charlm.model.stepper import Stepper
from charlm.sampling import SampleOptions, distribution, draw, random_stream
from charlm.tokenizer import train_tokenizer
from charlm.training.machine import autocast
from charlm.training.recipe import Recipe
from charlm.training.trainer import CLIP, Clock, Trainer
from charlm.training.validation import Validation

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks/speed.json", ROOT / "docs/speed.md"
TALES, SENTENCES = ROOT / "corpora/tales.txt", ROOT / "corpora/sentences.txt"
CPU = torch.device("cpu")
VOCAB, EMBEDDING = 66, 128  # of the networks that are timed
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """A figure, a rate unless the unit is of time or size, and what it is compared with.

    plain:  the same by the usual way
    limit:  what the machine could do at best
    whole:  what it is a part of
    """

    what: str
    unit: str
    charlm: float
    plain: float | None = None
    limit: float | None = None
    whole: float | None = None

    def cells(self) -> list[str]:
        """As the row of a table: see COLUMNS."""

        def compared(other: float | None, value: str) -> list[str]:
            return ["", ""] if other is None else [_number(other), value]

        return [
            self.what, _number(self.charlm), self.unit,
            *compared(self.plain, f"{self.charlm / (self.plain or 1):.2f}"),
            *compared(self.limit, f"{self.charlm / (self.limit or 1):.0%}"),
            *compared(self.whole, f"{self.charlm / (self.whole or 1):.0%}")[1:],
        ]  # fmt: skip

    def shown(self) -> str:
        what, value, unit, plain, ratio, limit, share, part = self.cells()
        cells = [f"{what:<46}{value:>12} {unit:<14}"]
        cells += [f"plain {plain:>10}  ratio {ratio:>6}"] if plain else []
        cells += [f"limit {limit:>10}  share {share:>4}"] if limit else []
        return "  ".join(cells + [f"{part:>4} of it"] * bool(part))


COLUMNS = "what | measured | unit | plain | ratio | limit | share of the limit | part of the whole"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


PAUSE = 0.3  # seconds before a run: the threads of a library go on spinning after its last call


def in_turns(runs: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The median seconds of each, run one after the other, round after round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


# --- what the machine can do ---


def limits() -> Iterator[Row]:
    for name in PRECISIONS:
        yield Row(f"matrix product 2048³, {name}", "GFLOP/s", product_rate(name, 2048, 2048, 2048))
    yield Row("reading 400 MB of memory", "GB/s", reading_rate(400_000_000))
    yield Row("reading 10 MB, again and again", "GB/s", reading_rate(10_000_000))


@cache
def product_rate(precision: str, m: int, k: int, n: int) -> float:
    """GFLOP/s of a product (m, k)·(k, n), by whichever layout of the second is faster."""
    a, b = (torch.randn(*shape).to(PRECISIONS[precision]) for shape in ((m, k), (k, n)))
    out, flop = torch.empty(m, n, dtype=a.dtype), 2 * m * k * n
    times = max(1, int(2e9 // flop))

    def repeated(b: torch.Tensor) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                torch.mm(a, b, out=out)

        return run

    columns = b.T.contiguous().T
    found = in_turns({"rows": repeated(b), "columns": repeated(columns)})
    return times * flop / min(found.values()) / 1e9


@cache
def reading_rate(size: int) -> float:
    """GB/s at which so many bytes can be read, by whichever of two ways is faster."""
    numbers = np.ones(size // 4, np.float32)
    tensor, times = torch.from_numpy(numbers), max(1, 10**9 // size)
    found = in_turns(
        {
            "torch": lambda: [tensor.sum() for _ in range(times)],
            "numpy": lambda: [numbers @ numbers for _ in range(times)],
        }
    )
    return times * size / min(found.values()) / 1e9


# --- training ---

SHAPES = (  # layers, features, streams, tokens of each
    (2, 512, 128, 128),
    (1, 320, 32, 32),
)
MODULES = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def training() -> Iterator[Row]:
    torch.set_flush_denormal(True)
    for (layers, hidden, batch, length), cell in (
        (shape, cell) for shape in SHAPES for cell in MODULES
    ):
        config = ModelConfig(VOCAB, cell, layers, hidden, EMBEDDING)
        runs = {
            f"{who} {precision}": make(config, batch, length, precision)
            for precision in PRECISIONS
            for who, make in (("charlm", our_step), ("plain", plain_step))
        }
        seconds, tokens = in_turns(runs, rounds=3 if batch > 32 else 15), batch * length
        for precision in PRECISIONS:
            yield Row(
                f"{cell} {layers} × {hidden}, {batch} × {length}, {precision}", "tokens/s",
                tokens / seconds[f"charlm {precision}"], tokens / seconds[f"plain {precision}"],
                tokens / product_seconds(config, batch, length, precision),
            )  # fmt: skip


def our_step(config: ModelConfig, batch: int, length: int, precision: str) -> Callable[[], object]:
    """A step of charlm's own training loop, all of it but evaluation."""
    ids = zipfian(config.vocab, 400_000)
    bounds = np.arange(0, len(ids) + 1, 40)
    recipe = Recipe(
        config, Dropout(), 1.0, None, None, 10**9, batch, length, 1e-3, 0.05, False, 1, "cpu",
        precision, 10**6,
    )  # fmt: skip
    batches = Batches(TokenFile(ids, bounds), config.vocab, batch, length, lines=False, seed=1)
    trainer = Trainer(recipe, Network(config), batches, Validation(ids[:4096], bounds[:100]))
    steps = trainer.run(Clock(recipe, batches.steps_per_epoch, time.monotonic(), 0))
    return lambda: next(steps)


def zipfian(vocab: int, tokens: int) -> NDArray[np.integer]:
    """Random ids of which the k-th is about as frequent as 1/k, as the words of a text are."""
    p = 1 / np.arange(1, vocab - 2)
    return np.random.default_rng(0).choice(
        np.arange(3, vocab, dtype=np.uint16), tokens, p=p / p.sum()
    )


def plain_step(
    config: ModelConfig, batch: int, length: int, precision: str
) -> Callable[[], object]:
    """The same in the usual words: torch's modules, its loss and its fused optimizer."""
    embedding = nn.Embedding(config.vocab, config.embedding)
    layers = MODULES[config.cell](config.embedding, config.hidden, config.layers)
    norm, output = nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.vocab - 1)
    parameters = list(nn.ModuleList([embedding, layers, norm, output]).parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True)
    ids = torch.randint(config.vocab - 1, (length, batch))

    def step() -> None:
        optimizer.zero_grad()
        with autocast(precision, CPU):
            logits = output(norm(layers(embedding(ids))[0]))
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        loss.item()

    return step


def product_seconds(config: ModelConfig, batch: int, length: int, precision: str) -> float:
    """What the matrix products of a step would take by themselves, each in its own shape; those
    of the backward pass are as many again, twice."""
    gates, tokens = len(config.recurrence.gates) * config.hidden, batch * length
    inputs = [config.embedding] + [config.hidden] * (config.layers - 1)
    products = [(tokens, read, gates, 1) for read in inputs]
    products += [(batch, config.hidden, gates, length * config.layers)]
    products += [(tokens, config.hidden, config.vocab - 1, 1)]
    return sum(
        3 * times * 2 * m * k * n / product_rate(precision, m, k, n) / 1e9
        for m, k, n, times in products
    )


# --- sampling ---


def sampling() -> Iterator[Row]:
    for layers, hidden in ((1, 256), (1, 512), (2, 512), (2, 1024)):
        config = ModelConfig(VOCAB, "lstm", layers, hidden, EMBEDDING)
        stepper = Stepper(config, as_arrays(Network(config).state_dict()))
        read = 4 * (multiplied_weights(config) - 4 * hidden * EMBEDDING)  # the rest is looked up
        steps = int(4e9 / read)
        found = in_turns(
            {
                "plain": plain_stepping(layers, hidden, steps),
                "charlm": stepping(stepper, 1, steps),
                "16": stepping(stepper, 16, steps),
            }
        )
        yield Row(
            f"one stream, {layers} × {hidden}", "tokens/s", steps / found["charlm"],
            steps / found["plain"], reading_rate(int(read)) * 1e9 / read,
        )  # fmt: skip
        yield Row(f"16 streams, {layers} × {hidden}", "tokens/s", 16 * steps / found["16"])


def stepping(stepper: Stepper, streams: int, steps: int) -> Callable[[], object]:
    def run() -> None:
        state, ids = stepper.initial_state(streams), np.full(streams, 3)
        for _ in range(steps):
            _, state = stepper.step(ids, state)

    return run


def plain_stepping(layers: int, hidden: int, steps: int) -> Callable[[], object]:
    reference, output = nn.LSTM(EMBEDDING, hidden, layers), nn.Linear(hidden, VOCAB - 1)
    x = torch.zeros(1, 1, EMBEDDING)

    def run() -> None:
        state = None
        with torch.no_grad():
            for _ in range(steps):
                y, state = reference(x, state)
                output(y)

    return run


# --- where the time of a step goes ---


def profile() -> Iterator[Row]:
    for level, config in (
        ("characters", ModelConfig(VOCAB, "lstm", 1, 320, EMBEDDING)),
        ("words", ModelConfig(10_000, "lstm", 1, 256, 256, tied=True, cutoffs=(380, 3047))),
    ):
        yield from training_profile(f"training, {level}", config, 64 if level == "words" else 32)
    for layers, hidden in ((1, 256), (2, 1024)):
        yield from sampling_profile(ModelConfig(VOCAB, "lstm", layers, hidden, EMBEDDING))


def training_profile(name: str, config: ModelConfig, length: int) -> Iterator[Row]:
    """The operations that take most of a step of 32 streams, in bf16, as torch's profiler says."""
    step, steps = our_step(config, 32, length, "bf16"), 30
    for _ in range(steps):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    whole = (time.perf_counter() - start) / steps * 1e6
    with torch.profiler.profile() as seen:
        for _ in range(steps):
            step()
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    profiled = sum(event.self_cpu_time_total for event in events) / steps
    yield Row(f"{name}: a step", "µs", whole)
    for event in events[:10]:
        yield Row(f"  {event.key}", "µs", event.self_cpu_time_total / steps, whole=profiled)


def sampling_profile(config: ModelConfig) -> Iterator[Row]:
    """The parts of drawing a character in one stream, each timed by itself."""
    stepper = Stepper(config, as_arrays(Network(config).state_dict()))
    stack, state, ids = stepper.layers, stepper.initial_state(1), np.array([3])
    logits, state = stepper.step(ids, state)
    y, random, options = state[-1][0], random_stream(1, 0), SampleOptions()
    matrices = [w["U"] for w in stack.weights] + [w["W"] for w in stack.weights[1:]]
    times = int(4e9 / 4 / multiplied_weights(config))

    def repeated(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                call()

        return run

    found = in_turns(
        {
            "products": repeated(lambda: [y @ matrix.T for matrix in matrices]),
            "layers": repeated(lambda: stack.step(ids, state)),
            "logits": repeated(lambda: stepper.logits(y)),
            "drawing": repeated(lambda: draw(distribution(logits[0], options), random)),
        }
    )
    took = {part: seconds / times * 1e6 for part, seconds in found.items()}
    whole = took["layers"] + took["logits"] + took["drawing"]
    yield Row(f"sampling, {config.layers} × {config.hidden}: a character", "µs", whole)
    yield Row("  recurrent products", "µs", took["products"], whole=whole)
    yield Row("  the rest of the layers", "µs", took["layers"] - took["products"], whole=whole)
    yield Row("  logits", "µs", took["logits"], whole=whole)
    yield Row("  drawing", "µs", took["drawing"], whole=whole)


# --- scoring and reading ---


def random_model(folder: str, layers: int, hidden: int) -> LanguageModel:
    """A model of characters with random weights, in a file."""
    text = SENTENCES.read_text(encoding="utf-8")
    tokenizer = train_tokenizer("char", lambda: [text])
    config = ModelConfig(tokenizer.size, "lstm", layers, hidden, EMBEDDING)
    card = Card("random", "", False, "line", 0, 0, 0.0, None, None, 0.0, False, "not", 0.0, "")
    path = Path(folder) / f"{layers}x{hidden}.safetensors"
    ModelFile(config, as_arrays(Network(config).state_dict()), tokenizer, card).save(path)
    return LanguageModel(path)


def scoring() -> Iterator[Row]:
    lines = SENTENCES.read_text(encoding="utf-8").split("\n")[:10_000]
    few = lines[:200]
    for hidden in (128, 512):
        with tempfile.TemporaryDirectory() as folder:
            model = random_model(folder, 1, hidden)
            found = in_turns(
                {
                    "plain": lambda m=model: [plain_score(m, line) for line in few],
                    "one": lambda m=model: [m.score(line) for line in few],
                    "all": lambda m=model: m.score(lines),
                },
                rounds=3,
            )
        one, plain = len(few) / found["one"], len(few) / found["plain"]
        name = f"1 × {hidden}"
        yield Row(f"10,000 lines at once, {name}", "lines/s", len(lines) / found["all"], one)
        yield Row(f"a line at a time, {name}; plain: torch", "lines/s", one, plain)


@torch.no_grad()
def plain_score(model: LanguageModel, line: str) -> float:
    """One line through the torch network, as a script would."""
    network, ids = model.network, model.tokenizer.encode_ids(line + "\n").astype(np.int64)
    inputs = np.concatenate([[0], ids[:-1]])[None]
    y, _ = network.read(inputs, network.initial_state(1))
    return float(network.logprobs(y, ids[None]).sum())


def reading() -> Iterator[Row]:
    text = TALES.read_text(encoding="utf-8") * 40
    blocks = [text[start : start + 2**20] for start in range(0, len(text), 2**20)]
    for level in ("char", "byte", "word", "subword"):
        tokenizer = train_tokenizer(level, lambda: blocks[:1])
        found = in_turns(
            {"": lambda t=tokenizer: [t.encode_ids(block) for block in blocks]}, rounds=3
        )
        yield Row(f"encoding, {level} level", "MB/s", len(text.encode()) / 1e6 / found[""])


# --- whole commands ---


def start_up() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(folder, 1, 512)

        def command(*arguments: str) -> Callable[[], object]:
            full = [sys.executable, *arguments]
            environment = {**os.environ, "CHARLM_MODEL": str(model.path)}
            return lambda: subprocess.run(full, env=environment, capture_output=True, check=True)

        found = in_turns(
            {
                "python -c 'import torch'": command("-c", "import torch"),
                "python -c 'import numpy'": command("-c", "import numpy"),
                "charlm --help": command("-m", "charlm", "--help"),
                "charlm score SENTENCE": command("-m", "charlm", "score", "the apple and pear"),
                "charlm sample": command("-m", "charlm", "sample"),
            }
        )
    for name, seconds in found.items():
        yield Row(name, "seconds", seconds)


def memory() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        trained = ["train", str(TALES), "--minutes", "0.5", "--quiet", "--out", f"{folder}/run"]
        yield Row(f"charlm train {TALES.name}", "MB", peak_memory(trained, folder))
        for copies in (1, 4):
            text, size = copied_sentences(Path(folder), copies)
            scored = ["score", "--file", text, "--model", f"{folder}/run"]
            yield Row(f"charlm score, {size}, by that model", "MB", peak_memory(scored, folder))


def gigabyte() -> Iterator[Row]:
    """A text of a gigabyte: encoded for training, and scored by a small model."""
    with tempfile.TemporaryDirectory() as folder:
        text, size = copied_sentences(Path(folder), round(1e9 / SENTENCES.stat().st_size))
        for level in ("char", "word"):
            trained = [
                "train", text, "--level", level, "--steps", "1", "--hidden", "32",
                "--valid-fraction", "0.001", "--out", f"{folder}/{level}",
            ]  # fmt: skip
            start = time.monotonic()
            peak = peak_memory(trained, folder)
            yield Row(f"charlm train, {size}, {level} level, one step", "MB", peak)
            yield Row("  it took", "seconds", time.monotonic() - start)
        start = time.monotonic()
        peak = peak_memory(["score", "--file", text, "--model", f"{folder}/char"], folder)
        yield Row(f"charlm score, {size}", "MB", peak)
        yield Row("  it took", "seconds", time.monotonic() - start)


def copied_sentences(folder: Path, copies: int) -> tuple[str, str]:
    """A file of so many copies of the sentences, and its size in words."""
    text = folder / "lines.txt"
    with text.open("wb") as file:
        for _ in range(copies):
            file.write(SENTENCES.read_bytes())
    return str(text), f"{text.stat().st_size / 1e6:,.0f} MB"


def peak_memory(arguments: list[str], folder: str) -> float:
    """The most memory of its own, mapped files aside, that a command had there, in megabytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "charlm", *arguments], cwd=folder, stdout=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        most = max(most, *map(int, re.findall(r"RssAnon:\s+(\d+)", status)), 0)
        time.sleep(0.02)
    return most / 1e3


# --- beside nanoGPT ---

NANOGPT_BLOCK = 64
NANOGPT = (
    "--device=cpu --compile=False --eval_iters=200 --eval_interval=2000 --log_interval=100 "
    f"--block_size={NANOGPT_BLOCK} --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 "
    "--max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def beside_nanogpt(clone: Path, text: Path) -> Iterator[Row]:
    """Validation loss after the same time, nats a character: nanoGPT as it measures itself, in
    blocks from an empty context; charlm in such blocks, and with the state carried through all."""
    with tempfile.TemporaryDirectory() as folder:
        for file in clone.iterdir():
            if file.name != "data":
                (Path(folder) / file.name).symlink_to(file.resolve())
        write_nanogpt_data(text.read_text(encoding="utf-8"), Path(folder) / "data/shakespeare_char")
        command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT.split()]
        start = time.monotonic()
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        minutes = (time.monotonic() - start) / 60
        loss = float(re.findall(r"val loss ([\d.]+)", ran.stdout)[-1])
        command = [sys.executable, "-m", "charlm", "train", str(text.resolve()), "--quiet"]
        run = Path(folder) / "run"
        command += ["--minutes", f"{minutes:.2f}", "--out", str(run)]
        subprocess.run(command, cwd=folder, check=True)
        carried = LanguageModel(run / "model.safetensors").card.valid_nats
        blocks = in_windows(run, text, NANOGPT_BLOCK)
    budget = f"{text.name}, {60 * minutes:.0f} s"
    yield Row(f"{budget}, in blocks of {NANOGPT_BLOCK}; plain: nanoGPT", "nats", blocks, loss)
    yield Row(f"{budget}, the state carried", "nats", carried)


def write_nanogpt_data(text: str, folder: Path) -> None:
    """The files that nanoGPT's own script would have made of the text."""
    folder.mkdir(parents=True)
    alphabet = sorted(set(text))
    ids = np.array([alphabet.index(char) for char in text], np.uint16)
    for name, part in (("train", ids[: int(len(ids) * 0.9)]), ("val", ids[int(len(ids) * 0.9) :])):
        part.tofile(folder / f"{name}.bin")
    meta = {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)),
            "stoi": {char: k for k, char in enumerate(alphabet)}}  # fmt: skip
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


# --- all of it ---

PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "limits": limits, "training": training, "sampling": sampling, "profile": profile,
    "scoring": scoring, "reading": reading, "start-up": start_up, "memory": memory,
    "gigabyte": gigabyte,
}  # fmt: skip
USUAL = [name for name in PARTS if name != "gigabyte"]


def machine() -> dict[str, Any]:
    """What it is measured on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(iter(re.findall(r"model name\s*: (.*)", lines)), model)
    return {
        "processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__,
        "numpy": np.__version__, "python": platform.python_version(),
    }  # fmt: skip


def page(results: dict[str, Any]) -> None:
    """Fill in docs/speed.md, from its mark to its end."""
    text, mark = PAGE.read_text(encoding="utf-8"), "<!-- figures -->\n"
    start = text.index(mark) + len(mark)
    PAGE.write_text(text[:start] + tables(results), encoding="utf-8")


def tables(results: dict[str, Any]) -> str:
    """What the page says of these results: a table for each part."""
    described = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    sections = [f"\nMeasured with: {described}.\n"]
    for part in (*PARTS, "nanoGPT"):
        if part not in results:
            continue
        lines = [f"\n## {part.capitalize() if part.islower() else part}\n", f"| {COLUMNS} |"]
        lines.append("|" + "---|" * (COLUMNS.count("|") + 1))
        lines += [f"| {' | '.join(Row(**row).cells())} |" for row in results[part]]
        sections.append("\n".join(lines) + "\n")
    return "".join(sections)


def main() -> None:
    if sys.argv[1:] == ["page"]:
        page(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=USUAL)
    parser.add_argument("--nanogpt", nargs=2, type=Path, metavar=("PATH", "TEXT"))
    chosen = parser.parse_args()
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))
    parts = {name: PARTS[name] for name in chosen.only}
    if chosen.nanogpt:
        parts["nanoGPT"] = lambda: beside_nanogpt(*chosen.nanogpt)
    for name, part in parts.items():
        print(f"\n{name}")
        rows = []
        for row in part():
            print("  " + row.shown(), flush=True)
            rows.append({k: v for k, v in dataclasses.asdict(row).items() if v is not None})
        keep(name, rows)


def keep(part: str, rows: list[dict[str, Any]]) -> None:
    """Put what was found in the place of what an earlier run found on this machine."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if kept.get("machine") != machine():
        if kept:
            print(f"{RESULTS.name} held figures of another machine; they are gone from it")
        kept = {"machine": machine()}
    kept[part] = rows
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
