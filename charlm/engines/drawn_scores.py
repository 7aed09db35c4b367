"""Scored sentences in colour, as HTML: what pages and notebooks show of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from charlm.engines.scores import written_perplexity
from charlm.pages.sentence import TOKEN_BITS, WORD_BITS, Piece, sentence, style

if TYPE_CHECKING:
    from charlm.engines.scores import SentenceScore, TokenScore

MOST_SHOWN = 20  # sentences in a notebook
EMPTY, LINE_END = "·", "¶"  # what stands for a token without text


def draw(
    score: SentenceScore,
    *,
    words: bool = False,
    punctuation: bool = False,
    name: str = "",
    titles: bool = False,
) -> str:
    """A sentence in the colours of its tokens or words, with its figures below.

    words:        the pieces are words; the sentence was scored with `details`
    punctuation:  marks are words by themselves
    name:         stands before the figures, such as a number
    titles:       see `charlm.pages.sentence.sentence`
    """
    pieces = word_pieces(score, punctuation) if words else token_pieces(score)
    figures = f"{name} · {figures_of(score)}" if name else figures_of(score)
    return sentence(pieces, figures, WORD_BITS if words else TOKEN_BITS, titles)


def figures_of(score: SentenceScore) -> str:
    """The figures below a sentence."""
    prefix = score.prefix
    return (
        f"{prefix}probability {score.probability} · {score.bits:.1f} {prefix}bits · "
        f"{score.bits_per_char:.3f} bits per character · perplexity "
        f"{written_perplexity(score.perplexity)}"
    )


def token_pieces(score: SentenceScore) -> Iterator[Piece | str]:
    """The tokens, and the text between them. A token has only what no token before it has."""
    done = 0
    for token in score.token_scores:
        start, end = max(token.start, done), max(token.end, done)
        if start > done:
            yield score.text[done:start]
        yield _piece(token, score.text[start:end])
        done = end
    yield score.text[done:]


def _piece(token: TokenScore, text: str) -> Piece:
    """text: of the token in the sentence; "" for a line end"""
    likeliest = [(name, math.exp(p)) for name, p in token.likeliest or ()]
    name = f"{token.token} {text}".rstrip() if token.is_unknown else token.token
    text = text or (LINE_END if token.is_line_end else EMPTY)
    return Piece(text, name, token.bits, token.rank, token.entropy_bits, likeliest)


def word_pieces(score: SentenceScore, punctuation: bool = False) -> Iterator[Piece | str]:
    """The words, and the text between them."""
    done = 0
    for word in score.words(punctuation):
        yield score.text[done : word.start]
        text = LINE_END if word.is_line_end else word.word
        yield Piece(text, word.word, word.bits, entropy_bits=word.entropy_bits)
        done = word.end
    yield score.text[done:]


def notebook(scores: Sequence[SentenceScore], more: str = "", words: bool = False) -> str:
    """The first sentences, for a notebook. more: HTML below them"""
    left_out = len(scores) - MOST_SHOWN
    shown = "".join(draw(score, titles=True, words=words) for score in scores[:MOST_SHOWN])
    more = f"<p>… and {left_out:,} more</p>" if left_out > 0 else more
    return f"<style>\n{style()}</style>\n{shown}{more}"
