"""Small recurrent language models of your own text: train, score, sample.

    model = charlm.train("corpus.txt", minutes=3)   # or charlm.load("runs/corpus")
    model.score(["the apple and pear salad"])
    model.sample(prime="Cats")

Importing this package costs nothing: a name's module is imported when the name is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.api import load, train
    from charlm.tasks.fill import FillModel
    from charlm.tasks.lm import LanguageModel

# Threads of torch that wait spin for a moment only. Where several programs compute, threads that
# spin for long stop each other: two commands at once took 20 times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.2.0.dev0"
__all__ = ["FillModel", "LanguageModel", "__version__", "load", "train"]

_MODULES = {
    "FillModel": "charlm.tasks.fill",
    "LanguageModel": "charlm.tasks.lm",
    "load": "charlm.api",
    "train": "charlm.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
