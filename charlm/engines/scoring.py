"""Scoring: sentences → log-probabilities, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.engines.running_text import EXTRA, RunningTextOptions, running_text_predictor
from charlm.engines.scores import PseudoScore, SentenceScore, byte_length, encode_after, in_groups
from charlm.engines.unknown_words import UnknownOptions, UnknownWords
from charlm.model.backend import ChooseBackend, Floats
from charlm.model.distributions import at_once, measure
from charlm.model.lexicon import Lexicon
from charlm.model.likelihood import read_in_order, read_sequences, sequence_logprobs
from charlm.model.mixture import Predictors
from charlm.model.prediction import ChoosePredictor, Prediction, Predictor
from charlm.model.pseudo_likelihood import pseudo_logprobs
from charlm.options import option
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer
from charlm.tokenizer.word_starts import word_starts

# Sentences that are read before the first one is scored: enough for batches of similar length.
SENTENCES_AT_ONCE = 4096


@dataclass(frozen=True)
class SentenceOptions(UnknownOptions):
    """How a sentence is scored. The fields describe themselves."""

    context: str = option(
        "",
        "Text before each sentence, not scored itself.",
        metavar="TEXT",
        excludes={"document": "does not go with `document`; make it the first line"},
    )
    eos: bool = option(True, "Score the end of the line as a token.")


@dataclass(frozen=True)
class ScoreOptions(SentenceOptions, RunningTextOptions):
    """How sentences, or the lines of a document, are scored. The fields describe themselves."""

    document: bool = option(
        False,
        "The sentences are the lines of one text: each is scored after all before it.",
        panel=EXTRA,
    )


def score_sentences(
    predictors: ChoosePredictor,
    tokenizer: Tokenizer,
    sentences: Iterable[str],
    options: ScoreOptions,
    *,
    lexicon: Lexicon | None = None,
    details: bool = False,
    independent_lines: bool = False,
) -> Iterator[SentenceScore]:
    """Score each sentence from the zero state, in input order.

    lexicon:            of the model, for words that are not in its vocabulary
    details:            also measure the whole distribution before each token, which takes longer
    independent_lines:  every line starts from the zero state, also one within a sentence or after
                        the context

    A token that begins in the context and ends in the sentence is scored.
    """
    unknown = UnknownWords.of(options, lexicon)
    context, eos = options.context, options.eos
    for batch in in_groups(sentences, SENTENCES_AT_ONCE):
        encoded = _encode_lines(tokenizer, context, batch, eos)
        predictor = predictors(sum(map(len, encoded)))
        lines = _lines_of(encoded) if independent_lines else [[ids] for ids in encoded]
        read = iter(_read(predictor, tokenizer, list(chain.from_iterable(lines)), details))
        scores = []
        for sentence, ids, parts in zip(batch, encoded, lines, strict=True):
            found = np.concatenate(list(islice(read, len(parts))))
            if context:
                scored = len(encode_after(tokenizer, context, sentence).ids) - (not eos)
                ids, found = ids[len(ids) - scored :], found[len(ids) - scored :]
            scores.append(
                _sentence_score(SentenceScore, tokenizer, context, sentence, ids, found, eos)
            )
        yield from unknown.treated(scores)


def score_document(
    predictors: Predictors,
    tokenizer: Tokenizer,
    lines: Sequence[str],
    options: ScoreOptions,
    *,
    lexicon: Lexicon | None = None,
    details: bool = False,
) -> Iterator[SentenceScore]:
    """Score each line of a text after all lines before it, see `score_sentences`."""
    if not lines:
        return
    unknown = UnknownWords.of(options, lexicon)
    encoded = _encode_lines(tokenizer, "", lines, eos=True)
    ids = np.concatenate(encoded)
    predictor = running_text_predictor(predictors, len(ids), options)
    if details:
        found = read_in_order(predictor, ids, *_measuring(tokenizer))
    else:
        found = read_in_order(predictor, ids, lambda p, targets: p.logprobs(targets))
    ends = np.cumsum([len(ids) for ids in encoded])
    scored = slice(None if options.eos else -1)
    yield from unknown.treated(
        _sentence_score(SentenceScore, tokenizer, "", line, ids[scored], rows[scored], options.eos)
        for line, ids, rows in zip(lines, encoded, np.split(found, ends[:-1]), strict=True)
    )


def _measuring(tokenizer: Tokenizer) -> tuple[Callable[[Prediction, IntArray], Floats], int]:
    """The function `measure` for this tokenizer, and the most sequences of a batch for it."""
    masks = np.concatenate([word_starts(tokenizer, p).masks for p in (False, True)])
    return partial(measure, masks=masks), at_once(tokenizer.size)


def _read(
    predictor: Predictor, tokenizer: Tokenizer, sequences: list[IntArray], details: bool
) -> list[Floats]:
    """log p of the tokens of each sequence, (n,); with details the rows (n, …) of `measure`."""
    if not details:
        return sequence_logprobs(predictor, sequences)
    return read_sequences(predictor, sequences, *_measuring(tokenizer))


def pseudo_score_sentences(
    backends: ChooseBackend, tokenizer: Tokenizer, sentences: Iterable[str]
) -> Iterator[PseudoScore]:
    """Score each sentence with a bidirectional network, in input order, without its line end."""
    for batch in in_groups(sentences, SENTENCES_AT_ONCE):
        encoded = _encode_lines(tokenizer, "", batch, eos=False)
        results = pseudo_logprobs(backends(2 * sum(map(len, encoded))), encoded)
        for sentence, ids, logprobs in zip(batch, encoded, results, strict=True):
            yield _sentence_score(PseudoScore, tokenizer, "", sentence, ids, logprobs, False)


def _lines_of(sequences: list[IntArray]) -> list[list[IntArray]]:
    """Each sequence cut into its lines."""
    return [np.split(ids, np.flatnonzero(ids[:-1] == EOS) + 1) for ids in sequences]


def _encode_lines(
    tokenizer: Tokenizer, context: str, sentences: Sequence[str], eos: bool
) -> list[IntArray]:
    """The ids of the context and each sentence. They are encoded as one text, which is faster."""
    texts = [f"{context}{sentence}\n" for sentence in sentences]
    ids = tokenizer.encode_ids("".join(texts))
    ends = np.flatnonzero(ids == EOS)[np.cumsum([text.count("\n") for text in texts]) - 1] + 1
    return [ids[start : end - (not eos)] for start, end in pairwise([0, *ends.tolist()])]


Score = TypeVar("Score", bound=SentenceScore)


def _sentence_score(
    kind: type[Score],
    tokenizer: Tokenizer,
    context: str,
    sentence: str,
    ids: IntArray,
    found: NDArray[np.float32],
    eos: bool,
) -> Score:
    """found: (n,) log p of each token, or the rows (n, …) of `distributions.measure`"""
    logprobs = found if found.ndim == 1 else found[:, 0]
    return kind(
        text=sentence,
        logprob=float(logprobs.sum(dtype=np.float64)),
        tokens=len(ids),
        chars=len(sentence) + eos,
        bytes=byte_length(sentence) + eos,
        unknown=int(np.count_nonzero(ids == UNK)),
        unknown_logprob=float(logprobs[ids == UNK].sum(dtype=np.float64)),
        lines=int(np.count_nonzero(ids == EOS)),
        context=context,
        ids=ids.astype(np.int64),
        logprobs=logprobs,
        tokenizer=tokenizer,
        measured=None if found.ndim == 1 else found,
    )
