"""What is trained, and how: sizes and schedule from the corpus, the budget and the machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import OptionError
from charlm.model.config import VARIANTS, Dropout, ModelConfig, multiplied_weights
from charlm.tokenizer import LEVELS

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda", "mps")
WORDS = ("word", "subword")  # levels whose vocabulary is large


@dataclass(frozen=True)
class TrainOptions:
    """What may be asked of training; None leaves the choice to `choose`.

    level:           "char", "byte", "word" or "subword"
    vocab_size:      at most so many token ids, the three special ones included
    split:           of the word level: "lossless" or "whitespace"
    normalize:       "nfc" or "none": of characters and words
    lines:           the lines are independent, and are shuffled each epoch
    unit:            "line", or "paragraph": lines are joined up to a blank one
    encoding:        of the files
    cell:            a cell of `charlm.model.equations.CELLS`
    layers, hidden:  recurrent layers, and features of each
    activation, forget_gate, peepholes, reset:  variants of the cell
    forget_bias:     at which the forget gate's bias starts
    embedding:       features of a token's vector
    embeddings:      a file of word vectors to start from, see `charlm.word_vectors`
    freeze_embeddings:  those vectors stay as they are
    layer_norm, residual, feedforward, highway, characters, bidirectional:  see `ModelConfig`
    dropout, input_dropout, state_dropout, weight_dropout, dropout_per_step:  the probabilities
                     of `charlm.model.config.Dropout`, 0 to 0.9
    minutes, epochs, steps:  the budget, one of them; minutes count from the command's start
    batch, bptt:     streams side by side, and tokens a chunk
    lr:              the highest learning rate
    weight_decay:    by which matrices shrink, times the learning rate, at every step
    valid:           a file to validate on; else valid_fraction of the corpus is held out
    seed:            of everything random
    device, precision, threads:  where and how to compute

    Raises OptionError, naming the option and the value.
    """

    level: str = "char"
    vocab_size: int | None = None
    split: str = "lossless"
    normalize: str = "nfc"
    lines: bool = False
    unit: str = "line"
    encoding: str = "utf-8"
    cell: str = "lstm"
    layers: int | None = None
    hidden: int | None = None
    activation: str | None = None
    forget_gate: bool | None = None
    peepholes: str | None = None
    reset: str | None = None
    forget_bias: float = 1.0
    layer_norm: bool = False
    residual: bool = False
    feedforward: int | None = None
    highway: int | None = None
    characters: str | None = None
    embedding: int | None = None
    embeddings: str | None = None
    freeze_embeddings: bool = False
    bidirectional: bool = False
    dropout: float | None = None
    input_dropout: float | None = None
    state_dropout: float = 0.0
    weight_dropout: float | None = None
    dropout_per_step: bool = False
    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch: int | None = None
    bptt: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    valid: str | None = None
    valid_fraction: float = 0.1
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        _one_of("level", self.level, LEVELS)
        _one_of("split", self.split, ("lossless", "whitespace"))
        _one_of("normalize", self.normalize, ("nfc", "none"))
        _one_of("device", self.device, DEVICES)
        _one_of("precision", self.precision, PRECISIONS)
        for name in ("vocab_size", "layers", "hidden", "embedding", "minutes", "epochs", "steps",
                     "batch", "bptt", "lr", "threads"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"--{name.replace('_', '-')} {value}: must be more than 0")
        budgets = [name for name in ("minutes", "epochs", "steps") if getattr(self, name)]
        if len(budgets) > 1:
            raise OptionError(f"--{budgets[0]} and --{budgets[1]}: give only one budget")
        for name in ("dropout", "input_dropout", "state_dropout", "weight_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 0.9:
                raise OptionError(f"--{name.replace('_', '-')} {value}: must be from 0 to 0.9")
        if self.weight_decay is not None and not 0 <= self.weight_decay <= 10:
            raise OptionError(f"--weight-decay {self.weight_decay:g}: must be from 0 to 10")
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"--seed {self.seed}: must be 0 or more, and below 2^63")
        if not 0 < self.valid_fraction < 1:
            raise OptionError(f"--valid-fraction {self.valid_fraction}: must be between 0 and 1")
        if self.lines and self.unit == "paragraph":
            raise OptionError("--lines and --unit paragraph: give only one of them")
        if self.freeze_embeddings and not self.embeddings:
            raise OptionError("--freeze-embeddings: give the vectors to keep with --embeddings")
        for name in ("characters", "embeddings"):
            if getattr(self, name) and self.level != "word":
                raise OptionError(f"--{name} {getattr(self, name)}: is for words; add --level word")
        # What the network is to look like is checked where it is used.
        shape = network(self, 4, hidden=self.hidden or 1)
        if not abs(self.forget_bias) <= 100:
            raise OptionError(f"--forget-bias {self.forget_bias:g}: must be from -100 to 100")
        if self.forget_bias != 1.0 and "f" not in shape.recurrence.gates:
            raise OptionError(
                f"--forget-bias {self.forget_bias:g}: there is no forget gate; leave it out, or "
                "use --cell lstm"
            )


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"--{name} {value}: choose {', '.join(choices)}")


@dataclass(frozen=True)
class Recipe:
    """Everything that training needs to know, chosen: see `TrainOptions` for the meanings.

    Exactly one of minutes, epochs and steps is not None.
    """

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
    tokens: int  # that the budget is expected to train on

    @property
    def budget(self) -> str:
        if self.minutes:
            return f"{self.minutes:g} minutes"
        return f"{self.epochs:g} epochs" if self.epochs else f"{self.steps} steps"

    def described(self) -> str:
        """The choice in one line."""
        parts = [
            self.model.described(), self.dropout.described(),
            f"{self.batch * self.bptt} tokens a step" if self.model.bidirectional
            else f"{self.batch} streams × {self.bptt} tokens", f"learning rate {self.lr:g}",
            f"weight decay {self.weight_decay:g}", f"{self.precision} on {self.device}",
            self.budget,
        ]  # fmt: skip
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        nested = {
            "model": ModelConfig(**values["model"]), "dropout": Dropout(**values["dropout"])
        }  # fmt: skip
        return cls(**{**values, **nested})


HIDDEN_SIZES = (32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
DEFAULT_MINUTES = (0.5, 3.0, 4.5)  # at the least, for a million characters, at the most
USEFUL = 0.85  # of a budget in minutes: the rest starts, evaluates and finishes
STEP_SECONDS = 2.5e-3  # of a step, beside its products: most of it where network and text are small


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
) -> Recipe:
    """Choose all that the options leave open.

    counts:    (V,), how often each token comes in the training part
    alphabet:  letters that its words are made of
    width:     features of the word vectors to start from
    chars:     of the corpus
    rate:      FLOP/s that this machine trains at
    """
    train_tokens, split = int(counts.sum()), split_softmax(counts)
    rows = softmax_rows(counts, split)
    minutes = options.minutes
    if not (minutes or options.epochs or options.steps):
        least, typical, most = DEFAULT_MINUTES
        minutes = round(min(max(typical * (chars / 1e6) ** 0.5, least), most), 1)
    batch, bptt = _shape(options, train_tokens)

    def tokens_within_budget(model: ModelConfig) -> float:
        if minutes:
            products = 6 * multiplied_weights(model, rows) * batch * bptt / rate
            return USEFUL * 60 * minutes / (products + STEP_SECONDS) * batch * bptt
        if options.epochs:
            return options.epochs * train_tokens
        return (options.steps or 0) * batch * bptt

    def of_size(hidden: int) -> ModelConfig:
        model = network(options, len(counts), hidden, alphabet, width)
        return dataclasses.replace(model, cutoffs=split)

    if options.hidden:
        model = of_size(options.hidden)
    else:
        models = [of_size(hidden) for hidden in HIDDEN_SIZES]
        fitting = [
            m for m in models if _fits(options.level, m, tokens_within_budget(m), train_tokens)
        ]
        model = fitting[-1] if fitting else models[0]
    tokens = int(tokens_within_budget(model))
    epochs, decay = tokens / train_tokens, options.weight_decay
    return Recipe(
        model=model, dropout=_dropout(options, model, epochs, train_tokens),
        forget_bias=options.forget_bias, minutes=minutes, epochs=options.epochs,
        steps=options.steps, batch=batch, bptt=bptt, lr=options.lr or _learning_rate(model),
        weight_decay=_weight_decay(epochs) if decay is None else decay,
        lines=options.lines, seed=options.seed, device=device, precision=precision, tokens=tokens,
    )  # fmt: skip


# Of a softmax: a tail takes as long as so many rows more; and it is split if that leaves so much.
ROWS_OF_TAIL = 100
WORTH_SPLITTING = 0.5
CANDIDATES = 32


def split_softmax(counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Where to split the softmax (`ModelConfig.cutoffs`), to multiply with the fewest rows: into
    a head and one tail or two, or not at all."""
    last = len(counts) - 1
    edges = np.unique(np.geomspace(1, last, CANDIDATES).astype(int))[1:-1].tolist()
    splits = [(a,) for a in edges] + list(combinations(edges, 2))
    best = min(splits, key=lambda split: softmax_rows(counts, split), default=())
    return best if softmax_rows(counts, best) < WORTH_SPLITTING * last else ()


def softmax_rows(counts: NDArray[np.int64], cutoffs: tuple[int, ...]) -> float:
    """How many rows of the softmax a token is multiplied with, on average."""
    share = np.append(0, np.cumsum(counts[1:])) / counts[1:].sum()
    edges = (*cutoffs, len(counts) - 1)
    tails = [(b - a) * (share[b] - share[a]) + ROWS_OF_TAIL for a, b in pairwise(edges)]
    return float(edges[0] + sum(tails))


def _shape(options: TrainOptions, train_tokens: int) -> tuple[int, int]:
    """Streams and tokens a chunk: many small steps beat few large ones, most so on little text;
    but for words each step has the vocabulary's weights to update, however few its tokens."""
    bptt = 64 if options.level in WORDS else 32
    return options.batch or min(max(train_tokens // 8000, 4), 32), options.bptt or bptt


PROBE_VOCAB, PROBE_HIDDEN = 128, 320  # large enough to stand for what will be trained
SPELLED = 150  # features of a word's vector that come from its letters


def network(
    options: TrainOptions, vocab: int, hidden: int, alphabet: int = 0, width: int | None = None
) -> ModelConfig:
    """The network that is asked for, at this size. Raises OptionError for what makes no sense.

    Large vocabularies tie the softmax to the embedding, which halves the weights.
    """
    words = options.level in WORDS
    embedding = options.embedding or width
    if not embedding:
        embedding = hidden if words or options.residual else min(128, hidden)
    feedforward, highway = options.feedforward, options.highway
    return ModelConfig(
        vocab, options.cell, options.layers or 1, hidden, embedding,
        tied=words and embedding == hidden and not options.freeze_embeddings,
        **{name: getattr(options, name) for name in VARIANTS},
        layer_norm=options.layer_norm, residual=options.residual,
        feedforward=int(options.bidirectional) if feedforward is None else feedforward,
        highway=int(bool(options.characters)) if highway is None else highway,
        bidirectional=options.bidirectional, characters=options.characters,
        spelled=SPELLED if options.characters else 0,
        alphabet=alphabet,
    )  # fmt: skip


def probe(options: TrainOptions) -> ModelConfig:
    """A small network to measure a machine by that is like the one asked for."""
    plain = dataclasses.replace(
        options, level="char", characters=None, embedding=None, embeddings=None,
        freeze_embeddings=False,
    )  # fmt: skip
    return network(plain, PROBE_VOCAB, PROBE_HIDDEN)


# How many tokens should be trained on for each recurrent weight (more at the levels of large
# vocabularies, most of what those learn being in the embedding), and how many weights a text can
# teach, as a multiple of the square root of its tokens.
TOKENS_PER_WEIGHT = dict.fromkeys(LEVELS, 5.5) | dict.fromkeys(WORDS, 16.0)
WEIGHTS_PER_ROOT = 1600.0


def _fits(level: str, model: ModelConfig, tokens: float, train_tokens: int) -> bool:
    teachable = WEIGHTS_PER_ROOT * train_tokens**0.5
    return multiplied_weights(model, 0) <= min(tokens / TOKENS_PER_WEIGHT[level], teachable)


LEAST_DROPOUT = 0.05  # less than that costs its masks and brings nothing
MOST_DROPOUT = 0.5  # of outputs
MOST_WEIGHT_DROPOUT = 0.3


def _dropout(
    options: TrainOptions, model: ModelConfig, epochs: float, train_tokens: int
) -> Dropout:
    """None for characters that are seen a few times, then more the oftener they are, and the more
    weights there are for each; of recurrent weights, too, where twice the most for outputs would
    not suffice, unless that was asked for. For words, most of which are rare, sooner.

    A character's vector is too small to spare a part of it.
    """
    words = options.level in WORDS
    weights_per_token = multiplied_weights(model, 0) / train_tokens
    wanted = 0.08 * epochs**0.5 if words else 0.0135 * (epochs - 1.5) * weights_per_token**0.25
    outputs, inputs, weights = options.dropout, options.input_dropout, options.weight_dropout
    if outputs is None:
        outputs = _from_least(wanted, MOST_DROPOUT)
    if inputs is None:
        inputs = outputs if words else 0.0
    if weights is None:
        left = 0.0 if words or options.dropout is not None else wanted - 2 * MOST_DROPOUT
        weights = _from_least(left / 2, MOST_WEIGHT_DROPOUT)
    return Dropout(outputs, inputs, options.state_dropout, weights, options.dropout_per_step)


def _from_least(wanted: float, most: float) -> float:
    return min(round(wanted, 2), most) if wanted >= LEAST_DROPOUT else 0.0


def _weight_decay(epochs: float) -> float:
    """More the oftener a text is seen, as far as it helps: what was learnt long ago fades."""
    return round(min(max(0.03 * epochs, 0.05), 0.2), 3)


# Of the learning rate that suits an LSTM; with the whole of it these cells do not learn.
CELL_RATE = {"rnn": 0.6, "gru-simple": 0.6}


def _learning_rate(model: ModelConfig) -> float:
    rate = 7e-3 * 256 / model.hidden if model.tied else 7e-3 * (384 / model.hidden) ** 0.5
    return round(min(rate, 8e-3) * CELL_RATE.get(model.cell, 1.0), 4)
