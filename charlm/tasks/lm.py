"""The task `lm`: predict the next token. Its models score text and write text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import TEXT
from charlm.corpus.streams import StreamBatch, StreamBatches
from charlm.model.backend import Backend, Floats
from charlm.model.combination import Examples as MixtureExamples
from charlm.model.combination import MixturePrediction
from charlm.model.file import Storable
from charlm.model.lexicon import Lexicon
from charlm.model.likelihood import (
    read_sequences,
    read_text,
    sequence_logprobs,
    text_logprobs,
    text_streams,
)
from charlm.model.mixture import MOST_LOG_LINEAR, Counted, Mixture, MixturePredictor
from charlm.model.ngram import NO_NGRAM, Ngram
from charlm.model.ngram_counts import count, merged, sampled
from charlm.model.prediction import NetworkPredictor, Prediction, Predictor
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Companions, Defaults
from charlm.tasks.language_model import LanguageModel
from charlm.tasks.source import source_of
from charlm.tasks.tokens import (
    LEXICON,
    NGRAM,
    TokenModel,
    TokenTask,
    TokenValidation,
    rare_tokens,
)
from charlm.tokenizer import (
    Blocks,
    IntArray,
    Tokenizer,
    count_words,
)

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.corpus.batches import BatchShape
    from charlm.corpus.examples import Examples
    from charlm.corpus.stats import CorpusInfo
    from charlm.model.layers import States
    from charlm.model.network import Network
    from charlm.training.options import TrainOptions

BOTH_WAYS = 20_000  # tokens that are measured with the state carried and line by line
# Of the card: the loss of the network and of the n-grams alone; and the loss in two ways of the
# same first part of the text: with the state carried, and with each line from the zero state.
FIGURES = ("valid_network", "valid_ngram", "valid_both_tokens", "valid_carried", "valid_lines")
FEW_EXAMPLES = 4096  # tokens that a fit of the mixture is timed with


class LanguageModelTask(TokenTask[StreamBatch]):
    """Next-token prediction over streams of text, with truncated back-propagation through time."""

    name = "lm"
    model = LanguageModel

    def defaults(self, options: TrainOptions, train_tokens: int) -> Defaults:
        return super().defaults(options, train_tokens)._replace(several=True)

    def batches(self, data: Examples, shape: BatchShape) -> StreamBatches:
        return StreamBatches(data.fields[TEXT], shape, rare_tokens(data))

    def loss(self, network: Network, batch: StreamBatch, state: States) -> tuple[Tensor, States]:
        """The state is carried from batch to batch, without gradient; see `Task.loss`."""
        import torch

        inputs, targets = (
            torch.from_numpy(ids).to(network.device) for ids in (batch.inputs, batch.targets)
        )
        if batch.restarted.all() or not state:
            state = network.initial_state(len(batch.restarted))
        elif batch.restarted.any():
            keep = torch.from_numpy(~batch.restarted).to(network.device, torch.float32)[:, None]
            state = [tuple(s * keep for s in layer) for layer in state]
        masks = network.masks(batch.share)
        y, after = network.encoder(inputs, state, masks)
        return network.loss(y, targets, masks), [
            tuple(s.detach() for s in layer) for layer in after
        ]

    def validation(self, data: Examples, info: CorpusInfo, options: TrainOptions) -> TextValidation:
        return TextValidation.of(data, info, options.lines)

    def probe_batch(self, length: int, batch: int) -> StreamBatch:
        ids = np.ones((length, batch), np.int64)
        return StreamBatch(ids, ids, np.ones(batch, bool))

    def companions(
        self, data: Examples, info: CorpusInfo, options: TrainOptions, text: Blocks
    ) -> dict[str, Storable]:
        """The n-grams of the training text, and its words."""
        order = _order(options)
        if not order:
            return {}
        tokenizer, ids = data.vocabularies[TEXT], data.fields[TEXT].ids
        assert isinstance(tokenizer, Tokenizer)
        source = source_of(options)
        ngram = _counted(sampled(ids), tokenizer, order, options.lines, info.chars, source)
        words = count_words(_beginning(text(), MOST_COUNTED), tokenizer)
        if source and source.lexicon:
            words = source.lexicon.added_to(words)
        companions: dict[str, Storable] = {NGRAM: Mixture(ngram)}
        if words.separate:
            companions[LEXICON] = Lexicon.of(words, tokenizer)
        return companions

    def described_batch(self, batch: int, bptt: int) -> str:
        return f"{batch} streams × {bptt} tokens"

    def described_companions(self, options: TrainOptions) -> str:
        order = _order(options)
        return f"n-grams up to {order}" if order else ""


ORDER_BY_LEVEL = {"char": 9, "byte": 9, "subword": 6, "word": 5}
# An n-gram takes 2.3 bytes of the model file, and 20 of memory. A long text has more of them than
# are worth that. The number grows with the third root of its length.
NGRAMS_PER_CHARACTER, NGRAMS_OF_A_MILLION, MOST_NGRAMS = 3.3, 2_500_000, 12_000_000
MOST_COUNTED = 1 << 24  # characters whose words are counted


def _order(options: TrainOptions) -> int | None:
    """The length of the longest n-grams; None for a model without."""
    return (
        None if options.ngram == NO_NGRAM else int(options.ngram or ORDER_BY_LEVEL[options.level])
    )


def _counted(
    ids: IntArray,
    tokenizer: Tokenizer,
    order: int,
    lines: bool,
    chars: int,
    source: TokenModel | None,
) -> Counted:
    """The n-grams of the training text; of characters and bytes, other contexts as well."""
    most = most_ngrams(chars)
    start = source.mixture.ngram if source and source.mixture else None
    if tokenizer.level in ("char", "byte") and tokenizer.size <= MOST_LOG_LINEAR:
        from charlm.model.context_fit import count_mixed

        return count_mixed(
            ids,
            tokenizer.size,
            order,
            tokenizer.letters(),
            independent_lines=lines,
            most=most,
            start=start,
        )
    ngram = count(ids, tokenizer.size, order, independent_lines=lines, most=most)
    if start is None:
        return ngram
    return merged(start if isinstance(start, Ngram) else start.ngram, ngram)


def most_ngrams(chars: int) -> int:
    """About how many n-grams a model may have of a text of this length."""
    root = NGRAMS_OF_A_MILLION * (chars / 1e6) ** (1 / 3)
    return int(min(NGRAMS_PER_CHARACTER * chars, root, MOST_NGRAMS))


def _beginning(blocks: Iterable[str], chars: int) -> Iterator[str]:
    """The first blocks of a text, with about this many characters."""
    for block in blocks:
        yield block
        chars -= len(block)
        if chars < 0:
            break


class TextValidation(TokenValidation):
    """A held-out text that is read from its start, or line by line."""

    @property
    def predicted(self) -> int:
        return len(self.ids)

    def total(self, network: Backend, part: Part = WHOLE) -> float:
        return self._losses(network, {}, part)[0]

    def totals(
        self, network: Backend, companions: Companions, part: Part = WHOLE
    ) -> Sequence[float]:
        """Σ −log p of the model; with n-grams also of the network and of the n-grams alone. Then,
        of the first part of the text, with the state carried, and of its whole lines one by one;
        and the tokens of these lines."""
        first, predictor = self.first(BOTH_WAYS), _predictor(network, companions)
        carried, by_line = first.carried(predictor, part), first.by_line(predictor, part)
        return [*self._losses(network, companions, part), carried, *by_line]

    def figures(self, totals: Sequence[float]) -> dict[str, float | None]:
        figures = dict.fromkeys(FIGURES) | super().figures(totals)
        if len(totals) == 1:
            return figures
        *alone, carried, by_line, of_lines = totals[1:]
        both = len(self.first(BOTH_WAYS).ids)
        figures |= {"valid_both_tokens": both, "valid_carried": carried / both}
        if of_lines:
            figures["valid_lines"] = by_line / of_lines
        for name, total in zip(("valid_network", "valid_ngram"), alone, strict=False):
            figures[name] = total / self.predicted
        return figures

    def _losses(self, network: Backend, companions: Companions, part: Part) -> list[float]:
        """Σ −log p of the model; with n-grams also of the network and of the n-grams alone."""
        totals = np.zeros(3 if NGRAM in companions else 1)
        for row in self._rows(_predictor(network, companions), _by_part, part):
            totals -= row.sum(axis=0, dtype=np.float64)
        return [float(total) for total in totals]

    def fitted(self, network: Backend, companions: Companions) -> Companions:
        mixture = companions.get(NGRAM)
        if not isinstance(mixture, Mixture):
            return companions
        examples = self.first(mixture.most_examples).examples(network, mixture)
        return {**companions, NGRAM: mixture.fitted(examples)}

    def examples(self, backend: Backend, mixture: Mixture) -> MixtureExamples:
        """What the weights of a mixture are fitted on, (n,), see `Combination.example`."""

        def example(prediction: Prediction, targets: IntArray) -> MixtureExamples:
            assert isinstance(prediction, MixturePrediction)
            return mixture.combination.example(prediction, targets)

        return np.concatenate(list(self._rows(_predictor(backend, {NGRAM: mixture}), example)))

    def _rows(
        self,
        predictor: Predictor,
        function: Callable[[Prediction, IntArray], NDArray[Any]],
        part: Part = WHOLE,
    ) -> Iterator[NDArray[Any]]:
        """A function of the predictions of all tokens: arrays (n, …), see `read_sequences`."""
        if self.independent_lines and self._whole_lines:
            yield from read_sequences(predictor, self._whole_lines[part.every], function)
            return
        for prediction, targets, scored in read_text(predictor, self.ids, part.span(len(self.ids))):
            if scored.any():
                yield function(prediction, targets)[scored]

    def carried(self, predictor: Predictor, part: Part = WHOLE) -> float:
        """Σ −log p, with the state carried from line to line."""
        of_text = text_logprobs(predictor, self.ids, part.span(len(self.ids)))
        return -sum(float(logprobs.sum(dtype=np.float64)) for logprobs, _ in of_text)

    def by_line(self, predictor: Predictor, part: Part = WHOLE) -> tuple[float, int]:
        """Σ −log p and the number of tokens of whole lines, with each from the zero state."""
        lines = self._whole_lines[part.every]
        logprobs = sequence_logprobs(predictor, lines)
        return -sum(float(row.sum(dtype=np.float64)) for row in logprobs), sum(map(len, lines))

    @cached_property
    def _whole_lines(self) -> list[NDArray[np.integer]]:
        ends = np.asarray(self.bounds[: len(self.ids) + 1])
        return [np.asarray(self.ids[a:b]) for a, b in pairwise(ends[ends <= len(self.ids)])]

    def seconds(self, network: Backend, companions: Companions) -> float:
        streams, length = text_streams(len(self.ids))
        shape, predictor = (streams, STEPS_AT_ONCE), _predictor(network, companions)
        ids = np.resize(self.ids[: streams * STEPS_AT_ONCE], shape).astype(np.int64)

        def call() -> None:
            prediction, _ = predictor.read(ids, predictor.initial_state(streams))
            _by_part(prediction, ids)

        call()  # the first call builds the kernels
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        calls = -(-length // STEPS_AT_ONCE)
        both_ways = min(BOTH_WAYS, len(self.ids)) / (streams * STEPS_AT_ONCE)
        total = seconds * (1.1 * calls + 3 * both_ways)
        if isinstance(mixture := companions.get(NGRAM), Mixture):
            few, most = self.first(FEW_EXAMPLES), min(mixture.most_examples, len(self.ids))
            start = time.perf_counter()
            few.fitted(network, companions)
            total += (time.perf_counter() - start) * most / len(few.ids)
        return total


def _by_part(prediction: Prediction, targets: IntArray) -> Floats:
    """log p(targets) of the model, and of its parts alone if it has two, (B, T, 1 or 3)."""
    if isinstance(prediction, MixturePrediction):
        return prediction.by_part(targets)
    return prediction.logprobs(targets)[..., None]


def _predictor(backend: Backend, companions: Companions) -> Predictor:
    network, mixture = NetworkPredictor(backend), companions.get(NGRAM)
    return MixturePredictor(network, mixture) if isinstance(mixture, Mixture) else network


TASK = LanguageModelTask()
