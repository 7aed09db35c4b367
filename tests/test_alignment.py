"""Alignment of sources and targets, beside an enumeration of all ways to cut them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from charlm.model import alignment
from charlm.model.alignment import BITS, STEPS, align

Cut = list[tuple[tuple[int, ...], tuple[int, ...]]]


def cuts(x: tuple[int, ...], y: tuple[int, ...]) -> Iterator[Cut]:
    """All ways to cut two texts into chunks."""
    if not x and not y:
        yield []
    for i, j in STEPS:
        if i <= len(x) and j <= len(y):
            for rest in cuts(x[i:], y[j:]):
                yield [(x[:i], y[:j]), *rest]


def code(chunk: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
    number = 0
    for part in chunk:
        for k in range(2):
            number = (number << BITS) + (part[k] if k < len(part) else 0)
    return number


PAIRS = [
    ((1, 2, 3), (7, 8)), ((1, 2), (7, 8)), ((4, 5, 1), (9, 7)), ((4, 5), (9,)), ((1, 1), (7, 7, 7)),
    ((2,), (8, 8, 8)), ((3, 3, 3, 3), (8,)),
]  # fmt: skip


def test_expected_counts_are_those_of_an_enumeration() -> None:
    sources, targets = ([np.array(side) for side in sides] for sides in zip(*PAIRS, strict=True))
    batch = alignment._Batch(sources, targets, np.arange(len(PAIRS)))
    known = np.unique(np.append(0, batch.all_codes()))
    p = np.random.default_rng(0).random(len(known))
    p[0] = 0
    expected, of_code = np.zeros(len(known)), {int(c): k for k, c in enumerate(known)}
    for x, y in PAIRS:
        ways = list(cuts(x, y))
        weights = [np.prod([p[of_code[code(chunk)]] for chunk in way]) for way in ways]
        for way, weight in zip(ways, weights, strict=True):
            for chunk in way:
                expected[of_code[code(chunk)]] += weight / sum(weights)
    found = np.zeros(len(known))
    batch.add_expected(p, batch.numbers(known), found)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_best_alignment_is_that_of_an_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PENALTY", 1.0)
    sources, targets = ([np.array(side) for side in sides] for sides in zip(*PAIRS, strict=True))
    batch = alignment._Batch(sources, targets, np.arange(len(PAIRS)))
    known = np.unique(np.append(0, batch.all_codes()))
    logp = np.log(np.random.default_rng(1).random(len(known)))
    of_code = {int(c): k for k, c in enumerate(known)}
    chunks = batch.best(logp, batch.numbers(known))
    for k, (x, y) in enumerate(PAIRS):
        scores = [sum(logp[of_code[code(chunk)]] for chunk in way) for way in cuts(x, y)]
        rows = chunks.tokens[chunks.pairs == k].tolist()
        found = [(tuple(filter(None, row[:2])), tuple(filter(None, row[2:]))) for row in rows]
        assert found in (list(cuts(x, y)) or [[]])
        score = sum(logp[of_code[code(chunk)]] for chunk in found)
        assert score == pytest.approx(max(scores, default=0))


def test_letters_are_aligned_with_what_they_always_write() -> None:
    """Each letter writes its own symbol, x writes two, and h after s writes nothing."""
    written = {1: (11,), 2: (12,), 3: (13,), 4: (14, 15), 5: ()}
    letters = [1, 2, 3, 4]
    sources, targets = [], []
    for word in itertools.product(letters, repeat=3):
        spelt = [part for letter in word for part in ((letter, 5) if letter == 2 else (letter,))]
        sources.append(np.array(spelt))
        targets.append(np.array([symbol for letter in word for symbol in written[letter]]))
    chunks = align(sources, targets)
    found = {tuple(row) for row in chunks.tokens.tolist()}
    assert {(1, 0, 11, 0), (3, 0, 13, 0), (4, 0, 14, 15)} < found
    assert found <= {(1, 0, 11, 0), (3, 0, 13, 0), (4, 0, 14, 15), (2, 5, 12, 0)} | {
        (2, 0, 12, 0), (5, 0, 0, 0),
    }  # fmt: skip
    assert np.array_equal(np.unique(chunks.pairs), np.arange(len(sources)))


def test_pairs_that_cannot_be_aligned_are_missing() -> None:
    chunks = align([np.array([1]), np.array([1])], [np.array([7, 7, 7]), np.array([7])])
    assert chunks.pairs.tolist() == [1] and chunks.tokens.tolist() == [[1, 0, 7, 0]]


def test_long_texts_do_not_underflow() -> None:
    text = np.random.default_rng(0).integers(1, 30, 800)
    chunks = align([text], [text + 30])
    assert chunks.tokens[:, 0].tolist() == text.tolist()
    assert chunks.tokens[:, 2].tolist() == (text + 30).tolist()
