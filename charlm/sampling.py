"""Sampling: a prime → text like the training text, piece by piece."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.equations import State
from charlm.model.prediction import Predictor
from charlm.options import SEED, Range, check_options, option
from charlm.tokenizer import EOS, START, UNK, Decoder, Tokenizer, as_inputs

DEFAULT_LENGTH = 500
DEFAULT_TEMPERATURE = 0.8
SAMPLES_AT_ONCE = 32  # side by side
# Characters of a sample of a lines model that never ends its line: times the longest line it has
# seen, and where that is unknown.
LONGEST_LINES, LONGEST_LINE = 2, 10_000


@dataclass(frozen=True)
class SampleOptions:
    """How text is drawn. The fields describe themselves; top-p is by Holtzman et al. (2020).

    Raises OptionError, naming the option and the value.
    """

    length: int | None = option(
        None,
        "Characters after the prime.",
        Range(1),
        metavar="N",
        auto=f"{DEFAULT_LENGTH}; for independent lines to the end of the line",
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

    @property
    def stops(self) -> Sequence[str]:
        """The texts to stop at."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def seeded(options: SampleOptions) -> SampleOptions:
    """The options with a seed; a random one if they have none."""
    return options if options.seed is not None else replace(options, seed=secrets.randbits(32))


def random_stream(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample, independent of all other samples.

    Philox (Salmon et al. 2011), a counter-based generator; its key is (seed, sample).
    """
    return np.random.Generator(np.random.Philox(key=[seed, sample]))


def distribution(logits: Floats, options: SampleOptions) -> Floats:
    """The probabilities to draw from: logits (K,) -> (K,), which sum to 1.

    A token with logit −inf is never drawn. Temperature comes first, then top-k, top-p and min-p,
    each applied to the renormalised result of the one before. Of equal tokens the first are kept.
    """
    scaled = logits - logits.max()
    if options.temperature == 0:
        scaled[scaled < 0] = -np.inf
    else:
        scaled *= np.float32(min(max(1 / options.temperature, 1e-30), 1e30))  # within float32
    p = np.exp(scaled)
    p /= p.sum()
    if options.top_k is None and options.top_p is None and options.min_p is None:
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
) -> list[Iterator[str]]:
    """Endless streams of text pieces after the prime, one for each generator. A line end is "\\n".

    The samples run side by side: when any stream needs a piece, one step of the model reads the
    weights once for all open streams. `<UNK>` is masked, and the other probabilities are
    renormalised.

    independent_lines:  every line starts from the zero state
    """
    primed, decoder = tokenizer.prime(prime)
    if independent_lines:
        primed = primed[np.append(0, np.flatnonzero(primed == EOS) + 1)[-1] :]
    read = as_inputs(np.concatenate([[START], primed]))
    prediction, state = predictor.read(read[None], predictor.initial_state(1))
    count = len(generators)
    samples = _Samples(
        predictor,
        options,
        [_Sample(generator, decoder.copy()) for generator in generators],
        np.repeat(prediction.last().logits()[:, 0], count, axis=0),
        [tuple(np.repeat(s, count, axis=0) for s in layer) for layer in state],
        independent_lines,
    )
    return [samples.pieces(sample) for sample in samples.open]


class _Sample:
    """One sample in progress: its generator, its decoder and its unread pieces."""

    def __init__(self, generator: np.random.Generator, decoder: Decoder) -> None:
        self.generator, self.decoder = generator, decoder
        self.unread: deque[str] = deque()
        self.last = START

    def draw(self, logits: Floats, options: SampleOptions) -> None:
        """Draw the next token and decode it."""
        allowed = logits.copy()
        allowed[UNK - 1] = -np.inf
        mask = self.decoder.mask()
        if mask is not None:
            allowed[~mask[1:]] = -np.inf
        id = draw(distribution(allowed, options), self.generator) + 1
        self.unread.append(self.decoder.push(id))
        self.last = START if id == EOS else id


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

    def pieces(self, sample: _Sample) -> Iterator[str]:
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
            ids = np.array([sample.last for sample in self.open])
            if self.independent_lines and (ids == START).any():
                inside = (ids != START)[:, None]
                self.state = [tuple(s * inside for s in layer) for layer in self.state]
            prediction, self.state = self.predictor.read(ids[:, None], self.state)
            self.logits = prediction.logits()[:, 0]
        for sample, logits in zip(self.open, self.logits, strict=True):
            sample.draw(logits, self.options)
        self.logits = None

    def _close(self, sample: _Sample) -> None:
        kept = [k for k, other in enumerate(self.open) if other is not sample]
        self.open = [self.open[k] for k in kept]
        self.state = [tuple(s[kept] for s in layer) for layer in self.state]
        if self.logits is not None:
            self.logits = self.logits[kept]


def limited(
    pieces: Iterator[str], options: SampleOptions, *, lines: bool, longest_line: int | None = None
) -> Iterator[str]:
    """The pieces up to the first limit: length, number of lines, or a stop text.

    lines:         of a model of independent lines, which writes one line by default
    longest_line:  the longest line of its training text, in characters: such a model may go round
                   in circles and never end its line

    The line end that stops a sample is not part of it.
    """
    length, max_lines = options.length, options.max_lines
    if lines:
        longest = LONGEST_LINES * longest_line if longest_line else LONGEST_LINE
        length = length or longest * (max_lines or 1)
        max_lines = max_lines or 1
    return _until_stop(_cut(pieces, length or DEFAULT_LENGTH, max_lines), options.stops)


def _cut(pieces: Iterator[str], length: int, max_lines: int | None) -> Iterator[str]:
    for piece in pieces:
        if max_lines is not None and "\n" in piece:
            max_lines -= piece.count("\n")
            if max_lines <= 0:
                yield piece[: piece.rindex("\n")]
                return
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


def _until_stop(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces before the first stop text.

    A piece that may begin one is held back until it is clear.
    """
    if not stops:
        yield from pieces
        return
    longest, held = max(map(len, stops)), ""
    for piece in pieces:
        held += piece
        if found := [held.index(stop) for stop in stops if stop in held]:
            yield held[: min(found)]
            return
        kept = next(
            k
            for k in range(min(longest - 1, len(held)), -1, -1)
            if any(stop.startswith(held[len(held) - k :]) for stop in stops)
        )
        yield held[: len(held) - kept]
        held = held[len(held) - kept :]
    yield held
