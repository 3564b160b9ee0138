"""Restart processes when they exit, like systemd or a container's restart policy."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping

RESTART_PAUSE = 5.0
"""Seconds from an exit to the next start: more than `worker.SILENCE`, so that the new worker can take over."""

GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL."""


class Supervised:
    """A Python module as a process that is restarted whenever it exits.

    Attributes:
        name: The name in messages.
        started: How many processes were started.
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
        """The id of the current process, or None."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def kill(self) -> None:
        """Kill the process, like the kernel when memory runs out."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the process until the end of the block, then stop it."""
        await self._start()
        supervising = asyncio.create_task(self._supervise())
        try:
            yield
        finally:
            supervising.cancel()
            await asyncio.wait([supervising])
            if self._process is not None:
                await stop(self._process)

    async def _start(self) -> None:
        self._process = await start(*self._command, environment=self._environment)
        self.started += 1

    async def _supervise(self) -> None:
        while True:
            assert self._process is not None  # noqa: S101 - `running` starts it first
            status = await self._process.wait()
            self._say(f"{self.name} exited with status {status}; restarting in {RESTART_PAUSE:.0f} s")
            await asyncio.sleep(RESTART_PAUSE)
            await self._start()


async def start(
    *command: str, environment: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL, stdout: int | None = None
) -> asyncio.subprocess.Process:
    """Start a process that Ctrl-C in the terminal does not reach, so that the script can stop it in order."""
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=stdin, stdout=stdout, start_new_session=True
    )


async def stop(process: asyncio.subprocess.Process) -> None:
    """Stop a process, with SIGKILL if necessary."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            process.kill()
            await process.wait()
