"""Context mixing: an n-gram model, and counts after words, gaps and places in the line.

Compressors mix contexts so (Mahoney 2005, PAQ), bit by bit. Here each context predicts the whole
token, and the mixture is a log-linear model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model import contexts
from charlm.model.backend import Floats, Ids
from charlm.model.context_tables import ContextTables
from charlm.model.contexts import CONTEXTS, Keys, Registers
from charlm.model.groups import repeated
from charlm.model.names import add_prefix, strip_prefix
from charlm.model.ngram import Ngram, NgramPrediction
from charlm.model.ngram_tables import Indices
from charlm.model.numpy_network import log_softmax
from charlm.model.prediction import SMALLEST, Prediction, State
from charlm.model.sequences import STEPS_AT_ONCE

AT_ONCE = 512  # positions whose distributions fit into a cache
# The models whose predictions are mixed: the n-gram model, and one for each context. Contexts back
# off to the n-gram model, and those of two words to the word so far.
MODELS = len(CONTEXTS) + 1
N_GRAM, WORD, TWO_WORDS = 0, 1, 5
OF_NGRAM, OF_WORD = slice(WORD, TWO_WORDS), slice(TWO_WORDS, MODELS)

# The weight of each model, on average over texts of many kinds.
COMMON = [0.35, 0.0, 0.12, 0.09, 0.15, 0.3, 0.25]


class MixingWeights(NamedTuple):
    """The exponents of the mixture, see `ContextMixing`. The first axis that is M has the models.

    common:       (M,)
    seen:         (M,), added where the model has the context
    by_previous:  (V, M), added after each token
    by_token:     (M, V−1), added for each token that is predicted
    """

    common: Floats
    seen: Floats
    by_previous: Floats
    by_token: Floats

    @classmethod
    def default(cls, vocab: int) -> MixingWeights:
        """Good on texts of many kinds."""
        shapes = (MODELS,), (vocab, MODELS), (MODELS, vocab - 1)
        return cls(np.array(COMMON, np.float32), *(np.zeros(s, np.float32) for s in shapes))

    def grown(self, vocab: int) -> MixingWeights:
        """For a vocabulary with more tokens at its end."""
        more = vocab - len(self.by_previous)
        return MixingWeights(
            self.common,
            self.seen,
            np.pad(self.by_previous, ((0, more), (0, 0))),
            np.pad(self.by_token, ((0, 0), (0, more))),
        )

    def rounded(self) -> MixingWeights:
        """The weights as model files hold them."""
        return MixingWeights(*(w.astype(np.float16).astype(np.float32) for w in self))


class ContextMixing:
    """p(w) ∝ Π_m p_m(w)^a_m(w), for the n-gram model and the models of the contexts m.

    The exponent a_m(w) is a sum of four weights: of the model; one more where it has seen its
    context; one for the token before; and one for the token w. A context predicts

        p_m(w) = (c(w) − D(c(w))) / Σ c + γ p_b(w)

    with the counts c of the tokens after it and the discounts D of Kneser-Ney. b is the model that
    it backs off to, see `OF_NGRAM` and `OF_WORD`, and γ normalises p_m.

    ngram:    of the same text
    tables:   the counts after the contexts
    letters:  (V,), which tokens are letters of words
    weights:  of the mixture

    Its state is one layer with two arrays: that of the n-gram model, and the registers of
    `charlm.model.contexts`, (B, REGISTERS). It is a `Predictor`.
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(
        self,
        ngram: Ngram,
        tables: ContextTables,
        letters: NDArray[np.bool_],
        weights: MixingWeights | None = None,
    ) -> None:
        self.ngram, self.tables, self.letters = ngram, tables, letters
        self.vocab, self.order = ngram.vocab, ngram.order
        self.weights = weights or MixingWeights.default(self.vocab)
        rows = len(tables.keys)
        # The last row is for a context that is not there: γ = 1, and no tokens.
        self.bounds = np.append(0, tables.sizes.cumsum())  # of the tokens of each context
        self.bounds = np.append(self.bounds, self.bounds[-1])
        kinds = np.arange(len(CONTEXTS)).repeat(np.diff(tables.kinds)).repeat(tables.sizes)
        discounts = tables.discounts[kinds, np.minimum(tables.counts, 3)]
        row = np.arange(rows).repeat(tables.sizes)
        totals, left = (
            np.bincount(row, values, rows).astype(np.float32)
            for values in (tables.counts, discounts)
        )
        self.backoffs = np.append(left / totals, np.float32(1))  # γ
        self.shares = ((tables.counts - discounts) / totals[row]).astype(np.float32)
        self.columns = tables.tokens.astype(np.intp) - 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what is computed from the tables."""
        return type(self), (self.ngram, self.tables, self.letters, self.weights)

    def __len__(self) -> int:
        """The number of n-grams, and of counts after contexts."""
        return len(self.ngram) + len(self.tables)

    def described(self) -> str:
        """What it has, in words."""
        return f"{self.ngram.described()}, and {len(self.tables):,} counts after other contexts"

    def with_weights(self, weights: MixingWeights) -> ContextMixing:
        """The same counts with other weights."""
        return ContextMixing(self.ngram, self.tables, self.letters, weights)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All but the n-gram model."""
        weights = {name: w.astype(np.float16) for name, w in self.weights._asdict().items()}
        return {
            "letters": np.packbits(self.letters),
            **add_prefix("weights", weights),
            **self.tables.to_arrays(),
        }

    @classmethod
    def from_arrays(cls, ngram: Ngram, arrays: Mapping[str, NDArray[Any]]) -> ContextMixing:
        """With the arrays of `to_arrays`. Raises ModelError if they are damaged."""
        tables, vocab = ContextTables.from_arrays(arrays, ngram.vocab), ngram.vocab
        stored, default = strip_prefix("weights", arrays), MixingWeights.default(vocab)
        try:
            weights = MixingWeights(**{k: w.astype(np.float32) for k, w in stored.items()})
            letters = np.unpackbits(arrays["letters"])[:vocab].view(bool)
        except (KeyError, TypeError) as error:
            raise ModelError(f"weights of the contexts: {error}") from None
        fits = [w.shape == d.shape for w, d in zip(weights, default, strict=True)]
        if not all(fits) or not all(np.isfinite(w).all() for w in weights) or len(letters) < vocab:
            raise ModelError("weights of the contexts: not the numbers of this vocabulary")
        return cls(ngram, tables, letters, weights)

    def initial_state(self, batch: int) -> State:
        """No context: the zero state."""
        ((grams,),) = self.ngram.initial_state(batch)
        return [(grams, contexts.start(batch))]

    def read(self, ids: Ids, state: State) -> tuple[MixedContexts, State]:
        """See `Predictor.read`."""
        ((grams, registers),) = state
        prediction, ((grams,),) = self.ngram.read(ids, [(grams,)])
        ids = self.ngram.inputs[ids]
        if ids.size == 1:
            id = int(ids[0, 0])
            numbers = contexts.after_one(registers[0].tolist(), id, bool(self.letters[id]))
            registers = np.array([numbers], np.uint64)
            return MixedContexts(self, prediction, ids, registers[:, None], numbers), [
                (grams, registers)
            ]
        every = np.empty((*ids.shape, registers.shape[1]), np.uint64)
        for t in range(ids.shape[1]):
            registers = contexts.after(registers, ids[:, t], self.letters)
            every[:, t] = registers
        return MixedContexts(self, prediction, ids, every), [(grams, registers)]

    def find(self, keys: Keys) -> Indices:
        """The rows of contexts in the tables; the last row for those that are not there, (N, K)."""
        rows = np.full(keys.shape, len(self.tables.keys))
        for k, (start, end) in enumerate(pairwise(self.tables.kinds)):
            of_kind = self.tables.keys[start:end]
            if len(of_kind):
                found = of_kind.searchsorted(keys[:, k])
                there = of_kind.take(found, mode="clip") == keys[:, k]
                np.copyto(rows[:, k], found + start, where=there)
        return rows

    def seen(self, rows: Indices) -> Floats:
        """1 where a model has its context, (N, M). The n-gram model always has one."""
        seen = np.ones((len(rows), MODELS), np.float32)
        seen[:, 1:] = rows < len(self.tables.keys)
        return seen

    def distributions(self, ngram: Floats, rows: Indices) -> Floats:
        """p of every token by each model, (M, N, V−1).

        ngram:  (N, V−1), by the n-gram model
        rows:   (N, K), the contexts of `find`
        """
        p = np.empty((MODELS, *ngram.shape), np.float32)
        np.maximum(ngram, SMALLEST, out=p[N_GRAM])
        for base, models in ((N_GRAM, OF_NGRAM), (WORD, OF_WORD)):
            of_models = rows[:, models.start - 1 : models.stop - 1].T
            np.multiply(p[base], self.backoffs[of_models][..., None], out=p[models])
            first = self.bounds[of_models].ravel()
            which, offsets = repeated(self.bounds[of_models + 1].ravel() - first)
            found = first[which] + offsets
            flat = p[models].reshape(-1)
            flat[which * ngram.shape[1] + self.columns[found]] += self.shares[found]
        return p

    def logits(self, ngram: Floats, previous: Ids, rows: Indices) -> Floats:
        """The mixture's logarithms of p, up to a constant for each row, (N, V−1).

        previous:  (N,), the token before
        """
        weights, p = self.weights, self.distributions(ngram, rows)
        exponents = weights.common + weights.seen * self.seen(rows) + weights.by_previous[previous]
        np.log(p, out=p)
        z = np.zeros_like(ngram)
        for m, logs in enumerate(p):
            logs *= weights.by_token[m] + exponents[:, m, None]
            z += logs
        return z

    def after(self, ngram: Floats, previous: int, registers: list[int]) -> Floats:
        """`logits` after one token, (V−1,), with as few calls of NumPy as possible.

        ngram:  (V−1,), p by the n-gram model
        """
        kinds, all_backoffs, bounds, of_seen, of_previous = self._views
        exponents, backoffs, found = of_previous[previous].copy(), [1.0], [slice(0)]
        for k, key in enumerate(contexts.keys_of_one(registers)):
            start, of_kind = kinds[k]
            row = bisect_left(of_kind, key)
            if row == len(of_kind) or of_kind[row] != key:
                backoffs.append(1.0)
                found.append(slice(0))
            else:
                exponents[k + 1] += of_seen[k + 1]
                backoffs.append(all_backoffs[start + row])
                found.append(slice(bounds[start + row], bounds[start + row + 1]))
        p = np.empty((MODELS, len(ngram)), np.float32)
        flat, factors = p.reshape(-1), np.array(backoffs, np.float32)[:, None]
        np.maximum(ngram, SMALLEST, out=p[N_GRAM])
        for base, models in ((N_GRAM, OF_NGRAM), (WORD, OF_WORD)):
            np.multiply(p[base], factors[models], out=p[models])
            places = np.concatenate([self._places[tokens] for tokens in found[models]])
            flat[places] += np.concatenate([self.shares[tokens] for tokens in found[models]])
        np.log(p, out=p)
        p *= self.weights.by_token + np.array(exponents, np.float32)[:, None]
        return np.add.reduce(p)

    @cached_property
    def _places(self) -> Indices:
        """The place of each token among the (M, V−1) probabilities of all models."""
        models = np.arange(WORD, MODELS).repeat(np.diff(self.tables.kinds))
        return self.columns + models.repeat(self.tables.sizes) * (self.vocab - 1)

    @cached_property
    def _views(self) -> tuple[Any, ...]:
        """What `after` reads single numbers of: views and lists are ten times as fast as arrays.

        Where the rows of each kind begin, and their keys; γ and the first token of each row; the
        weights of seen contexts; and all others that depend on the token before.
        """
        kinds = [
            (start, np.ascontiguousarray(self.tables.keys[start:end]).data)
            for start, end in pairwise(self.tables.kinds.tolist())
        ]
        common, of_seen, by_previous, _ = self.weights
        of_previous = common + by_previous
        of_previous[:, N_GRAM] += of_seen[N_GRAM]
        return kinds, self.backoffs.data, self.bounds.data, of_seen.tolist(), of_previous.tolist()


class MixedContexts(Prediction):
    """What context mixing predicts.

    ngram:      the prediction of the n-gram model
    previous:   the tokens that were read, (B, T)
    registers:  after each of them, (B, T, REGISTERS)
    numbers:    the same of a single position as a list
    """

    def __init__(
        self,
        model: ContextMixing,
        ngram: NgramPrediction,
        previous: Ids,
        registers: Registers,
        numbers: list[int] | None = None,
    ) -> None:
        self.model, self.ngram, self.previous = model, ngram, previous
        self.registers, self.numbers = registers, numbers

    @property
    def y(self) -> Floats:
        return self.ngram.y

    @property
    def matched(self) -> Indices:
        """The length of the longest n-gram context, (B, T)."""
        return self.ngram.matched

    @property
    def log_total(self) -> Floats:
        """log(1 + Σ of the counts after the longest n-gram context), (B, T)."""
        return self.ngram.log_total

    def one(self) -> tuple[Floats, float, int] | None:
        """See `NgramPrediction.one`."""
        if self.numbers is None or self.ngram.row is None:
            return None
        of_ngram = self.ngram.ngram.after(self.ngram.row)
        z = self.model.after(of_ngram, int(self.previous[0, 0]), self.numbers)
        return z, *self.ngram.features_of_one(self.ngram.row)

    @cached_property
    def _logprobs(self) -> Floats:
        """log p of every token, (B, T, V−1)."""
        if one := self.one():
            return log_softmax(one[0][None, None])
        shape = self.previous.shape
        previous, model = self.previous.reshape(-1), self.model
        grams = self.ngram.contexts.reshape(len(previous), self.ngram.contexts.shape[2])
        registers = self.registers.reshape(len(previous), self.registers.shape[2])
        rows = model.find(contexts.keys(registers))
        z = np.empty((len(previous), model.vocab - 1), np.float32)
        for start in range(0, len(z), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            p = model.ngram.probabilities(grams[part])
            z[part] = log_softmax(model.logits(p, previous[part], rows[part]))
        return z.reshape(*shape, -1)

    def logprobs(self, targets: Ids) -> Floats:
        columns = targets[..., None].astype(np.int64) - 1
        return np.take_along_axis(self._logprobs, columns, -1)[..., 0]

    def logits(self) -> Floats:
        return self._logprobs.copy()

    def probabilities(self) -> Floats:
        """p of every token, (B, T, V−1)."""
        return np.exp(self._logprobs)

    def last(self) -> MixedContexts:
        return MixedContexts(
            self.model, self.ngram.last(), self.previous[:, -1:], self.registers[:, -1:]
        )
