"""The metrics of a run for TensorBoard, in the folder of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from charlm.errors import OptionError


def check_tensorboard() -> None:
    """Raise OptionError if TensorBoard's writer is not installed. Called before the work."""
    if find_spec("tensorboard") is None:
        raise OptionError(
            "`tensorboard` needs tensorboard; install it with `pip install tensorboard`"
        )


@contextmanager
def scalar_writer(folder: Path, step: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A callback of `charlm.train` that writes each metric as a scalar of its name.

    step:  that a resumed run continues from; scalars of later steps are dropped
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder, purge_step=step + 1 if step else None) as writer:

        def write(record: dict[str, Any]) -> None:
            for name, value in record.items():
                if name != "step":
                    writer.add_scalar(name, value, record["step"])
            writer.flush()

        yield write
