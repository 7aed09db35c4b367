"""Chunks of tagged sentences: schemes, counts, and agreement with other programs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from charlm.engines.chunks import Chunk, ChunkCounts, are_chunk_tags, chunks, count_chunks

BIO = ["O", "B-A", "I-A", "B-B", "I-B"]
BIOES = [*BIO, "E-A", "S-A", "E-B", "S-B"]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        # BIO: B begins every chunk
        ("B-A I-A O B-B", [(0, 2, "A"), (3, 4, "B")]),
        ("B-A B-A I-A", [(0, 1, "A"), (1, 3, "A")]),
        # IOB1: B only after a chunk of the same type
        ("I-A I-A B-A O I-B", [(0, 2, "A"), (2, 3, "A"), (4, 5, "B")]),
        # I after O or after another type begins a chunk
        ("O I-A I-B", [(1, 2, "A"), (2, 3, "B")]),
        ("B-A I-B I-A", [(0, 1, "A"), (1, 2, "B"), (2, 3, "A")]),
        # BIOES
        ("B-A I-A E-A S-A", [(0, 3, "A"), (3, 4, "A")]),
        ("S-A S-A O S-B", [(0, 1, "A"), (1, 2, "A"), (3, 4, "B")]),
        ("B-A E-A B-A E-A", [(0, 2, "A"), (2, 4, "A")]),
        # BIOES with tags in a wrong order
        ("E-A E-A", [(0, 1, "A"), (1, 2, "A")]),
        ("E-A I-A E-A", [(0, 1, "A"), (1, 3, "A")]),
        ("S-A I-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A E-B", [(0, 1, "A"), (1, 2, "B")]),
        ("B-A I-A S-A", [(0, 2, "A"), (2, 3, "A")]),
        # BMES and BILOU
        ("B-A M-A E-A S-B", [(0, 3, "A"), (3, 4, "B")]),
        ("B-A I-A L-A U-A U-A", [(0, 3, "A"), (3, 4, "A"), (4, 5, "A")]),
        # without types
        ("B I B O I", [(0, 2, ""), (2, 3, ""), (4, 5, "")]),
        ("B M E S B E", [(0, 3, ""), (3, 4, ""), (4, 6, "")]),
        # a tag without a type has another type than one with it
        ("B-A I", [(0, 1, "A"), (1, 2, "")]),
        # a type may hold a hyphen
        ("B-A-x I-A-x I-A-y", [(0, 2, "A-x"), (2, 3, "A-y")]),
        # other tags are outside, as O
        ("NOUN B-A X-A I-A", [(1, 2, "A"), (3, 4, "A")]),
        ("O O", []),
        ("", []),
    ],
)
def test_the_chunks_of_every_scheme(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert chunks(tags.split()) == [Chunk(*span) for span in spans]


def test_one_segmentation_has_the_same_chunks_in_every_scheme() -> None:
    schemes = [
        "B-A I-A I-A B-A B-B O B-B I-B",
        "I-A I-A I-A B-A I-B O I-B I-B",
        "B-A I-A E-A S-A S-B O B-B E-B",
        "B-A M-A E-A S-A S-B O B-B E-B",
        "B-A I-A L-A U-A U-B O B-B L-B",
    ]
    expected = [(0, 3, "A"), (3, 4, "A"), (4, 5, "B"), (6, 8, "B")]
    for scheme in schemes:
        assert are_chunk_tags(scheme.split())
        assert chunks(scheme.split()) == expected


@pytest.mark.parametrize(
    "tags",
    [
        "O B-PER I-PER B-LOC I-LOC",
        "I-NP O",
        "B I O",
        "B-5 O",
        "B-A I-A E-A S-A O",
        "S-A O",
        "B M E S",
        "B-A I-A L-A U-A O",
        "I-A E-A O",
        "B-A-x I-A-x",
    ],
)
def test_tags_of_one_scheme_are_chunks(tags: str) -> None:
    assert are_chunk_tags(tags.split())


@pytest.mark.parametrize(
    "tags",
    [
        "",
        "O",
        "NOUN VERB . ,",
        "MO B-5",
        "B-PER I-PER O NOUN",
        "B-PER I O",  # with and without a type
        "B- I- O",
        "B-A M-A L-A",  # of several schemes
        "E-A O",
        "B_PER I_PER O",
        "PER-B PER-I O",
        "b-per i-per O",
        "O-A B-A",
    ],
)
def test_other_tags_are_no_chunks(tags: str) -> None:
    assert not are_chunk_tags(tags.split())


# The example output of the shared task of CoNLL-2000: found, correct and true chunks.
CONLL_2000 = {
    "ADJP": ChunkCounts(1, 0, 6),
    "ADVP": ChunkCounts(11, 5, 8),
    "NP": ChunkCounts(317, 206, 262),
    "PP": ChunkCounts(107, 89, 90),
    "SBAR": ChunkCounts(3, 2, 6),
    "VP": ChunkCounts(100, 69, 87),
}


@pytest.mark.parametrize(
    ("type", "precision", "recall", "f1"),
    [
        ("ADJP", 0.00, 0.00, 0.00),
        ("ADVP", 45.45, 62.50, 52.63),
        ("NP", 64.98, 78.63, 71.16),
        ("PP", 83.18, 98.89, 90.36),
        ("SBAR", 66.67, 33.33, 44.44),
        ("VP", 69.00, 79.31, 73.80),
    ],
)
def test_the_published_figures_of_each_type(
    type: str, precision: float, recall: float, f1: float
) -> None:
    counts = CONLL_2000[type]
    figures = [round(100 * figure, 2) for figure in (counts.precision, counts.recall, counts.f1)]
    assert figures == [precision, recall, f1]


def test_the_published_figures_of_all_types() -> None:
    """found: 539 phrases; correct: 371; precision: 68.83%; recall: 80.83%; FB1: 74.35"""
    total = sum(CONLL_2000.values(), ChunkCounts())
    assert total == ChunkCounts(found=539, correct=371, true=459)
    assert round(100 * total.precision, 2) == 68.83
    assert round(100 * total.recall, 2) == 80.83
    assert round(100 * total.f1, 2) == 74.35


def test_undefined_figures_are_zero() -> None:
    for counts in (ChunkCounts(), ChunkCounts(found=2), ChunkCounts(true=2)):
        assert (counts.precision, counts.recall, counts.f1) == (0.0, 0.0, 0.0)


def test_a_chunk_is_correct_if_start_end_and_type_are() -> None:
    true = [["B-A", "I-A", "O", "B-B", "B-A"], ["B-A"]]
    predicted = [["B-A", "O", "O", "B-A", "I-A"], ["I-A"]]
    assert count_chunks(predicted, true) == {
        "A": ChunkCounts(found=3, correct=1, true=3),
        "B": ChunkCounts(found=0, correct=0, true=1),
    }


def test_a_sentence_ends_a_chunk() -> None:
    assert count_chunks([["B-A"], ["I-A"]], [["B-A"], ["I-A"]]) == {"A": ChunkCounts(2, 2, 2)}


def test_counts_of_parts_add_up() -> None:
    rng = np.random.default_rng(5)
    true = [rng.choice(BIOES, 6).tolist() for _ in range(40)]
    predicted = [rng.choice(BIOES, 6).tolist() for _ in range(40)]
    whole = count_chunks(predicted, true)
    first, second = (count_chunks(predicted[p], true[p]) for p in (slice(9), slice(9, None)))
    assert whole == {type: first[type] + second[type] for type in ("A", "B")}
    assert whole["A"].correct > 0


@pytest.mark.parametrize(("predicted", "true"), [([["O"]], []), ([["O"]], [["O", "O"]])])
def test_sentences_of_different_lengths_are_an_error(
    predicted: list[list[str]], true: list[list[str]]
) -> None:
    with pytest.raises(ValueError):
        count_chunks(predicted, true)


@pytest.mark.parametrize("tags", [BIO, BIOES, ["O", "B", "I", "E", "S"]])
def test_all_short_sentences_have_the_chunks_of_seqeval(tags: list[str]) -> None:
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    for sentence in product(tags, repeat=4):
        expected = [
            (start, end + 1, type.replace("_", ""))  # seqeval writes "_" for no type
            for type, start, end in labeling.get_entities(list(sentence))
        ]
        assert chunks(sentence) == expected


@pytest.mark.parametrize("tags", [BIO, BIOES])
def test_random_sentences_have_the_figures_of_seqeval(tags: list[str]) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    rng = np.random.default_rng(6)
    lengths = rng.integers(1, 12, 200)
    true = [rng.choice(tags, length).tolist() for length in lengths]
    predicted = [
        [tag if rng.random() < 0.8 else str(rng.choice(tags)) for tag in sentence]
        for sentence in true
    ]
    total = sum(count_chunks(predicted, true).values(), ChunkCounts())
    assert 0.2 < total.f1 < 0.95
    assert total.precision == pytest.approx(metrics.precision_score(true, predicted))
    assert total.recall == pytest.approx(metrics.recall_score(true, predicted))
    assert total.f1 == pytest.approx(metrics.f1_score(true, predicted))
