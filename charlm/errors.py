"""Every error that a user can cause, each with the exit code of its command.

    CharlmError                 a problem that one line can explain              (1)
    ├── InputError              a text, a file or a folder that cannot be used   (1)
    ├── OptionError             an option whose value makes no sense             (1)
    ├── ModelError              no model, or a file that is not a model          (1)
    └── Stopped                 training was stopped by a signal, after saving
                                (130 after Ctrl-C, 143 after SIGTERM)

The message is one line that names the problem and says what to do about it. It writes an argument
in backticks, as Python spells it: `top_p` or `top_p=2`. The command line shows the same argument
as an option: --top-p or --top-p 2.
"""

from __future__ import annotations

import signal


class CharlmError(Exception):
    """A problem that one line can explain."""

    exit_code = 1


class InputError(CharlmError):
    """A text, a file or a folder that cannot be used."""


class OptionError(CharlmError):
    """An option whose value makes no sense, alone or together with another option."""


class ModelError(CharlmError):
    """No model, or a file that is not a charlm model."""


class Stopped(CharlmError):
    """Training was stopped by a signal. The message says where the model was saved."""

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
