"""Evaluation: how well a model predicts a whole text, with or without extra models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.backend import Floats
from charlm.model.cache import Cache
from charlm.model.likelihood import sequence_logprobs, text_logprobs
from charlm.model.mixture import Predictors
from charlm.model.prediction import Predictor
from charlm.options import Range, check_options, option
from charlm.parts import WHOLE, Part, parse_shard
from charlm.scores import TextScore, byte_length
from charlm.tokenizer import EOS, UNK, IntArray, Tokenizer

# What validation chooses on Penn Treebank by words; the rate also on tiny-shakespeare.
CACHE_FLATNESS, CACHE_WEIGHT = 3.0, 0.07
ADAPT_RATE = 4e-4
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
    shard: str | None = option(
        None,
        "Only part I of N: lines I, I+N, … if lines are independent, else a range of lines.",
        metavar="I/N",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.shard is not None:
            parse_shard(self.shard)
            for name in ("cache", "adapt"):
                if getattr(self, name):
                    raise OptionError(
                        f"`shard={self.shard}`: does not go with `{name}`, which needs all of the "
                        "text before"
                    )
        for name, owner in (
            ("cache_flatness", "cache"),
            ("cache_weight", "cache"),
            ("adapt_rate", "adapt"),
        ):
            value = getattr(self, name)
            if value is not None and not getattr(self, owner):
                raise OptionError(f"`{name}={value:g}`: goes with `{owner}`")

    @property
    def extra(self) -> str | None:
        """The first extra model that these options ask for."""
        return next((name for name in ("cache", "adapt") if getattr(self, name)), None)


def evaluate_text(
    predictors: Predictors,
    tokenizer: Tokenizer,
    blocks: Iterable[str],
    options: EvaluateOptions,
    *,
    reset_lines: bool,
    progress: Callable[[float], None] | None = None,
) -> TextScore:
    """Measure a text.

    blocks:       the text in blocks of whole lines. The end of the last line is scored, even if
                  the text does not have it
    reset_lines:  every line from the zero state; otherwise the state is carried through the text
    progress:     called with the fraction of a running text that is done

    Raises OptionError for an extra model where lines are reset.
    """
    if reset_lines and options.extra:
        raise OptionError(
            f"`{options.extra}`: needs a running text. Here every line is read by itself, for "
            "`reset_lines` or because the model was trained with `lines`; leave the option out"
        )
    part = parse_shard(options.shard) if options.shard else WHOLE
    if reset_lines and part != WHOLE:
        blocks = every_line(blocks, part)
    ids, sizes = _encode(tokenizer, blocks)
    predictor = _predictor(predictors, len(ids) // part.of, options)
    if reset_lines:
        lines = np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]
        found: Iterable[tuple[Floats, IntArray]]
        found = zip(sequence_logprobs(predictor, lines), lines, strict=True)
    else:
        bounds = np.append(0, np.flatnonzero(ids == EOS) + 1)
        first, last = np.searchsorted(bounds, part.span(len(ids))).tolist()
        begin, end = bounds[[first, last]].tolist()
        sizes = sizes[first:last]
        found = text_logprobs(predictor, ids, (begin, end), progress) if end > begin else ()
    total = of_unknown = 0.0
    tokens = unknown = 0
    for logprobs, targets in found:
        is_unknown = targets == UNK
        total += float(logprobs.sum(dtype=np.float64))
        of_unknown += float(logprobs[is_unknown].sum(dtype=np.float64))
        tokens, unknown = tokens + len(targets), unknown + int(is_unknown.sum())
    chars, size = sizes.sum(axis=0).tolist()
    return TextScore("", total, tokens, chars, size, unknown, of_unknown, len(sizes))


def every_line(blocks: Iterable[str], part: Part) -> Iterator[str]:
    """The lines of a text that are in `part.every`, in blocks."""
    number = 0
    for block in blocks:
        pieces = block.split("\n")
        lines = [f"{piece}\n" for piece in pieces[:-1]] + pieces[-1:]
        yield "".join(lines[(part.number - number) % part.of :: part.of])
        number += len(pieces) - 1


def _encode(tokenizer: Tokenizer, blocks: Iterable[str]) -> tuple[IntArray, NDArray[np.int64]]:
    """The ids of a text, and the size of each line, (lines, 2), in characters and in bytes.

    Every line has an end, the last one too.
    """
    encoded: list[IntArray] = [np.zeros(0, np.uint8)]
    sizes, rest = [np.zeros((0, 2), np.int64)], np.zeros(2, np.int64)
    for block in blocks:
        encoded.append(tokenizer.encode_ids(block))
        rows = np.array([(len(p), byte_length(p)) for p in block.split("\n")], np.int64)
        rows[0] += rest
        sizes.append(rows[:-1] + 1)
        rest = rows[-1]
    if rest.any():
        encoded.append(np.array([EOS], np.uint8))
        sizes.append(rest[None] + 1)
    return np.concatenate(encoded), np.concatenate(sizes)


def _predictor(predictors: Predictors, tokens: int, options: EvaluateOptions) -> Predictor:
    """The predictor for a text of `tokens` tokens, with the extra models of the options."""
    if options.adapt:
        from charlm.model.dynamic_evaluation import DynamicEvaluation

        rate = ADAPT_RATE if options.adapt_rate is None else options.adapt_rate
        predictor = predictors.with_network(DynamicEvaluation(predictors.backends.torch, rate))
    else:
        predictor = predictors(tokens)
    if options.cache is None:
        return predictor
    flatness, weight = options.cache_flatness, options.cache_weight
    return Cache(
        predictor,
        options.cache,
        CACHE_FLATNESS if flatness is None else flatness,
        CACHE_WEIGHT if weight is None else weight,
    )
