"""The formats of KenLM and SRILM: their sums and perplexities, beside those of the programs."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.mixture.kenlm import ngram_model, query
from benchmarks.project import charlm, trained
from charlm.cli.scored import Row, View, write_rows
from charlm.engines.scores import SentenceScore
from charlm.tokenizer import EOS, UNK, Words

ORDER = 3  # of KenLM's n-grams
LINES = 10_000  # of the training text; few, so that words of the test text are unknown
SRILM = re.compile(
    r"(\d+) sentences, (\d+) words, (\d+) OOVs\n.*logprob= (\S+) ppl= (\S+) ppl1= (\S+)"
)


class Token(NamedTuple):
    """A token in KenLM's format. id: 0 for an unknown word"""

    text: str
    id: int
    log10: float


class Sentence(NamedTuple):
    """A line in KenLM's format. total: log₁₀ P as it is printed"""

    tokens: list[Token]
    total: float


class Output(NamedTuple):
    """What KenLM's `query` writes, or charlm in its format. summary: figures by their names"""

    sentences: list[Sentence]
    summary: dict[str, float]

    @classmethod
    def read(cls, text: str) -> Output:
        sentences, summary = [], {}
        for line in text.splitlines():
            *parts, last = line.split("\t")
            if last.startswith("Total:"):
                tokens = [_token(part) for part in parts]
                sentences.append(Sentence(tokens, float(last.split()[1])))
            else:
                summary[parts[0].removesuffix(":")] = float(last)
        return cls(sentences, summary)

    def sums(self) -> dict[str, float]:
        """Counts, and log₁₀ P of all and of the known tokens."""
        tokens = [token for sentence in self.sentences for token in sentence.tokens]
        return {
            "tokens": len(tokens),
            "unknown": sum(token.id == 0 for token in tokens),
            "all": math.fsum(sentence.total for sentence in self.sentences),
            "known": math.fsum(token.log10 for token in tokens if token.id),
        }


def _token(text: str) -> Token:
    word, _, log10 = text.split(" ")
    name, id = word.rsplit("=", 1)
    return Token(name, int(id), float(log10))


def formats(folder: Path, data: Path, kenlm: Path, minutes: float) -> dict[str, Any]:
    """Sums of one text in three formats of charlm; and KenLM's sums, and charlm's of its values.

    kenlm:  the folder with KenLM's programs
    """
    texts = {
        part: (data / f"ptb.{part}.txt").read_text(encoding="utf-8").replace("<unk>", "unknown")
        for part in ("train", "valid", "test")
    }
    texts["train"] = "".join(texts["train"].splitlines(keepends=True)[:LINES])
    for part, text in texts.items():
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")
    options = ("--lines", "--level", "word", "--split", "whitespace", "--minutes", minutes)
    run = trained("train.txt", "treebank", "--valid", "valid.txt", *options)
    output = query(kenlm, ngram_model(kenlm, texts["train"], ORDER), texts["test"])
    return {
        "minutes": minutes,
        "lines": LINES,
        "order": ORDER,
        "sums": _sums(folder, run),
        **of_values(Output.read(output), texts["test"].splitlines()),
    }


def _sums(folder: Path, run: Path) -> dict[str, dict[str, float]]:
    """Counts and log₁₀ P of the test text, by command."""
    score = charlm(folder, "score", "--file", "test.txt", "-m", run, "--format", "kenlm")
    evaluate = ("evaluate", "test.txt", "-m", run, "--reset-lines", "--format")
    totals = _srilm(charlm(folder, *evaluate, "srilm"))
    record = json.loads(charlm(folder, *evaluate, "json"))
    return {
        "score --format kenlm": Output.read(score).sums(),
        "evaluate --format srilm": {
            "tokens": totals["words"] + totals["sentences"],
            "unknown": totals["unknown"],
            "known": totals["logprob"],
        },
        "evaluate --format json": {
            "tokens": record["tokens"],
            "unknown": record["unknown"],
            "all": record["log10prob"],
        },
    }


def of_values(output: Output, lines: Iterable[str]) -> dict[str, Any]:
    """KenLM's summary, SRILM's formulas, and what charlm writes, all of KenLM's values."""
    tokens = [token for sentence in output.sentences for token in sentence.tokens]
    words = [token for token in tokens if token.text != "</s>"]
    tokenizer = Words(sorted({token.text for token in words if token.id}), split="whitespace")
    scores = [
        _score(line, sentence.tokens, tokenizer)
        for line, sentence in zip(lines, output.sentences, strict=True)
    ]
    written = Output.read(_written("kenlm", scores))
    differences = [
        abs(ours.total - theirs.total)
        for ours, theirs in zip(written.sentences, output.sentences, strict=True)
    ]
    sentences, unknown = len(scores), sum(token.id == 0 for token in words)
    logprob = math.fsum(token.log10 for token in tokens if token.id)
    formulas = {
        "sentences": sentences,
        "words": len(words),
        "unknown": unknown,
        "logprob": logprob,
        "ppl": 10 ** (-logprob / (len(words) - unknown + sentences)),
        "ppl1": 10 ** (-logprob / (len(words) - unknown)),
    }
    return {
        "kenlm": {"program": output.summary, "charlm": written.summary},
        "largest_difference": max(differences),
        "srilm": {"formulas": formulas, "charlm": _srilm(_written("srilm", scores))},
    }


def _score(line: str, tokens: list[Token], tokenizer: Words) -> SentenceScore:
    """The score of a line with these log-probabilities."""
    ids = tokenizer.encode(f"{line}\n").ids
    assert [token.id == 0 for token in tokens] == (ids == UNK).tolist()
    logprobs = np.array([token.log10 for token in tokens]) * math.log(10)
    return SentenceScore(
        text=line,
        logprob=float(logprobs.sum()),
        tokens=len(ids),
        chars=len(line) + 1,
        bytes=len(line.encode()) + 1,
        unknown=int(np.count_nonzero(ids == UNK)),
        unknown_logprob=float(logprobs[ids == UNK].sum()),
        lines=int(np.count_nonzero(ids == EOS)),
        context="",
        ids=ids,
        logprobs=logprobs.astype(np.float32),
        tokenizer=tokenizer,
    )


def _written(format: str, scores: Iterable[SentenceScore]) -> str:
    """What charlm writes of scores in a format."""
    with redirect_stdout(io.StringIO()) as output:
        write_rows(format, [[Row(k, {}, (score,)) for k, score in enumerate(scores, 1)]], View())
    return output.getvalue()


def _srilm(text: str) -> Mapping[str, float]:
    """The last totals in a text in SRILM's format."""
    *_, last = SRILM.findall(text)
    names = ("sentences", "words", "unknown", "logprob", "ppl", "ppl1")
    return dict(zip(names, map(float, last), strict=True))
