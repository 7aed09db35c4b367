"""An n-gram model: interpolated Kneser-Ney smoothing with modified discounts, in a trie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Floats, Ids
from charlm.model.prediction import Prediction, State
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.tokenizer import EOS, START

Indices = NDArray[np.int64]
NO_NGRAM = "none"  # the order of a model without n-grams
ORDERS = (1, 9)  # the shortest and the longest n-gram that a model can have
MOST_VALUES = 256  # different counts in a model file; larger ones are rounded to 2 % or so
EMPTY = 1  # the number of the empty context
SMALLEST = np.float32(1e-30)  # probability, so that its logarithm is a number
DENSE_ENTRIES = 1 << 20  # of the distributions that are computed once


@dataclass(frozen=True)
class NgramTables:
    """The counts of an n-gram model, as a trie.

    A node is an n-gram; its children are the n-grams with one more token at the end. Node 0 is the
    empty one. The others are numbered level by level, and children of the same node by token, so
    that the children of a node lie together. N is the number of nodes without node 0.

    tokens:     (N,) the last token of each node but node 0
    counts:     (N,) how often each occurs, adjusted by Kneser-Ney, see `Ngram`
    parents:    (N,) the node without the last token
    discounts:  (order, 4) D for counts of 0, 1, 2 and more, for n-grams of each length
    """

    tokens: Ids
    counts: Indices
    parents: Ids
    discounts: NDArray[np.float32]

    def rounded(self) -> NgramTables:
        """The same with at most `MOST_VALUES` different counts, as a model file holds them."""
        values = _representatives(self.counts)
        between = (values[1:] + values[:-1]) / 2
        return replace(self, counts=values[np.searchsorted(between, self.counts)])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The tables in few bytes; about 2.3 for each n-gram of up to 256 different tokens.

        A count is stored as an index into the list of all different counts. The parents are
        stored as bits: for each node a 1 for each child and then a 0 (Jacobson 1989, LOUDS).
        """
        values, codes = np.unique(self.counts, return_inverse=True)
        bits = np.zeros(2 * len(self.tokens) + 1, np.uint8)
        bits[np.arange(len(self.tokens)) + self.parents] = 1
        return {
            "tokens": self.tokens.astype(np.min_scalar_type(int(self.tokens.max(initial=0)))),
            "counts": codes.astype(np.uint8),
            "values": values.astype(np.int32),
            "children": np.packbits(bits),
            "discounts": self.discounts,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], vocab: int) -> NgramTables:
        """The tables of `to_arrays`. Raises ModelError if they are damaged.

        vocab:  number of token ids of the model
        """
        try:
            tokens, codes, values = (arrays[name] for name in ("tokens", "counts", "values"))
            discounts, size = arrays["discounts"], len(tokens)
            bits = np.unpackbits(arrays["children"])[: 2 * size + 1].view(bool)
            parents, counts = np.flatnonzero(bits).astype(np.int32), values[codes]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"n-gram tables: {error}") from None
        whole = len(codes) == len(parents) == size > 0 and len(bits) == 2 * size + 1
        if not whole or discounts.shape != (len(discounts), 4) or not len(discounts):
            raise ModelError("n-gram tables: parts are missing")
        in_range = tokens.min() > START and tokens.max() < vocab and values.min() > 0
        # A discount of 0 would leave nothing for the tokens that did not occur.
        if not in_range or not ((discounts[:, 1:] > 0) & (discounts[:, 1:] <= [1, 2, 3])).all():
            raise ModelError("n-gram tables: values out of range")
        parents -= np.arange(size, dtype=np.int32)
        return cls(tokens, counts, parents, discounts)


class Ngram:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999, equations 26 to 28).

    p_n(w | u) = (c_n(uw) − D_n(c_n(uw))) / Σ_v c_n(uv) + γ_n(u) p_{n−1}(w | u′)

    u′ is u without its first token. γ_n(u) normalises the distribution. In the highest order, c
    is the number of occurrences of uw; in a lower order, the number of different tokens before
    uw. D_n is D₁, D₂ or D₃₊, estimated from the counts of counts. p_0 is uniform. A line end is
    an ordinary token, and read as `<START>` like any network does.

    tables:  see `NgramTables`
    vocab:   number of token ids V; id 0 is never predicted

    Its state is a list of one layer with one array, (B, order − 1): for each length the number of
    the context, 0 if the training text does not continue it. Number 1 is the empty context, and
    n + 1 is node n of the tables. It is a `Predictor`.

    Raises ModelError for tables that are not sorted, or that have too many levels.
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(self, tables: NgramTables, vocab: int) -> None:
        self.tables, self.vocab = tables, vocab
        self.order, nodes = len(tables.discounts), len(tables.tokens) + 1
        # By entry, which is a node but node 0: number of the parent and last token as one key,
        # which sorts the entries.
        parents = tables.parents.astype(np.int64) + 1
        self.keys = np.empty(nodes, np.int32 if (nodes + 2) * vocab < 2**31 else np.int64)
        keys = np.multiply(parents, vocab, out=self.keys[:-1], casting="unsafe")
        keys += tables.tokens
        self.keys[-1] = (nodes + 2) * vocab  # for searches behind all others
        if not (self.keys[1:] > self.keys[:-1]).all():  # type: ignore[operator]
            raise ModelError("n-gram tables: not sorted")
        self.inputs = np.arange(vocab, dtype=self.keys.dtype)
        self.inputs[START] = EOS  # a line end is read as <START>

        # By number of a context: its children are the entries first … first + sizes − 1.
        self.sizes = np.bincount(parents, minlength=nodes + 1).astype(np.int32)
        self.first = np.cumsum(self.sizes, dtype=np.int32)
        self.first -= self.sizes
        self.levels = self._levels()
        self.lengths = np.array(self.levels[1:])  # where the numbers of longer contexts begin
        discounts = np.empty(nodes - 1, np.float32)
        for row, (start, end) in zip(tables.discounts, pairwise(self.levels[1:]), strict=True):
            counts = tables.counts[start - 2 : end - 2]
            row.take(counts, mode="clip", out=discounts[start - 2 : end - 2])
        totals, left = (
            np.bincount(parents, of_children, nodes + 1).astype(np.float32)
            for of_children in (tables.counts, discounts)
        )
        # With γ(u) = Σ D / Σ c, p(w | u) = γ(u) ((c − D) / Σ D + p(w | u′)).
        self.backoffs = np.ones(nodes + 1, np.float32)
        np.divide(left, totals, out=self.backoffs, where=totals > 0)
        self.left = np.maximum(left, SMALLEST)  # Σ D, to the shorter context
        self.discounted = np.zeros(nodes, np.float32)  # c − D, by entry
        np.subtract(tables.counts, discounts, out=self.discounted[:-1], casting="same_kind")
        # The number of an entry as a context; 0 if nothing follows it.
        self.contexts = np.zeros(nodes, self.keys.dtype)
        self.contexts[:-1] = np.arange(2, nodes + 1, dtype=np.int32)
        self.contexts[:-1] *= self.sizes[2:] > 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what is computed from the tables."""
        return type(self), (self.tables, self.vocab)

    def __len__(self) -> int:
        """The number of n-grams."""
        return len(self.tables.tokens)

    def _levels(self) -> list[int]:
        """Where the numbers of each length begin: of the empty context, of unigrams and so on."""
        levels, end = [1, 2], len(self.keys) + 1
        while levels[-1] < end and len(levels) < self.order + 2:
            levels.append(int(self.first[levels[-1]]) + 2)
        levels += [end] * (self.order + 2 - len(levels))
        if levels[-1] != end:
            raise ModelError("n-gram tables: more lengths than discounts")
        return levels

    def initial_state(self, batch: int) -> State:
        """No context: the zero state."""
        return [(np.zeros((batch, self.order - 1), self.keys.dtype),)]

    def read(self, ids: Ids, state: State) -> tuple[NgramPrediction, State]:
        """See `Predictor.read`."""
        ((before,),) = state
        ids = self.inputs[ids]
        shorter = np.empty((*ids.shape, self.order - 1), self.keys.dtype)
        shorter[..., :1] = EMPTY
        if ids.shape[1] == 1:  # all lengths at once
            shorter[:, 0, 1:] = before[:, :-1]
            contexts = self._longer(shorter, ids[..., None])
        else:
            contexts = np.empty_like(shorter)
            for k in range(self.order - 1):
                if k:
                    shorter[:, 0, k], shorter[:, 1:, k] = before[:, k - 1], contexts[:, :-1, k - 1]
                contexts[..., k] = self._longer(shorter[..., k], ids)
        return NgramPrediction(self, contexts), [(contexts[:, -1],)]

    def _longer(self, contexts: Indices, ids: Ids) -> Indices:
        """Contexts with one more token; 0 where the training text does not continue them."""
        entries, known = self.find(contexts, ids)
        return self.contexts[entries] * known

    def find(self, contexts: Indices, ids: Ids) -> tuple[Indices, NDArray[np.bool_]]:
        """The entries of contexts with one more token, and whether there is one."""
        keys = contexts * self.vocab + ids
        entries = self.keys.searchsorted(keys)
        return entries, self.keys[entries] == keys

    def probabilities(self, contexts: Indices) -> Floats:
        """p of every token after contexts of each length, (N, order − 1) -> (N, V−1)."""
        sparse = contexts * (contexts >= len(self.dense))  # else 0, which has no children and γ = 1
        numbers: Indices = np.maximum.reduce(contexts - sparse, axis=1, initial=EMPTY)
        p = self.dense[numbers]
        if self.order == 1:
            return p
        # What contexts of this length and of longer ones leave: the product of their γ.
        left = np.multiply.accumulate(self.backoffs[sparse[:, ::-1]], axis=1)[:, ::-1]
        p *= left[:, :1]
        self._add_children(p, sparse, left)
        return p

    def _add_children(self, p: Floats, contexts: Indices, weights: Floats) -> None:
        """Add the weighted shares of the children of contexts (N, K) to the rows of p (N, V−1)."""
        sizes = self.sizes[contexts].ravel()
        ends = sizes.cumsum()
        entries = (self.first[contexts].ravel() + sizes - ends).repeat(sizes)
        entries += np.arange(len(entries))
        places = np.arange(-1, p.size - 1, p.shape[1]).repeat(contexts.shape[1]).repeat(sizes)
        places += self.tables.tokens[entries]
        shares = (weights / self.left[contexts]).ravel().repeat(sizes)
        shares *= self.discounted[entries]
        np.add.at(p.reshape(-1), places, shares)

    @cached_property
    def dense(self) -> Floats:
        """The distributions after the first contexts by number, (n, V−1).

        They have the most children, so they are computed only once.
        """
        size = max(min(DENSE_ENTRIES // self.vocab, len(self.backoffs)), 2)
        shorter = np.ones(size, self.keys.dtype)  # the context without its first token
        p = np.full((size, self.vocab - 1), 1 / (self.vocab - 1), np.float32)
        for length, (start, end) in enumerate(pairwise(self.levels)):
            numbers = np.arange(start, min(end, size))
            if length > 1 and len(numbers):
                parents, tokens = np.divmod(self.keys[numbers - 2], self.vocab)
                shorter[numbers] = self.find(shorter[parents], tokens)[0] + 2
            if length:
                p[numbers] = p[shorter[numbers]]
            p[numbers] *= self.backoffs[numbers, None]
            of_level = p[numbers]
            self._add_children(of_level, numbers[:, None], self.backoffs[numbers, None])
            p[numbers] = of_level
        return p


class NgramPrediction(Prediction):
    """What an n-gram model predicts.

    contexts:  (B, T, order − 1), the number of the context of each length, 0 where there is none
    """

    def __init__(self, ngram: Ngram, contexts: Indices) -> None:
        self.ngram, self.contexts = ngram, contexts

    @property
    def y(self) -> Floats:
        return np.zeros((*self.contexts.shape[:2], 0), np.float32)

    @property
    def matched(self) -> Indices:
        """The length of the longest context, (B, T)."""
        return self.ngram.lengths.searchsorted(self.longest, "right")

    @property
    def log_total(self) -> Floats:
        """log(1 + Σ of the counts after the longest context), (B, T)."""
        return np.log1p(self.ngram.left[self.longest] / self.backoff)

    @property
    def backoff(self) -> Floats:
        """γ of the longest context, (B, T)."""
        return self.ngram.backoffs[self.longest]

    @cached_property
    def longest(self) -> Indices:
        """The number of the longest context, (B, T)."""
        return np.maximum.reduce(self.contexts, axis=-1, initial=EMPTY)

    def logprobs(self, targets: Ids) -> Floats:
        model = self.ngram
        p: Floats = np.full(targets.shape, 1 / (model.vocab - 1), np.float32)
        for k in range(model.order):
            contexts = self.contexts[..., k - 1] if k else np.ones(targets.shape, np.int64)
            entries, known = model.find(contexts, targets.astype(model.keys.dtype))
            p += model.discounted[entries] * known / model.left[contexts]
            p *= model.backoffs[contexts]
        return np.log(np.maximum(p, SMALLEST))

    def logits(self) -> Floats:
        return np.log(np.maximum(self.probabilities(), SMALLEST))

    def probabilities(self) -> Floats:
        """p of every token, (B, T, V−1)."""
        shape = self.contexts.shape
        p = self.ngram.probabilities(self.contexts.reshape(shape[0] * shape[1], shape[2]))
        return p.reshape(*shape[:2], -1)

    def last(self) -> NgramPrediction:
        return NgramPrediction(self.ngram, self.contexts[:, -1:])


def _representatives(counts: Indices) -> Indices:
    """At most `MOST_VALUES` counts that stand for all: the counts themselves, or a geometric row.

    Small counts are exact.
    """
    values = np.unique(counts)
    size = 2 * MOST_VALUES
    while len(values) > MOST_VALUES:
        values = np.unique(np.geomspace(1, counts.max(), size).round().astype(np.int64))
        size -= 8
    return values
