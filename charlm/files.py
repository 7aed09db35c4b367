"""Writing files so that each is complete or absent, and what to say of one that cannot be."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from charlm.errors import InputError

PART = ".part"  # the suffix of files that are being written
ADVICE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota of the disk is used; free some space",
    errno.EROFS: "the disk is read-only; write somewhere else with `out`",
    errno.EACCES: "permission denied; check whose it is, or write somewhere else with `out`",
    errno.ENAMETOOLONG: "the name is too long; use a shorter one",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, to write to; on success it replaces `path`.

    It is flushed to disk first. On an error the temporary file is removed, and `path` is unchanged.
    Raises InputError where nothing can be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise file_error(error, path) from error
    except SafetensorError as error:
        number = int((re.findall(r"os error (\d+)", str(error)) or [0])[0])
        raise file_error(OSError(number, str(error)), path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that is open to be written, see `replacing`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file, or leave it unchanged on an error.

    The text may have names of files that are not UTF-8.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def file_error(error: OSError, path: Path | None = None) -> InputError:
    """An error of the operating system, as one line that says what to do.

    path:  the file as the user knows it; None for the one that the error names
    """
    reason = ADVICE.get(error.errno or 0) or (error.strerror or str(error)).lower()
    name = path or error.filename
    return InputError(f"{name}: {reason}" if name else reason)
