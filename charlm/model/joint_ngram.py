"""A joint n-gram model: its tokens are pairs, a chunk of a source and a chunk of its target.

    p(x, y) = Σ Π_k p(q_k | q_{k−1}, q_{k−2}, …)

over all ways to cut x and y into pairs of chunks q₁ … q_n (Bisani and Ney 2008).
`charlm.model.alignment` cuts the training pairs, and n-grams of the chunks are counted.

For one source x, all ways to read it form a lattice: a place is a position in x and a context of
the n-grams, and a step reads a chunk of x and writes a chunk of y. The probability of each step is
multiplied by that of everything that may follow it, and normalised. So the lattice gives y the
probability p(y | x) = p(x, y) / Σ_y′ p(x, y′), token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from charlm.model.alignment import Indices, align
from charlm.model.backend import Ids
from charlm.model.groups import best_of_each, log_sums, repeated
from charlm.model.lattice import Lattice
from charlm.model.ngram import Ngram, NgramPrediction
from charlm.model.ngram_counts import count
from charlm.model.ngram_tables import NgramTables
from charlm.model.prediction import SMALLEST
from charlm.tokenizer import EOS, SPECIALS, START

Floats = NDArray[np.float64]
ORDER = 6
BEAM, BEAM_NATS = 24, 9.0  # contexts after each token of a source, and how far behind the best one
ALIGNED = 0.75  # of the pairs, at the least
LONGEST_RATIO = 2  # tokens of a target for each of its source, in a pair that can be aligned
SKIPPED = -12.0  # log p of a token of the source that no chunk can begin with
LEAST = 1e-6  # probability of a step


class JointNgram:
    """The n-gram model of pairs of chunks.

    chunks:  (G, 4) int32, the pair of chunks of each token of the n-gram model, from id 3 on: two
             tokens of the source and two of the target, 0 for none; ascending
    ngram:   over these
    powers:  (of the network, of this model): p ∝ p_network^a · p_joint^b
    """

    def __init__(
        self, chunks: NDArray[np.int32], ngram: Ngram, powers: tuple[float, float] = (0.5, 0.5)
    ) -> None:
        self.chunks, self.ngram, self.powers = chunks, ngram, powers
        self._keys = _keys(chunks[:, 0], chunks[:, 1])

    @classmethod
    def count(cls, sources: Sequence[Ids], targets: Sequence[Ids]) -> Self | None:
        """Count the chunks of pairs of texts. None if most of them cannot be aligned.

        sources, targets:  ids without line ends
        """
        tokens, pairs = align(sources, targets)
        if len(np.unique(pairs)) < ALIGNED * len(sources):
            return None
        chunks, numbers = np.unique(tokens, axis=0, return_inverse=True)
        ends = np.flatnonzero(np.diff(pairs, append=-1)) + 1
        ids = np.insert(numbers.ravel() + len(SPECIALS), ends, EOS)
        vocab = len(chunks) + len(SPECIALS)
        return cls(chunks, count(ids, vocab, ORDER, independent_lines=True))

    def with_powers(self, powers: tuple[float, float]) -> Self:
        """The same model with other `powers`."""
        return type(self)(self.chunks, self.ngram, powers)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = {"chunks": self.chunks, **self.ngram.tables.to_arrays()}
        return {"powers": list(self.powers)}, arrays

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Restore a model from its `state`. Raises ValueError for a damaged state."""
        chunks = arrays["chunks"]
        if chunks.ndim != 2 or chunks.shape[1] != 4:
            raise ValueError("its chunks are no pairs of two tokens")
        if (np.diff(_keys(chunks[:, 0], chunks[:, 1])) < 0).any():
            raise ValueError("its chunks are not sorted")
        vocab = len(chunks) + len(SPECIALS)
        a, b = map(float, settings["powers"])
        return cls(chunks, Ngram(NgramTables.from_arrays(arrays, vocab), vocab), (a, b))

    def candidates(self, first: Indices, second: Indices) -> tuple[Indices, Indices]:
        """The chunks that read tokens of sources (n,): the first id of each, and the one after the
        last.

        first, second:  the tokens; a second one of 0 for none, a first one of 0 for no candidate
        """
        keys = _keys(first, second)
        starts, ends = (self._keys.searchsorted(keys, side) for side in ("left", "right"))
        return starts + len(SPECIALS), ends + len(SPECIALS)

    def lattice(self, sources: Sequence[Ids], vocab: int) -> Lattice:
        """What it writes for some sources. vocab: number of target ids"""
        return _Builder(self, sources).lattice(vocab)


def _keys(first: NDArray[Any], second: NDArray[Any]) -> Indices:
    """Two tokens as one number, in the same order."""
    return (first.astype(np.int64) << 32) + second


class _Nodes(NamedTuple):
    """Contexts of the n-gram model after the same number of tokens of the sources.

    first:     their numbers begin here
    sources:   (n,) the source of each
    logprobs:  (n,) of all ways to them
    contexts:  (n, order − 1)
    """

    first: int
    sources: Indices
    logprobs: Floats
    contexts: Indices


@dataclass
class _Edges:
    """Pairs of chunks that lead from nodes to later ones.

    nodes, ends:  (E,) numbers of nodes; an end is −1 while it is not known, and if it is pruned
    chunks:       (E,) ids; `START` for a token that is skipped
    logprobs:     (E,) of the n-gram model
    reach:        (E,) the tokens of the source that have been read after them
    sources:      (E,)
    totals:       (E,) log p of all ways to the edge, and of itself
    contexts:     (E, order − 1) after them
    """

    nodes: Indices
    chunks: Indices
    logprobs: Floats
    reach: Indices
    sources: Indices
    totals: Floats
    contexts: Indices
    ends: Indices = field(init=False)

    def __post_init__(self) -> None:
        self.ends = np.full(len(self.nodes), -1)


class _Builder:
    """Builds the lattice of sources: contexts and edges from left to right, then from the end.

    x:  (S + 2, n) the sources, filled up with 0
    """

    def __init__(self, model: JointNgram, sources: Sequence[Ids]) -> None:
        self.model, self.ngram = model, model.ngram
        self.lengths = np.array([len(source) for source in sources], np.int64)
        self.x = np.zeros((int(self.lengths.max(initial=0)) + 2, len(sources)), np.int64)
        for column, source in enumerate(sources):
            self.x[: len(source), column] = source
        self.edges: list[_Edges] = []  # by the tokens that have been read before them

    def lattice(self, vocab: int) -> Lattice:
        n = len(self.lengths)
        _, ((contexts,),) = self.ngram.read(np.zeros((n, 1), np.int64), self.ngram.initial_state(n))
        nodes = _Nodes(0, np.arange(n), np.zeros(n), contexts)
        levels = []
        for read in range(len(self.x) - 1):
            if read:
                nodes = self._joined(read, nodes.first + len(nodes.sources))
            levels.append(nodes)
            self.edges.append(self._extended(read, nodes))
        return self._backwards(levels, vocab)

    def _extended(self, read: int, nodes: _Nodes) -> _Edges:
        """The edges from nodes."""
        sources, x = nodes.sources, self.x
        first, second = x[read][sources], x[read + 1][sources]
        none = np.zeros_like(first)
        single = self.model.candidates(first, none)
        double = self.model.candidates(np.where(second > 0, first, 0), second)
        starts, ends = (np.concatenate(pair) for pair in zip(single, double, strict=True))
        twice = np.tile(nodes.contexts, (2, 1))
        p = self.ngram.probabilities_between(twice, starts, ends)
        logprobs = np.log(np.maximum(p, SMALLEST)).astype(np.float64)
        rows, offsets = repeated(ends - starts)
        chunks = starts[rows] + offsets
        doubled, rows = np.divmod(rows, len(sources))
        reach = read + 1 + doubled
        best = np.full(len(self.lengths), -np.inf)
        np.maximum.at(best, sources[rows], nodes.logprobs[rows] + logprobs)
        kept = nodes.logprobs[rows] + logprobs > best[sources[rows]] - BEAM_NATS
        rows, chunks, logprobs, reach = rows[kept], chunks[kept], logprobs[kept], reach[kept]
        _, ((contexts,),) = self.ngram.read(chunks[:, None], [(nodes.contexts[rows],)])
        stuck = np.ones(len(sources), bool)
        stuck[rows] = False
        stuck &= (self.lengths[sources] > read) & ~np.isfinite(best[sources])
        (skipping,) = np.nonzero(stuck)
        rows = np.append(rows, skipping)
        logprobs = np.append(logprobs, np.full(len(skipping), SKIPPED))
        return _Edges(
            nodes.first + rows,
            np.append(chunks, np.full(len(skipping), START)),
            logprobs,
            np.append(reach, np.full(len(skipping), read + 1)),
            sources[rows],
            nodes.logprobs[rows] + logprobs,
            np.concatenate([contexts, nodes.contexts[skipping]]),
        )

    def _joined(self, read: int, first: int) -> _Nodes:
        """The nodes after this many tokens: the best contexts that edges reach. first: number"""
        groups = [(edges, edges.reach == read) for edges in self.edges[-2:]]
        sources, totals, contexts = (
            np.concatenate([getattr(edges, name)[here] for edges, here in groups])
            for name in ("sources", "totals", "contexts")
        )
        # The longest context of an edge stands for all: the shorter ones are its ends.
        keys = sources * (len(self.ngram) + 2) + contexts.max(axis=1, initial=0)
        keys, places, inverse = np.unique(keys, return_index=True, return_inverse=True)
        logprobs = log_sums(inverse, totals, len(keys))
        of_keys = sources[places]
        kept, ranks = best_of_each(of_keys, logprobs, BEAM)
        best = np.full(len(self.lengths), -np.inf)
        best[of_keys[kept[ranks == 0]]] = logprobs[kept[ranks == 0]]
        kept = kept[logprobs[kept] > best[of_keys[kept]] - BEAM_NATS]
        numbers = np.full(len(keys), -1)
        numbers[kept] = first + np.arange(len(kept))
        start = 0
        for edges, here in groups:
            end = start + int(np.count_nonzero(here))
            edges.ends[here] = numbers[inverse[start:end]]
            start = end
        return _Nodes(first, of_keys[kept], logprobs[kept], contexts[places[kept]])

    def _backwards(self, levels: Sequence[_Nodes], vocab: int) -> Lattice:
        """The lattice, from the end: β of a node is log p of all that may follow it.

        A step writes one token. A pair of chunks that writes two of them is two steps, with a place
        between them. One that writes none is joined with each step that may follow.
        """
        places = levels[-1].first + len(levels[-1].sources)
        beta = np.full(places, -np.inf)
        later, found = _Steps.none(), []
        for read in range(len(levels) - 1, -1, -1):
            nodes, edges = levels[read], self.edges[read]
            ending = self.lengths[nodes.sources] == read
            prediction = NgramPrediction(self.ngram, nodes.contexts[ending, None])
            line_ends = prediction.logprobs(np.full((int(ending.sum()), 1), EOS))[:, 0]
            follows = edges.logprobs + np.append(beta, -np.inf)[edges.ends]
            of_nodes = log_sums(edges.nodes - nodes.first, follows, len(ending))
            of_nodes[ending] = line_ends
            beta[nodes.first : nodes.first + len(ending)] = of_nodes
            with np.errstate(invalid="ignore"):
                p = np.exp(follows - of_nodes[edges.nodes - nodes.first])
            kept = p > LEAST
            targets = self._targets[edges.chunks[kept]]
            numbers = nodes.first + np.flatnonzero(ending)
            written = _written(edges.nodes[kept], targets, edges.ends[kept], p[kept], places)
            silent = targets[:, 0] == 0
            inherited = later.joined(
                edges.nodes[kept][silent], edges.ends[kept][silent], p[kept][silent]
            )
            of_ends = _Steps(numbers, np.full(len(numbers), EOS), numbers, np.ones(len(numbers)))
            places += int(np.count_nonzero(targets[:, 1]))
            later = _Steps.of([of_ends, inherited, written[0]])
            found += [later, written[1]]
        all_steps = _Steps.of(found)
        starts = np.append(0, np.bincount(all_steps.places, minlength=places).cumsum())
        totals = np.bincount(all_steps.places, all_steps.p, places)
        p = (all_steps.p / totals[all_steps.places]).astype(np.float32)
        firsts = np.arange(len(self.lengths))
        return Lattice(firsts, starts, all_steps.symbols, all_steps.nexts, p, vocab)

    @property
    def _targets(self) -> Indices:
        """(…, 2) the tokens that each chunk writes, by its id; 0 for none."""
        none = np.zeros((len(SPECIALS), 2), np.int64)
        return np.concatenate([none, self.model.chunks[:, 2:]])


class _Steps(NamedTuple):
    """Steps of a lattice, each of which writes one token. They are sorted by where they start.

    places:   (n,) the place that each step starts from
    symbols:  (n,) the token of the target that it writes
    nexts:    (n,) the place that it leads to
    p:        (n,) its probability
    """

    places: Indices
    symbols: Indices
    nexts: Indices
    p: Floats

    @classmethod
    def none(cls) -> _Steps:
        none = np.zeros(0, np.int64)
        return cls(none, none, none, np.zeros(0))

    @classmethod
    def of(cls, several: Sequence[_Steps]) -> _Steps:
        """All of these; equal ones are added up."""
        places, symbols, nexts = (np.concatenate([steps[k] for steps in several]) for k in range(3))
        p = np.concatenate([steps.p for steps in several])
        # Places are numbered within one batch, so three numbers fit into 64 bits.
        after, written = nexts.max(initial=0) + 1, symbols.max(initial=0) + 1
        keys = (places * written + symbols) * after + nexts
        keys, inverse = np.unique(keys, return_inverse=True)
        rest, nexts = np.divmod(keys, after)
        places, symbols = np.divmod(rest, written)
        sums = np.bincount(inverse, p, len(keys)).astype(np.float64)
        return cls(places, symbols, nexts, sums)

    def joined(self, places: Indices, ends: Indices, p: Floats) -> _Steps:
        """The steps from `places` that go on, unseen, to `ends` with probability p."""
        starts = np.searchsorted(self.places, ends)
        counts = np.searchsorted(self.places, ends, side="right") - starts
        rows, offsets = repeated(counts)
        which = starts[rows] + offsets
        return _Steps(places[rows], self.symbols[which], self.nexts[which], p[rows] * self.p[which])


def _written(
    nodes: Indices, targets: Indices, ends: Indices, p: Floats, places: int
) -> tuple[_Steps, _Steps]:
    """The steps of pairs of chunks that write: those from nodes, and those from new places.

    places:  the number of the first new place, which is between two tokens
    """
    double = targets[:, 1] > 0
    between = places + np.arange(np.count_nonzero(double))
    nexts = ends.copy()
    nexts[double] = between
    single = targets[:, 0] > 0
    return (
        _Steps(nodes[single], targets[single, 0], nexts[single], p[single]),
        _Steps(between, targets[double, 1], ends[double], np.ones(len(between))),
    )
