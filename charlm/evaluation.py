"""Evaluation: how well a model predicts a whole text, with or without extra models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.encoding import TokenFile
from charlm.errors import ModelError, OptionError
from charlm.model.backend import Backends
from charlm.model.cache import Cache
from charlm.model.likelihood import Predict, sequence_logprobs, text_logprob
from charlm.model.ngram import Ngram
from charlm.options import Range, check_options, option
from charlm.scores import TextScore, byte_length
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer

# What validation chooses on Penn Treebank by words; the rate also on tiny-shakespeare.
CACHE_FLATNESS, CACHE_WEIGHT = 3.0, 0.07
ADAPT_RATE = 4e-4
NGRAM_WEIGHT = 0.15
EXTRA = "Extra models (they change what the figures mean)"


@dataclass(frozen=True)
class EvaluateOptions:
    """How a text is evaluated. The fields describe themselves.

    Raises OptionError, naming the option and the value.
    """

    reset_lines: bool | None = option(
        None, "Start every line from the zero state.", auto="as the model was trained"
    )
    cache: int | None = option(
        None,
        "Mix in a neural cache of the last N tokens.",
        Range(1),
        panel=EXTRA,
        metavar="N",
    )
    cache_flatness: float | None = option(
        None,
        "How similar the states must be: the cache's θ.",
        Range(0),
        panel=EXTRA,
        metavar="θ",
        auto=f"{CACHE_FLATNESS:g}",
    )
    cache_weight: float | None = option(
        None,
        "Weight of the cache in the prediction.",
        Range(0, 1, exclude_high=True),
        panel=EXTRA,
        metavar="λ",
        auto=f"{CACHE_WEIGHT:g}",
    )
    adapt: bool = option(
        False,
        "Dynamic evaluation: keep learning from the text.",
        panel=EXTRA,
    )
    adapt_rate: float | None = option(
        None,
        "Learning rate of dynamic evaluation.",
        Range(0, 1, exclude_low=True, exclude_high=True),
        panel=EXTRA,
        metavar="η",
        auto=f"{ADAPT_RATE:g}",
    )
    ngram: int | None = option(
        None,
        "Mix in an N-gram model of the training text.",
        Range(1, 9),
        panel=EXTRA,
        metavar="N",
    )
    ngram_weight: float | None = option(
        None,
        "Weight of the n-gram model in the prediction.",
        Range(0, 1),
        panel=EXTRA,
        metavar="λ",
        auto=f"{NGRAM_WEIGHT:g}",
    )

    def __post_init__(self) -> None:
        check_options(self)
        for name, owner in (
            ("cache_flatness", "cache"),
            ("cache_weight", "cache"),
            ("adapt_rate", "adapt"),
            ("ngram_weight", "ngram"),
        ):
            value = getattr(self, name)
            if value is not None and not getattr(self, owner):
                raise OptionError(f"`{name}={value:g}`: goes with `{owner}`")

    @property
    def extra(self) -> str | None:
        """The first extra model that these options ask for."""
        return next((name for name in ("cache", "adapt", "ngram") if getattr(self, name)), None)


def evaluate_text(
    backends: Backends,
    tokenizer: Tokenizer,
    blocks: Iterable[str],
    options: EvaluateOptions,
    *,
    reset_lines: bool,
    run_folder: Path,
    progress: Callable[[float], None] | None = None,
) -> TextScore:
    """Measure a text.

    blocks:       the text in blocks of whole lines. The end of the last line is scored, even if
                  the text does not have it
    reset_lines:  every line from the zero state; otherwise the state is carried through the text
    run_folder:   holds the training text, for the n-gram model
    progress:     called with the fraction of a running text that is done

    Raises OptionError for an extra model where lines are reset, and ModelError if the run folder
    does not hold the training text.
    """
    if reset_lines and options.extra:
        raise OptionError(
            f"`{options.extra}`: needs a running text. Here every line is read by itself, for "
            "`reset_lines` or because the model was trained with `lines`; leave the option out"
        )
    ids, chars, size = _encode(tokenizer, blocks)
    # Dynamic evaluation predicts with torch, so the state must be torch's too.
    backend = backends.torch if options.adapt else backends(len(ids))
    if reset_lines:
        lines = np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]
        logprobs = sequence_logprobs(backend, lines)
        logprob = float(sum(line.sum(dtype=np.float64) for line in logprobs))
    elif len(ids):
        logprob = text_logprob(
            backend,
            ids,
            cache=_cache(options, backends.config.hidden),
            ngram=_ngram(options, ids, run_folder, tokenizer.size),
            predict=_dynamic(options, backends),
            progress=progress,
        )
    else:
        logprob = 0.0
    return TextScore("", logprob, len(ids), chars, size, int((ids == UNK).sum()))


def _encode(tokenizer: Tokenizer, blocks: Iterable[str]) -> tuple[IntArray, int, int]:
    """The ids of a text, its characters and its bytes; the last line has an end."""
    encoded: list[IntArray] = [np.zeros(0, np.uint8)]
    chars, size, last = 0, 0, "\n"
    for block in blocks:
        encoded.append(tokenizer.encode_ids(block))
        chars, size = chars + len(block), size + byte_length(block)
        last = block[-1:] or last
    if last != "\n":
        encoded.append(np.array([EOS], np.uint8))
        chars, size = chars + 1, size + 1
    return np.concatenate(encoded), chars, size


def _cache(options: EvaluateOptions, hidden: int) -> Cache | None:
    if options.cache is None:
        return None
    flatness, weight = options.cache_flatness, options.cache_weight
    return Cache(
        options.cache,
        CACHE_FLATNESS if flatness is None else flatness,
        CACHE_WEIGHT if weight is None else weight,
        hidden,
    )


def _ngram(
    options: EvaluateOptions, ids: IntArray, run_folder: Path, vocab: int
) -> tuple[NDArray[np.float64], float] | None:
    """The n-gram model's probability of each id, and its weight."""
    if options.ngram is None:
        return None
    try:
        training = TokenFile.open(run_folder / "train", vocab).ids
    except FileNotFoundError as error:
        raise ModelError(
            f"{error.filename}: not there; `ngram` counts the training text, which the run folder "
            "holds: name the whole folder"
        ) from None
    weight = NGRAM_WEIGHT if options.ngram_weight is None else options.ngram_weight
    return Ngram(training, vocab, options.ngram).probabilities(ids), weight


def _dynamic(options: EvaluateOptions, backends: Backends) -> tuple[Predict, int] | None:
    if not options.adapt:
        return None
    from charlm.model.dynamic_evaluation import TOKENS, DynamicEvaluation

    rate = ADAPT_RATE if options.adapt_rate is None else options.adapt_rate
    return DynamicEvaluation(backends.torch, rate).predict_and_learn, TOKENS
