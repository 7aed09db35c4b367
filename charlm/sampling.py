"""A prime -> text like what the model was trained on, as it comes."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.equations import State
from charlm.model.stepper import Floats, Stepper
from charlm.tokenizer import EOS, START, UNK, Decoder, Tokenizer, as_inputs

DEFAULT_LENGTH = 500
DEFAULT_TEMPERATURE = 0.8
TEXTS_AT_ONCE = 32  # that are written side by side
LONGEST_LINE = 10_000  # characters of one sample of a lines model that never ends


@dataclass(frozen=True)
class SampleOptions:
    """How text is drawn.

    length:       characters to write after the prime; None: 500, and for a model of independent
                  lines to the end of the line
    max_lines:    stop after so many line ends; None: no limit, 1 for a model of independent lines
    temperature:  divides the logits; 0 always takes the most probable token
    top_k:        only the k most probable tokens are drawn
    top_p:        only the most probable tokens that together have probability p
                  (Holtzman et al. 2020)
    min_p:        only tokens at least p times as probable as the most probable one
    seed:         the same seed gives the same text
    stop:         end where this text appears; it is not written

    Raises OptionError, naming the option and the value.
    """

    length: int | None = None
    max_lines: int | None = None
    temperature: float = DEFAULT_TEMPERATURE
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | None = None

    def __post_init__(self) -> None:
        for name in ("length", "max_lines", "top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"--{name.replace('_', '-')} {value}: must be above 0, at most 1")
        if not 0 <= self.temperature < float("inf"):
            raise OptionError(f"--temperature {self.temperature}: must be 0 or more")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise OptionError(f"--seed {self.seed}: must be 0 or more, and below 2^63")
        if self.stop == "":
            raise OptionError("--stop: give the text to stop at")


def seeded(options: SampleOptions) -> SampleOptions:
    """The options with a seed: a new one, if they have none."""
    return options if options.seed is not None else replace(options, seed=secrets.randbits(32))


def random_stream(seed: int, sample: int) -> np.random.Generator:
    """The random numbers of one sample: a counter-based stream, whatever else is drawn.

    Philox (Salmon et al. 2011), its key the seed and the number of the sample.
    """
    return np.random.Generator(np.random.Philox(key=[seed, sample]))


def distribution(logits: Floats, options: SampleOptions) -> NDArray[np.float64]:
    """The probabilities that a token is drawn with: logits (K,) -> (K,), which sum to 1.

    Tokens whose logit is −inf are never drawn. First temperature, then top-k, top-p and min-p,
    each on what the one before it has left, renormalised; of equals the first are kept.
    """
    scaled = logits.astype(np.float64) - logits.max()
    if options.temperature == 0:
        scaled[scaled < 0] = -np.inf
    else:
        scaled /= options.temperature
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


def draw(p: NDArray[np.float64], random: np.random.Generator) -> int:
    """An index drawn with these probabilities, by one uniform number."""
    cumulative = np.cumsum(p)
    index = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
    return index if index < len(p) else int(np.flatnonzero(p)[-1])  # by rounding


def generate(
    stepper: Stepper,
    tokenizer: Tokenizer,
    prime: str,
    options: SampleOptions,
    randoms: Sequence[np.random.Generator],
) -> list[Iterator[str]]:
    """The pieces of texts that follow the prime, without end, one text for each of `randoms`; a
    line end is "\\n".

    The texts are written side by side: whichever is asked for its next piece, a step reads the
    weights once for all that are still wanted. `<UNK>` is drawn again until it is another token:
    it is masked and the rest renormalised.
    """
    primed, decoder = tokenizer.prime(prime)
    read = as_inputs(np.concatenate([[START], primed]))
    y, state = stepper.read(read[None], stepper.initial_state(1))
    count = len(randoms)
    together = _Together(
        stepper, options, [_Text(random, decoder.copy()) for random in randoms],
        np.repeat(stepper.logits(y[:, -1]), count, axis=0),
        [tuple(np.repeat(s, count, axis=0) for s in layer) for layer in state],
    )  # fmt: skip
    return [together.pieces(text) for text in together.texts]


class _Text:
    """A text that is being written: what it is drawn by, and what nobody has asked for yet."""

    def __init__(self, random: np.random.Generator, decoder: Decoder) -> None:
        self.random, self.decoder = random, decoder
        self.waiting: deque[str] = deque()
        self.last = START

    def draw(self, logits: Floats, options: SampleOptions) -> None:
        allowed = logits.copy()
        allowed[UNK - 1] = -np.inf
        mask = self.decoder.mask()
        if mask is not None:
            allowed[~mask[1:]] = -np.inf
        id = draw(distribution(allowed, options), self.random) + 1
        self.waiting.append(self.decoder.push(id))
        self.last = START if id == EOS else id


class _Together:
    """Texts that are written side by side.

    texts:   those that are still wanted
    logits:  (texts, V-1) of what comes next; None until the last tokens drawn are read
    state:   of the network, a row for each text
    """

    def __init__(
        self,
        stepper: Stepper,
        options: SampleOptions,
        texts: list[_Text],
        logits: Floats,
        state: list[State],
    ) -> None:
        self.stepper, self.options = stepper, options
        self.texts, self.state = texts, state
        self.logits: Floats | None = logits

    def pieces(self, text: _Text) -> Iterator[str]:
        try:
            while True:
                if not text.waiting:
                    self._step()
                yield text.waiting.popleft()
        finally:
            self._drop(text)

    def _step(self) -> None:
        if self.logits is None:
            ids = np.array([text.last for text in self.texts])
            self.logits, self.state = self.stepper.step(ids, self.state)
        for text, logits in zip(self.texts, self.logits, strict=True):
            text.draw(logits, self.options)
        self.logits = None

    def _drop(self, text: _Text) -> None:
        kept = [k for k, other in enumerate(self.texts) if other is not text]
        self.texts = [self.texts[k] for k in kept]
        self.state = [tuple(s[kept] for s in layer) for layer in self.state]
        if self.logits is not None:
            self.logits = self.logits[kept]


def limited(pieces: Iterator[str], options: SampleOptions, *, lines: bool) -> Iterator[str]:
    """The pieces up to the first limit: length, number of lines, or the stop text.

    A model of independent lines writes one line, unless it is told otherwise; the line end that
    stops it is not written.
    """
    length, max_lines = options.length, options.max_lines
    if lines:
        max_lines = max_lines or 1
        length = length or LONGEST_LINE
    return _until_stop(_cut(pieces, length or DEFAULT_LENGTH, max_lines), options.stop)


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


def _until_stop(pieces: Iterator[str], stop: str | None) -> Iterator[str]:
    """The pieces up to the stop text, of which a beginning is held back until it is clear."""
    if stop is None:
        yield from pieces
        return
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        kept = next(
            k for k in range(min(len(stop) - 1, len(held)), -1, -1) if held.endswith(stop[:k])
        )
        yield held[: len(held) - kept]
        held = held[len(held) - kept :]
    yield held
