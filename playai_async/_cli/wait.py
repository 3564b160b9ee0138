"""`get` and `wait`: how jobs are asked for and waited for.

Plain coroutines over a session and a screen; nothing here parses a command line or knows how progress is drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID

import attrs

from playai_async._cli.errors import Exit, UsageError, gravest
from playai_async._cli.results import Ends, Outcome, Results, Tally, id_of, status_of
from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, TtsJob, job_id_of
from playai_async._session import PlayAISession
from playai_async._settings import Pacing

__all__ = ["STANDARD_INPUT", "Downloads", "downloads", "get", "read_ids", "see_out", "usable_directory", "wait"]


async def get(playai: PlayAISession, job_id: UUID, results: Results) -> Exit:
    """Ask for one job once; whatever its state, an answer is fine.

    Args:
        playai: A session, which is closed in the end.
        job_id: The job.
        results: Where to tell.

    Returns:
        The exit status.
    """
    async with playai:
        try:
            job = await playai.get_job(job_id)
        except PlayAIError as error:
            results.tell(error, job_id)
            return status_of(error)
        results.tell(job)
        return Exit.FINE


async def wait(
    playai: PlayAISession, job_ids: Sequence[UUID], results: Results, *, timeout: float | None, directory: Path | None
) -> Exit:
    """Wait for jobs, all at once, and tell of each as it ends.

    Args:
        playai: A session, which is closed in the end.
        job_ids: The jobs, each one once.
        results: Where to tell.
        timeout: Seconds for each wait, or None for no deadline.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.
    """
    tally = Tally(len(job_ids), downloading=None if directory is None else 0)
    async with playai, results.screen.showing(lambda: tally.drawn(playai.stats)):
        return await see_out(playai, job_ids, Ends(results, tally), timeout=timeout, directory=directory)


async def see_out(
    playai: PlayAISession,
    jobs: Sequence[UUID | TtsJob],
    ends: Ends,
    *,
    timeout: float | None,
    directory: Path | None,
) -> Exit:
    """Wait for jobs, and download their audio if that is wanted.

    No job is kept once it has ended, however many there are.

    Args:
        playai: A session.
        jobs: The jobs.
        ends: Takes note of each one's end.
        timeout: Seconds for each wait, or None for no deadline; downloads take as long as they take.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.

    Raises:
        OSError: An end can't be told.

    A cancellation lets go of all waits and downloads, and leaves no part of a file behind.
    """
    async with (
        downloads(playai, directory, ends) as downloading,
        contextlib.aclosing(playai.as_completed(jobs, timeout=timeout, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            await downloading.take(outcome)
    return gravest(ends.statuses)


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


STANDARD_INPUT = "-"
"""What stands for standard input."""


def read_ids(texts: Iterable[str], stdin: Iterable[str] | None) -> list[UUID]:
    """Read the ids of jobs, each one once, in the order given.

    Args:
        texts: Ids, or `-` for those on standard input.
        stdin: Standard input, an id as the first word of each line, so that what a command prints is input to the
            next; blank lines do not count. None, as Python has it for a closed descriptor: nothing.

    Returns:
        The ids.

    Raises:
        UsageError: Some are malformed; it names every one of them.
    """
    ids: dict[UUID, None] = {}
    malformed: list[str] = []
    for text in texts:
        for candidate in _first_words_of(stdin) if text == STANDARD_INPUT else [text]:
            try:
                ids[job_id_of(candidate)] = None
            except ValueError as error:
                malformed.append(str(error))
    if malformed:
        raise UsageError("\n".join(malformed))
    return list(ids)


def _first_words_of(stdin: Iterable[str] | None) -> list[str]:
    try:
        # A byte order mark, which some editors put at the start of a file, is no part of an id.
        return [words[0] for line in stdin or () if (words := line.lstrip("\ufeff").split())]
    except UnicodeDecodeError:
        raise UsageError("standard input is not text") from None
