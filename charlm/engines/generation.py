"""Generation: a prime → text like the training text, piece by piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from charlm.engines.beam import beam_search
from charlm.engines.sampling import SampleOptions, draw_each
from charlm.engines.stream import Figures, Limits, Piece
from charlm.engines.text_model import TextModel
from charlm.model.backend import Floats
from charlm.model.blas_threads import BlasThreads
from charlm.model.distributions import largest
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import Reader
from charlm.tokenizer import EOS, START, UNK, Decoder, Primed, as_inputs

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
    generation = Generation(model)
    beginning = Beginning(model, model.tokenizer.prime(prime))
    first = beginning.sample(options, limits)
    samples = [first.copy(random) for random in generators]
    beginning.read()
    generation.add(beginning, samples)
    return [_pieces(generation, sample) for sample in samples]


def _pieces(generation: Generation, sample: Sample) -> Iterator[Piece]:
    try:
        while True:
            if not sample.unread:
                generation.step()
            yield sample.unread.popleft()
    finally:
        generation.close(sample)


def search(
    model: TextModel, prime: str, options: SampleOptions, limits: Limits, beam: int
) -> list[list[Piece]]:
    """The most probable texts after the prime, up to their limits, the best first.

    beam:  candidates that are kept after each token, and texts at the most, see `beam_search`
    """
    beginning = Beginning(model, model.tokenizer.prime(prime))
    beginning.read()
    first, reader = beginning.sample(options, limits), beginning.reader
    reader.extend([0], [beginning.last])
    return [list(text.unread) for _, text in beam_search(reader, first, beam, most=beam)]


class Beginning:
    """The common beginning of samples, while it is read.

    primed:  the tokens, and what decodes those that follow. Where lines are independent, the last
             line counts

    reader:  has read what `read` was called for
    last:    the last token, which is read with the first step of the samples
    unread:  the tokens before it that are not read yet
    """

    def __init__(self, model: TextModel, primed: Primed) -> None:
        ids, self._decoder = primed
        if model.independent_lines:
            ids = ids[np.append(0, np.flatnonzero(ids == EOS) + 1)[-1] :]
        self._ids = ids.tolist()
        self.last = self._ids[-1] if self._ids else START
        self.unread = as_inputs(np.append(START, ids))[:-1]
        self.reader = Reader(
            model.predictors.numpy, self.unread[:0], independent_lines=model.independent_lines
        )

    def read(self, most: int | None = None) -> int:
        """Read the unread tokens, or `most` of them at the most. Returns how many."""
        ids, self.unread = np.split(self.unread, [len(self.unread) if most is None else most])
        if len(ids):
            self.reader.read(ids)
        return len(ids)

    def sample(self, options: SampleOptions, limits: Limits) -> Sample:
        """A sample that begins after it."""
        return Sample(options, limits, self._decoder.copy(), self._ids, self.last)


class Sample:
    """One sample in progress, or a candidate of a beam search.

    decoder:  of the text up to here
    used:     the tokens up to here
    last:     the token that is read next
    unread:   pieces of its text that the caller has not taken yet
    random:   its random numbers
    alternatives:  how many of the likeliest tokens each piece has; None for no figures at all
    """

    random: np.random.Generator
    alternatives: int | None = None

    def __init__(
        self,
        options: SampleOptions,
        limits: Limits,
        decoder: Decoder,
        used: Iterable[int],
        last: int = START,
    ) -> None:
        self.options, self.limits = options, limits
        self.decoder, self.used, self.last = decoder, set(used), last
        self.unread: deque[Piece] = deque()
        self.chars = self.lines = 0

    def copy(self, random: np.random.Generator | None = None) -> Sample:
        """An independent sample in the same state."""
        other = Sample(self.options, self.limits, self.decoder.copy(), self.used, self.last)
        other.unread = self.unread.copy()
        other.chars, other.lines = self.chars, self.lines
        other.alternatives = self.alternatives
        if random:
            other.random = random
        return other

    def restrict(self, logits: Floats) -> None:
        """Set the logits (V−1,) of the tokens that may not come next to −inf."""
        logits[UNK - 1] = -np.inf
        if self.chars < self.limits.min_length and self.lines + 1 == self.limits.max_lines:
            logits[EOS - 1] = -np.inf
        mask = self.decoder.mask()
        if mask is not None:
            logits[~mask[1:]] = -np.inf
        if self.options.repetition_penalty != 1:
            used = np.array(sorted(self.used), np.int64) - 1
            logits[:] = log_softmax(logits)
            logits[used] *= np.float32(self.options.repetition_penalty)

    def push(self, id: int, figures: Figures | None = None) -> None:
        """Add a token."""
        text = self.decoder.push(id)
        self.unread.append(Piece(text, id, figures))
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
        allowed = logits.copy()
        self.restrict(allowed)
        return log_softmax(allowed)

    def end_logprob(self, logits: Floats) -> None:
        """See `charlm.engines.beam.Candidate`: a text ends with a token."""

    def extended(self, id: int) -> Sample:
        """See `charlm.engines.beam.Candidate`."""
        sample = self.copy()
        sample.push(id)
        return sample


class Generation:
    """Samples that grow side by side. They may begin and end at any time.

    model:  that writes them

    open:   the samples, in the order of their rows in the reader
    """

    def __init__(self, model: TextModel) -> None:
        self.open: list[Sample] = []
        self._rows: list[int] = []
        self._reader: Reader | None = None
        self._threads = BlasThreads(model.predictors.numbers_of_a_step)

    def add(self, beginning: Beginning, samples: Sequence[Sample]) -> None:
        """Open samples after a common beginning, which has been read."""
        row = 0
        if self._reader:
            row = self._reader.join(beginning.reader)
        else:
            self._reader = beginning.reader
        self.open += samples
        self._rows += [row] * len(samples)

    def step(self) -> None:
        """Draw one more token for every open sample. At least one must be open."""
        assert self._reader
        self._threads.next_step()
        self._reader.extend(self._rows, [sample.last for sample in self.open])
        self._rows = list(range(len(self.open)))
        logits = self._reader.logits()
        logprobs = {
            row: log_softmax(logits[row])
            for row, sample in enumerate(self.open)
            if sample.alternatives is not None
        }
        for sample, of_sample in zip(self.open, logits, strict=True):
            sample.restrict(of_sample)
        drawn = draw_each(
            logits,
            [sample.options for sample in self.open],
            [sample.random for sample in self.open],
        )
        for row, (sample, column) in enumerate(zip(self.open, drawn, strict=True)):
            figures = None
            if row in logprobs:
                figures = _figures(logprobs[row], column, sample.alternatives or 0)
            sample.push(column + 1, figures)

    def close(self, sample: Sample) -> None:
        """Remove a sample."""
        row = self.open.index(sample)
        del self.open[row], self._rows[row]
        if not self.open:
            self._reader = None
            self._threads.reset()


def _figures(logprobs: Floats, column: int, alternatives: int) -> Figures:
    """The figures of a token: its log p, and the likeliest tokens, by log p of all (V−1,)."""
    best = largest(logprobs, min(alternatives, len(logprobs))).tolist() if alternatives else []
    likeliest = [(other + 1, float(logprobs[other])) for other in best]
    return Figures(float(logprobs[column]), likeliest)
