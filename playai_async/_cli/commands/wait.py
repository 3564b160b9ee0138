"""The commands `get` and `wait`: read job ids, ask or wait for the jobs, and download their audio."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID

import attrs

from playai_async._cli.errors import ExitCode, UsageError, worst
from playai_async._cli.network import OpenSession
from playai_async._cli.results import (
    JobCounts,
    Outcome,
    OutcomeRecorder,
    Reporter,
    Stopwatch,
    exit_code_of,
    id_of,
)
from playai_async._exceptions import PlayAIError
from playai_async._models import Completed, TtsJob, job_id_of
from playai_async._session import PlayAISession
from playai_async._settings import Pacing

__all__ = [
    "STANDARD_INPUT",
    "get",
    "prepare_directory",
    "read_ids",
    "wait",
    "wait_and_download",
]

STANDARD_INPUT = "-"
"""The argument that stands for standard input."""

_MAX_STARTED = Pacing().max_in_flight
"""Downloads started at once. The session runs half as many at a time. Each further download would only keep a file
open."""


def read_ids(texts: Iterable[str], stdin: Iterable[str] | None) -> list[UUID]:
    """Read job ids, in the given order and without duplicates.

    Args:
        texts: Job ids, or `-` for the ids on standard input.
        stdin: Standard input: the first word of each line is an id, or each line is a job as JSON. So the output of one
            command is the input of the next. Blank lines are ignored. Python sets it to None if the descriptor is
            closed.

    Raises:
        UsageError: Some ids are malformed. The message has one line for each of them.
    """
    ids: dict[UUID, None] = {}
    malformed: list[str] = []
    for text in texts:
        for line in _read_lines(stdin) if text == STANDARD_INPUT else [text]:
            try:
                ids[job_id_of(_id_in(line) if text == STANDARD_INPUT else line)] = None
            except ValueError as error:
                malformed.append(str(error))
    if malformed:
        raise UsageError("\n".join(malformed))
    return list(ids)


def _read_lines(stdin: Iterable[str] | None) -> list[str]:
    try:
        # Some editors write a byte order mark at the start of a file.
        return [text for line in stdin or () if (text := line.lstrip("\ufeff").strip())]
    except UnicodeDecodeError:
        raise UsageError("standard input is not text") from None
    except OSError as error:
        raise UsageError(f"standard input cannot be read: {error.strerror}") from None


def _id_in(line: str) -> str:
    if not line.startswith("{"):
        return line.split(maxsplit=1)[0]
    # The messages do not quote the line, which may contain the text to speak.
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("a line of standard input that starts with { is not a job id and not a JSON object") from None
    job_id = document.get("id")
    if not isinstance(job_id, str):
        raise ValueError('a JSON object on standard input has no job id in "id"')  # noqa: TRY004 - not a wrong argument
    return job_id


def prepare_directory(path: Path) -> Path:
    """Create a directory for downloads, with its parents, unless it exists, and return the path.

    Raises:
        UsageError: The directory cannot be created or written to, or the path is not a directory.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is not a directory") from None
    except OSError as error:
        raise UsageError(f"the directory {path} cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"the directory {path} is not writable")
    return path


async def get(open_session: OpenSession, job_id: UUID, reporter: Reporter) -> ExitCode:
    """Print one job, whatever its state is. Sends one request."""
    async with open_session() as playai:
        try:
            job = await playai.get_job(job_id)
        except PlayAIError as error:
            reporter.report(error, job_id)
            return exit_code_of(error)
        recorder = OutcomeRecorder(reporter, JobCounts(1))
        with recorder.printing_lost_ids():
            recorder.record(job.id, job)
        return ExitCode.SUCCESS


async def wait(
    open_session: OpenSession,
    job_ids: Sequence[UUID],
    reporter: Reporter,
    *,
    timeout: float | None,
    directory: Path | None,
) -> ExitCode:
    """Wait for jobs at the same time, and print each job when it is done.

    Args:
        open_session: Opens the session.
        job_ids: The job ids, without duplicates.
        reporter: Prints the jobs.
        timeout: Seconds for each wait, or None for no deadline.
        directory: Where to save the audio, or None for no download.
    """
    output, clock = reporter.output, asyncio.get_running_loop().time
    stopwatch = Stopwatch(clock, clock(), timeout)
    counts = JobCounts(len(job_ids), downloading=None if directory is None else 0, stopwatch=stopwatch)
    recorder = OutcomeRecorder(reporter, counts)
    async with open_session() as playai, output.show_progress(lambda: counts.view(playai.stats)):
        with recorder.printing_lost_ids():
            try:
                return await wait_and_download(playai, job_ids, recorder, timeout=timeout, directory=directory)
            except asyncio.CancelledError:
                going_on = counts.describe_interruption()
                output.try_message(f"playai-async: interrupted; {going_on}; to wait again, repeat the command")
                raise


async def wait_and_download(
    playai: PlayAISession,
    jobs: Sequence[UUID | TtsJob],
    recorder: OutcomeRecorder,
    *,
    timeout: float | None,
    directory: Path | None,
) -> ExitCode:
    """Wait for jobs, and download their audio if `directory` is given.

    A finished job is not kept in memory. Cancellation ends all waits and downloads and removes partial files.

    Args:
        playai: The session.
        jobs: The jobs, or their ids.
        recorder: Counts and prints each finished job.
        timeout: Seconds for each wait, or None for no deadline. Downloads have no deadline.
        directory: Where to save the audio, or None for no download.

    Returns:
        The worst exit code of all jobs.

    Raises:
        OSError: A result cannot be written.
    """
    async with (
        _open_downloader(playai, directory, recorder) as downloader,
        contextlib.aclosing(playai.as_completed(jobs, timeout=timeout, return_exceptions=True)) as outcomes,
    ):
        async for outcome in outcomes:
            await downloader.add(outcome)
    return worst(recorder.exit_codes)


@contextlib.asynccontextmanager
async def _open_downloader(
    playai: PlayAISession, directory: Path | None, recorder: OutcomeRecorder
) -> AsyncGenerator[_Downloader, None]:
    """Download while the block runs, then wait for the remaining downloads. An error in the block cancels them."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield _Downloader(playai, directory, recorder, tasks)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # all are the same error: the results cannot be written any more


@attrs.frozen
class _Downloader:
    """Records each finished wait: a completed job when its audio is saved, any other outcome at once."""

    _playai: PlayAISession
    _directory: Path | None
    _recorder: OutcomeRecorder
    _tasks: asyncio.TaskGroup
    _slots: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_MAX_STARTED), init=False)

    async def add(self, outcome: TtsJob | PlayAIError) -> None:
        """Record an outcome, or start its download. Blocks while too many downloads are running."""
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
            # The separator at the end says "directory". Without it, a deleted directory would be created as a file.
            target = os.path.join(directory, "")  # noqa: PTH118 - a Path drops the separator
            file = await self._playai.download(job, target, on_progress=self._byte_counter())
        except (PlayAIError, OSError) as error:
            outcome = error
        except asyncio.CancelledError:
            counts.stopped += 1
            raise
        finally:
            counts.downloading -= 1
            self._slots.release()
        self._recorder.record(job.id, outcome, file=file)

    def _byte_counter(self) -> Callable[[int, int | None], None]:
        """Return a callback that adds the bytes of one download to the total; a restarted download counts once."""
        counts, counted = self._recorder.counts, 0

        def on_progress(received: int, _: int | None) -> None:
            nonlocal counted
            counts.received += received - counted
            counted = received

        return on_progress
