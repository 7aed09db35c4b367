"""The recipe: sizes and schedule, chosen from the corpus, the budget and the machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.config import VARIANTS, Dropout, ModelConfig, multiplied_weights
from charlm.tasks import load_task
from charlm.tokenizer import TOKENIZERS
from charlm.training.options import NO_NGRAM, TrainOptions


@dataclass(frozen=True)
class Recipe:
    """Every decision that training needs, see `TrainOptions` for the meanings.

    tokens:   number of tokens that the budget is expected to train on
    ngram:    length of the longest n-grams; None for a model without
    ngrams:   about how many n-grams the model may have
    threads:  of the CPU, of all processes on a machine; None in a recipe of an older version

    Exactly one of minutes, epochs and steps is not None.
    """

    task: str
    model: ModelConfig
    dropout: Dropout
    forget_bias: float
    minutes: float | None
    epochs: float | None
    steps: int | None
    batch: int
    bptt: int
    lr: float
    weight_decay: float
    lines: bool
    seed: int
    device: str
    precision: str
    tokens: int
    threads: int | None = None
    ngram: int | None = None
    ngrams: int | None = None

    @property
    def budget(self) -> str:
        """The budget in words."""
        if self.minutes:
            return f"{self.minutes:g} minutes"
        return f"{self.epochs:g} epochs" if self.epochs else f"{self.steps} steps"

    def described(self) -> str:
        """The recipe in one line."""
        parts = [
            self.model.described(),
            self.dropout.described(),
            load_task(self.task).described_batch(self.batch, self.bptt),
            f"learning rate {self.lr:g}",
            f"weight decay {self.weight_decay:g}",
            f"{self.precision} on {self.device}",
            self.budget,
        ]
        if self.ngram:
            parts.insert(1, f"n-grams up to {self.ngram}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """The recipe with these values of `to_json`."""
        model, dropout = ModelConfig(**values["model"]), Dropout(**values["dropout"])
        return cls(**{**values, "model": model, "dropout": dropout})


HIDDEN_SIZES = (32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
DEFAULT_MINUTES = (0.5, 3.0, 4.5)  # at the least, for a million characters, at the most
USEFUL = 0.85  # of a budget in minutes; the rest is start, evaluation and finish
STEP_SECONDS = 2.5e-3  # of a step beside its matrix products: most of a small network's step


def _minutes(options: TrainOptions, chars: int) -> float | None:
    """The budget in minutes, longer for a longer text; None if there is another budget."""
    if options.minutes or options.epochs or options.steps:
        return options.minutes
    least, typical, most = DEFAULT_MINUTES
    return round(min(max(typical * (chars / 1e6) ** 0.5, least), most), 1)


def choose(
    options: TrainOptions,
    *,
    counts: NDArray[np.int64],
    alphabet: int = 0,
    width: int | None = None,
    chars: int,
    rate: float,
    device: str,
    precision: str,
    threads: int | None = None,
) -> Recipe:
    """Choose everything that the options leave open.

    counts:    (V,) number of occurrences of each token in the training part
    alphabet:  number of different characters in its words
    width:     features of the word vectors to start from
    chars:     size of the corpus in characters
    rate:      speed of training on this machine, FLOP/s

    See `Recipe` for device, precision and threads.
    """
    train_tokens, cutoffs = int(counts.sum()), split_softmax(counts)
    rows = softmax_rows(counts, cutoffs)
    minutes = _minutes(options, chars)
    batch, bptt = _shape(options, train_tokens)

    def tokens_within_budget(model: ModelConfig) -> float:
        if minutes:
            products = 6 * multiplied_weights(model, rows) * batch * bptt / rate
            return USEFUL * 60 * minutes / (products + STEP_SECONDS) * batch * bptt
        if options.epochs:
            return options.epochs * train_tokens
        return (options.steps or 0) * batch * bptt

    sizes = (options.hidden,) if options.hidden else HIDDEN_SIZES
    networks = [network(options, len(counts), size, alphabet, width) for size in sizes]
    models = [dataclasses.replace(model, cutoffs=cutoffs) for model in networks]
    large = TOKENIZERS[options.level].large_vocabulary
    fitting = [m for m in models if _fits(large, m, tokens_within_budget(m), train_tokens)]
    model = fitting[-1] if fitting else models[0]
    tokens = int(tokens_within_budget(model))
    epochs, decay = tokens / train_tokens, options.weight_decay
    return Recipe(
        task=options.task,
        model=model,
        dropout=_dropout(options, model, epochs, train_tokens),
        forget_bias=options.forget_bias,
        minutes=minutes,
        epochs=options.epochs,
        steps=options.steps,
        batch=batch,
        bptt=bptt,
        lr=options.lr or _learning_rate(model),
        weight_decay=_weight_decay(epochs) if decay is None else decay,
        lines=options.lines,
        seed=options.seed,
        device=device,
        precision=precision,
        tokens=tokens,
        threads=threads,
        ngram=_order(options),
        ngrams=_most_ngrams(chars),
    )


ORDER_BY_LEVEL = {"char": 9, "byte": 9, "subword": 6, "word": 5}
# An n-gram takes 2.3 bytes of the model file, and 20 of memory. A long text has more of them than
# are worth that. The number grows with the third root of its length.
NGRAMS_PER_CHARACTER, NGRAMS_OF_A_MILLION, MOST_NGRAMS = 3.3, 2_500_000, 12_000_000


def _order(options: TrainOptions) -> int | None:
    """The length of the longest n-grams."""
    if options.ngram == NO_NGRAM or not load_task(options.task).mixes:
        return None
    return int(options.ngram or ORDER_BY_LEVEL[options.level])


def _most_ngrams(chars: int) -> int:
    root = NGRAMS_OF_A_MILLION * (chars / 1e6) ** (1 / 3)
    return int(min(NGRAMS_PER_CHARACTER * chars, root, MOST_NGRAMS))


ROWS_OF_TAIL = 100  # a tail costs as much as 100 more rows
WORTH_SPLITTING = 0.5  # of the rows that remain
CANDIDATES = 32


def split_softmax(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Where to split the softmax (`ModelConfig.cutoffs`) so that tokens meet the fewest rows.

    counts:  (V,) number of occurrences of each token

    The result is one tail or two; none where a split saves too little.
    """
    last = len(counts) - 1
    edges = np.unique(np.geomspace(1, last, CANDIDATES).astype(int))[1:-1].tolist()
    splits = [(a,) for a in edges] + list(combinations(edges, 2))
    best = min(splits, key=lambda split: softmax_rows(counts, split), default=())
    return best if softmax_rows(counts, best) < WORTH_SPLITTING * last else ()


def softmax_rows(counts: NDArray[np.int64], cutoffs: tuple[int, ...]) -> float:
    """The number of rows of the softmax that a token is multiplied with, on average."""
    share = np.append(0, np.cumsum(counts[1:])) / counts[1:].sum()
    edges = (*cutoffs, len(counts) - 1)
    tails = [(b - a) * (share[b] - share[a]) + ROWS_OF_TAIL for a, b in pairwise(edges)]
    return float(edges[0] + sum(tails))


def _shape(options: TrainOptions, train_tokens: int) -> tuple[int, int]:
    """Streams, and tokens of a chunk.

    Many small steps are better than few large ones, most of all on little text. With a large
    vocabulary each step updates the vocabulary's weights, so chunks are longer.
    """
    bptt = 64 if TOKENIZERS[options.level].large_vocabulary else 32
    return options.batch or min(max(train_tokens // 8000, 4), 32), options.bptt or bptt


PROBE_VOCAB, PROBE_HIDDEN = 128, 320  # large enough to be representative
CHAR_FEATURES = 150  # features of a word's vector that come from its characters


def network(
    options: TrainOptions, vocab: int, hidden: int, alphabet: int = 0, width: int | None = None
) -> ModelConfig:
    """The network of these options at this size.

    A large vocabulary ties the softmax to the embedding, which halves the weights. Raises
    OptionError for options that do not go together.
    """
    large = TOKENIZERS[options.level].large_vocabulary
    embedding = options.embedding or width
    if not embedding:
        embedding = hidden if large or options.residual else min(128, hidden)
    chosen = {
        "feedforward": 0,
        "highway": int(bool(options.characters)),
        **load_task(options.task).network_parts(),
    }
    for name in ("feedforward", "highway"):
        if getattr(options, name) is not None:
            chosen[name] = getattr(options, name)
    variants = {name: getattr(options, name) for name in VARIANTS}
    variants["forget_gate"] = None if options.forget_gate else False
    return ModelConfig(
        vocab,
        options.cell,
        options.layers or 1,
        hidden,
        embedding,
        tied=large and embedding == hidden and not options.freeze_embeddings,
        layer_norm=options.layer_norm,
        residual=options.residual,
        characters=options.characters,
        char_features=CHAR_FEATURES if options.characters else 0,
        alphabet=alphabet,
        **variants,
        **chosen,
    )


def check_network(options: TrainOptions, width: int | None = None) -> None:
    """Raise OptionError for options of the network that do not go together.

    width:  features of the word vectors to start from
    """
    shape = network(options, 4, options.hidden or 1, width=width)
    if options.forget_bias != 1.0 and "f" not in shape.recurrence.gates:
        raise OptionError(
            f"`forget_bias={options.forget_bias:g}`: there is no forget gate; leave the option "
            "out, or use `cell=lstm`"
        )


def probe(options: TrainOptions) -> ModelConfig:
    """A small network of the same kind, to measure the speed of a machine."""
    plain = dataclasses.replace(
        options,
        level="char",
        split=TrainOptions.split,
        characters=None,
        embedding=None,
        embeddings=None,
        freeze_embeddings=False,
    )
    return network(plain, PROBE_VOCAB, PROBE_HIDDEN)


TOKENS_PER_WEIGHT = 5.5  # to train on for each recurrent weight
WEIGHTS_PER_ROOT = 1600.0  # a text of n tokens can teach 1600·√n weights
# With a large vocabulary most of what a network learns is in the embedding. Training on n tokens
# is enough for 15·n^⅔ recurrent weights.
WEIGHTS_LARGE, EXPONENT_LARGE = 15.0, 2 / 3


def _fits(large_vocabulary: bool, model: ModelConfig, tokens: float, train_tokens: int) -> bool:
    """Whether the budget trains this network well, and the text has enough to teach it."""
    trained = tokens / TOKENS_PER_WEIGHT
    if large_vocabulary:
        trained = WEIGHTS_LARGE * tokens**EXPONENT_LARGE
    return multiplied_weights(model, 0) <= min(trained, WEIGHTS_PER_ROOT * train_tokens**0.5)


LEAST_DROPOUT = 0.05  # a smaller probability costs its masks and brings nothing
MOST_DROPOUT = 0.5  # of outputs
MOST_WEIGHT_DROPOUT = 0.3


def _dropout(
    options: TrainOptions, model: ModelConfig, epochs: float, train_tokens: int
) -> Dropout:
    """Dropout by how often the text is seen.

    Characters that are seen a few times get none; then it grows with the epochs and with the
    weights per token. Where twice the highest probability for outputs would not suffice, recurrent
    weights get some, too. Words need it sooner, since most of them are rare. Characters have no
    input dropout: their vectors are too small.
    """
    words = TOKENIZERS[options.level].large_vocabulary
    weights_per_token = multiplied_weights(model, 0) / train_tokens
    need = 0.08 * epochs**0.5 if words else 0.0135 * (epochs - 1.5) * weights_per_token**0.25
    outputs, inputs, weights = options.dropout, options.input_dropout, options.weight_dropout
    if outputs is None:
        outputs = _at_least(need, MOST_DROPOUT)
    if inputs is None:
        inputs = outputs if words else 0.0
    if weights is None:
        rest = need - 2 * MOST_DROPOUT if options.dropout is None else 0.0
        weights = _at_least(rest / 2, MOST_WEIGHT_DROPOUT)
    return Dropout(outputs, inputs, options.state_dropout, weights, options.dropout_per_step)


def _at_least(probability: float, most: float) -> float:
    return min(round(probability, 2), most) if probability >= LEAST_DROPOUT else 0.0


def _weight_decay(epochs: float) -> float:
    """More decay for a text that is seen more often: old updates fade."""
    return round(min(max(0.03 * epochs, 0.05), 0.2), 3)


# Factors on the learning rate of an LSTM. With the full rate these cells do not learn.
CELL_RATE = {"rnn": 0.6, "gru-simple": 0.6}


def _learning_rate(model: ModelConfig) -> float:
    rate = 7e-3 * 256 / model.hidden if model.tied else 7e-3 * (384 / model.hidden) ** 0.5
    return round(min(rate, 8e-3) * CELL_RATE.get(model.cell, 1.0), 4)
