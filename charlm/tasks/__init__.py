"""Tasks: what a network is trained for. One file for each, behind the contract in `base`.

A new kind of model is a new file and an entry in the table below. The rest of the program knows
tasks only through that contract.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from charlm.errors import ModelError
from charlm.options import Choices

if TYPE_CHECKING:
    from charlm.tasks.base import Task

# By the name of the task: its file, which has the task as `TASK`, and the class of its models,
# which is there, too. Files are imported when they are needed.
TABLE = {
    "lm": ("charlm.tasks.lm", "LanguageModel"),
    "fill": ("charlm.tasks.fill", "FillModel"),
    "classify": ("charlm.tasks.classify", "TextClassifier"),
}
TASKS = Choices(tuple(TABLE))


def load_task(name: str) -> Task[Any, Any]:
    """The task of this name. Raises ModelError for a task that this version does not know."""
    if name not in TABLE:
        raise ModelError(f"the model was trained for the task {name}; upgrade charlm to use it")
    task: Task[Any, Any] = import_module(TABLE[name][0]).TASK
    return task
