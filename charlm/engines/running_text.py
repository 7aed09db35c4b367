"""Better predictions of running text: models that learn from the text that they have read."""

from __future__ import annotations

from dataclasses import dataclass

from charlm.errors import OptionError
from charlm.model.cache import Cache
from charlm.model.mixture import Predictors
from charlm.model.prediction import Predictor
from charlm.options import Range, check_options, option

# What validation chooses on Penn Treebank by words; the rate also on tiny-shakespeare.
CACHE_FLATNESS, CACHE_WEIGHT = 3.0, 0.07
ADAPT_RATE = 4e-4
EXTRA = "Extra models (they change what the figures mean)"


@dataclass(frozen=True)
class RunningTextOptions:
    """Extra models for running text. The fields describe themselves.

    Sentences are a running text only as a document; hence `goes_with="document"`.

    Raises OptionError, naming the option and the value.
    """

    cache: int | None = option(
        None,
        "Mix in a neural cache of the last N tokens.",
        Range(1),
        panel=EXTRA,
        metavar="N",
        goes_with="document",
    )
    cache_flatness: float | None = option(
        None,
        "How similar the states must be: the cache's θ.",
        Range(0),
        panel=EXTRA,
        metavar="θ",
        auto=f"{CACHE_FLATNESS:g}",
        goes_with="cache",
    )
    cache_weight: float | None = option(
        None,
        "Weight of the cache in the prediction.",
        Range(0, 1, exclude_high=True),
        panel=EXTRA,
        metavar="λ",
        auto=f"{CACHE_WEIGHT:g}",
        goes_with="cache",
    )
    adapt: bool = option(
        False,
        "Dynamic evaluation: keep learning from the text.",
        panel=EXTRA,
        goes_with="document",
    )
    adapt_rate: float | None = option(
        None,
        "Learning rate of dynamic evaluation.",
        Range(0, 1, exclude_low=True, exclude_high=True),
        panel=EXTRA,
        metavar="η",
        auto=f"{ADAPT_RATE:g}",
        goes_with="adapt",
    )

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def extra(self) -> str | None:
        """The first extra model that these options ask for."""
        return next((name for name in ("cache", "adapt") if getattr(self, name)), None)


def running_text_predictor(
    predictors: Predictors, tokens: int, options: RunningTextOptions
) -> Predictor:
    """The predictor for a text of `tokens` tokens, with the extra models of the options."""
    if options.adapt:
        from charlm.model.dynamic_evaluation import DynamicEvaluation

        rate = ADAPT_RATE if options.adapt_rate is None else options.adapt_rate
        predictor = predictors.with_network(DynamicEvaluation(predictors.backends.torch, rate))
    else:
        predictor = predictors.for_tokens(tokens)
    if options.cache is None:
        return predictor
    if predictors.is_ngram:
        raise OptionError("`ngram_only`: does not go with `cache`, which looks at the network")
    flatness, weight = options.cache_flatness, options.cache_weight
    return Cache(
        predictor,
        options.cache,
        CACHE_FLATNESS if flatness is None else flatness,
        CACHE_WEIGHT if weight is None else weight,
    )
