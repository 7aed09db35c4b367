"""Trains a linear model of labels, in torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.model.linear import LinearModel

# How much large weights cost, from much to little. The first one after which held-out examples
# are predicted worse is too little.
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
MOST_CHOSEN_ON = 1 << 21  # features of the examples on which the penalty is chosen
FEWEST, FROM = 2, 50_000  # rarer features are left out where there are more than that
STEPS = 60
TOLERANCE = 1e-4


class Counted(NamedTuple):
    """Examples with their features and labels.

    ids:     (n,) features of all examples, one after the other
    bounds:  (N + 1,) example k has ids[bounds[k] : bounds[k + 1]]
    labels:  (N,) from 0
    """

    ids: NDArray[np.integer]
    bounds: NDArray[np.int64]
    labels: NDArray[np.int64]

    def taken(self, which: NDArray[np.int64]) -> Counted:
        """Some of the examples."""
        sizes = np.diff(self.bounds)[which]
        bounds = np.append(0, sizes.cumsum())
        positions = np.repeat(self.bounds[which] - bounds[:-1], sizes) + np.arange(bounds[-1])
        return Counted(self.ids[positions], bounds, self.labels[which])


def fit_linear(examples: Counted, labels: int) -> LinearModel:
    """The linear model of these examples.

    The weights are those of a logistic regression over log-count ratios, W = V ⊙ R with

        R_fk = log p(f | k) − log p(f | other labels)

    of which V is trained and penalised (Wang and Manning 2012: NBSVM). The penalty is chosen on a
    tenth of the examples, before a model of all of them is made.

    labels:  number of labels K
    """
    order = np.random.default_rng(0).permutation(len(examples.labels))
    sizes = np.diff(examples.bounds)[order].cumsum()
    chosen_on = order[: max(int(np.searchsorted(sizes, MOST_CHOSEN_ON)), 2)]
    tenth = -(-len(chosen_on) // 10)
    held_out, others = (examples.taken(np.sort(w)) for w in np.split(chosen_on, [tenth]))
    best, lowest = PENALTIES[0], np.inf
    for penalty, model in _path(others, labels):
        logprobs = model.logprobs(held_out.ids, held_out.bounds)
        nats = -logprobs[np.arange(tenth), held_out.labels].mean()
        if not nats < lowest:
            break
        best, lowest = penalty, nats
    return _Regression(examples, labels).fit(best)


def _path(examples: Counted, labels: int) -> Iterator[tuple[float, LinearModel]]:
    """The model for each penalty, which starts from the one before."""
    regression = _Regression(examples, labels)
    for penalty in PENALTIES:
        yield penalty, regression.fit(penalty)


class _Regression:
    """Logistic regression over log-count ratios. `fit` starts from the weights that it left."""

    def __init__(self, examples: Counted, labels: int) -> None:
        examples = _without_rare(examples)
        self.features, columns = np.unique(examples.ids, return_inverse=True)
        size = len(examples.labels), len(self.features)
        rows = np.repeat(np.arange(size[0]), np.diff(examples.bounds))
        by_feature = np.argsort(columns, kind="stable")
        starts = np.append(0, np.bincount(columns, minlength=size[1]).cumsum())
        self.X = _sparse(examples.bounds, columns, size)
        self.X_transposed = _sparse(starts, rows[by_feature], size[::-1])
        self.labels = torch.from_numpy(examples.labels)
        one_hot = torch.nn.functional.one_hot(self.labels, labels).float()
        own = self.X_transposed @ one_hot + 1  # (F, K), counts of each feature with each label
        other = own.sum(dim=1, keepdim=True) - own
        self.ratios = (own / own.sum(dim=0)).log() - (other / other.sum(dim=0)).log()
        self.V = torch.zeros(size[1], labels, requires_grad=True)
        self.bias = torch.zeros(labels, requires_grad=True)

    def fit(self, penalty: float) -> LinearModel:
        """Minimise Σ −log p + penalty/2 · ‖V‖², by L-BFGS (Liu and Nocedal 1989)."""
        optimizer = torch.optim.LBFGS(
            [self.V, self.bias],
            max_iter=STEPS,
            history_size=8,
            line_search_fn="strong_wolfe",
            tolerance_change=0.0,
            tolerance_grad=TOLERANCE * len(self.labels) ** 0.5,
        )
        optimizer.step(lambda: self._loss(penalty))  # type: ignore[no-untyped-call]
        weights = (self.V * self.ratios).detach().half().float().numpy()  # as files hold them
        return LinearModel(self.features, weights, self.bias.detach().numpy().copy())

    @torch.no_grad()
    def _loss(self, penalty: float) -> float:
        """The function to minimise. Sets the gradients of V and the bias."""
        logprobs = (self.X @ (self.V * self.ratios) + self.bias).log_softmax(dim=1)
        of_label = logprobs.gather(1, self.labels[:, None])
        difference = logprobs.exp().scatter_add_(
            1, self.labels[:, None], -torch.ones_like(of_label)
        )
        self.V.grad = (self.X_transposed @ difference) * self.ratios + penalty * self.V
        self.bias.grad = difference.sum(dim=0)
        return float(-of_label.sum() + penalty / 2 * (self.V * self.V).sum())


def _without_rare(examples: Counted) -> Counted:
    """The examples without features that occur only once, if there are many features."""
    features, places, counts = np.unique(examples.ids, return_inverse=True, return_counts=True)
    if len(features) < FROM:
        return examples
    kept = (counts >= FEWEST)[places]
    bounds = np.append(0, kept.cumsum())[examples.bounds]
    return Counted(examples.ids[kept], bounds, examples.labels)


def _sparse(starts: NDArray[np.int64], columns: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
    """A sparse matrix of ones, by rows."""
    import warnings

    with warnings.catch_warnings():  # torch calls its sparse matrices a beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns),
            torch.ones(len(columns)),
            size=size,
        )
