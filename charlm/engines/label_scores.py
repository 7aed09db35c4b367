"""How well labels are found: accuracy, macro F1, confusion, calibration, and their intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

Z = 1.96  # of a normal distribution: the middle 95 %
RESAMPLED, MOST_RESAMPLED = 1000, 100  # draws; labels with which draws are affordable
BINS = 10  # of confidence


class Bin(NamedTuple):
    """Answers of about the same confidence.

    answers:     their number
    confidence:  Σ p(answer)
    right:       how many are right
    """

    answers: int = 0
    confidence: float = 0.0
    right: int = 0


@dataclass(frozen=True)
class LabelScore:
    """How well the labels of texts are found. The scores of several texts add up.

    confusion:  how often each (true label, answer) occurs
    nats:       Σ −log p(true label); a label that training has not seen counts as a guess
    bins:       the answers by their confidence, from 0 to 1
    unseen:     texts with a label that training has not seen
    """

    confusion: Mapping[tuple[str, str], int]
    nats: float = 0.0
    bins: Sequence[Bin] = (Bin(),) * BINS
    unseen: int = 0

    columns: ClassVar = {
        "examples": ",", "accuracy": ".4f", "accuracy_interval": ".3f",
        "macro_f1": ".4f", "macro_f1_interval": ".3f", "majority": ".4f",
        "calibration_error": ".4f", "nats_per_label": ".4f",
    }  # fmt: skip

    @classmethod
    def of(
        cls,
        truth: Sequence[str],
        answers: Sequence[str],
        confidences: Iterable[float],
        nats: float,
        unseen: int = 0,
    ) -> LabelScore:
        """The score of texts with these labels and answers. confidences: p(answer) of each"""
        bins = [Bin()] * BINS
        for label, answer, p in zip(truth, answers, confidences, strict=True):
            k = min(int(p * BINS), BINS - 1)
            bins[k] = _added(bins[k], Bin(1, p, int(label == answer)))
        return cls(Counter(zip(truth, answers, strict=True)), nats, tuple(bins), unseen)

    @property
    def examples(self) -> int:
        """Texts with a label."""
        return sum(self.confusion.values())

    @property
    def right(self) -> int:
        """Texts whose most probable label is their own."""
        return sum(n for (label, answer), n in self.confusion.items() if label == answer)

    @property
    def predicted(self) -> int:
        """The number of examples."""
        return self.examples

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / max(self.examples, 1)

    @property
    def macro_f1(self) -> float:
        """The mean of the F1 of all labels that occur, as a label or as an answer."""
        return _macro_f1(self._matrix()[1].astype(float)).item()

    @property
    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al. 2017): mean |confidence − accuracy| of ten
        bins of confidence, weighted by their answers."""
        return sum(abs(b.confidence - b.right) for b in self.bins) / max(self.examples, 1)

    @property
    def majority(self) -> float:
        """The share of the most frequent label: the accuracy of always answering with it."""
        counts: Counter[str] = Counter()
        for (label, _), n in self.confusion.items():
            counts[label] += n
        return max(counts.values(), default=0) / max(self.examples, 1)

    def figures(self) -> dict[str, Any]:
        """The measures under their names in JSON output. Intervals hold 95 %."""
        return {
            "examples": self.examples,
            "accuracy": self.accuracy,
            "accuracy_interval": wilson_interval(self.right, self.examples),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": self._macro_f1_interval(),
            "majority": self.majority,
            "calibration_error": self.calibration_error,
            "nats_per_label": self.nats / max(self.examples, 1),
            "confusion": self.table(),
        }

    def table(self) -> dict[str, dict[str, int]]:
        """The confusion matrix: for each true label, how often each answer was given."""
        labels, matrix = self._matrix()
        return {
            label: dict(zip(labels, row, strict=True))
            for label, row in zip(labels, matrix.tolist(), strict=True)
        }

    def __add__(self, other: LabelScore) -> LabelScore:
        return LabelScore(
            Counter(self.confusion) + Counter(other.confusion),
            self.nats + other.nats,
            tuple(_added(a, b) for a, b in zip(self.bins, other.bins, strict=True)),
            self.unseen + other.unseen,
        )

    def _matrix(self) -> tuple[list[str], Any]:
        """The labels that occur, and (K, K) the counts by true label and answer."""
        labels = sorted({label for pair in self.confusion for label in pair})
        number = {label: k for k, label in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for (label, answer), count in self.confusion.items():
            matrix[number[label], number[answer]] = count
        return labels, matrix

    def _macro_f1_interval(self) -> tuple[float, float] | None:
        """By drawing as many examples as there are anew (Efron 1979), always the same draws."""
        labels, matrix = self._matrix()
        if not self.examples or len(labels) > MOST_RESAMPLED:
            return None
        shares = (matrix / self.examples).ravel()
        draws = np.random.default_rng(0).multinomial(self.examples, shares, RESAMPLED)
        low, high = np.quantile(
            _macro_f1(draws.reshape(-1, *matrix.shape).astype(float)), (0.025, 0.975)
        )
        return float(low), float(high)


def _added(a: Bin, b: Bin) -> Bin:
    return Bin(a.answers + b.answers, a.confidence + b.confidence, a.right + b.right)


def _macro_f1(matrix: Any) -> Any:
    """The macro F1 of confusion matrices (…, K, K)."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    both = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    occurs = both > 0
    f1 = np.divide(2 * right, both, out=np.zeros_like(right), where=occurs)
    return f1.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)


def wilson_interval(right: int, examples: int) -> tuple[float, float]:
    """The interval that holds 95 % for a share of right answers (Wilson 1927).

    >>> [round(edge, 3) for edge in wilson_interval(8, 10)]
    [0.49, 0.943]
    """
    if not examples:
        return 0.0, 1.0
    share, z = right / examples, Z
    middle = share + z * z / (2 * examples)
    reach = z * math.sqrt(share * (1 - share) / examples + (z / (2 * examples)) ** 2)
    scale = 1 + z * z / examples
    low, high = (middle - reach) / scale, (middle + reach) / scale
    # Exactly at the ends, whatever is rounded.
    return (low if right else 0.0), (high if right < examples else 1.0)
