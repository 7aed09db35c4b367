"""Sampling: a prime → text like the training text, piece by piece."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.equations import State
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Predictor
from charlm.options import SEED, Range, check_options, option
from charlm.tokenizer import EOS, START, UNK, Decoder, Tokenizer, as_inputs

DEFAULT_LENGTH = 500
DEFAULT_TEMPERATURE = 0.8
SAMPLES_AT_ONCE = 32  # side by side
# Characters of a sample of a lines model that never ends its line: times the longest line it has
# seen, and where that is unknown.
LONGEST_LINES, LONGEST_LINE = 2, 10_000
LIMITS = ("top_k", "top_p", "min_p", "typical_p")  # options that restrict what may be drawn


@dataclass(frozen=True)
class SampleOptions:
    """How text is drawn. The fields describe themselves.

    top-p is by Holtzman et al. (2020), typical-p by Meister et al. (2023), the penalty for
    repetition by Keskar et al. (2019).

    Raises OptionError, naming the option and the value.
    """

    length: int | None = option(
        None,
        "Characters after the prime.",
        Range(0),
        metavar="N",
        auto=f"{DEFAULT_LENGTH}; for independent lines to the end of the line",
    )
    min_length: int = option(
        0,
        "Characters after the prime before a line end or a stop text ends it.",
        Range(0),
        metavar="N",
    )
    max_lines: int | None = option(
        None, "Stop after N lines.", Range(1), metavar="N", auto="no limit; 1 for independent lines"
    )
    temperature: float = option(
        DEFAULT_TEMPERATURE,
        "Divides the logits: below 1 safer, above 1 wilder; 0 always takes the most probable "
        "token.",
        Range(0),
        short="-t",
        metavar="T",
    )
    top_k: int | None = option(
        None, "Draw from the K most probable tokens only.", Range(1), metavar="K"
    )
    top_p: float | None = option(
        None,
        "Draw from the most probable tokens that together have probability P.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    min_p: float | None = option(
        None,
        "Draw from tokens at least P times as probable as the most probable one.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    typical_p: float | None = option(
        None,
        "Draw from the tokens of typical surprisal that together have probability P.",
        Range(0, 1, exclude_low=True),
        metavar="P",
    )
    repetition_penalty: float = option(
        1.0,
        "Multiplies log p of tokens that were used before: above 1 fewer of them.",
        Range(0, exclude_low=True),
        metavar="R",
    )
    beam: int | None = option(
        None,
        "Draw nothing: the most probable text that a search with K candidates finds.",
        Range(1),
        metavar="K",
        excludes=dict.fromkeys(
            LIMITS,
            "draws nothing, so it does not go with `top_k`, `top_p`, `min_p` or `typical_p`",
        ),
    )
    seed: int | None = option(
        None, "The same seed gives the same text.", SEED, metavar="N", auto="drawn and printed"
    )
    stop: str | Sequence[str] | None = option(
        None, "End before the first occurrence of this text; may be repeated.", metavar="TEXT"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if "" in self.stops:
            raise OptionError("`stop`: give the text to stop at")
        if self.length is not None and self.min_length > self.length:
            raise OptionError(
                f"`min_length={self.min_length}`: must be at most `length`, {self.length}"
            )

    @property
    def limits(self) -> tuple[float | None, ...]:
        """What restricts the tokens that may be drawn."""
        return tuple(getattr(self, name) for name in LIMITS)

    @property
    def stops(self) -> Sequence[str]:
        """The texts to stop at."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def random_stream(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample, independent of all other samples.

    Philox (Salmon et al. 2011), a counter-based generator; its key is (seed, sample).
    """
    return np.random.Generator(np.random.Philox(key=[seed, sample]))


def distribution(logits: Floats, options: SampleOptions) -> Floats:
    """The probabilities to draw from: logits (K,) -> (K,), which sum to 1.

    A token with logit −inf is never drawn. A repetition penalty has already changed the logits, see
    `_Sample.allowed`. Temperature comes first here, then top-k, top-p, min-p and
    typical-p, each applied to the renormalised result of the one before. Of equal tokens the first
    are kept.
    """
    scaled = logits - logits.max()
    if options.temperature == 0:
        scaled[scaled < 0] = -np.inf
    else:
        scaled *= np.float32(min(max(1 / options.temperature, 1e-30), 1e30))  # within float32
    p = np.exp(scaled)
    p /= p.sum()
    if all(limit is None for limit in options.limits):
        return p
    order = np.argsort(-p, kind="stable")
    kept = p[order]
    if options.top_k is not None:
        kept[options.top_k :] = 0
        kept /= kept.sum()
    if options.top_p is not None:
        kept[np.cumsum(kept) - kept >= options.top_p] = 0
    if options.min_p is not None:
        kept[kept < options.min_p * kept[0]] = 0
    p[order] = kept / kept.sum()
    return p if options.typical_p is None else _typical(p, options.typical_p)


def _typical(p: Floats, share: float) -> Floats:
    """The tokens whose surprisal is closest to the entropy, until they have this probability."""
    with np.errstate(divide="ignore"):
        surprisal = -np.log(p)
    entropy = np.dot(p, np.where(p > 0, surprisal, 0))
    order = np.argsort(np.abs(surprisal - entropy), kind="stable")
    kept = p[order]
    kept[np.cumsum(kept) - kept >= share] = 0
    p[order] = kept / kept.sum()
    return p


def draw(p: NDArray[np.floating], random: np.random.Generator) -> int:
    """Draw an index with these probabilities, using one uniform number."""
    cumulative = p.cumsum(dtype=np.float64)
    index = int(cumulative.searchsorted(random.random() * cumulative[-1], side="right"))
    return index if index < len(p) else int(np.flatnonzero(p)[-1])  # by rounding


def generate(
    predictor: Predictor,
    tokenizer: Tokenizer,
    prime: str,
    options: SampleOptions,
    generators: Sequence[np.random.Generator],
    *,
    independent_lines: bool = False,
) -> list[Iterator[Piece]]:
    """Endless streams of pieces after the prime, one for each generator.

    The samples run side by side: when any stream needs a piece, one step of the model reads the
    weights once for all open streams. `<UNK>` is masked, and the other probabilities are
    renormalised.

    independent_lines:  every line starts from the zero state
    """
    first, logits, state = _primed(predictor, tokenizer, prime, independent_lines)
    count = len(generators)
    samples = _Samples(
        predictor,
        options,
        [first.copy(generator) for generator in generators],
        np.repeat(logits, count, axis=0),
        [tuple(np.repeat(s, count, axis=0) for s in layer) for layer in state],
        independent_lines,
    )
    return [samples.pieces(sample) for sample in samples.open]


def search(
    predictor: Predictor,
    tokenizer: Tokenizer,
    prime: str,
    options: SampleOptions,
    *,
    independent_lines: bool = False,
) -> list[list[Piece]]:
    """The most probable texts after the prime, the best first, by a beam search.

    options:  of `resolved`: `beam` candidates are kept after each token, until all have reached
              the length or the number of lines
    """
    assert options.beam
    first, logits, state = _primed(predictor, tokenizer, prime, independent_lines)
    finished: list[tuple[float, _Sample]] = []
    growing = [(0.0, first)]
    if first.is_finished(options):
        return [[]]
    while growing:
        longer: list[tuple[float, int, int]] = []  # log P, the row, the next token
        for row, (logprob, sample) in enumerate(growing):
            logprobs = logprob + log_softmax(sample.allowed(logits[row], options))
            best = np.argsort(-logprobs, kind="stable")[: options.beam]
            longer += [(float(logprobs[k]), row, k + 1) for k in best.tolist()]
        longer = sorted((one for one in longer if one[0] > -np.inf), reverse=True)[: options.beam]
        rows, grown = [], []
        for logprob, row, id in longer:
            sample = growing[row][1].copy()
            sample.push(id)
            if sample.is_finished(options):
                finished.append((logprob, sample))
            else:
                rows.append(row)
                grown.append((logprob, sample))
        finished = sorted(finished, key=lambda one: -one[0])[: options.beam]
        if len(finished) == options.beam and longer[0][0] <= finished[-1][0]:
            break  # a longer text is never more probable
        growing = grown
        if growing:
            state = [tuple(s[rows] for s in layer) for layer in state]
            samples = [sample for _, sample in growing]
            logits, state = _step(predictor, samples, state, independent_lines)
    return [list(sample.unread) for _, sample in finished]


def _primed(
    predictor: Predictor, tokenizer: Tokenizer, prime: str, independent_lines: bool
) -> tuple[_Sample, Floats, list[State]]:
    """A sample that begins after the prime, the logits (1, V−1) there, and the state."""
    primed, decoder = tokenizer.prime(prime)
    if independent_lines:
        primed = primed[np.append(0, np.flatnonzero(primed == EOS) + 1)[-1] :]
    read = as_inputs(np.concatenate([[START], primed]))
    prediction, state = predictor.read(read[None], predictor.initial_state(1))
    return _Sample(decoder, primed.tolist(), None), prediction.last().logits()[:, 0], state


def _step(
    predictor: Predictor, samples: Sequence[_Sample], state: list[State], independent_lines: bool
) -> tuple[Floats, list[State]]:
    """Read the last token of each sample: the logits (samples, V−1) after it, and the state."""
    ids = np.array([sample.last for sample in samples])
    if independent_lines and (ids == START).any():
        inside = (ids != START)[:, None]
        state = [tuple(s * inside for s in layer) for layer in state]
    prediction, state = predictor.read(ids[:, None], state)
    return prediction.logits()[:, 0], state


class Piece(NamedTuple):
    """A token that was drawn, and the text that it completes. A line end is "\\n"."""

    text: str
    id: int


class _Sample:
    """One sample in progress: its decoder, the tokens it has used, and its unread pieces.

    used:    the tokens of the prime
    random:  what it is drawn by; None for a candidate of a search
    """

    def __init__(
        self, decoder: Decoder, used: Iterable[int], random: np.random.Generator | None
    ) -> None:
        self.decoder, self.used, self.random = decoder, set(used), random
        self.unread: deque[Piece] = deque()
        self.last = START
        self.chars = self.lines = 0

    def copy(self, random: np.random.Generator | None = None) -> _Sample:
        """An independent sample in the same state."""
        other = _Sample(self.decoder.copy(), self.used, random)
        other.unread, other.last = self.unread.copy(), self.last
        other.chars, other.lines = self.chars, self.lines
        return other

    def allowed(self, logits: Floats, options: SampleOptions) -> Floats:
        """The logits of the tokens that may come next, −inf for the others."""
        allowed = logits.copy()
        allowed[UNK - 1] = -np.inf
        if self.chars < options.min_length and self.lines + 1 == options.max_lines:
            allowed[EOS - 1] = -np.inf
        mask = self.decoder.mask()
        if mask is not None:
            allowed[~mask[1:]] = -np.inf
        if options.repetition_penalty != 1:
            used = np.array(sorted(self.used), np.int64) - 1
            allowed = log_softmax(allowed)
            allowed[used] *= np.float32(options.repetition_penalty)
        return allowed

    def push(self, id: int) -> None:
        """Add a token."""
        text = self.decoder.push(id)
        self.unread.append(Piece(text, id))
        self.last = START if id == EOS else id
        self.used.add(id)
        self.chars += len(text)
        self.lines += id == EOS

    def is_finished(self, options: SampleOptions) -> bool:
        """Whether its length or its number of lines is reached."""
        assert options.length is not None
        return self.chars >= options.length or self.lines == options.max_lines


class _Samples:
    """Samples that run side by side.

    open:    the samples whose streams are not closed
    logits:  (samples, V−1) of the next token; None until the last tokens are read
    state:   of the predictor, a row for each sample

    independent_lines:  every line starts from the zero state
    """

    def __init__(
        self,
        predictor: Predictor,
        options: SampleOptions,
        samples: list[_Sample],
        logits: Floats,
        state: list[State],
        independent_lines: bool,
    ) -> None:
        self.predictor, self.options = predictor, options
        self.open, self.state = samples, state
        self.logits: Floats | None = logits
        self.independent_lines = independent_lines

    def pieces(self, sample: _Sample) -> Iterator[Piece]:
        """The stream of one sample's pieces."""
        try:
            while True:
                if not sample.unread:
                    self._step()
                yield sample.unread.popleft()
        finally:
            self._close(sample)

    def _step(self) -> None:
        if self.logits is None:
            self.logits, self.state = _step(
                self.predictor, self.open, self.state, self.independent_lines
            )
        for sample, logits in zip(self.open, self.logits, strict=True):
            assert sample.random
            p = distribution(sample.allowed(logits, self.options), self.options)
            sample.push(draw(p, sample.random) + 1)
        self.logits = None

    def _close(self, sample: _Sample) -> None:
        kept = [k for k, other in enumerate(self.open) if other is not sample]
        self.open = [self.open[k] for k in kept]
        self.state = [tuple(s[kept] for s in layer) for layer in self.state]
        if self.logits is not None:
            self.logits = self.logits[kept]


class Stream(Iterator[str]):
    """The text of one sample in pieces, up to its first limit: length, lines, or a stop text.

    ids:  the tokens that were drawn so far

    The line end that stops a sample is not part of it.
    """

    def __init__(self, pieces: Iterable[Piece], options: SampleOptions) -> None:
        """options: of `resolved`"""
        self.ids: list[int] = []
        assert options.length is not None
        cut = _cut(self._texts(pieces), options.length, options.max_lines)
        self._limited = _until_stop(cut, options.stops, options.min_length)

    def _texts(self, pieces: Iterable[Piece]) -> Iterator[str]:
        for text, id in pieces:
            self.ids.append(id)
            yield text

    def __next__(self) -> str:
        return next(self._limited)


def resolved(
    options: SampleOptions, *, lines: bool, longest_line: int | None = None
) -> SampleOptions:
    """The options with a seed, a length and, for independent lines, a number of lines.

    lines:         of a model of independent lines, which writes one line by default
    longest_line:  the longest line of its training text, in characters: such a model may go round
                   in circles and never end its line
    """
    length, max_lines, seed = options.length, options.max_lines, options.seed
    if lines:
        longest = LONGEST_LINES * longest_line if longest_line else LONGEST_LINE
        length = longest * (max_lines or 1) if length is None else length
        max_lines = max_lines or 1
    length = DEFAULT_LENGTH if length is None else length
    seed = secrets.randbits(32) if seed is None else seed
    return replace(options, length=length, max_lines=max_lines, seed=seed)


def _cut(pieces: Iterator[str], length: int, max_lines: int | None) -> Iterator[str]:
    while length > 0 and (piece := next(pieces, None)) is not None:
        if max_lines is not None and "\n" in piece:
            max_lines -= piece.count("\n")
            if max_lines <= 0:
                yield piece[: piece.rindex("\n")]
                return
        yield piece[:length]
        length -= len(piece)


def _until_stop(pieces: Iterator[str], stops: Sequence[str], least: int) -> Iterator[str]:
    """The pieces before the first stop text that begins after the `least` first characters.

    A piece that may begin one is held back until it is clear.
    """
    if not stops:
        yield from pieces
        return
    longest, held = max(map(len, stops)), ""
    for piece in pieces:
        held += piece
        if found := [k for stop in stops if (k := held.find(stop, max(least, 0))) >= 0]:
            yield held[: min(found)]
            return
        kept = next(
            k
            for k in range(min(longest - 1, len(held)), -1, -1)
            if any(stop.startswith(held[len(held) - k :]) for stop in stops)
        )
        yield held[: len(held) - kept]
        least -= len(held) - kept
        held = held[len(held) - kept :]
    yield held
