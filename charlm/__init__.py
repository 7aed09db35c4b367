"""Small recurrent language models of your own text: train, score, sample.

    model = charlm.train("corpus.txt", minutes=3)   # or charlm.load("runs/corpus")
    model.score(["the apple and pear salad"])
    model.sample(prime="Cats")

Importing this package costs nothing: what a name needs is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel, load, train

__version__ = "0.1.0"
__all__ = ["LanguageModel", "__version__", "load", "train"]

_HOMES = {
    "LanguageModel": "charlm.language_model",
    "load": "charlm.language_model",
    "train": "charlm.language_model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
