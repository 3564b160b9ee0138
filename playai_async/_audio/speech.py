"""From text to a file: create a job, wait for it and download its audio, each by itself or in one call.

Puts `create`, the engine and `download` together; the rules of each step are kept there.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._audio.cancel_scopes import CancelScopes
from playai_async._audio.create import Creator
from playai_async._audio.disk import Disk
from playai_async._audio.download import Downloader, OnProgress
from playai_async._audio.files import Destination, format_of
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, TtsJob, TtsParameters, job_id_of
from playai_async._settings import RESOLUTION, Polling
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import ContentTypeMismatch
from playai_async.jobs._job_poller import JobPoller

__all__ = ["Speech", "checked_callback"]

_WriteBody: TypeAlias = Callable[[TtsParameters], bytes]


class Speech:
    """Makes audio from text, and files from audio.

    Args:
        write_body: Writes the body of a request to create a job.
        jobs: Waits for jobs.
        creator: Creates jobs.
        downloader: Downloads their audio.
        scopes: Cancels callers that download when the session closes.
        disk: Runs file operations.
        emitter: Reports audio of another format than its file name says.
    """

    def __init__(
        self,
        write_body: _WriteBody,
        jobs: JobPoller[UUID | str | TtsJob, TtsJob],
        creator: Creator,
        downloader: Downloader,
        *,
        scopes: CancelScopes,
        disk: Disk,
        emitter: Emitter,
    ) -> None:
        self._write_body = write_body
        self._jobs = jobs
        self._creator = creator
        self._downloader = downloader
        self._scopes = scopes
        self._disk = disk
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()

    async def create(self, parameters: TtsParameters, polling: Polling, timeout: float | None) -> TtsJob:
        """Create a job; see `Creator.create`."""
        body = self._write_body(parameters)
        return await self._creator.create(body, polling, timeout)

    async def download(
        self, job: UUID | str | TtsJob, destination: str | os.PathLike[str], on_progress: OnProgress | None
    ) -> Path:
        """Download a job's audio, and return the path of the file; see `Downloader.download`."""
        job_id = job_id_of(job)
        async with self._scopes.enter(job_id):
            place = await self._disk.run(Destination.checked, os.fspath(destination))
            if not isinstance(job, TtsJob):
                job = await self._jobs.get(job_id)
            completed = job.raise_for_failure()
            output_format = completed.input.get("outputFormat")
            path = await self._disk.run(place.file, job_id, completed.output.content_type, output_format)
            await self._downloader.download(completed, path, on_progress, partial(self._jobs.get, job_id))
        return path

    async def speak(
        self,
        parameters: TtsParameters,
        destination: str | os.PathLike[str],
        polling: Polling,
        timeout: float | None,
        on_progress: OnProgress | None,
    ) -> TtsJob[Completed]:
        """Create a job, wait for it, and download its audio, all before the deadline."""
        started = self._loop.time()
        deadline = None if timeout is None else started + timeout
        place = await self._checked_destination(destination, deadline)  # before anything is created that costs money
        if parameters.output_format is None and place.format is not None and "outputFormat" not in parameters.extra:
            parameters = attrs.evolve(parameters, output_format=place.format)
        job = await self.create(parameters, polling, self._left(deadline))
        job = await self._jobs.wait_for_completion(job, polling=polling, timeout=self._left(deadline))
        completed = job.raise_for_failure()
        audio_format = format_of(completed.output.content_type)
        if audio_format is not None and place.format not in {None, audio_format}:
            self._emitter.emit(ContentTypeMismatch(job.id, audio_format, str(place.format)))
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                with _naming(job.id):
                    await self.download(completed, destination, on_progress)
        except TimeoutError:
            if not limit.expired():
                raise  # out of `on_progress`
        else:
            return completed
        elapsed = self._loop.time() - started
        raise WaitTimeoutError(
            f"The audio of job {job.id} was not downloaded within {elapsed:.1f} s; it can be downloaded again.",
            job=completed,
            elapsed=elapsed,
            polls=0,
            job_id=job.id,
        )

    async def _checked_destination(self, destination: str | os.PathLike[str], deadline: float | None) -> Destination:
        limit = asyncio.timeout_at(deadline)
        started = self._loop.time()
        try:
            async with limit:
                return await self._disk.run(Destination.checked, os.fspath(destination))
        except TimeoutError:
            if not limit.expired():
                raise  # the disk's own
        elapsed = self._loop.time() - started
        raise WaitTimeoutError(
            f"No job was created within {elapsed:.1f} s, because the disk of the destination does not answer.",
            elapsed=elapsed,
            polls=0,
        )

    def _left(self, deadline: float | None) -> float | None:
        """Return the seconds until a deadline."""
        return None if deadline is None else max(RESOLUTION, deadline - self._loop.time())

    async def join(self) -> None:
        """Wait until all creations and downloads have ended, after they were cancelled."""
        await self._scopes.join()
        await self._creator.close()
        await self._downloader.close()
        self._disk.close()


def checked_callback(on_progress: OnProgress | None) -> OnProgress | None:
    """Validate an `on_progress`.

    Raises:
        TypeError: It is not callable, or nothing would happen when it is called, as for a coroutine function.
    """
    if on_progress is None:
        return None
    if not callable(on_progress):
        raise TypeError(f"on_progress must be callable, not a {type(on_progress).__name__}")
    function = on_progress
    while isinstance(function, partial):
        function = function.func
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError("on_progress must be a plain callable, not a coroutine function")
    return on_progress


@contextlib.contextmanager
def _naming(job_id: UUID) -> Generator[None, None, None]:
    """Note the job on an error that does not name it."""
    try:
        yield
    except PlayAIError:
        raise
    except Exception as error:
        error.add_note(f"The audio is that of job {job_id}, and can still be downloaded.")
        raise
