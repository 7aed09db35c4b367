"""A trained model: scores text, writes text. What `charlm.load` and `charlm.train` give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from charlm import runs
from charlm.corpus.encoding import TokenFile
from charlm.embedding import LineVectors, embed_lines
from charlm.errors import InputError, ModelError, OptionError
from charlm.filling import BLANK, Filler, Filling
from charlm.model.cache import CacheOptions
from charlm.model.config import multiplied_weights
from charlm.model.file import ModelFile
from charlm.model.likelihood import Backend, sequence_logprobs, text_logprob
from charlm.model.ngram import Ngram, NgramOptions
from charlm.model.stepper import Stepper
from charlm.sampling import TEXTS_AT_ONCE, SampleOptions, generate, limited, random_stream, seeded
from charlm.scoring import (
    PseudoScore,
    SentenceScore,
    TextScore,
    byte_length,
    pseudo_score_sentences,
    score_sentences,
)
from charlm.tokenizer import EOS, UNK
from charlm.tokenizer.letters import Letters

if TYPE_CHECKING:
    from charlm.model.adapting import AdaptOptions

# Loading torch takes as long as NumPy needs for some 10 GFLOP; past that torch is the faster.
TORCH_PAYS_FROM = 1e10


class LanguageModel:
    """A language model in one file: its weights, its tokenizer and its card.

    path:       where it was loaded from
    config:     the network's shape
    tokenizer:  text to ids and back
    card:       where it comes from and how good it is
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Load a model, as `load` does."""
        self.path = runs.find_model(path)
        self._file = ModelFile.load(self.path)
        self.config, self.tokenizer = self._file.config, self._file.tokenizer
        self.card = self._file.card
        self._flop = 0.0  # of what was measured so far

    def __repr__(self) -> str:
        return f"LanguageModel({str(self.path)!r})"

    @overload
    def score(  # type: ignore[overload-overlap]  # a string is an iterable of strings too
        self, texts: str, *, context: str = ..., eos: bool = ...
    ) -> SentenceScore: ...

    @overload
    def score(
        self, texts: Iterable[str], *, context: str = ..., eos: bool = ...
    ) -> list[SentenceScore]: ...

    def score(
        self, texts: str | Iterable[str], *, context: str = "", eos: bool = True
    ) -> SentenceScore | list[SentenceScore]:
        """How probable sentences are: log P(sentence) = Σ log p(token | `<START>`, before).

        texts:    one sentence, which gives one SentenceScore, or several, which give a list
        context:  text that stands before each, and is not scored
        eos:      whether the end of the line is scored, as a token of its own

        A score depends on its sentence and context alone, not on what else is scored, but for the
        rounding of float32.

        >>> model.score("the cat").tokens
        8
        >>> [s.logprob < 0 for s in model.score(["a cat", "the dog"])]
        [True, True]
        """
        if isinstance(texts, str):
            return self.score([texts], context=context, eos=eos)[0]
        return list(self.iter_scores(texts, context=context, eos=eos))

    def iter_scores(
        self, texts: Iterable[str], *, context: str = "", eos: bool = True
    ) -> Iterator[SentenceScore]:
        """The same for any number of sentences, in bounded memory and in their order."""
        self._check_generates("charlm score --pseudo gives a pseudo-log-likelihood")
        context = _one_line_end(context)
        texts = map(_one_line_end, texts)
        return score_sentences(self._backends, self.tokenizer, texts, context=context, eos=eos)

    def iter_pseudo_scores(self, texts: Iterable[str]) -> Iterator[PseudoScore]:
        """Pseudo-log-likelihoods of any number of sentences, by a bidirectional model.

        Every token is predicted from all others of its sentence, see `PseudoScore`.
        """
        if not self.config.bidirectional:
            raise ModelError(
                f"--pseudo: {self.path} is no bidirectional model; leave the option out, it gives "
                "the probability itself"
            )
        return pseudo_score_sentences(self._backends, self.tokenizer, map(_one_line, texts))

    def fill(self, line: str, *, k: int = 5, blank: str = BLANK) -> list[list[Filler]]:
        """The k best fillers of each blank of a line, the likeliest first.

        line:   one line of text, with `blank` in each place where a word is missing
        blank:  what marks the places

        Bidirectional models fill best; others do it by P(left · filler · right), more slowly.

        >>> (fillers,) = model.fill("the cat ___ on the mat", k=3)
        >>> len(fillers)
        3
        """
        return self._filling.fill(_one_line(line), k, blank)

    def evaluate(
        self,
        text: Iterable[str] | str,
        *,
        reset_lines: bool | None = None,
        cache: CacheOptions | None = None,
        adapt: AdaptOptions | None = None,
        ngram: NgramOptions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> TextScore:
        """How probable a whole text is, the state carried from line to line.

        text:         a string, or blocks of whole lines; the last line's end counts, whether it
                      is there or not
        reset_lines:  every line from the zero state, so that the result is the sum of `score`
                      over the lines; None: for a model of independent lines
        cache:        mix the prediction with a neural cache of what came before in the text
        adapt:        dynamic evaluation: go on learning from the text, part by part, once a part
                      is predicted; the model itself stays as it is
        ngram:        mix the prediction with an n-gram model of the training text, which is read
                      from the run folder
        progress:     told now and then what part of a running text is done

        >>> round(model.evaluate("the cat sat\\nthe dog sat\\n").perplexity) > 1
        True
        """
        self._check_generates("charlm score --pseudo gives a pseudo-log-likelihood of each line")
        alone = self.card.lines if reset_lines is None else reset_lines
        extras = {"cache": cache, "adapt": adapt, "ngram": ngram}
        extra = next((name for name, options in extras.items() if options), None)
        if alone and extra:
            raise OptionError(
                f"--{extra}: needs a running text, and here every line is by itself; leave it out"
            )
        blocks = [text] if isinstance(text, str) else text
        encoded: list[NDArray[np.integer[Any]]] = []
        chars, size, last = 0, 0, "\n"
        for block in blocks:
            block = _one_line_end(block)
            encoded.append(self.tokenizer.encode_ids(block))
            chars, size = chars + len(block), size + byte_length(block)
            last = block[-1:] or last
        if last != "\n":
            encoded.append(np.array([EOS], np.uint8))
            chars, size = chars + 1, size + 1
        ids = np.concatenate(encoded) if encoded else np.zeros(0, np.uint8)
        backend = self._backends(len(ids))
        if alone:
            lines = np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]
            found = sequence_logprobs(backend, lines)
            logprob = float(sum(line.sum(dtype=np.float64) for line in found))
        elif len(ids):
            others = None
            if ngram:
                counted = Ngram(self._training_ids(), self.config.vocab, ngram.order)
                others = counted.probabilities(ids), ngram.weight
            if adapt:
                from charlm.model.adapting import Adapting

                backend = Adapting(self.network, adapt)
            logprob = text_logprob(
                backend, ids, cache, ngram=others, one_by_one=adapt.tokens if adapt else None,
                progress=progress,
            )  # fmt: skip
        else:
            logprob = 0.0
        return TextScore("", logprob, len(ids), chars, size, int((ids == UNK).sum()))

    def _training_ids(self) -> NDArray[np.integer[Any]]:
        try:
            return TokenFile.open(self.path.parent / "train", self.config.vocab).ids
        except FileNotFoundError as error:
            raise ModelError(
                f"{error.filename}: not there; --ngram counts the training text, which is kept in "
                "the run folder: name that, complete"
            ) from None

    def stream(self, prime: str = "", *, sample: int = 0, **options: Any) -> Iterator[str]:
        """Pieces of one text that follows the prime, as they are drawn; the prime is not repeated.

        sample:   the number of the text: each has its own random numbers
        options:  of `charlm.sampling.SampleOptions`

        >>> pieces = list(model.stream("the ", length=5, seed=1))
        >>> "the " + "".join(pieces) == model.sample("the ", length=5, seed=1)
        True
        """
        self._check_generates("writes no text")
        return self._streams(prime, seeded(SampleOptions(**options)), [sample])[0]

    def streams(self, prime: str = "", *, n: int, **options: Any) -> Iterator[Iterator[str]]:
        """The pieces of n texts, one text after the other, see `stream`; they are written side
        by side, which is faster.

        >>> first, second = model.streams("the ", n=2, length=5, seed=1)
        >>> "the " + "".join(second) == model.sample("the ", n=2, length=5, seed=1)[1]
        True
        """
        self._check_generates("writes no text")
        chosen, samples = seeded(SampleOptions(**options)), range(n)
        groups = (samples[k : k + TEXTS_AT_ONCE] for k in range(0, n, TEXTS_AT_ONCE))
        return chain.from_iterable(self._streams(prime, chosen, group) for group in groups)

    @overload
    def sample(self, prime: str = ..., *, n: None = ..., **options: Any) -> str: ...

    @overload
    def sample(self, prime: str = ..., *, n: int, **options: Any) -> list[str]: ...

    def sample(self, prime: str = "", *, n: int | None = None, **options: Any) -> str | list[str]:
        """Text like what the model learnt from, beginning with the prime.

        n:        how many texts, which gives a list; None for one, a string
        options:  of `charlm.sampling.SampleOptions`: length, max_lines, temperature, top_k,
                  top_p, min_p, seed, stop

        >>> model.sample("the cat", length=10, seed=3).startswith("the cat")
        True
        >>> model.sample(n=2, length=4, seed=3)[0] == model.sample(length=4, seed=3)
        True
        """
        wanted = self.streams(prime, n=1 if n is None else n, **options)
        texts = [prime + "".join(pieces) for pieces in wanted]
        return texts[0] if n is None else texts

    def unknown_in(self, text: str, *, prime: bool = False) -> list[str]:
        """The pieces of the text that the model has never seen, each once, in their order.

        prime:  leave out an unfinished word at its end that a sample would complete
        """
        ids, spans = self.tokenizer.encode(text)
        if prime:
            ids = ids[: len(self.tokenizer.prime(text).ids)]
            spans = spans[: len(ids)]
        found = [text[start:end] for start, end in spans[ids == UNK].tolist()]
        return list(dict.fromkeys(found))

    def embed(self, lines: Iterable[str]) -> Iterator[LineVectors]:
        """A vector for each token of each line, each line by itself, see `LineVectors`.

        >>> (line,) = model.embed(["the cat"])
        >>> line.vectors.shape == (7, model.config.hidden)
        True
        """
        return embed_lines(self._backends, self.tokenizer, map(_one_line, lines))

    def word_vectors(self, words: Sequence[str] | None = None) -> NDArray[np.float32]:
        """The vectors by which the network knows words or other tokens, (n, E).

        words:  None for the whole vocabulary, in the order of the ids, see `vocabulary`

        What is not in the vocabulary has the vector of `<UNK>`; but a character-aware network
        (whose vectors have E + `spelled` features) makes the part of it anew that comes from the
        letters.
        """
        weights = self._file.weights
        table = weights["embedding"]
        if self.config.characters:
            table = np.concatenate([table, weights["spelled"]], axis=1)
        if words is None:
            return table
        ids = [self.word_id(word) for word in words]
        found = table[[UNK if id is None else id for id in ids]]
        unseen = [k for k, id in enumerate(ids) if id is None]
        if unseen and self.config.characters:
            letters = Letters(self.tokenizer).spell([words[k] for k in unseen])
            found[unseen, self.config.embedding :] = self.network.spelled_words(letters)
        return found

    @property
    def vocabulary(self) -> list[str]:
        """The printable forms of all tokens, in the order of their ids."""
        return [self.tokenizer.token(id) for id in range(self.tokenizer.size)]

    def word_id(self, word: str) -> int | None:
        """The id of a word that is in the vocabulary."""
        ids = self.tokenizer.encode(word).ids
        return int(ids[0]) if len(ids) == 1 and ids[0] != UNK else None

    def _check_generates(self, instead: str) -> None:
        """Only a model that reads forward alone says how probable a sentence is, and writes."""
        if self.config.bidirectional:
            raise ModelError(
                f"{self.path} is bidirectional: it fills blanks (charlm fill), and {instead}; for "
                "the rest train a model without --bidirectional"
            )

    def _streams(
        self, prime: str, options: SampleOptions, samples: Sequence[int]
    ) -> list[Iterator[str]]:
        prime = _one_line_end(prime)
        randoms = [random_stream(options.seed or 0, sample) for sample in samples]
        texts = generate(self.stepper, self.tokenizer, prime, options, randoms)
        return [limited(pieces, options, lines=self.card.lines) for pieces in texts]

    @cached_property
    def stepper(self) -> Stepper:
        """The network in NumPy."""
        return Stepper(self.config, self._file.weights)

    @cached_property
    def _filling(self) -> Filling:
        return Filling(self.stepper, self._backends, self.tokenizer)

    @cached_property
    def network(self) -> Any:
        """The network in torch (`charlm.model.network.Network`), which this imports."""
        from charlm.model.network import network_from

        return network_from(self.config, self._file.weights)

    def _backends(self, tokens: int) -> Backend:
        """NumPy for little work, torch for much: once all work so far would have paid for it."""
        self._flop += self._flop_per_token * tokens
        backend: Backend = self.stepper if self._flop < TORCH_PAYS_FROM else self.network
        return backend

    @cached_property
    def _flop_per_token(self) -> float:
        return 2 * multiplied_weights(self.config)


def _one_line_end(text: str) -> str:
    """The text with "\\n" for "\\r\\n", as in the files that a model learns from."""
    return text.replace("\r\n", "\n")


def _one_line(text: str) -> str:
    """The text, if it is a line. Raises InputError if it is more."""
    if "\n" in text:
        raise InputError("a line end in the text; give one line at a time")
    return text


def load(path: str | Path | None = None) -> LanguageModel:
    """Load a model.

    path:  a model file or its run folder; None: $CHARLM_MODEL, else the run that was trained
           last from this directory

    Raises ModelError when there is none, or it is damaged or foreign.
    """
    return LanguageModel(path)


def train(
    corpus: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    quiet: bool = False,
    started: float | None = None,
    **options: Any,
) -> LanguageModel:
    """Train a language model of a text, and write it to a run folder.

    corpus:   a text file, or several that are read one after the other; "-" is standard input
    out:      the run folder; None: runs/NAME, or the next free runs/NAME-2 …
    resume:   go on with the run in `out`, or with the last one of this corpus
    force:    replace `out` if it exists, once training is complete
    quiet:    say nothing on stderr but warnings
    started:  `time.monotonic()` from which a budget in minutes counts; None: now
    options:  of `charlm.training.recipe.TrainOptions`: minutes, level, cell, hidden, …

    Returns the model with the weights that validated best. Raises InputError, OptionError or
    ModelError for what cannot be used, and Stopped, after saving, on Ctrl-C or SIGTERM.

    >>> model = charlm.train("corpus.txt", out="small", steps=5, hidden=16, quiet=True)
    >>> model.card.corpus
    'corpus'
    """
    started = time.monotonic() if started is None else started
    from charlm.training.train import train_run

    folder = train_run(
        [corpus] if isinstance(corpus, str | Path) else list(corpus),
        out=None if out is None else Path(out), resume=resume, force=force, quiet=quiet,
        started=started, options=options,
    )  # fmt: skip
    return LanguageModel(folder)
