"""`charlm score`: the probability of sentences."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli.common import (
    DeviceOption,
    EncodingOption,
    ModelOption,
    NetworkOnlyOption,
    ThreadsOption,
    load_model,
    note,
    read_groups,
    text_encoding,
    warn_unknown,
)
from charlm.cli.options import with_options
from charlm.cli.records import (
    choose_format,
    format_option,
    write,
    write_json,
    write_table,
    write_tsv,
)
from charlm.errors import InputError, OptionError
from charlm.parts import WHOLE, Part, of_part, parse_shard
from charlm.scoring import ScoreOptions

if TYPE_CHECKING:
    from charlm.scores import SentenceScore, TokenScore
    from charlm.tasks.base import TrainedModel

TOKEN_COLUMNS = ("sentence", "token", "logprob", "log10prob", "bits", "start", "end")


@with_options(ScoreOptions)
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
        str | None,
        typer.Option(metavar="FILE", help="Score the lines of a file; - is standard input."),
    ] = None,
    model: ModelOption = None,
    network_only: NetworkOnlyOption = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Show every token's surprisal.")] = False,
    format: Annotated[str | None, format_option("kenlm")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I of N of the file: lines I, I+N, …"),
    ] = None,
    pseudo: Annotated[
        bool,
        typer.Option("--pseudo", help="Pseudo-log-likelihood, by a model of --task fill."),
    ] = False,
    encoding: EncodingOption = "utf-8",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    **options: Any,
) -> None:
    """Give the probability of sentences, or the surprisal of every token."""
    chosen = choose_format(format, "kenlm")
    if texts and file:
        raise InputError("give sentences or `file`, not both")
    part = parse_shard(shard) if shard else WHOLE
    if shard and texts:
        raise OptionError(f"`shard={shard}`: goes with `file`, or with standard input")
    if pseudo and (options or chosen == "kenlm"):
        raise OptionError("`pseudo`: goes with none of `context`, `eos=False` and `format=kenlm`")
    from charlm.tasks.fill import FillModel
    from charlm.tasks.lm import LanguageModel

    loaded: TrainedModel
    score_group: Callable[..., Iterator[SentenceScore]]
    if pseudo:
        loaded = fill_model = load_model(model, FillModel, device, threads)
        score_group = fill_model.iter_pseudo_scores
    else:
        loaded = language_model = load_model(model, LanguageModel, device, threads, network_only)
        score_group = language_model.iter_scores
    unknown = dict.fromkeys(loaded.unknown_in(options.get("context", "")))

    def groups() -> Iterator[Iterator[SentenceScore]]:
        """The scores of what is there to be scored, so that each is written before the next."""
        sentences = [texts] if texts else read_groups(file or "-", text_encoding(loaded, encoding))
        for group in of_part(sentences, part):
            scores = score_group(group, **options)
            yield _collect_unknown(scores, unknown)
            sys.stdout.flush()

    writer = {"table": _table, "tsv": _tsv, "json": _json, "kenlm": _kenlm}[chosen]
    try:
        writer(groups(), tokens, part)
    finally:
        sys.stdout.flush()
    warn_unknown(unknown)
    for text in texts or ():
        if text == "-" or (os.path.exists(text) and not os.path.isdir(text)):  # noqa: PTH110, PTH112  # a long name is no error here
            name = shlex.quote(text)
            note(f"warning: {text!r} was scored as a sentence; for the lines: --file {name}")


def _collect_unknown(
    scores: Iterable[SentenceScore], unknown: dict[str, None]
) -> Iterator[SentenceScore]:
    """The scores; the pieces of text that are unknown are entered in `unknown`."""
    for score in scores:
        if score.unknown:
            pieces = [score.text[t.start : t.end] for t in score.token_scores if t.is_unknown]
            unknown.update(dict.fromkeys(pieces))
        yield score


Groups = Iterable[Iterable["SentenceScore"]]


def _table(groups: Groups, tokens: bool, part: Part) -> None:
    headed = False
    for scores in groups:
        if tokens:
            for score in scores:
                _token_table(score)
            continue
        scores = iter(scores)
        for first in islice(scores, 1):
            columns = [
                (f"{first.prefix}probability", "right"),
                ("bits", "right"),
                ("bits/char", "right"),
                ("perplexity", "right"),
                ("unknown", "right"),
                ("text", "left"),
            ]
            write_table(columns, map(_table_row, chain([first], scores)), not headed)
            headed = True


def _table_row(s: SentenceScore) -> tuple[str, ...]:
    return (
        s.probability,
        f"{s.bits:.1f}",
        f"{s.bits_per_char:.3f}",
        f"{s.perplexity:.2f}",
        str(s.unknown or ""),
        s.text,
    )


def _token_table(score: SentenceScore) -> None:
    longest = max((t.bits for t in score.token_scores), default=1.0)
    rows = [
        (t.token, f"{t.bits:.2f}", f"{math.exp(t.logprob):.4f}", "▇" * round(24 * t.bits / longest))
        for t in score.token_scores
    ]
    write(f"{score.text}   {score.prefix}probability {score.probability}, {score.bits:.1f} bits")
    write_table([("token", "left"), ("bits", "right"), ("p", "right"), ("", "left")], rows)


def _tsv(groups: Groups, tokens: bool, part: Part) -> None:
    scores = chain.from_iterable(groups)
    if tokens:
        records = (
            {"sentence": number, **_token_record(token)}
            for number, score in zip(count(part.number + 1, part.of), scores, strict=False)
            for token in score.token_scores
        )
        write_tsv(records, TOKEN_COLUMNS)
        return
    write_tsv(map(_text_last, scores))


def _text_last(score: SentenceScore) -> dict[str, Any]:
    """The record of a score. The text comes last, since it may be long."""
    record = score.to_json()
    text = record.pop("text")
    return {**record, "text": text}


def _json(groups: Groups, tokens: bool, part: Part) -> None:
    for score in chain.from_iterable(groups):
        record = score.to_json()
        if tokens:
            record["token_scores"] = [_token_record(token) for token in score.token_scores]
            for token in record["token_scores"]:
                del token["log10prob"]
        write_json(record)


def _token_record(t: TokenScore) -> dict[str, Any]:
    return {
        "token": t.token,
        "logprob": t.logprob,
        "log10prob": t.logprob / math.log(10),
        "bits": t.bits,
        "start": t.start,
        "end": t.end,
    }


def _kenlm(groups: Groups, tokens: bool, part: Part) -> None:
    """The format of KenLM's `query`. The n-gram length is the number of tokens so far."""
    total = known = 0.0
    number = oov = 0
    for score in chain.from_iterable(groups):
        parts = []
        for length, t in enumerate(score.token_scores, start=2):
            log10 = t.logprob / math.log(10)
            name = "</s>" if t.is_line_end else t.token
            parts.append(f"{name}={0 if t.is_unknown else t.id} {length} {log10:.6g}")
            known += 0.0 if t.is_unknown else log10
        write("\t".join([*parts, f"Total: {score.log10prob:.6g} OOV: {score.unknown}"]))
        total, number, oov = total + score.log10prob, number + score.tokens, oov + score.unknown
    write(f"Perplexity including OOVs:\t{10 ** (-total / max(number, 1)):.6g}")
    write(f"Perplexity excluding OOVs:\t{10 ** (-known / max(number - oov, 1)):.6g}")
    write(f"OOVs:\t{oov}")
    write(f"Tokens:\t{number}")
