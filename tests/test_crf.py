"""A conditional random field against sums over all sequences of tags."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlm.model.crf import Transitions, best_tags, log_marginals, log_partition, scores
from charlm.model.tagger import Crf

K = 3
LENGTHS = (4, 1, 6, 2, 5)
STEPS = max(LENGTHS) + 2  # more than any sequence has
Path = tuple[int, ...]


class Batch(NamedTuple):
    """Sequences of different lengths, filled up with much larger numbers."""

    emissions: NDArray[np.float64]
    lengths: NDArray[np.int64]
    tags: NDArray[np.int64]
    crf: Transitions

    def sequence(self, column: int) -> list[list[float]]:
        """The emissions of one sequence, without what fills it up."""
        rows: list[list[float]] = self.emissions[: self.lengths[column], column].tolist()
        return rows


def batch(scale: float = 1.5, filling: float = 100.0, seed: int = 0) -> Batch:
    rng, lengths = np.random.default_rng(seed), np.array(LENGTHS)
    crf = Transitions(*(rng.normal(scale=scale, size=size) for size in (K, K, (K, K))))
    emissions = rng.normal(scale=scale, size=(STEPS, len(lengths), K))
    tags = rng.integers(K, size=(STEPS, len(lengths)))
    beyond = np.arange(STEPS)[:, None] >= lengths
    other = np.random.default_rng(int(filling))
    emissions[beyond] = other.normal(scale=filling, size=(beyond.sum(), K))
    tags[beyond] = other.integers(K, size=beyond.sum())
    return Batch(emissions, lengths, tags, crf)


# --- all sequences of tags, one by one ---


def score_of(emissions: list[list[float]], path: Path, crf: Transitions) -> float:
    total = float(crf.start[path[0]] + crf.end[path[-1]])
    total += sum(row[tag] for row, tag in zip(emissions, path, strict=True))
    return total + sum(float(crf.transitions[a, b]) for a, b in pairwise(path))


def all_paths(emissions: list[list[float]], crf: Transitions) -> dict[Path, float]:
    """Every sequence of tags with its score."""
    paths = product(range(K), repeat=len(emissions))
    return {path: score_of(emissions, path, crf) for path in paths}


def log_sum(values: Any) -> float:
    values = list(values)
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def log_marginal(paths: dict[Path, float], step: int, tag: int) -> float:
    own = [score for path, score in paths.items() if path[step] == tag]
    return log_sum(own) - log_sum(paths.values())


every_scale = pytest.mark.parametrize("scale", [1.5, 30.0])


@every_scale
def test_the_partition_is_the_sum_over_all_sequences_of_tags(scale: float) -> None:
    data = batch(scale)
    expected = [
        log_sum(all_paths(data.sequence(k), data.crf).values()) for k in range(len(LENGTHS))
    ]
    found = log_partition(data.emissions, data.lengths, data.crf)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_scale
def test_the_score_of_tags_adds_up_step_by_step(scale: float) -> None:
    data = batch(scale)
    expected = [
        score_of(data.sequence(k), tuple(data.tags[:n, k].tolist()), data.crf)
        for k, n in enumerate(LENGTHS)
    ]
    found = scores(data.emissions, data.lengths, data.tags, data.crf)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_scale
def test_the_marginals_are_shares_of_the_sum(scale: float) -> None:
    data = batch(scale)
    found = log_marginals(data.emissions, data.lengths, data.crf)
    for k, n in enumerate(LENGTHS):
        paths = all_paths(data.sequence(k), data.crf)
        expected = [[log_marginal(paths, step, tag) for tag in range(K)] for step in range(n)]
        np.testing.assert_allclose(found[:n, k], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.exp(found[:n, k]).sum(axis=1), 1)


@every_scale
def test_the_best_tags_have_the_highest_score_of_all(scale: float) -> None:
    data = batch(scale)
    found = best_tags(data.emissions, data.lengths, data.crf)
    for k, n in enumerate(LENGTHS):
        paths = all_paths(data.sequence(k), data.crf)
        assert tuple(found[:n, k].tolist()) == max(paths, key=lambda path: paths[path])


def test_the_best_tags_are_not_the_best_tag_of_each_step() -> None:
    """Steps that each like tag 0 most, and neighbours that must not both have it."""
    crf = Transitions(np.zeros(2), np.zeros(2), np.array([[-9.0, 0.0], [0.0, -9.0]]))
    emissions = np.array([[1.0, 0.0], [1.5, 0.0], [1.0, 0.0]])[:, None]
    assert best_tags(emissions, np.array([3]), crf)[:, 0].tolist() == [0, 1, 0]
    assert best_tags(emissions, np.array([2]), crf)[:2, 0].tolist() == [1, 0]


def test_the_probabilities_of_all_sequences_add_up_to_one() -> None:
    data, steps = batch(), 4
    tags = np.array([*product(range(K), repeat=steps)]).T
    lengths = np.full(tags.shape[1], steps)
    emissions = np.repeat(data.emissions[:steps, :1], tags.shape[1], axis=1)
    logprobs = scores(emissions, lengths, tags, data.crf)
    logprobs -= log_partition(emissions, lengths, data.crf)
    assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-12)
    assert np.exp(logprobs).max() < 0.9


def test_forbidden_neighbours_have_no_part_in_the_sum() -> None:
    data = batch()
    data.crf.transitions[0, 1] = -1e5
    found = log_partition(data.emissions, data.lengths, data.crf)
    for k in range(len(LENGTHS)):
        paths = all_paths(data.sequence(k), data.crf)
        allowed = [score for path, score in paths.items() if (0, 1) not in pairwise(path)]
        assert found[k] == pytest.approx(log_sum(allowed), rel=1e-12)


RESULTS: dict[str, Callable[[Batch], NDArray[Any]]] = {
    "partition": lambda b: log_partition(b.emissions, b.lengths, b.crf)[None],
    "scores": lambda b: scores(b.emissions, b.lengths, b.tags, b.crf)[None],
    "marginals": lambda b: log_marginals(b.emissions, b.lengths, b.crf),
    "best": lambda b: best_tags(b.emissions, b.lengths, b.crf),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_sequence_does_not_depend_on_the_others_and_on_what_fills_it_up(name: str) -> None:
    run, data = RESULTS[name], batch()
    together, filled_otherwise = run(data), run(batch(filling=7.0))
    for k, n in enumerate(LENGTHS):
        own = slice(k, k + 1)
        alone = run(Batch(data.emissions[:n, own], data.lengths[own], data.tags[:n, own], data.crf))
        np.testing.assert_allclose(together[:n, own], alone[:n], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(filled_otherwise[:n, own], alone[:n], rtol=1e-12, atol=1e-12)


def test_without_scores_of_neighbours_it_is_a_softmax_at_each_step() -> None:
    data, none = batch(), Transitions.none(K)
    softmax = data.emissions - np.log(np.exp(data.emissions).sum(axis=2, keepdims=True))
    marginals = log_marginals(data.emissions, data.lengths, none)
    best = best_tags(data.emissions, data.lengths, none)
    logprobs = scores(data.emissions, data.lengths, data.tags, none)
    logprobs -= log_partition(data.emissions, data.lengths, none)
    for k, n in enumerate(LENGTHS):
        np.testing.assert_allclose(marginals[:n, k], softmax[:n, k], rtol=1e-9)
        np.testing.assert_array_equal(best[:n, k], softmax[:n, k].argmax(axis=1))
        of_tags = softmax[np.arange(n), k, data.tags[:n, k]]
        assert logprobs[k] == pytest.approx(of_tags.sum())


def test_a_power_of_the_distribution_has_that_many_times_the_scores() -> None:
    data = batch()
    twice = scores(2 * data.emissions, data.lengths, data.tags, data.crf.times(2))
    once = scores(data.emissions, data.lengths, data.tags, data.crf)
    np.testing.assert_allclose(twice, 2 * once)


# --- the loss in torch ---


class Loss(Crf):
    forward = Crf.loss


def tensors(data: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The emissions, the tags, and which steps are real."""
    real = np.arange(STEPS)[:, None] < data.lengths
    return torch.from_numpy(data.emissions), torch.from_numpy(data.tags), torch.from_numpy(real)


def trainable(crf: Transitions) -> Loss:
    loss = Loss(K).double()
    with torch.no_grad():
        for name, value in crf._asdict().items():
            loss.get_parameter(name).copy_(torch.from_numpy(value))
    return loss


def test_the_loss_is_minus_the_log_probability_of_the_tags() -> None:
    data = batch()
    expected = 0.0
    for k, n in enumerate(LENGTHS):
        paths = all_paths(data.sequence(k), data.crf)
        expected += log_sum(paths.values()) - paths[tuple(data.tags[:n, k].tolist())]
    found = trainable(data.crf)(*tensors(data)).item()
    assert found == pytest.approx(expected, rel=1e-12)
    in_single_precision = trainable(data.crf).float()
    emissions, *others = tensors(data)
    assert in_single_precision(emissions.float(), *others).item() == pytest.approx(expected, 1e-5)


def test_the_gradients_of_the_loss_equal_finite_differences() -> None:
    data = batch(filling=2.0)
    crf = trainable(data.crf)
    emissions, tags, real = tensors(data)
    names = [name for name, _ in crf.named_parameters()]
    assert sorted(names) == ["end", "start", "transitions"]

    def run(emissions: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, weights, strict=True))
        loss: torch.Tensor = torch.func.functional_call(crf, state, (emissions, tags, real))
        return loss

    assert torch.autograd.gradcheck(run, (emissions.requires_grad_(), *crf.parameters()))


def test_the_gradient_of_the_partition_is_the_marginals() -> None:
    """d log Z / d e = p(y_t = k), and d loss / d e = p(y_t = k) − 1 for the true tag."""
    data = batch()
    emissions, tags, real = tensors(data)
    (gradient,) = torch.autograd.grad(
        trainable(data.crf)(emissions.requires_grad_(), tags, real), emissions
    )
    of_tags = torch.nn.functional.one_hot(tags, K) * real[..., None]
    marginals = np.exp(log_marginals(data.emissions, data.lengths, data.crf))
    expected = np.where(real.numpy()[..., None], marginals, 0)
    np.testing.assert_allclose((gradient + of_tags).numpy(), expected, atol=1e-10)


def test_a_crf_that_has_learnt_nothing_is_a_softmax_at_each_step() -> None:
    emissions, tags, real = tensors(batch())
    cross_entropy = torch.nn.functional.cross_entropy(emissions[real], tags[real], reduction="sum")
    torch.testing.assert_close(Loss(K).double()(emissions, tags, real), cross_entropy)
