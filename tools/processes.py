"""Control child processes line by line, and measure the memory of this one.

A child reads commands from standard input and writes answers to standard output, each as one line of JSON. Between two
commands it does its work. So the parent decides when each child starts and stops, and asks for measurements without
taking part in them.
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

ANSWER_TIMEOUT = 600.0
"""The default time to wait for an answer, in seconds."""

Command = Callable[..., Awaitable[object]]


class Child:
    """A child process that runs a module; it is killed at the end of the block.

    Args:
        module: The module to run, such as `bench.cost.service`.
        arguments: Passed to the child as JSON on its command line; `read_arguments` returns them there.
    """

    def __init__(self, module: str, arguments: object) -> None:
        self._name = f"{module} {arguments}"
        self._process = subprocess.Popen(  # noqa: S603 - a module of this repository
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

    def ask(self, command: str, *arguments: object, timeout: float = ANSWER_TIMEOUT) -> Any:
        """Send a command to the child and return its answer.

        Args:
            command: Its name.
            arguments: Its arguments, which must be JSON.
            timeout: Seconds to wait for the answer; then the child is killed.

        Raises:
            RuntimeError: The child exited, or did not answer in time. Its traceback is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        killer = threading.Timer(timeout, self._process.kill)
        killer.start()
        try:
            self._process.stdin.write(f"{json.dumps([command, *arguments])}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            killer.cancel()
        if not answer:
            raise RuntimeError(f"{self._name} did not answer {command!r}")
        return json.loads(answer)


def read_arguments() -> Any:
    """Return the arguments that the parent passed on the command line."""
    return json.loads(sys.argv[1])


async def serve_commands(commands: Mapping[str, Command]) -> None:
    """Execute commands from standard input until it closes. Call this in the child."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, *arguments = json.loads(line)
        print(json.dumps(await commands[command](*arguments)), flush=True)


def open_descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_memory() -> int:
    """Return the resident memory of this process in bytes, uncollected garbage included."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
