"""Small recurrent language models of your own text: train, score, sample.

    model = charlm.train("corpus.txt", minutes=3)   # or charlm.load("runs/corpus")
    model.score(["the apple and pear salad"])
    model.sample(prime="Cats")

Importing this package costs nothing: a name's module is imported when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.api import load, train
    from charlm.tasks.classify import TextClassifier
    from charlm.tasks.fill import FillModel
    from charlm.tasks.language_model import LanguageModel
    from charlm.tasks.transducer import Transducer
    from charlm.tasks.tree_labeller import TreeLabeller
    from charlm.tasks.word_tagger import WordTagger
    from charlm.uses.comparison import compare
    from charlm.uses.copies import copied
    from charlm.uses.filtering import filter
    from charlm.uses.influence import gradients
    from charlm.uses.nbest import rescore
    from charlm.uses.pairs import pairs
    from charlm.uses.units import units

__version__ = "0.2.0.dev0"
# Of each function, the module that has it.
FUNCTIONS = {
    "compare": "charlm.uses.comparison",
    "copied": "charlm.uses.copies",
    "filter": "charlm.uses.filtering",
    "gradients": "charlm.uses.influence",
    "load": "charlm.api",
    "pairs": "charlm.uses.pairs",
    "rescore": "charlm.uses.nbest",
    "train": "charlm.api",
    "units": "charlm.uses.units",
}
__all__ = [
    "FillModel",
    "LanguageModel",
    "TextClassifier",
    "Transducer",
    "TreeLabeller",
    "WordTagger",
    "__version__",
    "compare",
    "copied",
    "filter",
    "gradients",
    "load",
    "pairs",
    "rescore",
    "train",
    "units",
]


def __getattr__(name: str) -> Any:
    from charlm.tasks import TABLE

    modules = dict(FUNCTIONS)
    modules |= {entry.model: entry.module for entry in TABLE.values()}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)


def __dir__() -> list[str]:
    return __all__
