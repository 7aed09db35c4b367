"""Generation: a prime → text like the training text, piece by piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from charlm.engines.beam import beam_search
from charlm.engines.sampling import SampleOptions, distribution, draw
from charlm.engines.stream import Limits, Piece
from charlm.engines.text_model import TextModel
from charlm.model.backend import Floats
from charlm.model.blas_threads import BlasThreads
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Reader
from charlm.tokenizer import EOS, START, UNK, Decoder, as_inputs

SAMPLES_AT_ONCE = 32  # side by side


def generate(
    model: TextModel,
    prime: str,
    options: SampleOptions,
    limits: Limits,
    generators: Sequence[np.random.Generator],
) -> list[Iterator[Piece]]:
    """Endless streams of pieces after the prime, one for each generator.

    limits:  of a `Stream` that reads them

    The samples run side by side: when any stream needs a piece, one step of the model reads the
    weights once for all open streams. `<UNK>` is masked, and the other probabilities are
    renormalised.
    """
    reader, first = _primed(model, prime, options, limits)
    opened = [_Open(first.copy(), random) for random in generators]
    threads = BlasThreads(model.predictors.numbers_of_a_step)
    samples = _Samples(reader, options, opened, threads)
    return [samples.pieces(sample) for sample in samples.open]


def search(
    model: TextModel, prime: str, options: SampleOptions, limits: Limits, beam: int
) -> list[list[Piece]]:
    """The most probable texts after the prime, up to their limits, the best first.

    beam:  candidates that are kept after each token, and texts at the most, see `beam_search`
    """
    reader, first = _primed(model, prime, options, limits)
    return [list(text.unread) for _, text in beam_search(reader, first, beam, most=beam)]


def _primed(
    model: TextModel, prime: str, options: SampleOptions, limits: Limits
) -> tuple[Reader, _Sample]:
    """A reader that has read the prime, and a sample that begins after it."""
    ids, decoder = model.tokenizer.prime(prime)
    if model.independent_lines:
        ids = ids[np.append(0, np.flatnonzero(ids == EOS) + 1)[-1] :]
    inputs = as_inputs(np.concatenate([[START], ids]))
    predictor = model.predictors.numpy
    reader = Reader(predictor, inputs, independent_lines=model.independent_lines)
    return reader, _Sample(options, limits, decoder, ids.tolist())


class _Sample:
    """One sample in progress, or a candidate of a beam search.

    decoder:  of the text up to here
    used:     the tokens up to here
    unread:   pieces of its text that the caller has not taken yet
    """

    def __init__(
        self, options: SampleOptions, limits: Limits, decoder: Decoder, used: Iterable[int]
    ) -> None:
        self.options, self.limits = options, limits
        self.decoder, self.used = decoder, set(used)
        self.unread: deque[Piece] = deque()
        self.last = START
        self.chars = self.lines = 0

    def copy(self) -> _Sample:
        """An independent sample in the same state."""
        other = _Sample(self.options, self.limits, self.decoder.copy(), self.used)
        other.unread, other.last = self.unread.copy(), self.last
        other.chars, other.lines = self.chars, self.lines
        return other

    def allowed(self, logits: Floats) -> Floats:
        """The logits (V−1,) of the tokens that may come next, −inf for the others."""
        allowed, options, limits = logits.copy(), self.options, self.limits
        allowed[UNK - 1] = -np.inf
        if self.chars < limits.min_length and self.lines + 1 == limits.max_lines:
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
        self.last = id
        self.used.add(id)
        self.chars += len(text)
        self.lines += id == EOS

    @property
    def is_finished(self) -> bool:
        """Whether its length or its number of lines is reached."""
        return self.chars >= self.limits.length or self.lines == self.limits.max_lines

    def next_logprobs(self, logits: Floats) -> Floats:
        """See `charlm.engines.beam.Candidate`."""
        return log_softmax(self.allowed(logits))

    def end_logprob(self, logits: Floats) -> None:
        """See `charlm.engines.beam.Candidate`: a text ends with a token."""

    def extended(self, id: int) -> _Sample:
        """See `charlm.engines.beam.Candidate`."""
        sample = self.copy()
        sample.push(id)
        return sample


@dataclass(eq=False)
class _Open:
    """A sample whose stream is open: its random numbers, and its row in the reader."""

    sample: _Sample
    random: np.random.Generator
    row: int = 0


class _Samples:
    """Samples that run side by side.

    reader:  has read the prime
    open:    the samples whose streams are not closed
    threads: of the products of each step
    """

    def __init__(
        self, reader: Reader, options: SampleOptions, samples: list[_Open], threads: BlasThreads
    ) -> None:
        self.reader, self.options, self.open, self.threads = reader, options, samples, threads
        self._has_read = True  # the last tokens of the samples

    def pieces(self, stream: _Open) -> Iterator[Piece]:
        """The stream of one sample's pieces."""
        try:
            while True:
                if not stream.sample.unread:
                    self._step()
                yield stream.sample.unread.popleft()
        finally:
            self.open.remove(stream)
            if not self.open:
                self.threads.reset()

    def _step(self) -> None:
        """Draw one more token for every open sample."""
        self.threads.next_step()
        if not self._has_read:
            self._read_last_tokens()
        logits = self.reader.logits()
        for stream in self.open:
            p = distribution(stream.sample.allowed(logits[stream.row]), self.options)
            stream.sample.push(draw(p, stream.random) + 1)
        self._has_read = False

    def _read_last_tokens(self) -> None:
        rows, last = zip(*((stream.row, stream.sample.last) for stream in self.open), strict=True)
        self.reader.extend(rows, last)
        for row, stream in enumerate(self.open):
            stream.row = row
