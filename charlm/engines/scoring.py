"""Scoring: sentences → log-probabilities, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.engines.running_text import EXTRA, RunningTextOptions, running_text_predictor
from charlm.engines.scores import PseudoScore, SentenceScore, byte_length, encode_after, in_groups
from charlm.engines.text_model import TextModel
from charlm.engines.unknown_words import UnknownOptions, UnknownWords
from charlm.engines.words import starts_of_words
from charlm.model.backend import Backends
from charlm.model.distributions import Likeliest, Statistics
from charlm.model.lexicon import Lexicon
from charlm.model.likelihood import read_in_order, read_sequences, sequence_logprobs
from charlm.model.prediction import Predictor
from charlm.model.pseudo_likelihood import pseudo_logprobs
from charlm.options import option
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer

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
    model: TextModel, sentences: Iterable[str], options: ScoreOptions, *, details: bool = False
) -> Iterator[SentenceScore]:
    """Score each sentence from the zero state, in input order.

    details:  also measure the whole distribution before each token, which takes longer

    Where lines are independent, each line of a sentence, and the one after a line end of the
    context, starts from the zero state. A token that begins in the context and ends in the sentence
    is scored.
    """
    unknown = UnknownWords.of(options, model.lexicon)
    tokenizer, context, eos = model.tokenizer, options.context, options.eos
    make = partial(
        _sentence_score, SentenceScore, tokenizer, context, eos=eos, lexicon=model.lexicon
    )
    for batch in in_groups(sentences, SENTENCES_AT_ONCE):
        encoded = _encode_lines(tokenizer, context, batch, eos)
        scores = []
        statistics = _statistics(tokenizer) if details else None
        for sentence, ids, results in zip(
            batch, encoded, _read_sentences(model, encoded, statistics), strict=True
        ):
            first = 0
            if context:
                own = len(encode_after(tokenizer, context, sentence).ids) - (not eos)
                first = len(ids) - own
            scores.append(make(sentence, ids[first:], results[first:]))
        yield from unknown.applied(scores)


def score_document(
    model: TextModel, lines: Sequence[str], options: ScoreOptions, *, details: bool = False
) -> Iterator[SentenceScore]:
    """Score each line of a text after all lines before it, see `score_sentences`."""
    if not lines:
        return
    unknown = UnknownWords.of(options, model.lexicon)
    encoded = _encode_lines(model.tokenizer, "", lines, eos=True)
    ids = np.concatenate(encoded)
    predictor = running_text_predictor(model.predictors, len(ids), options)
    if details:
        statistics = _statistics(model.tokenizer)
        results = read_in_order(predictor, ids, statistics.of, statistics.at_once)
    else:
        results = read_in_order(predictor, ids, lambda p, targets: p.logprobs(targets))
    by_line = np.split(results, np.cumsum([len(ids) for ids in encoded])[:-1])
    scored = slice(None if options.eos else -1)
    make = partial(
        _sentence_score, SentenceScore, model.tokenizer, "", eos=options.eos, lexicon=model.lexicon
    )
    yield from unknown.applied(
        make(line, ids[scored], of_line[scored])
        for line, ids, of_line in zip(lines, encoded, by_line, strict=True)
    )


def score_tokens(
    model: TextModel, sequences: Sequence[IntArray], alternatives: int
) -> list[NDArray[np.void]]:
    """The records of `Likeliest` for each token of each sequence of ids, from the zero state.

    sequences:     of ids, without `<START>`
    alternatives:  the number of the likeliest tokens
    """
    return _read_sentences(model, sequences, Likeliest(model.tokenizer.size, alternatives))


def pseudo_score_sentences(
    backends: Backends, tokenizer: Tokenizer, sentences: Iterable[str]
) -> Iterator[PseudoScore]:
    """Score each sentence with a bidirectional network, in input order, without its line end."""
    for batch in in_groups(sentences, SENTENCES_AT_ONCE):
        encoded = _encode_lines(tokenizer, "", batch, eos=False)
        backend = backends.for_tokens(2 * sum(map(len, encoded)))
        results = pseudo_logprobs(backend, encoded)
        for sentence, ids, logprobs in zip(batch, encoded, results, strict=True):
            yield _sentence_score(PseudoScore, tokenizer, "", sentence, ids, logprobs, False)


def _statistics(tokenizer: Tokenizer) -> Statistics:
    """Statistics of distributions, with the probability that a word begins."""
    masks = {name: starts.masks for name, starts in starts_of_words(tokenizer).items()}
    return Statistics(tokenizer.size, masks)


def _read_sentences(
    model: TextModel, sentences: Sequence[IntArray], statistics: Likeliest | None
) -> list[NDArray[Any]]:
    """What `_read` gives for each sentence. Independent lines are read by themselves."""
    predictor = model.predictors.for_tokens(sum(map(len, sentences)))
    if not model.independent_lines:
        return _read(predictor, sentences, statistics)
    by_sentence = [np.split(ids, np.flatnonzero(ids[:-1] == EOS) + 1) for ids in sentences]
    results = iter(_read(predictor, list(chain.from_iterable(by_sentence)), statistics))
    return [np.concatenate([next(results) for _ in lines]) for lines in by_sentence]


def _read(
    predictor: Predictor, sequences: Sequence[IntArray], statistics: Likeliest | None
) -> list[NDArray[Any]]:
    """For each token of each sequence, (n,): log p, or the records of `statistics`."""
    if not statistics:
        return sequence_logprobs(predictor, sequences)
    results = read_sequences(predictor, sequences, statistics.of, statistics.at_once)
    empty = np.zeros(0, statistics.dtype)
    return [records if len(records) else empty for records in results]


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
    results: NDArray[Any],
    eos: bool,
    lexicon: Lexicon | None = None,
) -> Score:
    """results: (n,) log p of each token, or the records of `Statistics`"""
    distributions = results if results.dtype.names else None
    logprobs = results if distributions is None else distributions["logprob"]
    is_unknown = ids == UNK
    return kind(
        text=sentence,
        logprob=float(logprobs.sum(dtype=np.float64)),
        tokens=len(ids),
        chars=len(sentence) + eos,
        bytes=byte_length(sentence) + eos,
        unknown=int(np.count_nonzero(is_unknown)),
        unknown_logprob=float(logprobs[is_unknown].sum(dtype=np.float64)),
        lines=int(np.count_nonzero(ids == EOS)),
        context=context,
        ids=ids.astype(np.int64),
        logprobs=logprobs,
        tokenizer=tokenizer,
        distributions=distributions,
        lexicon=lexicon,
    )
