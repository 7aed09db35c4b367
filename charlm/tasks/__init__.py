"""Tasks: what a network is trained for. One file for each, behind the contract in `base`.

A new kind of model is a new file and an entry in the table below. The rest of the program knows
tasks only through that contract.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from charlm.errors import ModelError
from charlm.options import Choices

if TYPE_CHECKING:
    from charlm.tasks.base import Task


class Entry(NamedTuple):
    """A task: its file, which has it as `TASK`, the class of its models there, and what they do.

    level:   what a token is, where the options do not say it
    levels:  the levels that the task knows; None for all
    """

    module: str
    model: str
    purpose: str
    level: str = "char"
    levels: tuple[str, ...] | None = None


# Files are imported when they are needed.
TABLE = {
    "lm": Entry("charlm.tasks.lm", "LanguageModel", "scores and writes text"),
    "fill": Entry("charlm.tasks.fill", "FillModel", "fills blanks"),
    "classify": Entry("charlm.tasks.classify", "TextClassifier", "labels a text", "word"),
    "tag": Entry("charlm.tasks.tag", "WordTagger", "tags the words of a text", "word", ("word",)),
    "tree": Entry("charlm.tasks.tree", "TreeLabeller", "labels trees", "word", ("word",)),
    "seq2seq": Entry("charlm.tasks.seq2seq", "Transducer", "writes a target for a source"),
}
TASKS = Choices(tuple(TABLE))
PURPOSES = ", ".join(f"{name} {entry.purpose}" for name, entry in TABLE.items())


def load_task(name: str) -> Task[Any, Any]:
    """The task of this name. Raises ModelError for a task that this version does not know."""
    if name not in TABLE:
        raise ModelError(f"the model was trained for the task {name}; upgrade charlm to use it")
    task: Task[Any, Any] = import_module(TABLE[name].module).TASK
    return task
