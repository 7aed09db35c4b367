"""Alignment: which tokens of a source write which tokens of its target.

Source and target are cut into the same number of chunks, in the same order (many-to-many alignment,
Jiampojamarn et al. 2007). A chunk of the source has one token, which writes none, one or two tokens
of the target, or two tokens, which write one. So a target has at most twice as many tokens.

    p  h  o  n  e  s           ph  o   n  e  s
    F     OW N     Z           F   OW  N  -  Z

The probability of a pair of chunks is estimated by expectation maximisation (Dempster et al. 1977),
over all ways to cut each pair of texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model.backend import Ids

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

STEPS = ((1, 0), (1, 1), (1, 2), (2, 1))  # tokens of the source and of the target in a chunk
ITERATIONS = 8
CELLS_AT_ONCE = 1 << 20
MOST_CELLS = 1 << 22  # tokens of the source times those of the target, that are counted
UNSEEN = 1e-12  # probability of chunks that were not counted
PENALTY = 2.0  # factor on log p of a longer chunk; without it the best alignment has few long ones
BITS = 15  # of a token in the number of a pair of chunks


class Chunks(NamedTuple):
    """The chunks of aligned pairs, one pair after the other.

    tokens:  (n, 4) two tokens of the source, and two of the target; 0 for none
    pairs:   (n,) the pair of each chunk, ascending. Pairs that cannot be aligned are missing
    """

    tokens: NDArray[np.int32]
    pairs: Indices


def align(sources: Sequence[Ids], targets: Sequence[Ids]) -> Chunks:
    """The most probable alignment of each pair.

    sources, targets:  ids above 0, without line ends
    """
    batches = [_Batch(sources, targets, which) for which in _by_length(sources, targets)]
    counted = _sample(batches)
    known = np.unique(np.concatenate([np.zeros(1, np.int64), *(b.all_codes() for b in counted)]))
    numbered = [(batch, batch.numbers(known)) for batch in counted]
    p = np.full(len(known), 1 / len(known))
    for _ in range(ITERATIONS):
        p[0] = 0.0  # what fills up a batch
        counts = np.zeros(len(known))
        for batch, numbers in numbered:
            batch.add_expected(p, numbers, counts)
        p = counts / max(counts.sum(), 1e-300)
    logp = np.log(np.maximum(p, UNSEEN))
    tokens, pairs = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.int64)]
    for batch in batches:
        of_batch = batch.best(logp, batch.numbers(known))
        tokens.append(of_batch.tokens)
        pairs.append(of_batch.pairs)
    order = np.argsort(np.concatenate(pairs), kind="stable")
    return Chunks(np.concatenate(tokens)[order], np.concatenate(pairs)[order])


def _by_length(sources: Sequence[Ids], targets: Sequence[Ids]) -> Iterator[Indices]:
    """Numbers of pairs in batches, from short to long ones."""
    lengths = [(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batch: list[int] = []
    longest = 0
    for k in order:
        longest = max(longest, lengths[k][1])
        if batch and (len(batch) + 1) * (lengths[k][0] + 1) * (longest + 1) > CELLS_AT_ONCE:
            yield np.array(batch, np.int64)
            batch, longest = [], lengths[k][1]
        batch.append(k)
    yield np.array(batch, np.int64)


def _sample(batches: Sequence[_Batch]) -> list[_Batch]:
    """Batches of all lengths with no more than `MOST_CELLS`, if there are several."""
    cells = sum(batch.cells for batch in batches)
    return list(batches[:: max(-(-cells // MOST_CELLS), 1)])


class _Batch:
    """B pairs of similar length.

    which:   (B,) their numbers
    x, y:    (S + 1, B) and (T + 1, B), the sources and the targets, filled up with 0
    """

    def __init__(self, sources: Sequence[Ids], targets: Sequence[Ids], which: Indices) -> None:
        self.which = which
        self.x, self.x_lengths = _padded([sources[k] for k in which])
        self.y, self.y_lengths = _padded([targets[k] for k in which])

    @property
    def cells(self) -> int:
        return len(self.x) * len(self.y) * len(self.which)

    def _codes(self, step: tuple[int, int]) -> Indices:
        """A number for the chunks that begin at s and t, (S − i + 1, T − j + 1, B); 0 for those
        that reach into what fills up the batch."""
        i, j = step
        x = [self.x[k : len(self.x) - i + k, None] for k in range(i)]
        y = [self.y[None, k : len(self.y) - j + k] for k in range(j)]
        none = np.zeros((1, len(self.y) - j, 1), np.int64)
        tokens = [*x, *[none] * (2 - i), *y, *[none] * (2 - j)]
        code = none
        for part in tokens:
            code = (code << BITS) + part
        real = np.logical_and.reduce(np.broadcast_arrays(code > 0, *(part > 0 for part in x + y)))
        return np.where(real, code, 0)

    def all_codes(self) -> Indices:
        return np.unique(np.concatenate([np.unique(self._codes(step)) for step in STEPS]))

    def numbers(self, known: Indices) -> list[NDArray[np.int32]]:
        """For each step, the places of its chunks among the known ones; 0 for an unknown one."""
        found = []
        for step in STEPS:
            codes = self._codes(step)
            places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
            found.append(np.where(known[places] == codes, places, 0).astype(np.int32))
        return found

    def add_expected(self, p: Floats, numbers: Sequence[NDArray[np.int32]], counts: Floats) -> None:
        """Add how often each chunk is expected in the alignments of these pairs.

        α_s(t) is the sum over all ways to the cell (s, t), β_s(t) that over the ways from there to
        the end. Every row s is divided by its greatest value, so that it does not become too small.
        `up` and `down` have the logarithms of what the rows of α and β are divided by.
        """
        weights = [p[of_step] for of_step in numbers]
        steps, columns = len(self.x), np.arange(len(self.which))
        alpha = np.zeros((steps, *self.y.shape))
        alpha[0, 0] = 1.0
        up, down = np.zeros((2, steps + 1, len(columns)))
        for s in range(1, steps):
            for (i, j), weight in zip(STEPS, weights, strict=True):
                if i <= s:
                    scale = np.exp(up[s - i] - up[s - 1])
                    reached = alpha[s - i, : len(self.y) - j] * weight[s - i]
                    alpha[s, j:] += reached * scale
            up[s] = up[s - 1] + _rescale(alpha[s])
        ends = alpha[self.x_lengths, self.y_lengths, columns]
        with np.errstate(divide="ignore"):
            total = np.log(ends) + up[self.x_lengths, columns]
        total[ends == 0] = np.inf  # there is no way
        beta = np.zeros((steps + 1, *self.y.shape))
        for s in range(steps - 1, -1, -1):
            row = beta[s]
            for (i, j), weight in zip(STEPS, weights, strict=True):
                if s + i < steps:
                    scale = np.exp(down[s + i] - down[s + 1])
                    row[: len(self.y) - j] += beta[s + i, j:] * weight[s] * scale
            here = self.x_lengths == s
            row[self.y_lengths[here], columns[here]] = 1.0
            down[s] = down[s + 1] + _rescale(row)
        for (i, j), weight, of_step in zip(STEPS, weights, numbers, strict=True):
            scale = np.exp(up[: steps - i] + down[i:steps] - total)[:, None]
            before, after = alpha[: steps - i, : len(self.y) - j], beta[i:steps, j:]
            expected = before * weight * after * scale
            counts += np.bincount(of_step.ravel(), expected.ravel(), len(counts))

    def best(self, logp: Floats, numbers: Sequence[NDArray[np.int32]]) -> Chunks:
        """The chunks of the best alignment of each pair (Viterbi 1967)."""
        steps, columns = len(self.x), np.arange(len(self.which))
        score = np.full((steps, *self.y.shape), -np.inf)
        score[0, 0] = 0.0
        step_of = np.zeros(score.shape, np.int8)
        for s in range(1, steps):
            reached = np.full((len(STEPS), *self.y.shape), -np.inf)
            for n, ((i, j), of_step) in enumerate(zip(STEPS, numbers, strict=True)):
                if i <= s:
                    penalty = PENALTY if i + j > 2 else 1.0
                    own = penalty * logp[of_step[s - i]]
                    reached[n, j:] = score[s - i, : len(self.y) - j] + own
            step_of[s] = reached.argmax(axis=0)
            score[s] = reached.max(axis=0)
        at_s, at_t = self.x_lengths.copy(), self.y_lengths.copy()
        columns = columns[np.isfinite(score[at_s, at_t, columns])]
        tokens, pairs = [], []
        while len(columns := columns[at_s[columns] > 0]):
            own_s, own_t = at_s[columns], at_t[columns]
            i, j = np.array(STEPS)[step_of[own_s, own_t, columns]].T
            at_s[columns], at_t[columns] = own_s - i, own_t - j
            parts = [
                np.where(size > k, text[start + np.minimum(k, size), columns], 0)
                for text, start, size in ((self.x, own_s - i, i), (self.y, own_t - j, j))
                for k in range(2)
            ]
            tokens.append(np.stack(parts, axis=1).astype(np.int32))
            pairs.append(self.which[columns])
        none = np.zeros((0, 4), np.int32), np.zeros(0, np.int64)
        return Chunks(
            np.concatenate([none[0], *tokens[::-1]]), np.concatenate([none[1], *pairs[::-1]])
        )


def _rescale(row: Floats) -> Floats:
    """Divide the columns of a row (T + 1, B) by their greatest value; its logarithm (B,)."""
    highest = row.max(axis=0)
    highest[highest == 0] = 1.0
    row /= highest
    return np.log(highest)


def _padded(texts: Sequence[Ids]) -> tuple[Indices, Indices]:
    """Texts side by side, (T + 1, B), filled up with 0; and their lengths (B,)."""
    lengths = np.array([len(text) for text in texts], np.int64)
    rows = np.zeros((int(lengths.max(initial=0)) + 1, len(texts)), np.int64)
    for column, text in enumerate(texts):
        rows[: len(text), column] = text
    return rows, lengths
