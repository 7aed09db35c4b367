"""A sentence in the colours of its surprisal, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from charlm.pages.frame import read_asset

TOKEN_BITS, WORD_BITS = 10.0, 20.0  # with the strongest colour, of a token and of a word
TICKS = 5  # of a scale, after 0
NOTE = "The colour of a {kind} and the thickness of the line below it show its surprisal, −log₂ p."
POINT = (
    "Point at a {kind} for its figures, or reach a sentence with the Tab key and go on with the "
    "arrow keys."
)


class Piece(NamedTuple):
    """A token or a word of a sentence.

    text:  as it stands in the sentence
    name:  as it is called, such as "▁" or "<EOS>"
    bits:  its surprisal
    rank, entropy_bits:  of the distribution before it; None if unknown
    likeliest:  the most probable tokens in its place, with their probabilities
    """

    text: str
    name: str
    bits: float
    rank: int | None = None
    entropy_bits: float | None = None
    likeliest: Sequence[tuple[str, float]] = ()


def style() -> str:
    """The CSS of sentences and of their scale."""
    return read_asset("sentence.css")


def script() -> str:
    """The script that shows the figures of a token, at the end of a page."""
    return f"<script>\n{read_asset('sentence.js')}</script>\n"


def sentence(
    pieces: Iterable[Piece | str], figures: str, strongest: float, titles: bool = False
) -> str:
    """A sentence, with its figures below.

    pieces:     tokens or words, and the text between them, which has no colour
    strongest:  bits of the strongest colour
    titles:     the figures of each piece are in its `title`, for where there is no `script`
    """
    shown = "".join(_pieces(pieces, strongest, titles))
    return (
        f'<div class="scored"><p class="text" dir="auto">{shown}</p>\n'
        f'<p class="figures">{html.escape(figures)}</p></div>\n'
    )


def _pieces(pieces: Iterable[Piece | str], strongest: float, titles: bool) -> Iterator[str]:
    focus = "0"  # the Tab key reaches the first piece of each sentence
    for piece in pieces:
        if isinstance(piece, str):
            yield html.escape(piece)
            continue
        strength = min(max(piece.bits / strongest, 0.0), 1.0)
        about = (
            f'title="{html.escape(_title(piece))}"'
            if titles
            else f'tabindex="{focus}" data-t="{html.escape(_data(piece))}"'
        )
        yield f'<b style="--s:{strength:.2f}" {about}>{html.escape(piece.text)}</b>'
        focus = "-1"


def _data(piece: Piece) -> str:
    """The figures of a piece for the script, separated by tabs."""
    rank = "" if piece.rank is None else str(piece.rank)
    entropy = "" if piece.entropy_bits is None else f"{piece.entropy_bits:.2f}"
    likeliest = (value for name, p in piece.likeliest for value in (name, f"{p:.3g}"))
    fields = (piece.name, f"{piece.bits:.4f}", rank, entropy, *likeliest)
    return "\t".join(field.replace("\t", " ") for field in fields)


def _title(piece: Piece) -> str:
    """The figures of a piece in a few lines."""
    lines = [f"{piece.name}  {piece.bits:.2f} bits", f"probability {2**-piece.bits:.3g}"]
    lines += [] if piece.rank is None else [f"rank {piece.rank}"]
    lines += [] if piece.entropy_bits is None else [f"entropy {piece.entropy_bits:.2f} bits"]
    return "\n".join([*lines, *(f"{name}  {p:.3g}" for name, p in piece.likeliest)])


def scale(kind: str, strongest: float) -> str:
    """What the colours mean, in bits and as probabilities.

    kind:       "token" or "word"
    strongest:  bits of the strongest colour
    """
    cells = ["<span>bits<br>p</span>"]
    for tick in range(TICKS + 1):
        bits, more = strongest * tick / TICKS, "+" if tick == TICKS else ""
        label = f"{bits:g}{more}<br>{2**-bits:.2g}"
        cells.append(f'<span><b style="--s:{tick / TICKS:.2f}"></b>{label}</span>')
    note, point = NOTE.format(kind=kind), POINT.format(kind=kind)
    return (
        f'<p class="faint">{note} <span class="screen">{point}</span></p>\n'
        f'<div class="scale">{"".join(cells)}</div>\n'
    )
