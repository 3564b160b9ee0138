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

from playai_async._cli.errors import ExitCode, UsageError, worst
from playai_async._cli.results import JobCounts, Outcome, OutcomeRecorder, Reporter, exit_code_of, id_of
from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, TtsJob, job_id_of
from playai_async._session import PlayAISession
from playai_async._settings import Pacing

__all__ = [
    "STANDARD_INPUT",
    "Downloader",
    "get",
    "open_downloader",
    "prepare_directory",
    "read_ids",
    "wait",
    "wait_and_download",
]


async def get(playai: PlayAISession, job_id: UUID, reporter: Reporter) -> ExitCode:
    """Ask for one job once; whatever its state, an answer is fine.

    Args:
        playai: A session, which is closed in the end.
        job_id: The job.
        reporter: Where to tell.

    Returns:
        The exit status.
    """
    async with playai:
        try:
            job = await playai.get_job(job_id)
        except PlayAIError as error:
            reporter.report(error, job_id)
            return exit_code_of(error)
        reporter.report(job)
        return ExitCode.SUCCESS


async def wait(
    playai: PlayAISession, job_ids: Sequence[UUID], reporter: Reporter, *, timeout: float | None, directory: Path | None
) -> ExitCode:
    """Wait for jobs, all at once, and tell of each as it ends.

    Args:
        playai: A session, which is closed in the end.
        job_ids: The jobs, each one once.
        reporter: Where to tell.
        timeout: Seconds for each wait, or None for no deadline.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.
    """
    counts = JobCounts(len(job_ids), downloading=None if directory is None else 0)
    async with playai, reporter.output.show_progress(lambda: counts.view(playai.stats)):
        return await wait_and_download(
            playai, job_ids, OutcomeRecorder(reporter, counts), timeout=timeout, directory=directory
        )


async def wait_and_download(
    playai: PlayAISession,
    jobs: Sequence[UUID | TtsJob],
    recorder: OutcomeRecorder,
    *,
    timeout: float | None,
    directory: Path | None,
) -> ExitCode:
    """Wait for jobs, and download their audio if that is wanted.

    No job is kept once it has ended, however many there are.

    Args:
        playai: A session.
        jobs: The jobs.
        recorder: Takes note of each one's end.
        timeout: Seconds for each wait, or None for no deadline; downloads take as long as they take.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.

    Raises:
        OSError: An end can't be told.

    A cancellation lets go of all waits and downloads, and leaves no part of a file behind.
    """
    async with (
        open_downloader(playai, directory, recorder) as downloader,
        contextlib.aclosing(playai.as_completed(jobs, timeout=timeout, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            await downloader.add(outcome)
    return worst(recorder.exit_codes)


_MAX_STARTED = Pacing().max_in_flight
"""Downloads begun at once. The session lets half as many run; each further one would only hold a file open."""


def prepare_directory(path: Path) -> Path:
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
class Downloader:
    """Sees ended waits through: those of completed jobs once their audio is in a file, all others at once.

    Args:
        playai: Downloads.
        directory: Where the files go, or None where none are wanted.
        recorder: Takes note of each job's end.
        tasks: In which downloads run.
    """

    _playai: PlayAISession
    _directory: Path | None
    _recorder: OutcomeRecorder
    _tasks: asyncio.TaskGroup
    _slots: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_MAX_STARTED), init=False)

    async def add(self, outcome: TtsJob | PlayAIError) -> None:
        """See one through; returns at once, but for when too many are on their way: then the next ones wait outside.

        Raises:
            OSError: An end can't be told.
        """
        if self._directory is None or not (isinstance(outcome, TtsJob) and isinstance(outcome.output, Completed)):
            self._recorder.record(id_of(outcome), outcome)
            return
        await self._slots.acquire()
        self._tasks.create_task(self._download(outcome, self._directory))

    async def _download(self, job: TtsJob, directory: Path) -> None:
        counts = self._recorder.counts
        outcome: Outcome = job
        file: Path | None = None
        counts.downloading = (counts.downloading or 0) + 1
        try:
            # Named as one, or a directory that is gone by now would come back as a file.
            target = os.path.join(directory, "")  # noqa: PTH118 - a path drops the separator at its end
            file = await self._playai.download(job, target, on_progress=self._byte_counter())
        except (PlayAIError, OSError) as error:
            outcome = error
        finally:
            counts.downloading -= 1
            self._slots.release()
        self._recorder.record(job.id, outcome, file=file)

    def _byte_counter(self) -> Callable[[int, int | None], None]:
        """Count the bytes of one download, which starts over where it must."""
        counts, counted = self._recorder.counts, 0

        def count(received: int, _: int | None) -> None:
            nonlocal counted
            counts.received += received - counted
            counted = received

        return count


@contextlib.asynccontextmanager
async def open_downloader(
    playai: PlayAISession, directory: Path | None, recorder: OutcomeRecorder
) -> AsyncGenerator[Downloader, None]:
    """Download for as long as the block runs, and until all is there; an error in the block ends all downloads.

    Args:
        playai: Downloads.
        directory: Where the files go, or None where none are wanted.
        recorder: Takes note of each job's end.

    Raises:
        OSError: An end could not be told.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield Downloader(playai, directory, recorder, tasks)
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
