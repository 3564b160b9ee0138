"""Processes that the cost scripts run beside themselves: the service, and each client in one of its own.

A process reads commands, a line each, and answers each with a line of JSON; between two commands it does what it is
there for. So whoever measures decides when everybody begins and ends, and asks for numbers without taking part.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 600.0
"""Seconds that an answer may take; past them the process is given up."""

Command = Callable[[], Awaitable[object]]


class Child:
    """A process of ours, killed at the end of the block that it was started for.

    Args:
        module: The module to run, such as `bench.cost.service`.
        arguments: What it is told, as JSON on its command line.
    """

    def __init__(self, module: str, arguments: object) -> None:
        self._name = f"{module} {arguments}"
        self._process = subprocess.Popen(  # noqa: S603 - a module of this folder
            [sys.executable, "-m", module, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, command: str) -> Any:
        """Send a command and return what the process answers to it.

        Raises:
            RuntimeError: The process ended instead, or took too long; what it had to say is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        giving_up = threading.Timer(PATIENCE, self._process.kill)
        giving_up.start()
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            giving_up.cancel()
        if not answer:
            raise RuntimeError(f"{self._name} did not answer to {command!r}")
        return json.loads(answer)


def told() -> Any:
    """Return what this process was told on its command line."""
    return json.loads(sys.argv[1])


async def answer(commands: Mapping[str, Command]) -> None:
    """Be such a process: answer commands until there are no more."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        print(json.dumps(await commands[line]()), flush=True)


def open_descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_memory() -> int:
    """Return the resident memory of this process in bytes, uncollected garbage included."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
