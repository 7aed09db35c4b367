"""Counts the contexts of a text, and learns how they are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.model import contexts
from charlm.model.backend import Floats, Ids
from charlm.model.context_mixing import AT_ONCE, MODELS, ContextMixing, MixingWeights
from charlm.model.context_tables import ContextTables
from charlm.model.likelihood import read_in_order, read_sequences
from charlm.model.ngram import Ngram, NgramPrediction
from charlm.model.ngram_counts import count, merged
from charlm.model.prediction import SMALLEST, Prediction
from charlm.tokenizer import EOS

STREAM = 1024  # tokens, at least, of each part of the text that is read beside others
MOST_EXAMPLES, MOST_NUMBERS = 80_000, 1 << 25  # to fit the weights on
MOST_TEXT = 1 << 22  # tokens whose counts the weights are fitted with
PARTS = 14  # the text is cut into so many; the examples are some of them
PARTS_MERGED = 2  # the most of them where the counts of each are added to others
STEPS, EXAMPLES, RATE = 700, 512, 0.005
BETAS = (0.9, 0.99)
PENALTY = 60.0  # nats for Σ w²


def count_mixed(
    ids: Ids,
    vocab: int,
    order: int,
    letters: NDArray[np.bool_],
    *,
    independent_lines: bool = False,
    most: int | None = None,
    start: ContextMixing | Ngram | None = None,
) -> ContextMixing:
    """The n-grams and the contexts of a text, and the weights of their mixture.

    The weights are fitted on parts of the text, by counts of the rest of it: counts of a text that
    predict the same text are too sure. Then all of it is counted.

    letters:  (V,), which tokens are letters of words
    most:     about how many n-grams are kept, and how many counts after contexts
    start:    of another text, whose counts are added; its vocabulary is a beginning of this one
    others:   see `charlm.model.ngram_counts.count`
    """
    text = _Text(ids.astype(np.int64), vocab, order, letters, independent_lines, most, start)
    last = text if len(ids) <= MOST_TEXT else replace(text, ids=text.ids[-MOST_TEXT:])
    with ThreadPoolExecutor(1) as pool:  # sorting leaves the interpreter to the other thread
        whole = pool.submit(text.counted, np.full(len(ids), True))
        examples = [example for part in last.parts() for example in last.examples(part)]
        default = MixingWeights.default(vocab)
        if isinstance(start, ContextMixing):
            default = start.weights.grown(vocab)
        return whole.result().with_weights(_fitted(examples, default))


class _Example(NamedTuple):
    """What the weights are fitted on.

    logprobs:  (n, M, V−1), of every token by each model
    seen:      (n, M), 1 where a model has the context
    previous:  (n,), the token before
    target:    (n,), the token
    """

    logprobs: Floats
    seen: Floats
    previous: Ids
    target: Ids

    def taken(self, rows: Ids) -> _Example:
        """Some of the examples."""
        logprobs, seen, previous, target = self
        return _Example(logprobs[rows], seen[rows], previous[rows], target[rows])


@dataclass
class _Text:
    """A text that is counted whole or in part, see `count_mixed`.

    keys:      the contexts of each token, (N, K)
    previous:  the token before each, (N,)
    """

    ids: NDArray[np.int64]
    vocab: int
    order: int
    letters: NDArray[np.bool_]
    independent_lines: bool
    most: int | None
    start: ContextMixing | Ngram | None
    keys: contexts.Keys = field(init=False)
    previous: Ids = field(init=False)

    def __post_init__(self) -> None:
        streams = min(max(len(self.ids) // STREAM, 1), STREAM)
        self.keys = contexts.of_text(self.ids, self.letters, streams, self.independent_lines)
        self.previous = np.append(EOS, self.ids[:-1])

    def counted(self, which: NDArray[np.bool_]) -> ContextMixing:
        """The counts of some tokens, (N,)."""
        ids, lines = self.ids[which], self.independent_lines
        ngram = count(ids, self.vocab, self.order, independent_lines=lines, most=self.most)
        tables = ContextTables.of(self.keys[which], ids, self.most)
        if isinstance(self.start, ContextMixing):
            tables = self.start.tables.merged(tables)
            ngram = merged(self.start.ngram, ngram)
        elif self.start:
            ngram = merged(self.start, ngram)
        return ContextMixing(ngram, tables, self.letters)

    def parts(self) -> Iterator[NDArray[np.bool_]]:
        """Parts of the text that have enough examples together, (N,) each: of independent lines
        every 14th, and of another text the last 14th first."""
        places = np.arange(len(self.ids))
        if self.independent_lines:
            part = (self.previous == EOS).cumsum() % PARTS
        else:
            part = PARTS - 1 - places * PARTS // len(places)
        most = min(MOST_EXAMPLES, MOST_NUMBERS // (MODELS * self.vocab))
        for k in range(PARTS if self.start is None else PARTS_MERGED):
            which = part == k
            if most <= 0 or which.all():
                return
            # The last tokens of a part are those that are taken.
            which &= which[::-1].cumsum()[::-1] <= most
            most -= int(which.sum())
            if which.any():
                yield which

    def examples(self, which: NDArray[np.bool_]) -> Iterator[_Example]:
        """A part of the text by the counts of the rest."""
        model, ids = self.counted(~which), self.ids[which]
        rows = model.find(self.keys[which])
        ngram, start = self._by_ngram(model.ngram, ids), 0
        for p in ngram:
            part = slice(start, start := start + len(p))
            logprobs = np.log(np.maximum(model.distributions(p, rows[part]), SMALLEST))
            yield _Example(
                logprobs.swapaxes(0, 1),
                model.seen(rows[part]),
                self.previous[which][part],
                ids[part],
            )

    def _by_ngram(self, ngram: Ngram, ids: Ids) -> Iterator[Floats]:
        """p of every token of a text by the n-gram model, (n, V−1)."""

        def p(prediction: Prediction, targets: Ids) -> Floats:
            assert isinstance(prediction, NgramPrediction)
            return prediction.probabilities()

        if not self.independent_lines:
            whole = read_in_order(ngram, ids, p)
        else:
            lines = np.split(ids, np.flatnonzero(ids[:-1] == EOS) + 1)
            whole = np.concatenate(read_sequences(ngram, lines, p))
        yield from np.split(whole, range(AT_ONCE, len(whole), AT_ONCE))


def _fitted(examples: list[_Example], default: MixingWeights) -> MixingWeights:
    """The weights that predict the examples best, by Adam (Kingma and Ba 2015).

    The loss is convex. Weights far from the default ones are penalised.
    """
    if not examples:
        return default
    every = _Example(*map(np.concatenate, zip(*examples, strict=True)))
    weights = [w.copy() for w in default]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    rng = np.random.default_rng(0)
    for step in range(1, STEPS + 1):
        rows = rng.integers(len(every.target), size=EXAMPLES)
        gradients = _gradients(MixingWeights(*weights), every.taken(rows))
        rate = RATE * min(1.0, 2 * (1 - step / STEPS))
        changed = zip(weights, default, gradients, means, squares, strict=True)
        for w, start, g, mean, square in changed:
            g += PENALTY / len(every.target) * (w - start)
            mean += (1 - BETAS[0]) * (g - mean)
            square += (1 - BETAS[1]) * (g * g - square)
            size = np.sqrt(square / (1 - BETAS[1] ** step)) + 1e-8
            w -= rate / (1 - BETAS[0] ** step) * mean / size
    return MixingWeights(*weights).rounded()


def _gradients(weights: MixingWeights, examples: _Example) -> MixingWeights:
    """The gradient of the mean loss of examples, −log p of their targets."""
    logprobs, seen, previous, targets = examples
    exponents = weights.common + weights.seen * seen + weights.by_previous[previous]
    logits = np.einsum("nmv,nm->nv", logprobs, exponents)
    logits += np.einsum("nmv,mv->nv", logprobs, weights.by_token)
    logits -= logits.max(axis=1, keepdims=True)
    wrong = np.exp(logits, out=logits)
    wrong /= wrong.sum(axis=1, keepdims=True)
    wrong[np.arange(len(targets)), targets - 1] -= 1
    wrong /= len(targets)
    by_example = np.einsum("nmv,nv->nm", logprobs, wrong)
    by_previous = np.zeros_like(weights.by_previous)
    np.add.at(by_previous, previous, by_example)
    return MixingWeights(
        by_example.sum(axis=0),
        (by_example * seen).sum(axis=0),
        by_previous,
        np.einsum("nmv,nv->mv", logprobs, wrong),
    )
