"""How well tags are found: accuracy, accuracy on unseen words, and chunks as conlleval counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from charlm.engines.chunks import ChunkCounts, count_chunks
from charlm.engines.label_scores import wilson_interval


@dataclass(frozen=True)
class TagScore:
    """How well the tags of sentences are found. The scores of several texts add up.

    sentences, tokens:  their numbers
    right:              tokens whose tag is found
    unseen_words:       tokens whose word does not occur in the training text
    unseen_words_right: those whose tag is found
    nats:               Σ −log p(tags of a sentence); a tag that training has not seen counts as a
                        guess
    chunks:             by their type; None if the tags are no chunks
    unseen_tags:        tokens with a tag that training has not seen
    """

    sentences: int = 0
    tokens: int = 0
    right: int = 0
    unseen_words: int = 0
    unseen_words_right: int = 0
    nats: float = 0.0
    chunks: Mapping[str, ChunkCounts] | None = field(default_factory=dict)
    unseen_tags: int = 0

    columns: ClassVar = {
        "tokens": ",", "accuracy": ".4f", "accuracy_interval": ".3f",
        "accuracy_unseen_words": ".4f", "precision": ".4f", "recall": ".4f", "f1": ".4f",
        "nats_per_tag": ".4f",
    }  # fmt: skip

    @classmethod
    def of(
        cls,
        truth: Sequence[Sequence[str]],
        answers: Sequence[Sequence[str]],
        unseen: Sequence[Iterable[bool]],
        nats: float,
        *,
        are_chunks: bool,
        unseen_tags: int = 0,
    ) -> TagScore:
        """The score of sentences. unseen: whether each word does not occur in the training text"""
        triples = [
            (label == answer, new)
            for labels, found, news in zip(truth, answers, unseen, strict=True)
            for label, answer, new in zip(labels, found, news, strict=True)
        ]
        return cls(
            len(truth),
            len(triples),
            sum(right for right, _ in triples),
            sum(new for _, new in triples),
            sum(right and new for right, new in triples),
            nats,
            count_chunks(answers, truth) if are_chunks else None,
            unseen_tags,
        )

    @property
    def predicted(self) -> int:
        """The number of tokens."""
        return self.tokens

    @property
    def accuracy(self) -> float:
        """The share of tokens whose tag is found."""
        return self.right / max(self.tokens, 1)

    @property
    def all_chunks(self) -> ChunkCounts | None:
        """The chunks of all types together; None if the tags are no chunks."""
        return None if self.chunks is None else sum(self.chunks.values(), ChunkCounts())

    def figures(self) -> dict[str, Any]:
        """The measures under their names in JSON output. The interval holds 95 %."""
        chunks = self.all_chunks
        unseen = self.unseen_words_right / self.unseen_words if self.unseen_words else None
        figures = {
            "sentences": self.sentences,
            "tokens": self.tokens,
            "accuracy": self.accuracy,
            "accuracy_interval": wilson_interval(self.right, self.tokens),
            "unseen_words": self.unseen_words,
            "accuracy_unseen_words": unseen,
            "precision": chunks.precision if chunks else None,
            "recall": chunks.recall if chunks else None,
            "f1": chunks.f1 if chunks else None,
            "nats_per_tag": self.nats / max(self.tokens, 1),
        }
        if self.chunks is not None:
            figures["chunks"] = {
                kind: {
                    "precision": c.precision, "recall": c.recall, "f1": c.f1, "true": c.true
                }
                for kind, c in self.chunks.items()
            }  # fmt: skip
        return figures

    def __add__(self, other: TagScore) -> TagScore:
        chunks = None
        if self.chunks is not None and other.chunks is not None:
            kinds = sorted(self.chunks.keys() | other.chunks.keys())
            none = ChunkCounts()
            chunks = {k: self.chunks.get(k, none) + other.chunks.get(k, none) for k in kinds}
        return TagScore(
            self.sentences + other.sentences,
            self.tokens + other.tokens,
            self.right + other.right,
            self.unseen_words + other.unseen_words,
            self.unseen_words_right + other.unseen_words_right,
            self.nats + other.nats,
            chunks,
            self.unseen_tags + other.unseen_tags,
        )
