"""Tagging: from sentences to the scores of tags, by a network and a linear model together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.buckets import by_length
from charlm.corpus.examples import FEATURES, TEXT, Examples
from charlm.corpus.spellings import Spellings, spelt
from charlm.model import crf
from charlm.model.linear import LinearModel
from charlm.parts import WHOLE, Part
from charlm.tokenizer import SPECIALS
from charlm.tokenizer.features import PER_WORD
from charlm.tokenizer.symbols import SEPARATOR

LETTERS, TAGS = "letters", "tags"  # fields
UNSEEN = -1  # the column of a tag that training has not seen


class Found(NamedTuple):
    """What is known about a batch of sentences before tags are chosen.

    which:      (B,) their numbers
    lengths:    (B,) their words
    emissions:  (T, B, K) of both halves together
    """

    which: NDArray[np.int64]
    lengths: NDArray[np.int64]
    emissions: NDArray[np.floating]


def emissions(
    network: Any, data: Examples, linear: LinearModel | None, part: Part = WHOLE
) -> Iterator[Found]:
    """The emissions of sentences, in batches from short to long ones.

    network:  either twin
    linear:   None for the network alone
    """
    lengths = data.lengths(TEXT)
    for which in by_length(lengths, part):
        words = data.padded(TEXT, which)[: int(lengths[which].max(initial=1))]
        rows, numbers = spellings_of(data, which, len(words))
        spellings = (rows, numbers) if network.config.characters else (None, None)
        found = Found(which, lengths[which], network.emissions(words, *spellings))
        if linear:
            both = linear.combined(found.emissions, of_linear_half(linear, data, found))
            found = found._replace(emissions=both)
        yield found


def of_linear_half(linear: LinearModel, data: Examples, found: Found) -> NDArray[np.floating]:
    """(T, B, K) log p of the tags by the linear model."""
    logprobs = linear.logprobs(*word_features(data, found.which))
    placed = np.zeros(found.emissions.shape)
    real = np.arange(len(placed))[:, None] < found.lengths
    placed.swapaxes(0, 1)[real.T] = logprobs
    return placed


def spellings_of(data: Examples, which: NDArray[np.int64], steps: int) -> Spellings:
    separator = int(data.vocabularies[LETTERS].encode_ids(SEPARATOR)[0])
    return spelt(data.fields[LETTERS], which, separator, steps)


def best_tags(found: Found, transitions: crf.Transitions) -> NDArray[np.int64]:
    return crf.best_tags(found.emissions, found.lengths, transitions)


def padded_tags(data: Examples, found: Found) -> NDArray[np.int64]:
    """(T, B) the columns of the tags; `UNSEEN` for one that training has not seen."""
    padded = data.padded(TAGS, found.which)[: len(found.emissions)]
    return np.where(padded == 0, 0, padded - len(SPECIALS))


def sequence_nats(
    found: Found,
    truth: NDArray[np.int64],
    otherwise: NDArray[np.int64],
    transitions: crf.Transitions,
) -> float:
    """Σ −log p(tags). An unseen tag counts as a guess among all, beside the tag `otherwise`."""
    unseen = truth == UNSEEN
    known = np.where(unseen, otherwise, truth)
    emissions = found.emissions.astype(np.float64)
    logprobs = crf.scores(emissions, found.lengths, known, transitions)
    logprobs = logprobs - crf.log_partition(emissions, found.lengths, transitions)
    guesses = np.count_nonzero(unseen) * math.log(found.emissions.shape[2])
    return float(guesses - np.minimum(logprobs, 0.0).sum())


def word_features(
    data: Examples, which: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The features of the words of sentences, and where those of each begin."""
    file = data.fields[FEATURES]
    file = file if which is None else file.lines(which)
    ids = np.delete(file.ids, np.asarray(file.bounds[1:]) - 1)
    return ids, np.arange(0, len(ids) + 1, PER_WORD)
