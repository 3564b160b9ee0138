"""Processes that are kept up: what systemd, or whatever runs containers, is there for."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping

RESTART_PAUSE = 5.0
"""Seconds from an end to the next start: more than `worker.SILENCE`, so that a worker can take over."""

GRACE = 10.0
"""Seconds to end after a SIGTERM, before a SIGKILL."""


class Kept:
    """A Python module as a process, started anew whenever it ends.

    Attributes:
        name: What it is called.
        started: How many processes there were.
    """

    def __init__(
        self, name: str, arguments: list[str], environment: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.started = 0
        self._command = [sys.executable, "-m", *arguments]
        self._environment = environment
        self._say = say
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its process, if it has one now."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def kill(self) -> None:
        """End it as the kernel does when there is no memory left."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @contextlib.asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        """Keep it up for the length of the block, and stop it at the end."""
        await self._start()
        keeping = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            if self._process is not None:
                await stopped(self._process)

    async def _start(self) -> None:
        self._process = await started(*self._command, environment=self._environment)
        self.started += 1

    async def _keep_up(self) -> None:
        while True:
            assert self._process is not None  # noqa: S101 - it is started before it is kept up
            status = await self._process.wait()
            self._say(f"{self.name} ended with status {status}, and is started again in {RESTART_PAUSE:.0f} s")
            await asyncio.sleep(RESTART_PAUSE)
            await self._start()


async def started(
    *command: str, environment: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL, stdout: int | None = None
) -> asyncio.subprocess.Process:
    """Start a process that a Ctrl-C in the terminal does not reach: it is ended in its turn."""
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=stdin, stdout=stdout, start_new_session=True
    )


async def stopped(process: asyncio.subprocess.Process) -> None:
    """End a process, if need be by force."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            process.kill()
            await process.wait()
