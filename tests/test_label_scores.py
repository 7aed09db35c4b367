"""The measures of labels and tags, against formulas written out and against scikit-learn."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction

import pytest

from charlm.engines.chunks import ChunkCounts
from charlm.engines.label_scores import LabelScore, wilson_interval
from charlm.engines.tag_scores import TagScore

#            right  right  wrong  wrong  right  wrong  wrong
TRUTH = ("cat", "dog", "cat", "bird", "dog", "dog", "cat")
ANSWERS = ("cat", "dog", "dog", "cat", "dog", "cat", "fish")
CONFIDENCES = (0.95, 0.91, 0.55, 0.42, 0.7, 0.5, 1.0)


def score() -> LabelScore:
    return LabelScore.of(TRUTH, ANSWERS, CONFIDENCES, nats=3.5, unseen=1)


def random_labels(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Labels and answers, about half of which are right; some labels are never an answer."""
    rng = random.Random(seed)
    truth = rng.choices("abcdeX", (9, 7, 5, 3, 1, 1), k=n)
    answers = [label if rng.random() < 0.4 else rng.choice("abcdY") for label in truth]
    return truth, answers


def macro_f1(truth: list[str], answers: list[str]) -> float:
    """The mean over labels of 2PR / (P + R)."""
    of_labels = []
    for label in {*truth, *answers}:
        found, true = answers.count(label), truth.count(label)
        right = sum(t == a == label for t, a in zip(truth, answers, strict=True))
        if not right:
            of_labels.append(0.0)
            continue
        precision, recall = right / found, right / true
        of_labels.append(2 * precision * recall / (precision + recall))
    return math.fsum(of_labels) / len(of_labels)


# --- labels ---


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert (score().examples, score().predicted, score().right) == (7, 7, 3)
    assert score().accuracy == pytest.approx(3 / 7)
    assert score().majority == pytest.approx(3 / 7)  # of cat, and of dog
    assert LabelScore.of("aab", "bbb", [1, 1, 1], 0).majority == pytest.approx(2 / 3)


def test_macro_f1_is_the_mean_over_all_labels_that_occur() -> None:
    # cat: P 1/3, R 1/3; dog: P 2/3, R 2/3; bird and fish: 0
    assert score().macro_f1 == pytest.approx((1 / 3 + 2 / 3) / 4)
    for seed in range(5):
        truth, answers = random_labels(60, seed)
        found = LabelScore.of(truth, answers, [0.5] * 60, 0).macro_f1
        assert found == pytest.approx(macro_f1(truth, answers))


def test_scikit_learn_has_the_same_figures() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth, answers = random_labels(500)
    found = LabelScore.of(truth, answers, [0.5] * 500, 0)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, answers))
    f1 = metrics.f1_score(truth, answers, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(f1)
    matrix = [[*row.values()] for row in found.table().values()]
    assert matrix == metrics.confusion_matrix(truth, answers).tolist()


def test_the_table_counts_answers_by_true_label() -> None:
    assert score().table() == {
        "bird": {"bird": 0, "cat": 1, "dog": 0, "fish": 0},
        "cat": {"bird": 0, "cat": 1, "dog": 1, "fish": 1},
        "dog": {"bird": 0, "cat": 1, "dog": 2, "fish": 0},
        "fish": {"bird": 0, "cat": 0, "dog": 0, "fish": 0},
    }


def test_the_calibration_error_is_that_of_bins_of_confidence() -> None:
    # From 0.9: 0.95 and 0.91, right, and 1.0, wrong. From 0.5: 0.55 and 0.5, both wrong.
    bins = [abs(0.95 + 0.91 + 1.0 - 2), abs(0.55 + 0.5 - 0), abs(0.42 - 0), abs(0.7 - 1)]
    assert score().calibration_error == pytest.approx(sum(bins) / 7)
    rng = random.Random(0)
    confidences = [rng.random() for _ in range(20_000)]
    calibrated = ["yes" if rng.random() < p else "no" for p in confidences]
    found = LabelScore.of(["yes"] * 20_000, calibrated, confidences, 0)
    assert found.calibration_error < 0.02
    certain = LabelScore.of(["yes"] * 20_000, calibrated, [1.0] * 20_000, 0)
    assert certain.calibration_error == pytest.approx(1 - certain.accuracy)


def test_scores_of_parts_add_up_to_that_of_all() -> None:
    truth, answers = random_labels(90)
    rng = random.Random(1)
    p = [rng.random() for _ in truth]
    total = LabelScore({})
    for part in (slice(0, 20), slice(20, 21), slice(21, 21), slice(21, 90)):
        n = len(truth[part])
        total += LabelScore.of(truth[part], answers[part], p[part], 0.5 * n, n // 10)
    whole = LabelScore.of(truth, answers, p, 45.0, 2 + 6)
    assert (total.unseen, total.nats, total.confusion) == (8, 45.0, whole.confusion)
    assert total.calibration_error == pytest.approx(whole.calibration_error)
    for name, value in whole.figures().items():
        if name != "calibration_error":
            assert total.figures()[name] == value, name


def test_the_figures_are_values_that_json_holds() -> None:
    figures = json.loads(json.dumps(score().figures()))
    assert figures["nats_per_label"] == pytest.approx(0.5)
    assert figures["accuracy_interval"] == [*wilson_interval(3, 7)]
    assert set(LabelScore.columns) < set(figures)


def test_no_texts_have_figures_too() -> None:
    figures = LabelScore({}).figures()
    assert figures["examples"] == figures["accuracy"] == figures["macro_f1"] == 0
    assert figures["accuracy_interval"] == (0, 1)
    assert figures["macro_f1_interval"] is None and figures["confusion"] == {}


def test_the_interval_of_macro_f1_holds_most_samples() -> None:
    """Texts drawn from the same distribution have their F1 in the interval, most of the time."""
    truth, answers = random_labels(2000)
    inside = 0
    for seed in range(40):
        drawn = random.Random(seed).choices([*zip(truth, answers, strict=True)], k=200)
        true, answered = ([pair[k] for pair in drawn] for k in (0, 1))
        sample = LabelScore.of(true, answered, [0.5] * 200, 0)
        low, high = sample.figures()["macro_f1_interval"]
        assert 0 < low < sample.macro_f1 < high < 1
        inside += low <= macro_f1(truth, answers) <= high
    assert 34 <= inside <= 40
    right = LabelScore.of(truth, truth, [0.5] * 2000, 0)
    assert right.figures()["macro_f1_interval"] == (1, 1)


def test_many_labels_have_no_interval() -> None:
    labels = [str(k) for k in range(101)]
    assert LabelScore.of(labels, labels, [1] * 101, 0).figures()["macro_f1_interval"] is None
    few = LabelScore.of(labels[1:], labels[1:], [1] * 100, 0)
    assert few.figures()["macro_f1_interval"] == (1, 1)


# --- the interval of a share ---


@pytest.mark.parametrize(
    ("right", "examples", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_has_the_known_values(
    right: int, examples: int, low: float, high: float
) -> None:
    assert wilson_interval(right, examples) == pytest.approx((low, high), abs=6e-5)


def test_the_ends_of_the_interval_are_1_96_deviations_from_the_share() -> None:
    for right, examples in ((1, 3), (7, 9), (50, 1000), (999, 1000)):
        share = right / examples
        for p in wilson_interval(right, examples):
            assert abs(share - p) == pytest.approx(1.96 * math.sqrt(p * (1 - p) / examples))


def test_the_interval_holds_the_share_and_nothing_but_probabilities() -> None:
    for examples in range(1, 60):
        for right in range(examples + 1):
            low, high = wilson_interval(right, examples)
            assert 0 <= low <= right / examples <= high <= 1, (right, examples)
            assert high - low > 0.05
    assert wilson_interval(0, 0) == (0, 1)


# --- tags ---

TAGS = [["B-A", "I-A", "O", "B-B"], ["B-A"], ["O", "B-B", "I-B"]]
FOUND = [["B-A", "I-A", "O", "B-A"], ["B-A"], ["O", "B-B", "O"]]
UNSEEN = [[True, False, False, True], [False], [False, False, True]]


def tag_score(sentences: slice = slice(None), are_chunks: bool = True) -> TagScore:
    tags, found, unseen = TAGS[sentences], FOUND[sentences], UNSEEN[sentences]
    n = sum(map(len, tags))
    return TagScore.of(tags, found, unseen, 0.25 * n, are_chunks=are_chunks, unseen_tags=n // 3)


def test_the_accuracy_of_tags_is_also_that_of_unseen_words() -> None:
    score = tag_score()
    assert (score.sentences, score.tokens, score.predicted, score.right) == (3, 8, 8, 6)
    assert (score.unseen_words, score.unseen_words_right) == (3, 1)
    figures = score.figures()
    assert figures["accuracy"] == score.accuracy == 6 / 8
    assert figures["accuracy_unseen_words"] == pytest.approx(1 / 3)
    assert figures["accuracy_interval"] == wilson_interval(6, 8)
    assert figures["nats_per_tag"] == 0.25


def test_chunks_are_right_as_a_whole() -> None:
    # A: two of two are found, and one more. B: one is found as A, of the other one half.
    score = tag_score()
    assert score.chunks == {"A": ChunkCounts(3, 2, 2), "B": ChunkCounts(1, 0, 2)}
    assert score.all_chunks == ChunkCounts(4, 2, 4)
    figures = score.figures()
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    f1 = 2 / (1 / Fraction(2, 3) + 1)
    assert figures["chunks"]["A"]["f1"] == pytest.approx(float(f1))
    assert figures["chunks"]["B"] == {"precision": 0, "recall": 0, "f1": 0, "true": 2}


@pytest.mark.parametrize("are_chunks", [True, False])
def test_scores_of_sentences_add_up(are_chunks: bool) -> None:
    parts = [tag_score(slice(k, k + 1), are_chunks) for k in range(3)]
    total = sum(parts, TagScore(chunks={} if are_chunks else None))
    assert total.unseen_tags == 1 + 0 + 1  # a third of each sentence
    whole = tag_score(are_chunks=are_chunks)
    assert total.figures() == whole.figures()
    assert json.loads(json.dumps(total.figures()))["tokens"] == 8


def test_tags_that_are_no_chunks_have_no_f1() -> None:
    score = tag_score(are_chunks=False)
    assert score.chunks is None and score.all_chunks is None
    figures = score.figures()
    assert [figures[name] for name in ("precision", "recall", "f1")] == [None] * 3
    assert "chunks" not in figures and figures["accuracy"] == 0.75
    assert (tag_score() + score).chunks is None


def test_without_unseen_words_there_is_no_accuracy_of_them() -> None:
    score = TagScore.of([["O"]], [["O"]], [[False]], 0.0, are_chunks=True)
    assert score.figures()["accuracy_unseen_words"] is None
    assert TagScore().figures()["accuracy"] == 0


def test_sentences_of_other_lengths_are_no_answers() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        TagScore.of([["O", "O"]], [["O"]], [[False, False]], 0.0, are_chunks=False)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        LabelScore.of(["a"], ["a", "b"], [0.5], 0.0)
