"""The task `lm`: predict the next token. Its models score text and write text."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from charlm.corpus.examples import TEXT
from charlm.corpus.streams import StreamBatch, StreamBatches
from charlm.engines.evaluation import EvaluateOptions, evaluate_text
from charlm.engines.filling import Filler, FillOptions, ForwardFilling
from charlm.engines.generation import SAMPLES_AT_ONCE, generate, search
from charlm.engines.sampling import SampleOptions, random_stream
from charlm.engines.scores import SentenceScore, TextScore
from charlm.engines.scoring import ScoreOptions, score_document, score_sentences
from charlm.engines.stream import Limits, Piece, Stream
from charlm.engines.text_model import TextModel
from charlm.engines.unknown_words import UnknownWords
from charlm.errors import OptionError
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
from charlm.model.mixture import Mixture, MixturePredictor, Predictors
from charlm.model.ngram import NO_NGRAM
from charlm.model.ngram_counts import count, sampled
from charlm.model.prediction import NetworkPredictor, Prediction, Predictor, Reader
from charlm.model.sequences import STEPS_AT_ONCE
from charlm.parts import WHOLE, Part
from charlm.tasks.base import Companions, one_line, one_line_end, several
from charlm.tasks.tokens import (
    LEXICON,
    NGRAM,
    TokenModel,
    TokenTask,
    TokenValidation,
    rare_tokens,
)
from charlm.tokenizer import (
    EOS,
    START,
    UNK,
    Blocks,
    IntArray,
    Tokenizer,
    as_inputs,
    count_words,
)
from charlm.tokenizer.word_starts import word_starts

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.corpus.batches import BatchShape
    from charlm.corpus.examples import CorpusInfo, Examples
    from charlm.keywords import EvaluateKeywords, FillKeywords, SampleKeywords, ScoreKeywords
    from charlm.model.layers import States
    from charlm.model.network import Network
    from charlm.training.options import TrainOptions

BOTH_WAYS = 20_000  # tokens that are measured with the state carried and line by line
# Of the card: the loss of the network and of the n-grams alone; and the loss in two ways of the
# same first part of the text: with the state carried, and with each line from the zero state.
FIGURES = ("valid_network", "valid_ngram", "valid_both_tokens", "valid_carried", "valid_lines")
FEW_EXAMPLES = 4096  # tokens that a fit of the mixture is timed with


class LanguageModel(TokenModel):
    """A language model: it gives the probability of a text, and writes text."""

    task = "lm"
    purpose = "scores, samples and fills"
    next_commands = ("charlm sample", 'charlm score "a sentence"')

    @cached_property
    def predictors(self) -> Predictors:
        """What predicts the next token: the network, combined with the n-gram model."""
        return Predictors(self.backends, self.mixture)

    @property
    def _text_model(self) -> TextModel:
        return TextModel(self.predictors, self.tokenizer, self.lexicon, self.independent_lines)

    @overload
    def score(  # type: ignore[overload-overlap]  # a string is an iterable of strings too
        self, texts: str, *, details: bool = ..., **options: Unpack[ScoreKeywords]
    ) -> SentenceScore: ...

    @overload
    def score(
        self, texts: Iterable[str], *, details: bool = ..., **options: Unpack[ScoreKeywords]
    ) -> list[SentenceScore]: ...

    def score(
        self,
        texts: str | Iterable[str],
        *,
        details: bool = False,
        **options: Unpack[ScoreKeywords],
    ) -> SentenceScore | list[SentenceScore]:
        """The probability of sentences: log P(sentence) = Σ log p(token | `<START>`, before).

        texts:    one sentence, for one SentenceScore, or several, for a list
        details:  measure the whole distribution before each token, for its rank, its entropy, the
                  likeliest tokens, and the surprisal of words. It takes longer
        options:  of `charlm.engines.scoring.ScoreOptions`: context, eos, unknown, document, …

        A score depends on its sentence and context alone, up to the rounding of float32.

        >>> model.score("the cat").tokens
        8
        >>> [s.logprob < 0 for s in model.score(["a cat", "the dog"])]
        [True, True]
        >>> [w.word for w in model.score("the cat", details=True).words()]
        ['the', 'cat', '<EOS>']
        """
        if isinstance(texts, str):
            return next(self.iter_scores([texts], details=details, **options))
        return list(self.iter_scores(texts, details=details, **options))

    def iter_scores(
        self, texts: Iterable[str], *, details: bool = False, **options: Unpack[ScoreKeywords]
    ) -> Iterator[SentenceScore]:
        """`score` for any number of sentences, in input order.

        It takes bounded memory, except for a document, which is read whole before the first score.
        """
        options["context"] = one_line_end(options.get("context", ""))
        chosen = ScoreOptions(**options)
        sentences = map(one_line_end, several(texts))
        if not chosen.document:
            return score_sentences(self._text_model, sentences, chosen, details=details)
        if self.independent_lines:
            raise OptionError(
                "`document`: the model was trained with `lines`, so it reads every line by itself; "
                "leave the option out"
            )
        return score_document(self._text_model, list(sentences), chosen, details=details)

    def evaluate(
        self,
        text: str | Iterable[str],
        *,
        progress: Callable[[float], None] | None = None,
        **options: Unpack[EvaluateKeywords],
    ) -> TextScore:
        """The probability of a whole text, with the state carried from line to line.

        text:      a string, or blocks of whole lines. The end of the last line is scored, even if
                   the text does not have it
        progress:  called with the fraction of a running text that is done
        options:   of `charlm.engines.evaluation.EvaluateOptions`: reset_lines, cache, adapt, …

        With `reset_lines` the result is the sum of `score` over the lines. It is the default for a
        model of independent lines.

        >>> round(model.evaluate("the cat sat\\nthe dog sat\\n").perplexity) > 1
        True
        """
        chosen = EvaluateOptions(**options)
        blocks = [text] if isinstance(text, str) else text
        reset = self.independent_lines if chosen.reset_lines is None else chosen.reset_lines
        return evaluate_text(
            self._text_model,
            map(one_line_end, blocks),
            chosen,
            reset_lines=reset,
            progress=progress,
        )

    def warning(self, measure: TextScore, **options: Unpack[EvaluateKeywords]) -> str | None:
        """How many tokens of a text are unknown, and what their probability is."""
        if not measure.unknown:
            return None
        read_as = UnknownWords.of(EvaluateOptions(**options), self.lexicon).read_as
        return (
            f"{measure.unknown:,} tokens of {measure.tokens:,} are unknown to the model; {read_as}"
        )

    @overload
    def sample(
        self, prime: str = ..., *, n: None = ..., **options: Unpack[SampleKeywords]
    ) -> str: ...

    @overload
    def sample(
        self, prime: str = ..., *, n: int, **options: Unpack[SampleKeywords]
    ) -> list[str]: ...

    def sample(
        self, prime: str = "", *, n: int | None = None, **options: Unpack[SampleKeywords]
    ) -> str | list[str]:
        """Text like the training text, beginning with the prime.

        n:        the number of samples, for a list; None for one sample, a string
        options:  of `charlm.engines.sampling.SampleOptions`: length, temperature, top_p, seed, …

        >>> model.sample("the cat", length=10, seed=3).startswith("the cat")
        True
        >>> model.sample(n=2, length=4, seed=3)[0] == model.sample(length=4, seed=3)
        True
        """
        streams = self.streams(prime, n=1 if n is None else n, **options)
        texts = [prime + "".join(pieces) for pieces in streams]
        return texts[0] if n is None else texts

    def stream(
        self, prime: str = "", *, sample: int = 0, **options: Unpack[SampleKeywords]
    ) -> Stream:
        """One sample in pieces, as they are drawn; without the prime. See `Stream`.

        sample:   the number of the sample: each number has its own random numbers.
                  With `beam` it is the rank of the text, from 0; raises OptionError where the
                  search finds no more texts
        options:  of `charlm.engines.sampling.SampleOptions`

        >>> pieces = list(model.stream("the ", length=5, seed=1))
        >>> "the " + "".join(pieces) == model.sample("the ", length=5, seed=1)
        True
        """
        chosen = SampleOptions(**options)
        streams = next(self._streams(prime, chosen, [[sample]]))
        if not streams:
            raise OptionError(f"`beam={chosen.beam}`: the search finds no more texts")
        return streams[0]

    def streams(
        self, prime: str = "", *, n: int, **options: Unpack[SampleKeywords]
    ) -> Iterator[Stream]:
        """The pieces of n samples, one sample after the other, see `stream`.

        The samples are computed side by side, which is faster than one by one.

        >>> first, second = model.streams("the ", n=2, length=5, seed=1)
        >>> "the " + "".join(second) == model.sample("the ", n=2, length=5, seed=1)[1]
        True
        """
        chosen, samples = SampleOptions(**options), range(n)
        groups = [samples[k : k + SAMPLES_AT_ONCE] for k in range(0, n, SAMPLES_AT_ONCE)]
        return chain.from_iterable(self._streams(prime, chosen, groups))

    def _streams(
        self, prime: str, options: SampleOptions, groups: Sequence[Sequence[int]]
    ) -> Iterator[list[Stream]]:
        """The streams of each group of samples."""
        model, prime = self._text_model, one_line_end(prime)
        limits = Limits.of(
            options,
            independent_lines=self.independent_lines,
            longest_line=self.card.longest_line,
        )
        seed = secrets.randbits(32) if options.seed is None else options.seed
        for group in groups:
            pieces: Sequence[Iterable[Piece]]
            if options.beam:
                texts = search(model, prime, options, limits, options.beam)
                pieces = texts[group[0] : group[-1] + 1]
            else:
                generators = [random_stream(seed, sample) for sample in group]
                pieces = generate(model, prime, options, limits, generators)
            yield [Stream(of_sample, limits) for of_sample in pieces]

    def drawn_logprobs(self, prime: str, ids: Sequence[int]) -> list[tuple[int, float]]:
        """log p of the tokens of a `Stream`, with their ids, in nats, as `score` gives it.

        Temperature and other options do not change it.
        """
        primed = self.tokenizer.prime(one_line_end(prime)).ids
        whole = np.concatenate([primed, np.array(ids, np.int64)])
        lines = [whole]
        if self.independent_lines:
            lines = np.split(whole, np.flatnonzero(whole[:-1] == EOS) + 1)
        predictor = self.predictors.for_tokens(len(whole))
        logprobs = np.concatenate(sequence_logprobs(predictor, lines))
        return list(zip(ids, logprobs[len(primed) :].tolist(), strict=True))

    def validation(self) -> str:
        """See `TrainedModel.validation`; with the loss of the network and of the n-grams alone."""
        network, ngram = (self.card.figures.get(f"valid_{name}") for name in ("network", NGRAM))
        if network is None or ngram is None:
            return super().validation()
        alone = f"{network:.4f} for the network alone, {ngram:.4f} for the n-grams alone"
        return f"{super().validation()}; {alone}"

    def about(self) -> dict[str, str]:
        rows = super().about()
        if self.mixture:
            ngram, name = self.mixture.ngram, self.mixture.combination.name
            rows["n-grams"] = (
                f"{len(ngram):,} of up to {ngram.order} tokens; {name} combination with the network"
            )
        figures = self.card.figures
        carried, by_line = figures.get("valid_carried"), figures.get("valid_lines")
        if carried is not None and by_line is not None:
            tokens = figures.get("valid_both_tokens")
            part = f"the first {tokens:,.0f} tokens" if tokens else "a part"
            rows["lines alone"] = (
                f"{by_line:.4f} nats/token with each line alone, {carried:.4f} with the state "
                f"carried: of {part} of the validation text"
            )
        return rows

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = {**super().record(), "ngram": None}
        if self.mixture:
            combination = self.mixture.combination
            record["ngram"] = {
                "order": self.mixture.ngram.order,
                "ngrams": len(self.mixture.ngram),
                "combination": combination.name,
                "weights": combination.weights.tolist(),
            }
        return record

    def example(self) -> str:
        return self.sample(length=200, temperature=0.8, seed=1)

    def unknown_in_prime(self, prime: str) -> list[str]:
        """`unknown_in`, without an unfinished word at the end that a sample would complete."""
        ids, spans = self.tokenizer.encode(prime)
        ids = ids[: len(self.tokenizer.prime(prime).ids)]
        unknown = [prime[start:end] for start, end in spans[: len(ids)][ids == UNK].tolist()]
        return list(dict.fromkeys(unknown))

    def fill(self, line: str, **options: Unpack[FillKeywords]) -> list[list[Filler]]:
        """The best fillers of each blank of a line, by P(left · filler · right).

        options:  of `charlm.engines.filling.FillOptions`: k, blank

        A model of the task `fill` does this better and faster.

        >>> (fillers,) = model.fill("the cat ___ on the mat", k=3)
        >>> len(fillers)
        3
        """
        return self._filling.fill(one_line(line), FillOptions(**options))

    def next(self, context: str = "") -> list[tuple[str, float]]:
        """All tokens that may come next, the most probable first, with their probabilities.

        context:  the text before. Where lines are independent, its last line counts

        >>> token, p = model.next("the ca")[0]
        >>> token, 0.5 < p < 1
        ('t', True)
        """
        text = one_line_end(context)
        if self.independent_lines:
            text = text.rpartition("\n")[2]
        inputs = as_inputs(np.append(START, self.tokenizer.encode_ids(text)))
        (logprobs,) = Reader(self.predictors.numpy, inputs).logprobs()
        best = np.argsort(-logprobs, kind="stable")[: self.tokenizer.size - 1]  # but <START>
        p = np.exp(logprobs[best], dtype=np.float64).tolist()
        return list(zip(map(self.tokenizer.token, best.tolist()), p, strict=True))

    def next_words(self, context: str = "", *, k: int = 5) -> list[Filler]:
        """The k most probable next words, each with its probability, see `SentenceScore.words`.

        context:  whole words

        >>> [word.text for word in model.next_words("the cat sat in the", k=1)]
        ['sun']
        """
        text = one_line_end(context)
        if text and not text[-1].isspace():
            text += " "
        ends = np.logical_or.reduce(word_starts(self.tokenizer).masks)
        words = self._filling.next_words(text, ends)
        scores = self.score(words, context=text, details=True)
        fillers = [Filler(s.text, math.exp(s.words()[0].logprob)) for s in scores]
        return sorted(fillers, key=lambda filler: -filler.probability)[:k]

    @cached_property
    def _filling(self) -> ForwardFilling:
        return ForwardFilling(self.predictors, self.tokenizer)


class LanguageModelTask(TokenTask[StreamBatch]):
    """Next-token prediction over streams of text, with truncated back-propagation through time."""

    name = "lm"
    model = LanguageModel

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
        ngram = count(
            sampled(ids),
            tokenizer.size,
            order,
            independent_lines=options.lines,
            most=_most_ngrams(info.chars),
        )
        companions: dict[str, Storable] = {NGRAM: Mixture(ngram)}
        if words := count_words(_beginning(text(), MOST_COUNTED), tokenizer):
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


def _most_ngrams(chars: int) -> int:
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
        found = text_logprobs(predictor, self.ids, part.span(len(self.ids)))
        return -sum(float(logprobs.sum(dtype=np.float64)) for logprobs, _ in found)

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
