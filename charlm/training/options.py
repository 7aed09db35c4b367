"""The options of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charlm.corpus.labelled import ColumnOptions
from charlm.errors import OptionError
from charlm.model.config import CHARACTERS, EXTRA_LAYERS, FEATURES, LAYERS, NETWORKS
from charlm.model.devices import DEVICES, check_threads
from charlm.model.equations import CELLS
from charlm.model.ngram import NO_NGRAM, ORDERS
from charlm.model.sequence_config import READOUTS
from charlm.options import SEED, Choices, Range, check_options, option
from charlm.tasks import PURPOSES, TABLE, TASKS
from charlm.tasks.source import OF_TEXTS, model_to_start_from
from charlm.tokenizer import TOKENIZERS, VocabularyOptions
from charlm.tokenizer.words import SPLITS
from charlm.training.tensorboard import check_tensorboard

POSITIVE, PROBABILITY = Range(0, 1e9, exclude_low=True), Range(0, 0.9)
BUDGETS = ("minutes", "epochs", "steps")
BUDGET, TEXT, NETWORK = "Budget", "Text", "Network"
LEARNING, DROPOUT, MACHINE, RUN = "Learning", "Dropout", "Machine", "Run folder"

# What options belong to.
TOKENS = {"task": OF_TEXTS}  # tasks that predict the tokens of a text
NO_CHARACTERS = "none"
MIXED = ("lm",)  # tasks whose models have n-grams
# Tasks with another half, which `ngram=none` leaves out.
COUNTED = ("classify", "tag", "tree", "seq2seq")
SEQUENCES = {"task": ("classify", "tag")}  # tasks whose networks read a whole sequence
WHOLE = {"task": ("classify", "tag", "seq2seq")}  # tasks with layers of one direction or two
PAIRS = {"task": ("seq2seq",)}
STACKS = {"task": ("lm", "fill", "classify", "tag", "seq2seq")}  # tasks with layers on each other
TEXTS = {"task": ("lm", "fill", "classify", "seq2seq")}  # tasks that split a text into tokens
ENCODED = {"level": [level for level, t in TOKENIZERS.items() if not t.reads_bytes]}
WORDS = {"level": [level for level, t in TOKENIZERS.items() if t.tokens_are_words]}


def _levels_with(option: str) -> dict[str, list[str]]:
    """The levels whose vocabulary has this option."""
    return {"level": [level for level, t in TOKENIZERS.items() if option in t.options]}


@dataclass(frozen=True)
class RunOptions:
    """What a run writes, and where. The fields describe themselves.

    Raises OptionError, naming the option.
    """

    out: str | None = option(
        None, "The run folder.", panel=RUN, metavar="FOLDER", auto="runs/CORPUS"
    )
    resume: bool = option(
        False, "Continue an unfinished run; a finished one with a larger budget.", panel=RUN
    )
    force: bool = option(
        False,
        "Replace `out`, when training is complete.",
        panel=RUN,
        goes_with="out",
        excludes=("resume",),
    )
    tensorboard: bool = option(
        False, "Also write the metrics for TensorBoard into the run folder.", panel=RUN
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.tensorboard:
            check_tensorboard()

    @property
    def folder(self) -> Path | None:
        """The folder; None for runs/NAME, or the next free runs/NAME-2 …"""
        return None if self.out is None else Path(self.out)


@dataclass(frozen=True)
class TrainOptions(ColumnOptions):
    """What a user may choose. None leaves the choice to `charlm.training.recipe.choose`.

    The fields describe themselves. Raises OptionError, naming the option and the value.
    """

    minutes: float | None = option(
        None,
        "Wall time from the start of the command to the final model.",
        POSITIVE,
        panel=BUDGET,
        auto="0.5 to 4.5, by the size of the text",
        excludes=("epochs", "steps"),
    )
    epochs: float | None = option(
        None,
        "Number of times through the text.",
        POSITIVE,
        panel=BUDGET,
        metavar="N",
        excludes=("steps",),
    )
    steps: int | None = option(
        None, "Number of updates of the weights.", POSITIVE, panel=BUDGET, metavar="N"
    )

    task: str = option(
        "lm",
        f"What the model is for: {PURPOSES}. `train --task X --help` shows the options of one.",
        TASKS,
        panel=TEXT,
    )
    level: str = option(  # None until the task is known: see `__post_init__`
        None,
        "What a token is.",
        Choices(TOKENIZERS),
        panel=TEXT,
        auto="word for `task=classify` and `task=tag`, otherwise char",
    )
    target: str | None = option(
        None,
        "The targets: a file with a line for each line of the corpus, which then has the sources.",
        panel=TEXT,
        metavar="FILE",
        only=PAIRS,
    )
    source_level: str | None = option(
        None,
        "What a token of a source is; label for a source that is a single label.",
        Choices((*TOKENIZERS, "label")),
        panel=TEXT,
        auto="as `level`",
        only=PAIRS,
    )
    target_level: str | None = option(
        None,
        "What a token of a target is.",
        Choices(TOKENIZERS),
        panel=TEXT,
        auto="as `level`",
        only=PAIRS,
    )
    lines: bool = option(
        False,
        "The lines are independent of each other: shuffle them.",
        panel=TEXT,
        excludes=("unit",),
        only=TOKENS,
    )
    unit: str = option(
        "line",
        "What ends with a line end; paragraph joins hard-wrapped lines up to a blank line.",
        Choices(("line", "paragraph")),
        panel=TEXT,
        only=TOKENS,
    )
    vocab_size: int | None = option(
        None,
        "Largest number of tokens.",
        POSITIVE,
        panel=TEXT,
        metavar="N",
        auto="by the level",
        only=_levels_with("vocab_size"),
    )
    split: str = option(
        "lossless",
        "How words are separated: elision also splits l' from homme.",
        Choices(tuple(SPLITS)),
        panel=TEXT,
        only={**_levels_with("split"), **TEXTS},
    )
    normalize: str = option(
        "nfc",
        "Unicode normal form of characters and words.",
        Choices(("nfc", "none")),
        panel=TEXT,
        only={**_levels_with("normalize"), **TEXTS},
    )
    encoding: str = option(
        "utf-8", "Encoding of the files, such as latin-1 or cp1252.", panel=TEXT, only=ENCODED
    )
    valid: str | None = option(
        None,
        "Text to validate on.",
        panel=TEXT,
        metavar="FILE",
        auto="held out",
        excludes=("valid_fraction",),
    )
    valid_target: str | None = option(
        None,
        "The targets of `valid`, line by line.",
        panel=TEXT,
        metavar="FILE",
        goes_with="valid",
        only=PAIRS,
    )
    valid_fraction: float = option(
        0.1,
        "Fraction held out for validation when `valid` is absent.",
        Range(0, 1, exclude_low=True, exclude_high=True),
        panel=TEXT,
    )

    networks: int | None = option(
        None,
        "Networks that are trained side by side and predict together, 1 to 16.",
        NETWORKS,
        panel=NETWORK,
        metavar="N",
        auto="1 or more, by text, budget and machine",
        only=TOKENS,
    )
    cell: str = option("lstm", "Recurrent cell.", Choices(CELLS), panel=NETWORK)
    layers: int | None = option(
        None,
        "Recurrent layers, 1 to 4.",
        LAYERS,
        panel=NETWORK,
        metavar="N",
        auto="1; 2 for `task=tag`",
        only=STACKS,
    )
    hidden: int | None = option(
        None,
        "Features of each layer's hidden state.",
        FEATURES,
        panel=NETWORK,
        metavar="N",
        auto="by text, budget and machine",
    )
    embedding: int | None = option(
        None, "Features of a token's vector.", FEATURES, panel=NETWORK, metavar="N", auto="by size"
    )
    activation: str | None = option(
        None,
        "Activation of `cell=rnn`.",
        Choices(("tanh", "relu")),
        panel=NETWORK,
        auto="tanh",
    )
    forget_gate: bool = option(True, "Forget gate of `cell=lstm`.", panel=NETWORK, only=STACKS)
    forget_bias: float = option(
        1.0, "Initial bias of the forget gate.", Range(-100, 100), panel=NETWORK
    )
    peepholes: str | None = option(
        None,
        "Gates of `cell=lstm` that see its cell, such as ifo.",
        panel=NETWORK,
        metavar="GATES",
        only=STACKS,
    )
    reset: str | None = option(
        None,
        "Reset gate of `cell=gru`: before or after the recurrent product.",
        Choices(("before", "after")),
        panel=NETWORK,
        auto="after",
    )
    layer_norm: bool = option(False, "Layer normalisation of the gates.", panel=NETWORK)
    residual: bool | None = option(
        None,
        "Add each layer's input to its output.",
        panel=NETWORK,
        auto="only around the second layer of `task=tag`",
        only=STACKS,
    )
    directions: int = option(
        2, "Directions in which a text is read.", Range(1, 2), panel=NETWORK, only=WHOLE
    )
    readout: str | None = option(
        None,
        "What the label is read off: the last states, or the mean, the maximum or the attention "
        "over all.",
        READOUTS,
        panel=NETWORK,
        auto="max",
        only={"task": ("classify",)},
    )
    feedforward: int | None = option(
        None,
        "Feed-forward layers below the softmax, 0 to 4.",
        EXTRA_LAYERS,
        panel=NETWORK,
        metavar="N",
        auto="0; 1 for `task=fill`",
        only=TOKENS,
    )
    highway: int | None = option(
        None,
        "Highway layers above the embedding, 0 to 4.",
        EXTRA_LAYERS,
        panel=NETWORK,
        metavar="N",
        auto="0; 1 with `characters`",
        only=TOKENS,
    )
    characters: str | None = option(
        None,
        "Read each word by its characters, too.",
        Choices((*CHARACTERS.names, NO_CHARACTERS)),
        panel=NETWORK,
        auto="none; recurrent for `task=tag`",
        only={**WORDS, "task": (*TOKENS["task"], "tag")},
    )
    crf: bool = option(
        True,
        "The tags of neighbouring words depend on each other: a conditional random field.",
        panel=NETWORK,
        only={"task": ("tag",)},
    )
    attention: bool = option(
        True, "The decoder looks at the source before each token.", panel=NETWORK, only=PAIRS
    )
    monotonic: bool = option(
        False,
        "The attention moves from left to right only: slower, and a little better for few pairs.",
        panel=NETWORK,
        only=PAIRS,
    )
    embeddings: str | None = option(
        None,
        "Word vectors to start from, in the text format of word2vec or GloVe.",
        panel=NETWORK,
        metavar="FILE",
        only=WORDS,
    )
    freeze_embeddings: bool = option(
        False,
        "Do not train the vectors of `embeddings`.",
        panel=NETWORK,
        goes_with="embeddings",
    )

    from_: str | None = option(
        None,
        "A model to start from. A language model or a fill model goes on from one of its kind with "
        "all that it has learnt; other tasks take its vectors and its first layer.",
        panel=NETWORK,
        metavar="MODEL",
        excludes=("embeddings",),
        only={"task": (*TOKENS["task"], *SEQUENCES["task"])},
    )
    freeze: bool = option(
        False,
        "Do not train what comes from the model of `from_`.",
        panel=NETWORK,
        goes_with="from_",
        only=SEQUENCES,
    )

    ngram: int | str | None = option(
        None,
        "Longest n-gram of the model's n-gram part, 1 to 9; none for the network alone.",
        panel=NETWORK,
        metavar="N|none",
        auto="by level and size of the text",
        only={"task": (*MIXED, *COUNTED)},
    )

    lr: float | None = option(
        None, "Highest learning rate.", POSITIVE, panel=LEARNING, auto="by cell and size"
    )
    batch: int | None = option(
        None, "Streams side by side.", POSITIVE, panel=LEARNING, metavar="N", auto="4 to 32"
    )
    bptt: int | None = option(
        None,
        "Tokens that a gradient reaches back.",
        POSITIVE,
        panel=LEARNING,
        metavar="N",
        auto="32; 64 for words and subwords",
        only=TOKENS,
    )
    weight_decay: float | None = option(
        None,
        "AdamW weight decay, applied to matrices only.",
        Range(0, 10),
        panel=LEARNING,
        auto="by epochs",
    )

    dropout: float | None = option(
        None,
        "Dropout of every layer's output: a probability, 0 to 0.9.",
        PROBABILITY,
        panel=DROPOUT,
        metavar="P",
        auto="by epochs",
    )
    input_dropout: float | None = option(
        None,
        "Dropout of the first layer's input.",
        PROBABILITY,
        panel=DROPOUT,
        metavar="P",
        auto="as `dropout` for words and subwords, otherwise 0",
    )
    state_dropout: float = option(
        0.0,
        "Dropout of the state within a layer, one mask a sequence.",
        PROBABILITY,
        panel=DROPOUT,
        metavar="P",
    )
    weight_dropout: float | None = option(
        None,
        "Dropout of the recurrent weights, one mask a sequence.",
        PROBABILITY,
        panel=DROPOUT,
        metavar="P",
        auto="0, except for characters that are seen very often",
    )
    token_dropout: float | None = option(
        None,
        "Dropout of whole tokens of the input.",
        PROBABILITY,
        panel=DROPOUT,
        metavar="P",
        auto="0.25; 0.1 for `task=tree`",
        only={"task": (*SEQUENCES["task"], "tree")},
    )
    dropout_per_step: bool = option(
        False, "Draw a new mask at every step for `dropout`, not one a sequence.", panel=DROPOUT
    )

    seed: int = option(1, "Seed of everything random.", SEED, panel=MACHINE, metavar="N")
    device: str = option("auto", "Where to compute.", DEVICES, panel=MACHINE)
    precision: str = option(
        "auto",
        "Precision of the forward pass; auto takes bf16 where it is faster.",
        Choices(("auto", "fp32", "bf16", "fp16")),
        panel=MACHINE,
    )
    threads: int | None = option(
        None, "Threads of the CPU.", POSITIVE, panel=MACHINE, metavar="N", auto="all cores"
    )

    def __post_init__(self) -> None:
        TASKS.check("task", self.task)
        entry = TABLE[self.task]
        if self.level is None:
            level = entry.level
            if self.from_ and self.task in TOKENS["task"]:
                level = model_to_start_from(self.from_).tokenizer.level
            object.__setattr__(self, "level", level)
        if entry.levels and self.level not in entry.levels:
            raise OptionError(
                f"`level={self.level}`: is not for `task={self.task}`, which reads words; leave "
                "the option out"
            )
        if self.characters == NO_CHARACTERS and self.task in TOKENS["task"]:
            object.__setattr__(self, "characters", None)
        if self.ngram == NO_NGRAM and self.task not in (*MIXED, *COUNTED):  # so it is there
            object.__setattr__(self, "ngram", None)
        levels = (self.source_level, self.target_level)
        check_options(self, also={"level": [level for level in levels if level]})
        check_threads(self.threads)
        if self.ngram not in (None, NO_NGRAM):
            if self.task in COUNTED:
                raise OptionError(
                    f"`ngram={self.ngram}`: is not for `task={self.task}`, but for `task=lm`; only "
                    "`ngram=none` is, for the network alone"
                )
            object.__setattr__(self, "ngram", _ngram_order(str(self.ngram)))

    @property
    def vocabulary(self) -> VocabularyOptions:
        """The options of the vocabulary."""
        return VocabularyOptions(self.vocab_size, self.split, self.normalize)


def _ngram_order(value: str) -> int:
    low, high = ORDERS
    if not (value.isdecimal() and low <= int(value) <= high):
        raise OptionError(f"`ngram={value}`: must be from {low} to {high}, or {NO_NGRAM}")
    return int(value)
