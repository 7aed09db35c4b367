"""lm-eval asks the server: rolling and plain log-likelihood, and texts.

    python -m benchmarks.serving.harness PYTHON MODEL=TEXT...

PYTHON is an interpreter that has lm-eval (`pip install "lm-eval[api]" torch`). Each MODEL is a
trained language model, and TEXT a file whose beginning is asked about. lm-eval finds the tokenizer
by itself (`tokenizer_backend=auto`). Its figures stand beside those of `evaluate`, `score` and
`sample`. Writes benchmarks/serving/harness.json and a part of docs/serving.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import charlm
from benchmarks.markdown import replace_blocks, table
from benchmarks.serving.running import served
from charlm import LanguageModel

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "benchmarks/serving/harness.json", ROOT / "docs/serving.md"
CHARS = 40_000  # of a text
CHOICES, TEXTS = 60, 20  # questions, and texts to go on with
LETTERS, WRITTEN = 30, 60  # of the beginning of a question, and tokens that are written
TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
{body}"""
ROLLING = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: bits_per_byte
    aggregation: bits_per_byte
    higher_is_better: false
"""
CHOOSING = """output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_target: "{{right}}"
doc_to_choice: "{{choices}}"
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WRITING = """output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{target}}"
target_delimiter: ""
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: TOKENS
  temperature: 0
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


def questions(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Lines without their last words, with these words and with those of other lines."""
    long = [line.rstrip() for line in lines if line.strip().count(" ") > 3][: 2 * CHOICES]
    pairs = zip(long[::2], long[1::2], strict=False)
    cuts = [(line, line.rindex(" "), other[other.rindex(" ") :]) for line, other in pairs]
    return [
        {"text": line[:cut], "choices": [line[cut:], end], "right": 0}
        for line, cut, end in cuts
        if end != line[cut:]
    ]


def chosen(model: LanguageModel, rows: Sequence[dict[str, Any]]) -> float:
    """How often `score` finds the right end more probable."""
    right = 0
    for question in rows:
        ends = [question["text"] + end for end in question["choices"]]
        first, second = model.score(ends, eos=False, unknown="include")
        right += first.logprob > second.logprob
    return right / len(rows)


def beginnings(model: LanguageModel, lines: Sequence[str]) -> list[dict[str, Any]]:
    """Beginnings of lines, and how `sample` goes on with the likeliest tokens.

    It may spell the last word of the beginning again, which adds no text.
    """
    begun = [line[: line.index(" ", LETTERS)] for line in lines if " " in line[LETTERS:]]
    return [
        {"text": text, "target": "".join(islice(filter(None, stream), WRITTEN))}
        for text in dict.fromkeys(begun[:TEXTS])
        for stream in [model.stream(text, temperature=0, stop="\n", length=CHARS)]
    ]


def asked(python: str, port: int, model: Path, tasks: Path) -> dict[str, float]:
    """The figures of lm-eval for a model, by task."""
    name = model.name
    url = f"http://127.0.0.1:{port}/{name}/v1/completions"
    arguments = f"model={name},base_url={url},max_length={2 * CHARS}"
    command = [
        *(python, "-m", "lm_eval", "run", "--model", "local-completions"),
        *("--model_args", arguments, "--tasks", "rolling,choosing,writing"),
        *("--include_path", str(tasks), "--output_path", str(tasks / "results")),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (found,) = (tasks / "results").rglob("results_*.json")
    results = json.loads(found.read_text(encoding="utf-8"))["results"]
    metrics = {"rolling": "bits_per_byte", "choosing": "acc", "writing": "exact_match"}
    return {task: results[task][f"{metric},none"] for task, metric in metrics.items()}


def measure(python: str, port: int, path: Path, text_file: Path) -> dict[str, Any]:
    """The figures of lm-eval and of charlm for one model."""
    model = charlm.load(path, kind=LanguageModel)
    text = text_file.read_text(encoding="utf-8")[:CHARS]
    text = text[: text.rindex("\n") + 1]
    lines = text.splitlines()
    documents = {
        "rolling": [{"text": text}],
        "choosing": questions(lines),
        "writing": beginnings(model, lines),
    }
    bodies = {"rolling": ROLLING, "choosing": CHOOSING, "writing": WRITING}
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder)
        for name, rows in documents.items():
            file = tasks / f"{name}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            body = bodies[name].replace("TOKENS", str(WRITTEN))
            whole = TASK.format(name=name, file=file, body=body)
            (tasks / f"{name}.yaml").write_text(whole, encoding="utf-8")
        by_harness = asked(python, port, path, tasks)
    score = model.evaluate(text, unknown="include")
    own = {"rolling": score.bits_per_byte, "choosing": chosen(model, documents["choosing"])}
    counts = {name: len(rows) for name, rows in documents.items()}
    level = model.tokenizer.level
    return {"level": level, "lm-eval": by_harness, "charlm": own, "counts": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("models", nargs="+", metavar="MODEL=TEXT")
    arguments = parser.parse_args()
    pairs = [tuple(map(Path, pair.split("="))) for pair in arguments.models]
    with served([model for model, _ in pairs]) as server:
        results = [measure(arguments.python, server.port, *pair) for pair in pairs]
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    replace_blocks(PAGE, blocks(results))


def blocks(results: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The table of the page, by the name of its mark."""
    rows = [
        (
            row["level"],
            f"{row['lm-eval']['rolling']:.6f}",
            f"{row['charlm']['rolling']:.6f}",
            f"{row['lm-eval']['choosing']:.3f}",
            f"{row['charlm']['choosing']:.3f}",
            f"{row['lm-eval']['writing']:.0%} of {row['counts']['writing']}",
        )
        for row in results
    ]
    columns = (
        "level | bits per byte, lm-eval | `evaluate` | right choices, lm-eval | `score` | "
        "texts as `sample` writes them"
    )
    return {"harness": table(columns, rows)}


if __name__ == "__main__":
    main()
