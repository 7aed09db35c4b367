"""The recipe: sizes and schedule, chosen from the corpus, the budget and the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from charlm.model.config import Dropout, StackConfig
from charlm.model.file import known_fields
from charlm.tasks import TABLE
from charlm.tasks.base import Candidate, Defaults, Task
from charlm.training.options import TrainOptions


@dataclass(frozen=True)
class Recipe:
    """Every decision that training needs and that options leave open.

    model:      the shape of the network
    dropout:    its probabilities
    minutes, epochs, steps:  the budget: one of them; or minutes, and epochs that are enough
    batch, bptt:             streams, and tokens of each of them in a step
    lr:         highest learning rate
    weight_decay:  of AdamW
    device, precision:  where to compute, and in which numbers
    tokens:     that the budget is expected to train each network on
    threads:    of the CPU, of all processes on a machine
    """

    model: StackConfig
    dropout: Dropout
    minutes: float | None
    epochs: float | None
    steps: int | None
    batch: int
    bptt: int
    lr: float
    weight_decay: float
    device: str
    precision: str
    tokens: int
    threads: int

    @property
    def budget(self) -> str:
        """The budget in words."""
        budgets = {"minutes": self.minutes, "epochs": self.epochs, "steps": self.steps}
        return " or ".join(f"{value:g} {name}" for name, value in budgets.items() if value)

    def described(self, task: Task[Any, Any], options: TrainOptions) -> str:
        """The recipe in one line."""
        return ", ".join(
            [
                self.model.described(),
                *filter(None, [task.described_companions(options)]),
                self.dropout.described(),
                task.described_batch(self.batch, self.bptt),
                f"learning rate {self.lr:g}",
                f"weight decay {self.weight_decay:g}",
                f"{self.precision} on {self.device}",
                self.budget,
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], config: type[StackConfig]) -> Recipe:
        """The recipe with these values of `to_json`. config: the class of its `model`"""
        model = config(**known_fields(config, values["model"]))
        return cls(**{**values, "model": model, "dropout": Dropout(**values["dropout"])})


class Machine(NamedTuple):
    """What training runs on.

    rate:     speed of training, FLOP/s, of all processes
    device, precision, threads:  see `Recipe`
    thread_rate:  speed of one thread in each process; 0 if unknown
    """

    rate: float
    device: str
    precision: str
    threads: int
    thread_rate: float = 0.0

    def speed(self, networks: int) -> Speed:
        """The speed of each of several networks that train side by side."""
        threads = min(networks, self.threads)
        rate = self.rate
        if networks > 1:
            rate = max(rate, SIDE_BY_SIDE * threads * self.thread_rate)
        return Speed(rate / networks, STEP_SECONDS * -(-networks // threads))


class Speed(NamedTuple):
    """How fast a network trains: FLOP/s, and seconds of a step beside its matrix products."""

    rate: float
    step_seconds: float


class Budget(NamedTuple):
    """How long to train: one of minutes, epochs and steps; and what a step is.

    batch, bptt:   see `Recipe`
    train_tokens:  of the training text
    """

    minutes: float | None
    epochs: float | None
    steps: int | None
    batch: int
    bptt: int
    train_tokens: int

    def tokens(self, candidate: Candidate, speed: Speed) -> float:
        """About how many tokens a network is trained on."""
        step = self.batch * self.bptt
        if self.minutes:
            seconds = 6 * candidate.work * step / speed.rate + speed.step_seconds
            return USEFUL * 60 * self.minutes / seconds * step
        return self.epochs * self.train_tokens if self.epochs else (self.steps or 0) * step


HIDDEN_SIZES = (32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024)
DEFAULT_MINUTES = (0.5, 3.0, 4.5)  # at the least, for a million characters, at the most
USEFUL = 0.85  # of a budget in minutes; the rest is start, evaluation and finish
STEP_SECONDS = 2.5e-3  # of a step beside its matrix products: most of a small network's step
SIDE_BY_SIDE = 0.85  # of the speed of a thread alone, if every core has one


def hidden_sizes(options: TrainOptions, defaults: Defaults) -> Sequence[int]:
    """The hidden sizes of the networks to choose from."""
    hidden = options.hidden or defaults.hidden
    return (hidden,) if hidden else HIDDEN_SIZES


def choose(
    options: TrainOptions,
    candidates: Sequence[Candidate],
    defaults: Defaults,
    *,
    train_tokens: int,
    chars: int,
    machine: Machine,
) -> Recipe:
    """Choose everything that the options leave open.

    candidates:    the networks of `hidden_sizes`, from the smallest on
    defaults:      those of the task
    train_tokens:  size of the training part in tokens
    chars:         size of the corpus in characters
    """
    minutes = _minutes(options, chars)
    batch_shape = _batch_shape(options, defaults, train_tokens)
    budget = Budget(minutes, options.epochs, options.steps, *batch_shape, train_tokens)
    networks = options.networks or _networks(candidates, budget, machine, defaults)
    speed = machine.speed(networks)
    best = largest_that_fits(candidates, budget, speed, defaults.large_vocabulary)
    tokens = int(budget.tokens(best, speed))
    if minutes and defaults.most_epochs:
        budget = budget._replace(epochs=defaults.most_epochs)
        tokens = min(tokens, int(defaults.most_epochs * train_tokens))
    epochs, decay = tokens / train_tokens, options.weight_decay
    decay = defaults.weight_decay if decay is None else decay
    return Recipe(
        model=best.config.several(networks),
        dropout=_dropout(options, defaults, best.config, epochs, train_tokens),
        minutes=budget.minutes,
        epochs=budget.epochs,
        steps=budget.steps,
        batch=budget.batch,
        bptt=budget.bptt,
        lr=options.lr or defaults.lr or round(defaults.rate * _learning_rate(best.config), 5),
        weight_decay=_weight_decay(epochs) if decay is None else decay,
        device=machine.device,
        precision=machine.precision,
        tokens=tokens,
        threads=machine.threads,
    )


def largest_that_fits(
    candidates: Sequence[Candidate], budget: Budget, speed: Speed, large_vocabulary: bool
) -> Candidate:
    """The largest network that the budget trains well and the text can teach; else the smallest.

    candidates:  from the smallest on
    """
    best = candidates[0]
    for candidate in candidates:
        trained = _trained_weights(budget.tokens(candidate, speed), large_vocabulary)
        taught = WEIGHTS_PER_ROOT * budget.train_tokens**0.5
        if candidate.config.multiplied_weights(0) <= min(trained, taught):
            best = candidate
    return best


# A network learns most of what it will in this number of epochs. With time for more, another
# network is better than more epochs.
EPOCHS_EACH = 10.0
MOST_NETWORKS = 8


def _networks(
    candidates: Sequence[Candidate], budget: Budget, machine: Machine, defaults: Defaults
) -> int:
    """How many networks to train in a budget of minutes; every core has as many of them."""
    if not (defaults.several and budget.minutes and machine.device == "cpu"):
        return 1
    speed = machine.speed(1)
    alone = largest_that_fits(candidates, budget, speed, defaults.large_vocabulary)
    epochs = budget.tokens(alone, speed) / budget.train_tokens
    networks = min(max(int(epochs / EPOCHS_EACH), 1), MOST_NETWORKS)
    return networks - networks % min(networks, machine.threads)


def _minutes(options: TrainOptions, chars: int) -> float | None:
    """The budget in minutes, longer for a longer text; None if there is another budget."""
    if options.minutes or options.epochs or options.steps:
        return options.minutes
    least, typical, most = DEFAULT_MINUTES
    return round(min(max(typical * (chars / 1e6) ** 0.5, least), most), 1)


def _batch_shape(options: TrainOptions, defaults: Defaults, train_tokens: int) -> tuple[int, int]:
    """Streams, and tokens of a chunk.

    Many small steps are better than few large ones, most of all on little text. With a large
    vocabulary each step updates the vocabulary's weights, so chunks are longer.
    """
    bptt = options.bptt or defaults.bptt or (64 if defaults.large_vocabulary else 32)
    batch = options.batch or defaults.batch or min(max(train_tokens // 8000, 4), 32)
    return batch, bptt


TOKENS_PER_WEIGHT = 5.5  # to train on for each recurrent weight
WEIGHTS_PER_ROOT = 1600.0  # a text of n tokens can teach 1600·√n weights
# With a large vocabulary most of what a network learns is in the embedding. Training on n tokens
# is enough for 15·n^⅔ recurrent weights.
WEIGHTS_LARGE, EXPONENT_LARGE = 15.0, 2 / 3


def _trained_weights(tokens: float, large_vocabulary: bool) -> float:
    """The recurrent weights that training on this number of tokens trains well."""
    if large_vocabulary:
        return WEIGHTS_LARGE * tokens**EXPONENT_LARGE
    return tokens / TOKENS_PER_WEIGHT


PROBE_VOCABULARY, PROBE_HIDDEN = 128, 320  # large enough to be representative


def probe_options(options: TrainOptions) -> TrainOptions:
    """The options of a small network of the same kind, to measure the speed of a machine."""
    return dataclasses.replace(
        options,
        level=options.level if TABLE[options.task].levels else "char",
        split=TrainOptions.split,
        characters=None,
        embedding=None,
        embeddings=None,
        freeze_embeddings=False,
    )


LEAST_DROPOUT = 0.05  # a smaller probability costs its masks and brings nothing
MOST_DROPOUT = 0.5  # of outputs
MOST_WEIGHT_DROPOUT = 0.3


def _dropout(
    options: TrainOptions,
    defaults: Defaults,
    model: StackConfig,
    epochs: float,
    train_tokens: int,
) -> Dropout:
    """Dropout by how often the text is seen.

    Characters that are seen a few times get none; then it grows with the epochs and with the
    weights per token. Where twice the highest probability for outputs would not suffice, recurrent
    weights get some, too. Words need it sooner, since most of them are rare. Characters have no
    input dropout: their vectors are too small.
    """
    words = defaults.large_vocabulary
    weights_per_token = model.multiplied_weights(0) / train_tokens
    need = 0.08 * epochs**0.5 if words else 0.0135 * (epochs - 1.5) * weights_per_token**0.25
    outputs, inputs, weights = options.dropout, options.input_dropout, options.weight_dropout
    if outputs is None:
        outputs = defaults.dropout or _at_least(need, MOST_DROPOUT)
    if inputs is None:
        inputs = outputs if words else 0.0
    if weights is None:
        rest = need - 2 * MOST_DROPOUT if options.dropout is None else 0.0
        weights = _at_least(rest / 2, MOST_WEIGHT_DROPOUT)
    tokens = options.token_dropout
    if tokens is None:
        tokens = defaults.token_dropout if options.dropout is None else 0.0
    return Dropout(
        outputs, inputs, options.state_dropout, weights, options.dropout_per_step, tokens
    )


def _at_least(probability: float, most: float) -> float:
    return min(round(probability, 2), most) if probability >= LEAST_DROPOUT else 0.0


def _weight_decay(epochs: float) -> float:
    """More decay for a text that is seen more often: old updates fade."""
    return round(min(max(0.03 * epochs, 0.05), 0.2), 3)


# Factors on the learning rate of an LSTM. With the full rate these cells do not learn.
CELL_RATE = {"rnn": 0.6, "gru-simple": 0.6}


def _learning_rate(model: StackConfig) -> float:
    rate = 7e-3 * 256 / model.hidden if model.is_tied else 7e-3 * (384 / model.hidden) ** 0.5
    return round(min(rate, 8e-3) * CELL_RATE.get(model.cell, 1.0), 4)
