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

# The modules are imported when they are needed. Each has its task as `TASK`.
_MODULES = {
    "lm": "charlm.tasks.lm",
    "fill": "charlm.tasks.fill",
}
TASKS = Choices(tuple(_MODULES))


def load_task(name: str) -> Task[Any, Any]:
    """The task of this name. Raises ModelError for a task that this version does not know."""
    if name not in _MODULES:
        raise ModelError(f"the model was trained for the task {name}; upgrade charlm to use it")
    task: Task[Any, Any] = import_module(_MODULES[name]).TASK
    return task
