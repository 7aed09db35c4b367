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

__version__ = "0.2.0.dev0"
__all__ = [
    "FillModel",
    "LanguageModel",
    "TextClassifier",
    "Transducer",
    "TreeLabeller",
    "WordTagger",
    "__version__",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    from charlm.tasks import TABLE

    modules = {"load": "charlm.api", "train": "charlm.api"}
    modules |= {entry.model: entry.module for entry in TABLE.values()}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)


def __dir__() -> list[str]:
    return __all__
