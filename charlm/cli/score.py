"""`charlm score`: how probable sentences are."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli.common import (
    EncodingOption,
    ModelOption,
    choose_format,
    load_named,
    note,
    read_lines,
    text_encoding,
    tsv_row,
    warn_unknown,
    write,
    write_table,
)
from charlm.errors import InputError, OptionError

if TYPE_CHECKING:
    from charlm.scoring import SentenceScore

FORMATS = ("table", "tsv", "json", "kenlm")


def score(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...",
            help="Sentences; without any, lines from standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="Score the lines of this file; - is standard input.")
    ] = None,
    model: ModelOption = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token's surprisal.")] = False,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="table|tsv|json|kenlm", help="Else a table on a terminal, TSV in a pipe."
        ),
    ] = None,
    context: Annotated[
        str, typer.Option(help="Text before each sentence, not scored itself.")
    ] = "",
    no_eos: Annotated[
        bool, typer.Option("--no-eos", help="Leave out the end of the line.")
    ] = False,
    pseudo: Annotated[
        bool,
        typer.Option("--pseudo", help="A bidirectional model's pseudo-log-likelihood instead."),
    ] = False,
    encoding: EncodingOption = "utf-8",
) -> None:
    """Say how probable sentences are: log P, surprisal, perplexity, token by token if you like."""
    chosen = choose_format(format, FORMATS)
    if texts and file:
        raise InputError("give sentences or --file, not both")
    if pseudo and (context or no_eos or chosen == "kenlm"):
        raise OptionError("--pseudo: goes with none of --context, --no-eos and --format kenlm")
    loaded = load_named(model)
    sentences = texts if texts else read_lines(file or "-", text_encoding(loaded, encoding))
    scores: Iterator[SentenceScore]
    if pseudo:
        scores = loaded.iter_pseudo_scores(sentences)
    else:
        scores = loaded.iter_scores(sentences, context=context, eos=not no_eos)
    unknown: dict[str, None] = {}
    writer = {"table": _table, "tsv": _tsv, "json": _json, "kenlm": _kenlm}[chosen]
    writer(_noting_unknown(scores, unknown), tokens)
    sys.stdout.flush()
    warn_unknown(unknown)
    for text in texts or ():
        if text == "-" or os.path.isfile(text):  # noqa: PTH113  # a long name is no error here
            file = shlex.quote(text)
            note(f"warning: {text!r} was scored as a sentence; for the lines: --file {file}")


def _noting_unknown(
    scores: Iterable[SentenceScore], unknown: dict[str, None]
) -> Iterator[SentenceScore]:
    for score in scores:
        if score.unknown:
            pieces = [score.text[t.start : t.end] for t in score.token_scores if t.is_unknown]
            unknown.update(dict.fromkeys(pieces))
        yield score


def _table(scores: Iterable[SentenceScore], tokens: bool) -> None:
    if tokens:
        for score in scores:
            _token_table(score)
        return
    scores = iter(scores)
    first = list(islice(scores, 1))
    prefix = first[0].prefix if first else ""
    columns = [(f"{prefix}probability", "right"), ("bits", "right"), ("bits/char", "right"),
               ("perplexity", "right"), ("unknown", "right"), ("text", "left")]  # fmt: skip
    write_table(
        columns,
        (
            (s.probability, f"{s.bits:.1f}", f"{s.bits_per_char:.3f}", f"{s.perplexity:.2f}",
             str(s.unknown or ""), s.text)
            for s in chain(first, scores)
        ),
    )  # fmt: skip


def _token_table(score: SentenceScore) -> None:
    longest = max((t.bits for t in score.token_scores), default=1.0)
    rows = [
        (t.token, f"{t.bits:.2f}", f"{math.exp(t.logprob):.4f}", "▇" * round(24 * t.bits / longest))
        for t in score.token_scores
    ]
    write(f"{score.text}   {score.prefix}probability {score.probability}, {score.bits:.1f} bits")
    write_table([("token", "left"), ("bits", "right"), ("p", "right"), ("", "left")], rows)


def _tsv(scores: Iterable[SentenceScore], tokens: bool) -> None:
    if tokens:
        write(tsv_row(["sentence", "token", "logprob", "log10prob", "bits", "start", "end"]))
        for number, score in enumerate(scores, start=1):
            for t in score.token_scores:
                log10 = t.logprob / math.log(10)
                write(tsv_row([number, t.token, t.logprob, log10, t.bits, t.start, t.end]))
        return
    heading = None
    for score in scores:
        values = score.to_json()
        values["text"] = values.pop("text")  # last, where it may be long
        if heading is None:
            heading = list(values)
            write(tsv_row(heading))
        write(tsv_row(values.values()))


def _json(scores: Iterable[SentenceScore], tokens: bool) -> None:
    for score in scores:
        values = score.to_json()
        if tokens:
            values["token_scores"] = [
                {
                    "token": t.token,
                    "logprob": t.logprob,
                    "bits": t.bits,
                    "start": t.start,
                    "end": t.end,
                }
                for t in score.token_scores
            ]
        write(json.dumps(values, ensure_ascii=False))


def _kenlm(scores: Iterable[SentenceScore], tokens: bool) -> None:
    """As KenLM's `query` prints it; the n-gram's length is how many tokens are looked at."""
    total = known = 0.0
    count = oov = 0
    for score in scores:
        parts = []
        for place, t in enumerate(score.token_scores, start=2):
            log10 = t.logprob / math.log(10)
            name = "</s>" if t.is_line_end else t.token
            parts.append(f"{name}={0 if t.is_unknown else t.id} {place} {log10:.6g}")
            known += 0.0 if t.is_unknown else log10
        write("\t".join([*parts, f"Total: {score.log10prob:.6g} OOV: {score.unknown}"]))
        total, count, oov = total + score.log10prob, count + score.tokens, oov + score.unknown
    write(f"Perplexity including OOVs:\t{10 ** (-total / max(count, 1)):.6g}")
    write(f"Perplexity excluding OOVs:\t{10 ** (-known / max(count - oov, 1)):.6g}")
    write(f"OOVs:\t{oov}")
    write(f"Tokens:\t{count}")
