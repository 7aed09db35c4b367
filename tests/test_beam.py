"""Beam search: against all texts, its limits, and the order of equal ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
import pytest

from charlm.engines.beam import beam_search
from charlm.model.backend import Floats, Ids
from charlm.model.prediction import Prediction, Reader, State
from charlm.tokenizer import START

VOCAB, END = 5, 1  # tokens 2, 3 and 4 are letters


class Bigrams(Prediction):
    """A predictor, and its predictions: log p of the next token after each token, (V, V−1)."""

    at_once, one_text = 1, False

    def __init__(self, table: Floats, ids: Ids | None = None) -> None:
        self.table, self.ids = table, ids

    def initial_state(self, batch: int) -> State:
        return [(np.zeros((batch, 1)),)]

    def read(self, ids: Ids, state: State) -> tuple[Bigrams, State]:
        assert len(ids) == len(state[0][0])
        return Bigrams(self.table, ids), state

    @property
    def y(self) -> Floats:
        raise NotImplementedError

    def logprobs(self, targets: Ids) -> Floats:
        raise NotImplementedError

    def logits(self) -> Floats:
        return self.table[self.ids]

    def last(self) -> Bigrams:
        return self


@dataclass(frozen=True)
class Text:
    """The tokens of a text; it ends with `END`, or anywhere after a 4 if it may stop there."""

    ids: tuple[int, ...] = ()
    stops: bool = False

    @property
    def is_finished(self) -> bool:
        return self.ids[-1:] == (END,)

    def next_logprobs(self, logits: Floats) -> Floats:
        return logits

    def end_logprob(self, logits: Floats) -> float | None:
        return float(logits[0]) if self.stops and self.ids[-1:] == (4,) else None

    def extended(self, id: int) -> Self:
        return replace(self, ids=(*self.ids, id))


def random_table(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(VOCAB, VOCAB - 1)).astype(np.float32)
    return table - np.logaddexp.reduce(table, axis=1, keepdims=True)


def logprob_of(ids: tuple[int, ...], table: Floats) -> float:
    before = (START, *ids[:-1])
    return float(sum(table[a, b - 1] for a, b in zip(before, ids, strict=True)))


def reader(table: Floats) -> Reader:
    return Reader(Bigrams(table), np.array([START]))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_most_probable_texts(seed: int) -> None:
    table = random_table(seed)
    letters = [ids for k in range(7) for ids in product((2, 3, 4), repeat=k)]
    exact = {(*ids, END): logprob_of((*ids, END), table) for ids in letters}
    best = sorted(exact, key=lambda ids: -exact[ids])[:10]
    found = beam_search(reader(table), Text(), 400, longest=7, most=10)
    assert [text.ids for _, text in found] == best
    for logprob, text in found:
        assert logprob == pytest.approx(exact[text.ids], abs=1e-5)


def test_the_search_ends_when_no_longer_text_can_be_better() -> None:
    table = np.log(np.array([[0.7, 0.1, 0.1, 0.1]] * VOCAB, np.float32))
    ((logprob, text),) = beam_search(reader(table), Text(), 3, most=1)
    assert text.ids == (END,) and logprob == pytest.approx(np.log(0.7))


def test_a_text_may_end_without_a_token() -> None:
    table = random_table(1)
    found = beam_search(reader(table), Text(stops=True), 100, longest=3)
    ends = {text.ids: logprob for logprob, text in found if not text.is_finished}
    assert set(ends) == {(*ids, 4) for k in range(3) for ids in product((2, 3, 4), repeat=k)}
    for ids, logprob in ends.items():
        assert logprob == pytest.approx(logprob_of((*ids, END), table), abs=1e-5)


def test_of_equal_tokens_a_beam_of_one_takes_the_first() -> None:
    table = np.full((VOCAB, VOCAB - 1), -np.inf, np.float32)
    table[START, 1:] = np.log(1 / 3)
    table[2:, END - 1] = 0
    ((_, text),) = beam_search(reader(table), Text(), 1, most=1)
    assert text.ids == (2, END)
    found = beam_search(reader(table), Text(), 2, most=2)
    assert [text.ids for _, text in found] == [(2, END), (3, END)]


def test_a_finished_text_is_the_only_result() -> None:
    first = Text((END,))
    assert beam_search(reader(random_table(0)), first, 3) == [(0.0, first)]
