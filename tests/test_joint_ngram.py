"""Joint n-grams and their lattice, beside an enumeration of all ways to write all targets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from charlm.model import joint_ngram, lattice
from charlm.model.joint_ngram import JointNgram
from charlm.model.ngram_counts import count
from charlm.tokenizer import EOS, START

VOCAB = 6  # targets have the ids 3, 4 and 5


@pytest.fixture(scope="module")
def model() -> JointNgram:
    """Letters 3 to 6: the second writes two symbols, the third none; some are written wrongly."""
    rng = np.random.default_rng(0)
    written = {3: [3], 4: [4, 5], 5: [], 6: [5]}
    sources, targets = [], []
    for _ in range(80):
        source = rng.integers(3, 7, rng.integers(1, 5))
        target: list[int] = []
        for letter in source.tolist():
            target += written[letter] if rng.random() < 0.8 else [int(rng.integers(3, 6))]
        sources.append(source)
        targets.append(np.array(target, np.int64))
    counted = JointNgram.count(sources, targets)
    assert counted is not None
    return counted


def ways(model: JointNgram, x: Sequence[int], y: Sequence[int]) -> Iterator[list[int]]:
    """The tokens of the n-gram model that write y for x, in all ways."""
    if not x and not y:
        yield []
    for id, chunk in enumerate(model.chunks.tolist(), 3):
        source, target = ([t for t in part if t] for part in (chunk[:2], chunk[2:]))
        if list(x[: len(source)]) == source and list(y[: len(target)]) == target:
            for rest in ways(model, x[len(source) :], y[len(target) :]):
                yield [id, *rest]


def joint_probability(model: JointNgram, x: Sequence[int], y: Sequence[int]) -> float:
    total = 0.0
    for way in ways(model, x, y):
        prediction, _ = model.ngram.read(np.array([[START, *way]]), model.ngram.initial_state(1))
        total += float(np.exp(prediction.logprobs(np.array([[*way, EOS]])).sum(dtype=np.float64)))
    return total


@pytest.mark.parametrize("source", [[3, 4, 6], [5, 3], [4, 4], [5]])
def test_the_lattice_has_the_conditional_probability_of_an_enumeration(
    model: JointNgram, source: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BEAM", 10**6), ("BEAM_NATS", 100.0), ("LEAST", 0.0)):
        monkeypatch.setattr(joint_ngram, name, value)
    monkeypatch.setattr(lattice, "PLACES", 256)
    lengths = range(2 * len(source) + 1)
    targets = [y for n in lengths for y in itertools.product((3, 4, 5), repeat=n)]
    joint = {y: joint_probability(model, source, y) for y in targets}
    total = sum(joint.values())
    chain = model.lattice([np.array(source)], VOCAB)
    for y, p in joint.items():
        prediction, _ = chain.read(np.array([[START, *y]]), chain.initial_state(1))
        found = np.exp(prediction.logprobs(np.array([[*y, EOS]])).sum(dtype=np.float64))
        assert found == pytest.approx(p / total, rel=1e-4, abs=1e-7)


def test_the_steps_of_a_place_sum_to_one_and_reading_goes_step_by_step(model: JointNgram) -> None:
    sources = [np.array([3, 4, 6, 5]), np.array([6]), np.array([5, 5, 4])]
    chain = model.lattice(sources, VOCAB)
    sums = np.add.reduceat(chain.p, chain.starts[:-1])
    np.testing.assert_allclose(sums[np.diff(chain.starts) > 0], 1, rtol=1e-5)
    ids = np.array([[START, 3, 4, 5], [START, 5, 3, 3], [START, 4, 5, 3]])
    whole, _ = chain.read(ids, chain.initial_state(3))
    state = chain.initial_state(3)
    for t in range(ids.shape[1]):
        step, state = chain.read(ids[:, t : t + 1], state)
        np.testing.assert_allclose(step.p[:, 0], whole.p[:, t], rtol=1e-5)
    reads = whole.p.sum(axis=2)
    assert np.all((abs(reads - 1) < 1e-4) | (reads == 0)) and reads[:, 0].min() > 0.99


def test_a_token_that_training_has_not_seen_is_passed_over(model: JointNgram) -> None:
    known, unknown = (model.lattice([np.array(x)], VOCAB) for x in ([3, 6], [3, 99, 6]))
    for chain in (known, unknown):
        prediction, _ = chain.read(np.array([[START, 3, 5]]), chain.initial_state(1))
        assert prediction.logprobs(np.array([[3, 5, EOS]])).sum() > np.log(0.3)


@pytest.mark.parametrize("between", [[], [8], [8, 8]])
@pytest.mark.parametrize("skipped", [-12.0, -1.5])
def test_a_way_that_skips_a_token_pays_for_it(
    between: list[int], skipped: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No chunk begins with 8. So 7 8 is read by a pair, which writes 3 or 4, or 7 is read alone,
    which writes 4 or 5, and then 8 is skipped. Each further 8 is skipped in all ways.

    A skipped token has log p = −12, which is written here once more.
    """
    for name, value in (("BEAM", 10**6), ("BEAM_NATS", 100.0), ("LEAST", 0.0)):
        monkeypatch.setattr(joint_ngram, name, value)
    if skipped != -12.0:
        monkeypatch.setattr(joint_ngram, "SKIPPED", skipped)
    chunks = np.array([[7, 0, 4, 0], [7, 0, 5, 0], [7, 8, 3, 0], [7, 8, 4, 0], [9, 0, 5, 0]])
    text = [5, 7, 6, 7, 3, 7, 4, 7, 4, 7, 4, 7, 6, 7]  # 7 is the chunk of 9
    lines = [id for k in range(0, len(text), 2) for id in (*text[k : k + 2], EOS)]
    ngram = count(np.array(lines), len(chunks) + 3, 3, independent_lines=True)
    model = JointNgram(chunks.astype(np.int32), ngram)

    def of_way(*way: int, skips: int) -> float:
        prediction, _ = ngram.read(np.array([[START, *way]]), ngram.initial_state(1))
        logprobs = prediction.logprobs(np.array([[*way, EOS]]))
        return math.exp(logprobs.sum(dtype=np.float64) + skipped * skips)

    n = len(between)
    joint = {
        (3, 5): of_way(5, 7, skips=n),
        (4, 5): of_way(6, 7, skips=n) + of_way(3, 7, skips=n + 1),
        (5, 5): of_way(4, 7, skips=n + 1),
    }
    chain = model.lattice([np.array([7, 8, *between, 9])], VOCAB)
    for y, p in joint.items():
        prediction, _ = chain.read(np.array([[START, *y]]), chain.initial_state(1))
        found = math.exp(prediction.logprobs(np.array([[*y, EOS]])).sum(dtype=np.float64))
        assert found == pytest.approx(p / sum(joint.values()), rel=1e-4)


def test_pairs_that_cannot_be_aligned_have_no_model() -> None:
    assert JointNgram.count([np.array([3])] * 9, [np.array([3, 4, 5])] * 9) is None


def test_a_model_is_restored_from_its_state(model: JointNgram) -> None:
    other = JointNgram.from_state(*model.with_powers((0.3, 0.8)).state())
    assert other.powers == (0.3, 0.8)
    sources = [np.array([3, 4, 6])]
    mine, theirs = (m.lattice(sources, VOCAB) for m in (model, other))
    np.testing.assert_allclose(mine.p, theirs.p)
    settings, arrays = model.state()
    for damaged in (model.chunks[:, :3], model.chunks[::-1]):
        with pytest.raises(ValueError):
            JointNgram.from_state(settings, {**arrays, "chunks": damaged})
