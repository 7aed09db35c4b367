"""Scores in the formats of KenLM and SRILM. Their logarithms have base 10."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from charlm.cli.records import write

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore, TextScore, TokenScore

LARGEST_EXPONENT = 308  # of a float


def write_kenlm(scores: Iterable[SentenceScore]) -> None:
    """Write the format of KenLM's `query`. The n-gram length is the number of tokens so far."""
    from charlm.engines.scores import NOTHING

    total = NOTHING
    for score in scores:
        fields = []
        for length, t in enumerate(score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            fields.append(f"{name}={0 if t.is_unknown else t.id} {length} {_log10(t):.6g}")
        write("\t".join([*fields, f"Total: {score.log10prob:.6g} OOV: {score.unknown}"]))
        total += score
    write_kenlm_totals(total)


def write_kenlm_totals(total: TextScore) -> None:
    """Write the last lines of KenLM's `query`."""
    known = total.tokens - total.unknown
    including = _perplexity(total.log10prob, total.tokens)
    write(f"Perplexity including OOVs:\t{including:.6g}")
    write(f"Perplexity excluding OOVs:\t{_perplexity(total.known_log10prob, known):.6g}")
    write(f"OOVs:\t{total.unknown}")
    write(f"Tokens:\t{total.tokens}")


def write_srilm(scores: Iterable[SentenceScore], file: str) -> None:
    """Write the format of SRILM's `ngram -ppl -debug 2`; the n-gram length as for KenLM.

    file:  the name of the file
    """
    from charlm.engines.scores import NOTHING

    total = NOTHING
    for score in scores:
        write(score.text)
        before = "<s> "
        for length, t in enumerate(score.token_scores, start=2):
            name = "</s>" if t.is_line_end else t.token
            known = f"[{length}gram] {math.exp(t.logprob):.6g} [ {_log10(t):.6g} ]"
            write(f"\tp( {name} | {before}) \t= {'[OOV] 0 [ -inf ]' if t.is_unknown else known}")
            before = f"{name} ..."
        write_srilm_totals(score)
        write("")
        total += score
    write_srilm_totals(total, f"file {file}: ")


def write_srilm_totals(total: TextScore, name: str = "") -> None:
    """Write what SRILM says of a text. Unknown words do not count in the perplexities.

    A perplexity per word of no word is undefined.

    name:  of the text, before its figures
    """
    words = total.tokens - total.lines
    known, log10prob = words - total.unknown, total.known_log10prob
    counts = known + total.lines, known
    ppl, ppl1 = (f"{_perplexity(log10prob, n):.6g}" if n else "undefined" for n in counts)
    write(f"{name}{total.lines} sentences, {words} words, {total.unknown} OOVs")
    write(f"0 zeroprobs, logprob= {log10prob:.6g} ppl= {ppl} ppl1= {ppl1}")


def _perplexity(log10prob: float, tokens: int) -> float:
    exponent = -log10prob / max(tokens, 1)
    return 10**exponent if exponent < LARGEST_EXPONENT else math.inf


def _log10(token: TokenScore) -> float:
    return token.logprob / math.log(10)
