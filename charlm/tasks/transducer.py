"""The class of the models of `seq2seq`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from charlm.corpus.examples import TEXT
from charlm.corpus.labelled import (
    COLUMNS,
    SOURCE_AND_TARGET,
    STANDARD,
    ColumnOptions,
    labelled_texts,
)
from charlm.engines.activations import Reading
from charlm.engines.scores import in_groups
from charlm.engines.target_scores import TargetScore, errors_of
from charlm.engines.target_search import Found
from charlm.engines.transduction import (
    BEAM,
    SOURCES_AT_ONCE,
    TARGET,
    forced,
    nats_of,
    predictor_of,
    search,
    similar,
)
from charlm.errors import InputError
from charlm.model.activations import ObservedStack
from charlm.model.backend import Backends, Ids, Twins
from charlm.model.file import ModelFile
from charlm.model.joint_ngram import JointNgram
from charlm.model.names import strip_prefix
from charlm.model.numpy_seq2seq import NumpySeq2Seq
from charlm.model.prediction import Predictor
from charlm.model.seq2seq_config import Seq2SeqConfig
from charlm.model.source_prediction import SourcePrediction, SourcePredictor
from charlm.options import ANSWERS
from charlm.pages.predicted import Looked
from charlm.parts import in_groups_of
from charlm.tasks.language_model import LanguageModel
from charlm.tasks.trained import LoadOptions, TrainedModel, one_line, one_line_end, several
from charlm.tokenizer import START, UNK, Tokenizer, Vocabulary, load_tokenizer, load_vocabulary

if TYPE_CHECKING:
    pass

JOINT, LIMITS = "joint", "limits"  # parts of a model file
EXACT, ERRORS = "valid_exact_match", "valid_token_error_rate"
PAIRS_AT_ONCE = 1024


@dataclass(frozen=True)
class Limits:
    """What training has seen.

    longest:  tokens of the longest target
    """

    longest: int

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"longest": self.longest}, {}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> Self:
        return cls(int(settings["longest"]))


class Target(NamedTuple):
    """A target, and its probability for the source."""

    target: str
    probability: float


class Transducer(TrainedModel):
    """A model that writes a target for a source: an encoder–decoder, and joint n-grams.

    backends:  what runs the network
    joint:     the other half of the model; None for the network alone
    source:    the vocabulary of the sources; `tokenizer` is that of the targets
    beam:      targets of a source that the search carries on
    """

    task = "seq2seq"
    purpose = "writes targets for sources (charlm predict; score and sample --given)"
    reads_columns = True
    twins = Twins(NumpySeq2Seq, "charlm.model.seq2seq", "Seq2Seq")
    numbered = "rank"
    page_note = (
        "A row for each token of the target, and a column for each piece of the source: the "
        "stronger the colour, the more the decoder looked there. Point at a cell for the share."
    )
    next_commands = ('charlm predict "a source"', "charlm evaluate FILE")
    config: Seq2SeqConfig

    def __init__(self, file: ModelFile, path: Path, options: LoadOptions) -> None:
        super().__init__(file, path, options)
        self.config, self._weights = file.network(Seq2SeqConfig)
        self.source: Vocabulary = file.vocabulary(TEXT, load_vocabulary, self.config.source_vocab)
        self.tokenizer: Tokenizer = file.vocabulary(TARGET, load_tokenizer, self.config.vocab)
        self.backends = Backends(
            self.config, self._weights, options.backend, options.device, options.threads, self.twins
        )
        self.columns = file.part(COLUMNS, ColumnOptions.from_state) or STANDARD
        limits = file.part(LIMITS, Limits.from_state)
        self.beam = BEAM
        self.longest = limits.longest if limits else 100
        self.joint: JointNgram | None = None
        if not options.network_only:
            self.joint = file.part(JOINT, JointNgram.from_state)

    def predict(self, sources: str | Iterable[str], *, k: int = 1) -> list[list[Target]]:
        """The k most probable targets of each source, the best first, with their probabilities.

        sources:  one source, or several
        """
        return list(self.iter_predict([sources] if isinstance(sources, str) else sources, k=k))

    def iter_predict(self, sources: Iterable[str], *, k: int = 1) -> Iterator[list[Target]]:
        """`predict` for any number of sources, in input order and in bounded memory."""
        ANSWERS.check("k", k)
        for group in in_groups(map(one_line, several(sources)), SOURCES_AT_ONCE):
            for found in self._found([self._encoded(source) for source in group], k):
                yield [Target(self._text(f.ids), math.exp(f.logprob)) for f in found]

    def unknown(self, source: str) -> list[str]:
        """The tokens of a source that the model has never seen."""
        ids, pieces = self._encoded(source), self._pieces(source)
        return [piece for id, piece in zip(ids.tolist(), pieces, strict=False) if id == UNK]

    def given(self, source: str) -> TargetModel:
        """The language model of the targets of a source: it scores and samples them."""
        return TargetModel(self, self._encoded(one_line(source)))

    def evaluate(self, text: str | Iterable[str], **options: Any) -> TargetScore:
        """How well the targets of a text are found.

        text:     lines with a source and its target, as in training: a string, or blocks of it
        options:  text_column, label_column; without them those of the training

        Where a source has several targets in the text, each of them is right. So the text is held
        in memory. Raises ExampleError, an InputError, for another line, and OptionError for options
        of a language model.
        """
        score, right = TargetScore(), dict[str, list[list[int]]]()
        blocks = [text] if isinstance(text, str) else text
        read = labelled_texts(blocks, self._columns(options), SOURCE_AND_TARGET)
        for pairs in in_groups_of(_pairs(read), PAIRS_AT_ONCE):
            targets = [self._encode_line(self.tokenizer, target) for _, target in pairs]
            sources = [self._encoded(source) for source, _ in pairs]
            for (source, _), target in zip(pairs, targets, strict=True):
                right.setdefault(source, []).append(target.tolist())
            nats = 0.0
            for which in similar(sources, targets):
                own, theirs = ([of[k] for k in which] for of in (sources, targets))
                nats += nats_of(self._predictor(own), theirs)
            tokens = sum(len(target) + 1 for target in targets)
            unknown = sum(bool((source == UNK).any()) for source in sources)
            score += TargetScore(len(pairs), tokens, nats, unknown=unknown)
        for group in in_groups_of(right, SOURCES_AT_ONCE):
            encoded = [self._encoded(source) for source in group]
            for source, found in zip(group, self._found(encoded), strict=True):
                errors, reference = errors_of(found[0].ids, right[source])
                score += TargetScore(
                    sources=1, exact=int(not errors), errors=errors, reference=reference
                )
        return score

    def warning(self, measure: TargetScore, **options: Any) -> str | None:
        """How many sources have tokens that training has not seen."""
        if not measure.unknown:
            return None
        return (
            f"{measure.unknown:,} of {measure.pairs:,} sources have tokens that the model has "
            "never seen"
        )

    def looked(self, text: str) -> list[tuple[list[Looked], str]]:
        """For each token of the most probable target, where in the source the decoder looked.

        The first line has the source alone, and the target in words.
        """
        ids = self._encoded(one_line(text))
        (found,) = self._found([ids])
        best = found[0]
        answer = f"{self._text(best.ids)} {math.exp(best.logprob):.1%}"
        own = SourcePredictor(self.backends.numpy, self._weights, [ids])
        prediction, targets, _ = forced(own, [np.array(best.ids, np.int64)])
        assert isinstance(prediction, SourcePrediction)
        pieces = self._pieces(text)
        lines = [([Looked(text, tag="")], answer)]
        if self.config.attention and len(pieces) == len(ids):
            for id, shares in zip(best.ids, prediction.shares(targets)[0].tolist(), strict=False):
                looked = [
                    Looked(piece, share, title=f"{share:.1%}")
                    for piece, share in zip(pieces, shares, strict=False)
                ]
                lines.append((looked, self.tokenizer.token(id)))
        return lines

    def reading(self, text: str) -> Reading:
        """A source as the encoder reads it, each line by itself; see `Reading`.

        Raises InputError for a model whose sources are labels: they have a single token.
        """
        if not isinstance(self.source, Tokenizer):
            raise InputError("the sources of this model are labels: there is no text to read")
        weights, text = strip_prefix("source", self._weights), one_line_end(text)
        layers = strip_prefix("layers", weights)
        stack = ObservedStack.of(self.config.source, layers, weights["embedding"])
        return Reading.of(text, self.source.encode(text), [stack])

    def _pieces(self, source: str) -> list[str]:
        """The text of each token of a source."""
        if not isinstance(self.source, Tokenizer):
            return [source]
        spans = self.source.encode(source).spans
        return [source[a:b] for a, b in pairwise([*spans[:, 0].tolist(), len(source)])]

    def _encoded(self, source: str) -> Ids:
        return self._encode_line(self.source, source)

    def _encode_line(self, vocabulary: Vocabulary, line: str) -> Ids:
        return vocabulary.encode_ids(f"{line}\n")[:-1].astype(np.int64)

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def _found(self, sources: Sequence[Ids], most: int = 1) -> list[list[Found]]:
        found: list[list[Found]] = [[] for _ in sources]
        for which in similar(sources):
            own = [sources[k] for k in which]
            # NumPy is faster for single steps of ever new shapes.
            predictor = predictor_of(self.backends.numpy, self._weights, self.joint, own)
            answers = search(predictor, own, self.longest, most, self.beam)
            for k, answer in zip(which.tolist(), answers, strict=True):
                found[k] = answer
        return found

    def _predictor(self, sources: Sequence[Ids]) -> Predictor:
        network = self.backends.for_tokens(2 * sum(map(len, sources)))
        return predictor_of(network, self._weights, self.joint, sources)

    def validation(self) -> str:
        figures = self.card.figures
        shown = []
        if figures.get(EXACT) is not None:
            shown.append(f"exact match {figures[EXACT]:.2%}")
        if figures.get(ERRORS) is not None:
            shown.append(f"token errors {figures[ERRORS]:.2%}")
        return ", ".join([*shown, super().validation()])

    def about(self) -> dict[str, str]:
        about = {
            "sources": f"{self.source.level}, a vocabulary of {self.config.source_vocab:,}",
            "targets": f"{self.tokenizer.level}, a vocabulary of {self.config.vocab:,}",
        }
        if self.joint:
            a, b = self.joint.powers
            about["joint n-grams"] = (
                f"{len(self.joint.ngram):,}, of {len(self.joint.chunks):,} pairs of chunks, "
                f"p ∝ network^{a:.2g} · joint^{b:.2g}"
            )
        return about

    def record(self) -> dict[str, Any]:
        return {"source_level": self.source.level, "target_level": self.tokenizer.level}


def _pairs(blocks: Iterable[tuple[list[str], list[str]]]) -> Iterator[tuple[str, str]]:
    return chain.from_iterable(zip(*block, strict=True) for block in blocks)


class TargetModel(LanguageModel):
    """The language model of the targets of one source; see `Transducer.given`."""

    task, purpose = Transducer.task, Transducer.purpose

    def __init__(self, model: Transducer, source: Ids) -> None:
        self.path, self.card, self.tokenizer = model.path, model.card, model.tokenizer
        self.config = model.config  # type: ignore[assignment]  # not that of a language model
        self.lexicon = self.mixture = None
        self._model, self._source = model, source

    @property
    def independent_lines(self) -> bool:
        return True

    def validation(self) -> str:
        return self._model.validation()

    def about(self) -> dict[str, str]:
        return self._model.about()

    def reading(self, text: str) -> Reading:
        """A target as the decoder reads it, each line by itself; see `Reading`."""
        weights, text = self._model._weights, one_line_end(text)
        network = self._model.backends.numpy
        *start, _ = SourcePredictor(network, weights, [self._source]).initial_state(1)
        stack = ObservedStack.of(
            self._model.config,
            strip_prefix("layers", weights),
            weights["embedding"],
            before=START,
            start=start,
        )
        return Reading.of(text, self.tokenizer.encode(text), [stack])

    @cached_property
    def predictors(self) -> Any:
        """What predicts the next token of a target."""
        return GivenPredictors(self._model, self._source)


class GivenPredictors:
    """The predictors of the targets of one source, like `charlm.model.mixture.Predictors`."""

    numbers_of_a_step = 0  # its networks are small

    def __init__(self, model: Transducer, source: Ids) -> None:
        self._model, self._source = model, source

    def for_tokens(self, tokens: int) -> Predictor:
        """The predictor for the next tokens."""
        return self.numpy

    @cached_property
    def numpy(self) -> Predictor:
        """The predictor that runs the network in NumPy."""
        model = self._model
        return predictor_of(model.backends.numpy, model._weights, model.joint, [self._source])
