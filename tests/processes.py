"""Commands in several processes, forked from one that has loaded torch: to load it takes seconds.

`launch` does for a command what torchrun does, without its restarts.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch.distributed"])
STREAMS = ("stdout", "stderr")

Ended = tuple[int, str, str]


def launch(
    commands: Sequence[Sequence[object]], folders: Sequence[Path], machines: bool = False
) -> list[Ended]:
    """Run the command of each rank in its folder; the exit code, stdout and stderr of each.

    machines:  each process is the only one on a machine of its own
    """
    size, started = len(commands), []
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    with tempfile.TemporaryDirectory() as output:
        for rank, (command, folder) in enumerate(zip(commands, folders, strict=True)):
            here = (0, 1) if machines else (rank, size)
            local = dict(zip(("LOCAL_RANK", "LOCAL_WORLD_SIZE"), map(str, here), strict=True))
            environment = {**address, **local, "RANK": str(rank)}
            files = [f"{output}/{rank}.{stream}" for stream in STREAMS]
            arguments = [str(argument) for argument in command]
            process = SERVER.Process(target=run, args=(arguments, environment, folder, files))
            process.start()
            started.append((process, files))
        return [ended(process, files) for process, files in started]


def run(arguments: list[str], environment: dict[str, str], folder: Path, files: list[str]) -> None:
    """Run a command in this process, with stdout and stderr in files."""
    from charlm.__main__ import main

    os.chdir(folder)
    os.environ.update(environment)
    for descriptor, name in enumerate(files, 1):
        with Path(name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["charlm", *arguments]
    main()


def ended(process: multiprocessing.process.BaseProcess, files: list[str]) -> Ended:
    """Wait for the end of a process, for two minutes."""
    process.join(timeout=120)
    if process.exitcode is None:
        process.kill()
        process.join()
    stdout, stderr = (Path(name).read_text(encoding="utf-8") for name in files)
    assert process.exitcode is not None
    return process.exitcode, stdout, stderr


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
    return port
