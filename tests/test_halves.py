"""Models of two halves: the powers of the halves, and the examples that the linear half is made
of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.corpus.examples import Examples
from charlm.model.file import State
from charlm.model.linear import LinearModel
from charlm.model.linear_fit import Counted, fit_linear
from charlm.tasks import classify, labelled, tag
from charlm.tasks.halves import weighed
from charlm.tokenizer import TextFeatures
from charlm.training.options import TrainOptions

Powers = tuple[float, float]
LAST_STEP = 0.05  # of the search for powers: 0.4, halved while it is above 0.04


def encoded(task: labelled.LabelTask[Any, Any], corpus: str) -> Examples:
    """The examples of a small corpus, in memory."""
    blocks = ["".join(of_field) for of_field in zip(*task.parse([corpus]), strict=True)]
    texts = dict(zip(task.fields, blocks, strict=True))
    options = TrainOptions(task=task.name)
    vocabularies = {
        field: task.vocabulary(field, partial(list[str], [text]), options)
        for field, text in texts.items()
    }
    files = {f: TokenFile.of(vocabularies[f].encode_ids(text)) for f, text in texts.items()}
    return Examples(files, vocabularies)


# --- the powers of the halves ---


@dataclass
class Half:
    """A model that is nothing but its powers."""

    powers: Powers

    def with_powers(self, powers: Powers) -> Half:
        return Half(powers)

    def state(self) -> State:
        return {"powers": list(self.powers)}, {}


@pytest.mark.parametrize("start", [(0.5, 0.5), (1.33, 0.17)])
@pytest.mark.parametrize(
    ("curvatures", "lowest"),
    [
        ((100.0, 30.0), (1.2, 0.3)),
        ((100.0, 30.0), (0.1, 2.4)),
        ((9.0, 400.0), (0.5, 0.5)),
        ((3.0, 1.0), (2.0, 0.6)),
        ((0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_the_powers_end_within_a_step_of_the_least_loss(
    start: Powers, curvatures: Powers, lowest: Powers
) -> None:
    """The loss is Σ c·(x − m)², to which the prior adds Σ x². So it is least at x = c·m / (c + 1),
    and without any evidence at 0."""

    def nats(model: Half) -> float:
        assert min(model.powers) >= 0
        return sum(
            c * (x - m) ** 2 for c, x, m in zip(curvatures, model.powers, lowest, strict=True)
        )

    expected = [c * m / (c + 1) for c, m in zip(curvatures, lowest, strict=True)]
    found = weighed(Half(start), nats).powers
    np.testing.assert_allclose(found, expected, rtol=0, atol=LAST_STEP + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_powers_that_were_tried_are_better(seed: int) -> None:
    """Also of a loss that goes up and down without any order; the start is tried first."""
    rng, losses = np.random.default_rng(seed), dict[Powers, float]()

    def nats(model: Half) -> float:
        found = float(rng.uniform(0, 50))
        losses[model.powers] = found + sum(x * x for x in model.powers)
        return found

    found = weighed(Half((0.5, 0.5)), nats).powers
    assert next(iter(losses)) == (0.5, 0.5) and len(losses) > 10
    assert losses[found] == min(losses.values())


def test_powers_that_cannot_be_better_are_kept() -> None:
    best = (0.7, 1.1)
    found = weighed(Half(best), lambda model: 0.0 if model.powers == best else 9.0)
    assert found.powers == best


# --- what the linear half is made of ---


def test_each_text_has_its_features_and_its_label() -> None:
    """The features of "ab" are the word, 3 pairs of letters and ends, 2 triples, and " ab "."""
    data = encoded(classify.TASK, "a\tgood\nab\tbad\n\tgood\nb a\tgood\n")
    ids, bounds, labels = classify.TASK.labelled(data)
    assert labels.tolist() == [1, 0, 1, 1]  # bad, good
    assert bounds.tolist() == [0, 4, 11, 11, 20] and len(ids) == 20
    of_a, of_ab, _, of_b_a = (set(ids[start:end].tolist()) for start, end in pairwise(bounds))
    assert of_a < of_b_a and len(of_a & of_ab) == 1  # a space and "a"


def test_each_word_has_its_features_and_its_tag() -> None:
    """A word has 27 features. The third one is the word itself."""
    data = encoded(tag.TASK, "the D\ncat N\nran V\n\nbirds N\nsaw V\nthe D\n\ncat N\n\n")
    ids, bounds, labels = tag.TASK.labelled(data)
    assert labels.tolist() == [0, 1, 2, 1, 2, 0, 1]  # D, N, V
    assert bounds.tolist() == [0, 27, 54, 81, 108, 135, 162, 189] and len(ids) == 189
    own = ids[bounds[:-1] + 2].tolist()
    assert own[0] == own[5] and own[1] == own[6] and len(set(own)) == 5


def best_labels(model: LinearModel, counted: Counted) -> list[int]:
    return model.logprobs(counted.ids, counted.bounds).argmax(axis=1).tolist()


def test_the_linear_half_knows_what_an_obvious_word_means() -> None:
    things = ("day", "film", "meal", "house", "song", "book")
    lines = [f"a {word} {thing}\t{label}\n"
             for word, label in (("lovely", "good"), ("fine", "good"), ("grim", "bad"))
             for thing in things]  # fmt: skip
    counted = Counted(*classify.TASK.labelled(encoded(classify.TASK, "".join(lines))))
    model = fit_linear(counted, 2)
    unseen = encoded(classify.TASK, "the grim hill\tbad\none lovely hill\tgood\na fine hat\tgood\n")
    assert best_labels(model, Counted(*classify.TASK.labelled(unseen))) == [0, 1, 1]
    assert best_labels(model, counted) == [1] * 12 + [0] * 6


def test_the_linear_half_knows_the_tag_of_an_obvious_word() -> None:
    nouns, verbs = ("cat", "bird", "aunt", "dog"), ("ran", "sang", "slept")
    sentences = [f"the D\n{noun} N\n{verb} V\n\n" for noun in nouns for verb in verbs]
    sentences += [f"{verb} V\nthe D\n{noun} N\n\n" for noun in nouns for verb in verbs]
    counted = Counted(*tag.TASK.labelled(encoded(tag.TASK, "".join(sentences))))
    model = fit_linear(counted, 3)
    unseen = encoded(tag.TASK, "the D\nman N\nran V\n\nslept V\nthe D\nman N\n\n")
    assert best_labels(model, Counted(*tag.TASK.labelled(unseen))) == [0, 1, 2, 2, 0, 1]


# --- a corpus that is too large for the linear half ---

# Words of two letters have 7 features and a line end: see above. They have 3 tokens.
WORDS = {f"{a}{b}": label for a, label in (("c", "bad"), ("g", "good")) for b in "efhijklmnopqrstu"}


def fitted(monkeypatch: pytest.MonkeyPatch, options: TrainOptions) -> tuple[Counted, int]:
    """What the linear half of `WORDS` would be made of, and the number of labels."""
    called = list[tuple[Counted, int]]()

    def fit(examples: Counted, labels: int) -> Half:
        called.append((examples, labels))
        return Half((0.5, 0.5))

    monkeypatch.setattr("charlm.model.linear_fit.fit_linear", fit)
    data = encoded(classify.TASK, "".join(f"{word}\t{label}\n" for word, label in WORDS.items()))
    none: Any = None
    companions = classify.TASK.companions(data, none, options, none)
    assert companions.keys() == {"linear"} and len(called) == 1
    return called[0]


def features_of(word: str) -> tuple[int, ...]:
    return tuple(TextFeatures().encode_ids(word)[:-1].tolist())


@pytest.mark.parametrize(
    ("most", "expected"), [(256, 32), (255, 31), (128, 16), (100, 12), (24, 3), (5, 1)]
)
def test_as_many_examples_are_fitted_as_the_limit_allows(
    monkeypatch: pytest.MonkeyPatch, most: int, expected: int
) -> None:
    """All 32 words have 256 features, line ends counted. One example is there always."""
    monkeypatch.setattr(labelled, "MOST_FITTED", most)
    examples, labels = fitted(monkeypatch, TrainOptions(task="classify"))
    assert labels == 2 and len(examples.labels) == expected
    assert len(examples.ids) == 7 * expected and examples.bounds[-1] == len(examples.ids)


def test_a_short_training_fits_fewer_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 features times labels a minute, in 4 minutes, for 2 labels: 60 features, of 7 words."""
    monkeypatch.setattr(labelled, "FITTED_PER_MINUTE", 30)
    examples, _ = fitted(monkeypatch, TrainOptions(task="classify", minutes=4))
    assert len(examples.labels) == 7


def test_the_examples_that_are_fitted_are_of_all_places_and_keep_their_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The corpus is sorted by its labels."""
    monkeypatch.setattr(labelled, "MOST_FITTED", 128)
    examples, _ = fitted(monkeypatch, TrainOptions(task="classify"))
    truth = {features_of(word): ("bad", "good").index(label) for word, label in WORDS.items()}
    found: list[NDArray[np.integer]] = np.split(examples.ids, examples.bounds[1:-1])
    assert [truth[tuple(ids.tolist())] for ids in found] == examples.labels.tolist()
    assert 4 <= np.count_nonzero(examples.labels) <= 12
