"""Chunks of tagged sentences, such as names and phrases, counted as `conlleval` counts them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The prefixes of each scheme: BIO (also IOB1), BIOES (also IOBES), BMES and BILOU.
SCHEMES = ("BIO", "BIESO", "BMESO", "BILUO")
# The prefix in BIOES that means the same.
IN_BIOES = {"B": "B", "I": "I", "E": "E", "S": "S", "M": "I", "L": "E", "U": "S"}


class Chunk(NamedTuple):
    """The tokens [start, end) of a sentence, and their type: "" if the tags have no type."""

    start: int
    end: int
    type: str


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The chunks of a sentence.

    tags:  (tokens,) of BIO, IOB1, BIOES, BMES or BILOU; with a type after the first hyphen, such as
           "B-NP", or without, such as "B". Any other tag is outside of all chunks, as "O" is

    A chunk goes on from one token to the next if the first has B or I, the next has I or E, and
    both have the same type. Every other tag with a prefix begins a chunk, so an I-NP after O or
    after B-VP begins one.

    For BIO and IOB1 these are the chunks of `conlleval` (Tjong Kim Sang and Buchholz 2000), the
    Perl script. The script does not know S, and joins E-NP and a following B-NP into one chunk.
    Here E and S end a chunk, and S begins one, as in the Python versions of the script and in
    `seqeval` without its strict mode.

    >>> [tuple(chunk) for chunk in chunks(["B-NP", "I-NP", "B-NP", "O", "I-VP"])]
    [(0, 2, 'NP'), (2, 3, 'NP'), (4, 5, 'VP')]
    """
    result: list[Chunk] = []
    before = ("O", "")
    for k, tag in enumerate(tags):
        prefix, type = _split(tag)
        if prefix in "IE" and before in (("B", type), ("I", type)):
            result[-1] = result[-1]._replace(end=k + 1)
        elif prefix != "O":
            result.append(Chunk(k, k + 1, type))
        before = (prefix, type)
    return result


def _split(tag: str) -> tuple[str, str]:
    """The prefix of a tag, as in BIOES, and its type."""
    prefix, _, type = tag.partition("-")
    return IN_BIOES.get(prefix, "O"), type


def are_chunk_tags(tags: Iterable[str]) -> bool:
    """Whether these tags are a scheme of chunks: the prefixes of one of `SCHEMES`, nothing else.

    Either every tag but O has a type, or none has. At least one begins with B, I, S or U. A single
    other tag, such as a part of speech, means that the tags are no chunks.

    >>> are_chunk_tags(["O", "B-PER", "I-PER"]), are_chunk_tags(["B", "M", "E", "S"])
    (True, True)
    >>> are_chunk_tags(["NOUN", "VERB"]), are_chunk_tags(["MO", "B-5"]), are_chunk_tags(["O"])
    (False, False, False)
    """
    matches = [re.fullmatch(r"([BIMESLU])(-.+)?", tag) for tag in set(tags) - {"O"}]
    prefixes = {match[1] for match in matches if match}
    typed = {match[2] is not None for match in matches if match}
    return (
        None not in matches
        and len(typed) == 1
        and any(prefixes <= set(scheme) for scheme in SCHEMES)
        and not prefixes.isdisjoint("BISU")
    )


@dataclass(frozen=True)
class ChunkCounts:
    """Numbers of chunks. They add up over sentences and over types.

    found:    predicted chunks
    correct:  predicted chunks that are true: same start, same end and same type
    true:     chunks of the true tags

    >>> ChunkCounts(found=3, correct=2, true=4) + ChunkCounts(found=1, correct=1, true=1)
    ChunkCounts(found=4, correct=3, true=5)
    """

    found: int = 0
    correct: int = 0
    true: int = 0

    def __add__(self, other: ChunkCounts) -> ChunkCounts:
        return ChunkCounts(
            self.found + other.found, self.correct + other.correct, self.true + other.true
        )

    @property
    def precision(self) -> float:
        """correct / found; 0 if no chunk is found."""
        return self.correct / max(self.found, 1)

    @property
    def recall(self) -> float:
        """correct / true; 0 if there is no true chunk."""
        return self.correct / max(self.true, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 if there are no chunks at all."""
        return 2 * self.correct / max(self.found + self.true, 1)


def count_chunks(
    predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]
) -> dict[str, ChunkCounts]:
    """The counts of each type of chunk, in the order of the alphabet.

    predicted, true:  (sentences, tokens) tags, see `chunks`

    The counts of all types together are `sum(counts.values(), ChunkCounts())`. Raises ValueError
    if the sentences differ in number or length.

    >>> count_chunks([["B-NP", "O", "B-VP"]], [["B-NP", "I-NP", "B-VP"]])
    {'NP': ChunkCounts(found=1, correct=0, true=1), 'VP': ChunkCounts(found=1, correct=1, true=1)}
    """
    found: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    of_truth: Counter[str] = Counter()
    for guess, truth in zip(predicted, true, strict=True):
        if len(guess) != len(truth):
            raise ValueError(f"{len(guess)} predicted tags for a sentence of {len(truth)} tokens")
        predicted_chunks, true_chunks = set(chunks(guess)), set(chunks(truth))
        found.update(chunk.type for chunk in predicted_chunks)
        correct.update(chunk.type for chunk in predicted_chunks & true_chunks)
        of_truth.update(chunk.type for chunk in true_chunks)
    return {
        type: ChunkCounts(found[type], correct[type], of_truth[type])
        for type in sorted(found | of_truth)
    }
