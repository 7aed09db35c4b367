"""An n-gram model: interpolated Kneser-Ney smoothing with modified discounts, in a trie."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import ModelError
from charlm.model.backend import Floats, Ids
from charlm.model.groups import repeated
from charlm.model.ngram_tables import EMPTY, NONE, Indices, NgramTables
from charlm.model.prediction import SMALLEST, Prediction, State
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.tokenizer import EOS, START

NO_NGRAM = "none"  # the order of a model without n-grams
ORDERS = (1, 9)  # the shortest and the longest n-gram that a model can have
FEW = 4  # contexts whose distributions are computed one by one
MANY = 1 << 12  # contexts for which a search among their children is faster
DIRECT_KEYS = 1 << 20  # that are looked up, and not searched
AT_ONCE = 1 << 15  # of them; what is computed of them fits into a cache
TABLE_ENTRIES = 1 << 20  # of the distributions that are computed once


class Ngram:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1999, equations 26 to 28).

    p_n(w | u) = (c_n(uw) − D_n(c_n(uw))) / Σ_v c_n(uv) + γ_n(u) p_{n−1}(w | u′)

    u′ is u without its first token. γ_n(u) normalises the distribution. In the highest order, c
    is the number of occurrences of uw; in a lower order, the number of different tokens before
    uw. D_n is D₁, D₂ or D₃₊, estimated from the counts of counts. p_0 is uniform. A line end is
    an ordinary token, and read as `<START>` like any network does.

    tables:  see `NgramTables`
    vocab:   number of token ids V; id 0 is never predicted

    Its state is one layer with one array, (B, order − 1): for each length the number of the
    context, `NONE` if the training text does not continue it. It is a `Predictor`.

    Raises ModelError for tables that are not sorted, or that have too many levels.
    """

    at_once, one_text = STEPS_AT_ONCE, False

    def __init__(self, tables: NgramTables, vocab: int) -> None:
        self.tables, self.vocab, self.order = tables, vocab, len(tables.discounts)
        self._children: dict[int, tuple[int, list[int]]] = {}  # of the contexts of `after`
        self.keys = self._keys()
        self.inputs = np.arange(vocab, dtype=self.keys.dtype)
        self.inputs[START] = EOS  # a line end is read as <START>

        # By number: the children of an n-gram are the numbers first … first + sizes − 1.
        numbers, parents = len(tables.tokens), tables.parents.astype(np.intp)
        self.sizes = np.bincount(parents, minlength=numbers).astype(np.int32)
        self.sizes[NONE] = 0
        self.first = np.cumsum(self.sizes, dtype=np.int32)
        self.first += EMPTY + 1 - self.sizes
        self.levels = self._levels()
        self.lengths = np.array(self.levels[1:])  # where the numbers of longer contexts begin
        discounts = self._discounts()
        totals, left = (
            np.bincount(parents, of_children, numbers).astype(np.float32)
            for of_children in (tables.counts, discounts)
        )
        # With γ(u) = Σ D / Σ c, p(w | u) = γ(u) ((c − D) / Σ D + p(w | u′)).
        self.backoffs = np.ones(numbers, np.float32)
        np.divide(left, totals, out=self.backoffs, where=totals > 0)
        self.left = np.maximum(left, SMALLEST)  # Σ D, to the shorter context
        self.shares = np.empty(numbers, np.float32)  # (c − D) / Σ D
        np.subtract(tables.counts, discounts, out=self.shares, casting="same_kind")
        self.shares /= self.left[parents]
        # The number of an n-gram as a context: `NONE` if nothing follows it.
        self.continued = np.where(self.sizes > 0, np.arange(numbers, dtype=self.keys.dtype), NONE)

    def _keys(self) -> Indices:
        """The parent and the last token of each n-gram as one number, (N + 2,), ascending.

        Those of `NONE` and `EMPTY` are 0, and smaller than all others.
        """
        tables, numbers = self.tables, len(self.tables.tokens)
        dtype = np.int32 if (numbers + 1) * self.vocab < 2**31 else np.int64
        keys = np.multiply(tables.parents, self.vocab, dtype=dtype, casting="unsafe")
        keys += tables.tokens
        if not (keys[2:] > keys[1:-1]).all():
            raise ModelError("n-gram tables: not sorted")
        return keys

    def _discounts(self) -> Floats:
        """D of each n-gram, (N + 2,)."""
        discounts = np.zeros(len(self.tables.tokens), np.float32)
        for row, (start, end) in zip(self.tables.discounts, pairwise(self.lengths), strict=True):
            row.take(self.tables.counts[start:end], mode="clip", out=discounts[start:end])
        return discounts

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what is computed from the tables."""
        return type(self), (self.tables, self.vocab)

    def __len__(self) -> int:
        """The number of n-grams."""
        return len(self.tables)

    def described(self) -> str:
        """What it has, in words."""
        return f"{len(self):,} of up to {self.order} tokens"

    def _levels(self) -> list[int]:
        """Where the numbers of each length begin: of the empty context, of unigrams and so on."""
        levels, end = [EMPTY, EMPTY + 1], len(self.tables.tokens)
        while levels[-1] < end and len(levels) < self.order + 2:
            levels.append(int(self.first[levels[-1]]))
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
        if ids.size == 1:
            shorter_one = [EMPTY, *before[0, :-1].tolist()] if self.order > 1 else []
            row = self._longer_one(shorter_one, int(ids[0, 0]))
            contexts = np.array([row], self.keys.dtype)
            return NgramPrediction(self, contexts[:, None], row=row), [(contexts,)]
        if ids.shape[1] == 1:  # all lengths at once
            shorter = np.empty_like(before)
            shorter[:, :1], shorter[:, 1:] = EMPTY, before[:, :-1]
            contexts = self.continued.take(self.find(shorter, ids))
            return NgramPrediction(self, contexts[:, None]), [(contexts,)]
        # Each length lies together in memory.
        shorter = np.moveaxis(np.empty((self.order - 1, *ids.shape), self.keys.dtype), 0, -1)
        shorter[..., :1] = EMPTY
        numbers, contexts = np.empty_like(shorter), np.empty_like(shorter)
        for k in range(self.order - 1):
            if k:
                shorter[:, 0, k], shorter[:, 1:, k] = before[:, k - 1], contexts[:, :-1, k - 1]
            numbers[..., k] = self.find(shorter[..., k], ids)
            contexts[..., k] = self.continued[numbers[..., k]]
        return NgramPrediction(self, contexts, (ids, numbers)), [(contexts[:, -1],)]

    def find(self, contexts: Indices, ids: Ids) -> Indices:
        """The numbers of contexts with one more token; `NONE` where there is no such n-gram.

        contexts, ids:  integers of the dtype of `keys`; no id is `<START>`
        """
        if contexts.size >= MANY:
            return self._find_many(*np.broadcast_arrays(contexts, ids))
        keys = contexts * self.vocab + ids
        children: Indices = self.keys.searchsorted(keys)
        children *= self.keys.take(children, mode="clip") == keys  # `NONE` is 0
        return children

    def _find_many(self, contexts: Indices, ids: Ids) -> Indices:
        """`find`, for many contexts of the same shape as the ids."""
        flat, tokens = contexts.ravel(), ids.ravel()
        found = np.empty_like(flat)
        for start in range(0, len(flat), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            if flat[part].max() < len(self.direct) // self.vocab:
                keys = flat[part] * self.vocab + tokens[part]
                self.direct.take(keys, out=found[part], mode="clip")
            else:
                found[part] = self._find_among_children(flat[part], tokens[part])
        return found.reshape(contexts.shape)

    def _find_among_children(self, contexts: Indices, ids: Ids) -> Indices:
        """`find`, for contexts and ids (N,), by a binary search among the children of each context.

        In a large table it is faster than one among all keys: the reads of one step do not wait for
        each other.
        """
        low, size, tokens = self.first[contexts], self.sizes[contexts], self.tables.tokens
        end = low + size
        for _ in range(int(size.max(initial=0)).bit_length()):
            half = size >> 1
            right = tokens.take(low + half, mode="clip") < ids
            right &= size > 0
            low += (half + 1) * right
            size = np.where(right, size - half - 1, half)
        is_found = tokens.take(low, mode="clip") == ids
        is_found &= low < end
        return np.where(is_found, low, NONE)

    @cached_property
    def direct(self) -> Indices:
        """The number of each n-gram at its key, for the first keys; `NONE` for other keys."""
        size = min(DIRECT_KEYS, int(self.keys[-1]) + 1)
        direct = np.full(size, NONE, self.keys.dtype)
        numbers = np.arange(EMPTY + 1, np.searchsorted(self.keys, size))
        direct[self.keys[numbers]] = numbers
        return direct

    def probabilities(self, contexts: Indices) -> Floats:
        """p of every token after contexts of each length, (N, order − 1) -> (N, V−1)."""
        if len(contexts) <= FEW:
            return np.stack([self.after(row) for row in contexts.tolist()])
        in_table = contexts < len(self.table)
        shorter, longer = np.where(in_table, contexts, NONE), np.where(in_table, NONE, contexts)
        p = self.table[np.maximum.reduce(shorter, axis=1, initial=EMPTY)]
        if self.order == 1:
            return p
        # What contexts of this length and of longer ones leave: the product of their γ. `NONE` has
        # γ = 1 and no children.
        left = np.multiply.accumulate(self.backoffs[longer[:, ::-1]], axis=1)[:, ::-1]
        p *= left[:, :1]
        self._add_children(p, longer, left)
        return p

    @cached_property
    def _views(self) -> list[memoryview]:
        """Arrays whose single numbers are read: a view is ten times as fast as the array."""
        arrays: tuple[NDArray[Any], ...] = (
            self.first, self.sizes, self.backoffs, self.tables.tokens, self.shares, self.continued,
            self.direct, self.log_totals,
        )  # fmt: skip
        return [np.ascontiguousarray(array).data for array in arrays]

    def after(self, contexts: list[int]) -> Floats:
        """p of every token after one context of each length, (V−1,).

        The children are remembered: one of them is probably read next.
        """
        first, sizes, backoffs, all_tokens, all_shares, *_ = self._views
        left, base, in_table = 1.0, EMPTY, len(self.table)
        longer = []  # with the product of γ of a context and of all longer ones
        for number in reversed(contexts):
            if number >= in_table:
                left *= backoffs[number]
                start = first[number]
                longer.append((number, left, start, start + sizes[number]))
            elif number:
                base = number
                break
        self._children = {}
        p = (self.table[base] * np.float32(left)).tolist()
        for number, weight, start, end in longer:
            tokens = all_tokens[start:end].tolist()
            self._children[number] = start, tokens
            for token, share in zip(tokens, all_shares[start:end].tolist(), strict=True):
                p[token - 1] += weight * share
        return np.array(p, np.float32)

    def _longer_one(self, contexts: list[int], id: int) -> list[int]:
        """Contexts of each length with one more token, `NONE` where there is none."""
        *_, continued, direct, _ = self._views
        vocab, children, in_direct = self.vocab, self._children, len(direct)
        found = []
        for number in contexts:
            if number == NONE:
                found.append(NONE)
            elif (key := number * vocab + id) < in_direct:
                found.append(continued[direct[key]])
            elif number in children:
                start, tokens = children[number]
                found.append(continued[start + tokens.index(id)] if id in tokens else NONE)
            else:
                dtype = self.keys.dtype
                (child,) = self.find(np.array([number], dtype), np.array([id], dtype)).tolist()
                found.append(continued[child])
        return found

    def log_total(self, number: int) -> float:
        """`log_totals` of one context."""
        return float(self._views[-1][number])

    @cached_property
    def log_totals(self) -> Floats:
        """log(1 + Σ of the counts after each context), (N + 2,)."""
        return np.log1p(self.left / self.backoffs)

    def _add_children(self, p: Floats, contexts: Indices, weights: Floats) -> None:
        """Add the weighted shares of the children of contexts (N, K) to the rows of p (N, V−1)."""
        sizes = self.sizes[contexts].ravel()
        ends = sizes.cumsum()
        children = (self.first[contexts].ravel() + sizes - ends).repeat(sizes)
        children += np.arange(len(children))
        # Token k is column k − 1.
        entries = np.arange(-1, p.size - 1, p.shape[1]).repeat(contexts.shape[1]).repeat(sizes)
        entries += self.tables.tokens[children]
        shares = weights.ravel().repeat(sizes)
        shares *= self.shares[children]
        np.add.at(p.reshape(-1), entries, shares)

    def probabilities_between(self, contexts: Indices, starts: Ids, ends: Ids) -> Floats:
        """p of the ids starts[n] … ends[n] − 1 after contexts n; those of the first context, then
        those of the second one and so on.

        contexts:      (N, order − 1)
        starts, ends:  (N,) not below 1
        """
        dtype = self.keys.dtype
        starts, sizes = starts.astype(dtype), ends - starts
        widths = sizes.astype(dtype)
        firsts = sizes.cumsum() - sizes - starts  # of context n, id k is at firsts[n] + k
        p = np.full(int(sizes.sum()), 1 / (self.vocab - 1), np.float32)
        for k in range(self.order):
            context = contexts[:, k - 1] if k else np.full(len(starts), EMPTY, dtype)
            keys = context * self.vocab + starts
            children = self.keys.searchsorted(keys)
            rows, offsets = repeated(self.keys.searchsorted(keys + widths) - children)
            found = children[rows] + offsets
            places = firsts[rows] + self.tables.tokens[found]
            p[places] += self.shares[found]
            p *= self.backoffs[context].repeat(sizes)
        return p

    @cached_property
    def table(self) -> Floats:
        """The distributions after the first contexts by number, (n, V−1).

        They have the most children, so they are computed only once.
        """
        size = max(min(TABLE_ENTRIES // self.vocab, len(self.backoffs)), 2)
        shorter = np.full(size, EMPTY, self.keys.dtype)  # the context without its first token
        p = np.full((size, self.vocab - 1), 1 / (self.vocab - 1), np.float32)
        for length, (start, end) in enumerate(pairwise(self.levels)):
            numbers = np.arange(start, min(end, size))
            if length > 1 and len(numbers):
                parents, tokens = np.divmod(self.keys[numbers], self.vocab)
                shorter[numbers] = self.find(shorter[parents], tokens)
            if length:
                p[numbers] = p[shorter[numbers]]
            p[numbers] *= self.backoffs[numbers, None]
            of_level = p[numbers]
            self._add_children(of_level, numbers[:, None], self.backoffs[numbers, None])
            p[numbers] = of_level
        return p


class NgramPrediction(Prediction):
    """What an n-gram model predicts.

    contexts:  (B, T, order − 1), the number of the context of each length, `NONE` without one
    read:      the tokens that were read, (B, T), a line end as `<EOS>`; and the n-gram of each
               length that ends with them, (B, T, order − 1). None if unknown
    row:       the contexts of a single position as a list
    """

    def __init__(
        self,
        ngram: Ngram,
        contexts: Indices,
        read: tuple[Ids, Indices] | None = None,
        row: list[int] | None = None,
    ) -> None:
        self.ngram, self.contexts, self._read, self.row = ngram, contexts, read, row

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
        return self.ngram.log_totals[self.longest]

    @property
    def backoff(self) -> Floats:
        """γ of the longest context, (B, T)."""
        return self.ngram.backoffs[self.longest]

    @cached_property
    def longest(self) -> Indices:
        """The number of the longest context, (B, T)."""
        return np.maximum.reduce(self.contexts, axis=-1, initial=EMPTY)

    def logprobs(self, targets: Ids) -> Floats:
        model, ids = self.ngram, targets.astype(self.ngram.keys.dtype)
        p: Floats = np.full(targets.shape, 1 / (model.vocab - 1), np.float32)
        for k in range(model.order):
            contexts = self.contexts[..., k - 1] if k else np.full(targets.shape, EMPTY, ids.dtype)
            children = self._children(k, contexts, ids)
            p += model.shares[children]
            p *= model.backoffs[contexts]
        return np.log(np.maximum(p, SMALLEST))

    def _children(self, k: int, contexts: Indices, ids: Ids) -> Indices:
        """The numbers of the contexts of length k with one more token, (B, T).

        Tokens that are read next have been found already, but for the longest n-grams.
        """
        if self._read is None or k == self.ngram.order - 1 or not ids.size:
            return self.ngram.find(contexts, ids)
        read, numbers = self._read
        if not np.array_equal(ids[:, :-1], read[:, 1:]):
            return self.ngram.find(contexts, ids)
        last = self.ngram.find(contexts[:, -1:], ids[:, -1:])
        return np.concatenate([numbers[:, 1:, k], last], axis=1)

    def one(self) -> tuple[Floats, float, int] | None:
        """Of a single position: its logits, (V−1,), `log_total` and `matched`.

        None for more positions.
        """
        if self.row is None:
            return None
        logprobs = np.log(np.maximum(self.ngram.after(self.row), SMALLEST))
        return logprobs, *self.features_of_one(self.row)

    def features_of_one(self, row: list[int]) -> tuple[float, int]:
        """`log_total` and `matched` of a single position with these contexts."""
        return self.ngram.log_total(max([EMPTY, *row])), len(row) - row.count(NONE)

    def logits(self) -> Floats:
        return np.log(np.maximum(self.probabilities(), SMALLEST))

    def probabilities(self) -> Floats:
        """p of every token, (B, T, V−1)."""
        shape = self.contexts.shape
        p = self.ngram.probabilities(self.contexts.reshape(shape[0] * shape[1], shape[2]))
        return p.reshape(*shape[:2], -1)

    def last(self) -> NgramPrediction:
        return NgramPrediction(self.ngram, self.contexts[:, -1:])
