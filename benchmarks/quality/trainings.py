"""The trainings by name: the text, and the options of `charlm train`."""

from __future__ import annotations

from benchmarks.project import SENTENCES, TALES

SHAKESPEARE = "tinyshakespeare.txt --valid-fraction 0.1"
DEEP = f"{SHAKESPEARE} --ngram none --minutes 2 --hidden 128 --dropout 0.1 --layers"
PTB = "ptb.train.txt --valid ptb.valid.txt"
WORDS = f"{PTB} --level word --split whitespace"
SHORT = f"{WORDS} --ngram none --minutes 5 --hidden 192 --dropout 0.2"
HELD_OUT = str(SENTENCES.with_suffix(".heldout.txt"))
LITTLE = 20_000  # characters of tiny-shakespeare in "little.txt"
REST = 100_000  # the last characters of it, in "rest.txt"

# The texts and budgets in minutes that the recipe was fitted on.
FITTED = {
    "little": ("little.txt", (1, 3)),
    "tales": (f"{TALES}", (1, 3)),
    "names": ("names.txt --lines", (1, 3)),
    "shakespeare": (SHAKESPEARE, (1, 3, 10)),
    "sentences": (f"{SENTENCES} --lines", (1, 3)),
    "ptb-characters": (PTB, (1, 3, 10)),
    "ptb-subwords": (f"{PTB} --level subword", (3, 10)),
    "ptb-words": (WORDS, (1, 3, 10, 60)),
    "tales-words": (f"{TALES} --level word", (1, 3)),
}
TRAININGS = {
    f"{name}-{minutes}": f"{arguments} --minutes {minutes}"
    for name, (arguments, budgets) in FITTED.items()
    for minutes in budgets
} | {
    **{f"depth-{layers}": f"{DEEP} {layers}" for layers in (1, 2, 3, 4)},
    "depth-4-residual": f"{DEEP} 4 --residual",
    "plain-words": SHORT,
    "recurrent-words": f"{SHORT} --characters recurrent",
    "convolutional-words": f"{SHORT} --characters convolutional",
    "both-ptb": f"{WORDS} --minutes 10 --task fill",
    "both-sentences": f"{SENTENCES} --minutes 3 --task fill",
    "both-sentences-words": f"{SENTENCES} --minutes 3 --task fill --level word",
}

# Several networks in the same time, by text: the text, minutes, and the numbers of networks.
NUMBERS = (1, 2, 3, 4, 8)
SEVERAL = {
    "little": ("little.txt --valid rest.txt", 1),
    "names": ("names.txt --lines", 3),
    "shakespeare": (SHAKESPEARE, 3),
    "words": (WORDS, 10),
}
TRAININGS |= {
    f"{name}-of-{networks}": f"{arguments} --minutes {minutes} --networks {networks}"
    for name, (arguments, minutes) in SEVERAL.items()
    for networks in NUMBERS
}

# The text whose words are blanked out and filled, by training.
FILLED = {
    "both-ptb": "ptb.test.txt",
    "both-sentences": HELD_OUT,
    "both-sentences-words": HELD_OUT,
}

# Options of `charlm evaluate` that mix in another prediction, and the trainings measured with them.
EXTRAS = {"cache": "--cache 1000", "adapt": "--adapt"}
EXTRAS["both"] = " ".join(EXTRAS.values())
WITH_EXTRAS = ("ptb-words-10", "ptb-words-60")
