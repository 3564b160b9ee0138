"""The audio of jobs into files as they complete, several at once, while others are still waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import attrs

from playai_async._cli._ends import Ends, Outcome, id_of
from playai_async._cli._exit import UsageError
from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, TtsJob
from playai_async._session import PlayAISession
from playai_async._settings import Pacing

__all__ = ["Downloads", "downloads", "usable_directory"]

_AT_ONCE = Pacing().max_in_flight
"""Downloads begun at once. The session lets half as many run; each further one would only hold a file open."""


def usable_directory(path: Path) -> Path:
    """Find a directory for files, or make one.

    Args:
        path: The directory; those above it are made, too.

    Returns:
        The same.

    Raises:
        UsageError: It can't be made or written to, or something else is there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is not a directory") from None
    except OSError as error:
        raise UsageError(f"the directory {path} cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"the directory {path} cannot be written to")
    return path


@attrs.frozen
class Downloads:
    """Sees ended waits through: those of completed jobs once their audio is in a file, all others at once.

    Args:
        playai: Downloads.
        directory: Where the files go, or None where none are wanted.
        ends: Takes note of each job's end.
        tasks: In which downloads run.
    """

    _playai: PlayAISession
    _directory: Path | None
    _ends: Ends
    _tasks: asyncio.TaskGroup
    _room: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)

    async def take(self, outcome: TtsJob | PlayAIError) -> None:
        """See one through; returns at once, but for when too many are on their way: then the next ones wait outside.

        Raises:
            OSError: An end can't be told.
        """
        if self._directory is None or not (isinstance(outcome, TtsJob) and isinstance(outcome.output, Completed)):
            self._ends.add(id_of(outcome), outcome)
            return
        await self._room.acquire()
        self._tasks.create_task(self._download(outcome, self._directory))

    async def _download(self, job: TtsJob, directory: Path) -> None:
        tally = self._ends.tally
        outcome: Outcome = job
        file: Path | None = None
        tally.downloading = (tally.downloading or 0) + 1
        try:
            # Named as one, or a directory that is gone by now would come back as a file.
            place = os.path.join(directory, "")  # noqa: PTH118 - a path drops the separator at its end
            file = await self._playai.download(job, place, on_progress=self._counting())
        except (PlayAIError, OSError) as error:
            outcome = error
        finally:
            tally.downloading -= 1
            self._room.release()
        self._ends.add(job.id, outcome, file=file)

    def _counting(self) -> Callable[[int, int | None], None]:
        """Count the bytes of one download, which starts over where it must."""
        tally, counted = self._ends.tally, 0

        def count(received: int, _: int | None) -> None:
            nonlocal counted
            tally.received += received - counted
            counted = received

        return count


@contextlib.asynccontextmanager
async def downloads(playai: PlayAISession, directory: Path | None, ends: Ends) -> AsyncGenerator[Downloads, None]:
    """Download for as long as the block runs, and until all is there; an error in the block ends all downloads.

    Args:
        playai: Downloads.
        directory: Where the files go, or None where none are wanted.
        ends: Takes note of each job's end.

    Raises:
        OSError: An end could not be told.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield Downloads(playai, directory, ends, tasks)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # the others are the same again: nobody reads the results any more
