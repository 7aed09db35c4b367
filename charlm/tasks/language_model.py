"""Language models: what is done with a trained model of the task `lm`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np

from charlm.engines.evaluation import EvaluateOptions, evaluate_text
from charlm.engines.filling import Filler, ForwardFilling
from charlm.engines.generation import SAMPLES_AT_ONCE, generate, search
from charlm.engines.sampling import SampleOptions, random_stream
from charlm.engines.score_list import Scores
from charlm.engines.scores import SentenceScore, TextScore
from charlm.engines.scoring import ScoreOptions, score_document, score_sentences
from charlm.engines.stream import Limits, Piece, Stream
from charlm.engines.text_model import TextModel
from charlm.engines.unknown_words import UnknownWords
from charlm.errors import OptionError
from charlm.model.likelihood import (
    sequence_logprobs,
)
from charlm.model.mixture import Predictors
from charlm.model.prediction import Reader
from charlm.options import options_of_call
from charlm.tasks.tokens import (
    NGRAM,
    TokenModel,
)
from charlm.tasks.trained import index_of, one_line_end, several
from charlm.tokenizer import (
    EOS,
    START,
    UNK,
    as_inputs,
)
from charlm.tokenizer.word_starts import word_starts

if TYPE_CHECKING:
    from charlm.keywords import EvaluateKeywords, SampleKeywords, ScoreKeywords

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
        return Predictors(self.backends, self.mixture, self.ngram_only)

    @property
    def text_model(self) -> TextModel:
        """What the engines need of it."""
        return TextModel(self.predictors, self.tokenizer, self.lexicon, self.independent_lines)

    @overload
    def score(  # type: ignore[overload-overlap]  # a string is an iterable of strings too
        self, texts: str, *, details: bool = ..., **options: Unpack[ScoreKeywords]
    ) -> SentenceScore: ...

    @overload
    def score(
        self, texts: Iterable[str], *, details: bool = ..., **options: Unpack[ScoreKeywords]
    ) -> Scores[SentenceScore]: ...

    def score(
        self,
        texts: str | Iterable[str],
        *,
        details: bool = False,
        **options: Unpack[ScoreKeywords],
    ) -> SentenceScore | Scores[SentenceScore]:
        """The probability of sentences: log P(sentence) = Σ log p(token | `<START>`, before).

        texts:    one sentence, for one SentenceScore, or several, for a list, see `Scores`
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
        return Scores(self.iter_scores(texts, details=details, **options), index_of(texts))

    def iter_scores(
        self, texts: Iterable[str], *, details: bool = False, **options: Unpack[ScoreKeywords]
    ) -> Iterator[SentenceScore]:
        """`score` for any number of sentences, in input order.

        It takes bounded memory, except for a document, which is read whole before the first score.
        """
        options["context"] = one_line_end(options.get("context", ""))
        chosen = options_of_call(ScoreOptions, "score", options)
        sentences = map(one_line_end, several(texts))
        if not chosen.document:
            return score_sentences(self.text_model, sentences, chosen, details=details)
        if self.independent_lines:
            raise OptionError(
                "`document`: the model was trained with `lines`, so it reads every line by itself; "
                "leave the option out"
            )
        return score_document(self.text_model, list(sentences), chosen, details=details)

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
        chosen = options_of_call(EvaluateOptions, "evaluate", options)
        blocks = [text] if isinstance(text, str) else text
        reset = self.independent_lines if chosen.reset_lines is None else chosen.reset_lines
        return evaluate_text(
            self.text_model,
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
        chosen = options_of_call(SampleOptions, "stream", options)
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
        chosen, samples = options_of_call(SampleOptions, "sample", options), range(n)
        groups = [samples[k : k + SAMPLES_AT_ONCE] for k in range(0, n, SAMPLES_AT_ONCE)]
        return chain.from_iterable(self._streams(prime, chosen, groups))

    def _streams(
        self, prime: str, options: SampleOptions, groups: Sequence[Sequence[int]]
    ) -> Iterator[list[Stream]]:
        """The streams of each group of samples."""
        model, prime = self.text_model, one_line_end(prime)
        limits = Limits.of(
            options,
            independent_lines=self.independent_lines,
            longest_line=self.card.longest_line,
            normalized=self.tokenizer.normalized,
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
            counted, name = self.mixture.ngram, self.mixture.combination.name
            rows["n-grams"] = f"{counted.described()}; {name} combination with the network"
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
        record = super().record()
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
        ends = word_starts(self.tokenizer).after_letters
        words = self._filling.next_words(text, ends)
        scores = self.score(words, context=text, details=True)
        fillers = [Filler(s.text, math.exp(s.words()[0].logprob)) for s in scores]
        return sorted(fillers, key=lambda filler: -filler.probability)[:k]

    @cached_property
    def _filling(self) -> ForwardFilling:
        return ForwardFilling(self.predictors, self.tokenizer)
