"""The weights of the mixture: good defaults, and how much a fit depends on its text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import charlm
from benchmarks.mixture.texts import text_of
from benchmarks.project import TALES, trained
from charlm import LanguageModel
from charlm.corpus.encoding import TokenFile
from charlm.model.combination import Combination, Examples, Linear, LogLinear
from charlm.tasks.lm import TextValidation

EXAMPLES = 10_000  # of a text


def defaults(folder: Path, text: Path) -> dict[str, list[list[float]]]:
    """The weights of each combination that are best on several texts together."""
    ptb = (text.with_name("ptb.train.txt"), "--valid", text.with_name("ptb.valid.txt"))
    little, valid = text_of(20_000, text), Path("valid.txt")
    valid.write_text(text.read_text(encoding="utf-8")[-100_000:], encoding="utf-8")
    little_ptb = Path("little-ptb.txt")
    little_ptb.write_text(ptb[0].read_text(encoding="utf-8")[:20_000], encoding="utf-8")
    trainings: dict[type[Combination], list[tuple[object, ...]]] = {
        LogLinear: [
            (text,),
            (little, "--valid", valid),
            (little_ptb, *ptb[1:]),
            (text.with_name("names.txt"), "--lines"),
            (TALES,),
            ptb,
        ],
        Linear: [
            (*ptb, "--level", "word", "--split", "whitespace"),
            (*ptb, "--level", "subword"),
            (text, "--level", "word"),
            (TALES, "--level", "word"),
        ],
    }
    weights = {}
    for kind, arguments in trainings.items():
        rows = [
            examples(trained(corpus, f"{kind.name} {k}", "--minutes", 1, *options))
            for k, (corpus, *options) in enumerate(arguments)
        ]
        free = type(kind.name, (kind,), {"prior": 0.01})
        weights[kind.name] = free().fitted(together(rows)).weights.round(2).tolist()
    return weights


def halves(folder: Path, text: Path) -> dict[str, dict[str, float]]:
    """Losses on the validation text, with weights fitted on it, and on the other half of it."""
    ptb = (text.with_name("ptb.train.txt"), "--valid", text.with_name("ptb.valid.txt"))
    cases: dict[str, tuple[object, ...]] = {
        "shakespeare": (text,),
        "names": (text.with_name("names.txt"), "--lines"),
        "tales": (TALES,),
        "treebank, characters": ptb,
        "treebank, words": (*ptb, "--level", "word", "--split", "whitespace"),
    }
    results = {}
    for name, options in cases.items():
        run = trained(options[0], f"halves {name}", "--minutes", 1, *options[1:])
        mixture = charlm.load(run, kind=LanguageModel).mixture
        assert mixture
        default, rows = type(mixture.combination)(), validation_examples(run)
        parts = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        crossed = [default.fitted(a).losses(b) for a, b in (parts, parts[::-1])]
        results[name] = {
            "examples": len(rows),
            "default": float(default.losses(rows).mean()),
            "fitted": float(default.fitted(rows).losses(rows).mean()),
            "crossed": float(np.concatenate(crossed).mean()),
        }
    return results


def examples(run: Path) -> Examples:
    """As many examples of the validation text for each run."""
    rows = validation_examples(run)
    return rows[np.random.default_rng(1).integers(len(rows), size=EXAMPLES)]


def validation_examples(run: Path) -> Examples:
    """What the weights of a run's mixture are fitted on."""
    model = charlm.load(run, kind=LanguageModel)
    file = TokenFile.open(run / "valid", model.tokenizer.size)
    validation = TextValidation(file.ids, file.bounds, independent_lines=model.independent_lines)
    assert model.mixture
    first = validation.first(model.mixture.most_examples)
    return first.examples(model.backends.torch, model.mixture)


def together(texts: list[Examples]) -> Examples:
    """The examples of texts with different vocabularies: tokens that are missing never occur."""
    if "logprobs" not in (texts[0].dtype.names or ()):
        return np.concatenate(texts)
    tokens = max(text["logprobs"].shape[-1] for text in texts)
    result = []
    for text in texts:
        features = text["features"].shape[1:]
        fields = [("features", "f4", features), ("logprobs", "f4", (2, tokens)), ("target", "i4")]
        padded = np.empty(len(text), fields)
        padded["features"], padded["target"] = text["features"], text["target"]
        padded["logprobs"] = -1e4
        padded["logprobs"][..., : text["logprobs"].shape[-1]] = text["logprobs"]
        result.append(padded)
    return np.concatenate(result)
