"""Every error that a user can cause, each with the exit code of its command.

    CharlmError                 something went wrong that one line can explain   (1)
    ├── InputError              a text, a file or a folder that cannot be used   (1)
    ├── OptionError             an option whose value makes no sense             (1)
    ├── ModelError              no model found, or a file that is not one        (1)
    └── Stopped                 training was told to stop; what it learnt is saved
                                (130 after Ctrl-C, 143 after SIGTERM)

The message is one line that names the thing and says what to do about it.
"""

from __future__ import annotations

import signal


class CharlmError(Exception):
    """Something went wrong that one line can explain."""

    exit_code = 1


class InputError(CharlmError):
    """A text, a file or a folder that cannot be used as it is."""


class OptionError(CharlmError):
    """An option whose value makes no sense, alone or beside another."""


class ModelError(CharlmError):
    """No model was found, or the file is no model of ours."""


class Stopped(CharlmError):
    """Training was told to stop; the message says where what it learnt was saved."""

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
