"""What contexts beside n-grams bring: losses alone and with a network, seconds and bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import charlm
from benchmarks.mixture.texts import text_of
from benchmarks.project import TALES, trained
from charlm import LanguageModel
from charlm.corpus.encoding import TokenFile
from charlm.model import context_tables
from charlm.model.context_fit import count_mixed
from charlm.model.contexts import CONTEXTS
from charlm.model.mixture import Counted, Mixture
from charlm.model.ngram_counts import count
from charlm.tasks.lm import ORDER_BY_LEVEL, TextValidation, most_ngrams
from charlm.tasks.tokens import NGRAM

PARTS_OF = ("little", "names", "shakespeare")  # texts on which each kind is left out
NEVER = 1 << 60  # occurrences that no context has


def contexts(folder: Path, text: Path) -> dict[str, dict[str, Any]]:
    """Losses of the same network, trained for a minute, with n-grams and with contexts as well."""
    valid = Path("valid.txt")
    valid.write_text(text.read_text(encoding="utf-8")[-100_000:], encoding="utf-8")
    ptb = (text.with_name("ptb.train.txt"), "--valid", text.with_name("ptb.valid.txt"))
    cases: dict[str, tuple[object, ...]] = {
        "little": (text_of(20_000, text), "--valid", valid),
        "tales": (TALES,),
        "names": (text.with_name("names.txt"), "--lines"),
        "shakespeare": (text, "--valid-fraction", 0.1),
        "treebank": ptb,
    }
    results = {}
    for name, (corpus, *options) in cases.items():
        run = trained(corpus, f"contexts {name}", "--minutes", 1, "--networks", 1, *options)
        results[name] = _compared(run, by_part=name in PARTS_OF)
    return results


def _compared(run: Path, by_part: bool) -> dict[str, Any]:
    model = charlm.load(run, kind=LanguageModel)
    files = [TokenFile.open(run / part, model.tokenizer.size) for part in ("train", "valid")]
    ids, lines = np.asarray(files[0].ids), model.independent_lines
    validation = TextValidation(files[1].ids, files[1].bounds, independent_lines=lines)

    def losses(counted: Counted) -> dict[str, float]:
        network = model.backends.torch
        companions = validation.fitted(network, {NGRAM: Mixture(counted)})
        both, by_network, alone, *_ = validation.totals(network, companions)
        figures = {"mixture": both, "network": by_network, "alone": alone}
        return {name: total / validation.predicted for name, total in figures.items()}

    def measured(counted: Counted, seconds: float) -> dict[str, float]:
        _, arrays = Mixture(counted).state()
        size = sum(array.nbytes for array in arrays.values())
        return losses(counted) | {"seconds": seconds, "bytes": size / len(ids)}

    vocab, order = model.tokenizer.size, ORDER_BY_LEVEL[model.tokenizer.level]
    most, letters = most_ngrams(len(ids)), model.tokenizer.letters()
    result: dict[str, Any] = {}
    start = time.perf_counter()
    ngram = count(ids, vocab, order, independent_lines=lines, most=most)
    result["n-grams"] = measured(ngram, time.perf_counter() - start)
    start = time.perf_counter()
    mixed = count_mixed(ids, vocab, order, letters, independent_lines=lines, most=most)
    result["contexts"] = measured(mixed, time.perf_counter() - start)
    for kind in CONTEXTS if by_part else ():
        with _without(kind):
            counted = count_mixed(ids, vocab, order, letters, independent_lines=lines, most=most)
            result[f"without {kind}"] = losses(counted)
    return result


@contextmanager
def _without(kind: str) -> Iterator[None]:
    """Contexts of this kind are never frequent enough."""
    with patch.dict(context_tables.FEWEST, {kind: NEVER}):
        yield
