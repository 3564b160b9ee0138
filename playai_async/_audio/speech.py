"""From text to a file: a job created, waited for and downloaded, each by itself or in one go.

Puts `_create`, `_poller` and `_download` together; each step's own rules are kept there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from uuid import UUID

from playai_async._api.jobs import Service
from playai_async._audio.cancel_scopes import Visitors
from playai_async._audio.create import Creator
from playai_async._audio.download import Downloader, OnProgress
from playai_async._audio.files import Destination
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, TtsJob, TtsParameters, job_id_of
from playai_async._settings import RESOLUTION, Polling
from playai_async.jobs._polling.poller import Poller

__all__ = ["Speech"]


class Speech:
    """Makes audio of text, and files of audio.

    Args:
        service: Knows how parameters are written.
        poller: Waits for jobs.
        creator: Creates them.
        downloader: Downloads their audio.
    """

    def __init__(self, service: Service, poller: Poller, creator: Creator, downloader: Downloader) -> None:
        self._service = service
        self._poller = poller
        self._creator = creator
        self._downloader = downloader
        self._visitors = Visitors()
        self._loop = asyncio.get_running_loop()

    async def create(self, parameters: TtsParameters, polling: Polling, timeout: float | None) -> TtsJob:
        """Create a job; see `Creator.create`."""
        body = self._service.body_of(parameters)
        async with self._visitors.inside(None):
            return await self._creator.create(body, polling, timeout)

    async def download(
        self, job: UUID | str | TtsJob, destination: str | os.PathLike[str], on_progress: OnProgress | None
    ) -> Path:
        """Download a job's audio, and return the path of the file; see `Downloader.download`."""
        job_id = job_id_of(job)
        place = Destination.checked(destination)
        if not isinstance(job, TtsJob):
            job = await self._poller.call(job_id)
        completed = job.raise_for_failure()
        path = place.file(job_id, completed.output.content_type)
        async with self._visitors.inside(job_id):
            await self._downloader.download(completed, path, on_progress)
        return path

    async def speak(
        self,
        parameters: TtsParameters,
        destination: str | os.PathLike[str],
        polling: Polling,
        timeout: float | None,
        on_progress: OnProgress | None,
    ) -> TtsJob[Completed]:
        """Create a job, wait for it, and download its audio, all within the time."""
        Destination.checked(destination)  # before anything is created that costs money
        began = self._loop.time()
        deadline = None if timeout is None else began + timeout
        job = await self.create(parameters, polling, timeout)
        if not job.done:
            left = None if deadline is None else max(RESOLUTION, deadline - self._loop.time())
            job = await self._poller.completion(job.id, polling, left)
        completed = job.raise_for_failure()
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
        elapsed = self._loop.time() - began
        raise WaitTimeoutError(
            f"The audio of job {job.id} was not downloaded within {elapsed:.1f} s; it can be downloaded again.",
            job=completed,
            elapsed=elapsed,
            polls=0,
            job_id=job.id,
        )

    def end_all(self) -> None:
        """Interrupt all creations and downloads, with `SessionClosedError`."""
        self._visitors.interrupt()

    async def gone(self) -> None:
        """See them off, once they were interrupted."""
        await self._visitors.gone()
        await self._creator.close()
        await self._downloader.close()


@contextlib.contextmanager
def _naming(job_id: UUID) -> Generator[None, None, None]:
    """Note on an error out of the block whose audio it was, where it does not say so by itself."""
    try:
        yield
    except PlayAIError:
        raise
    except Exception as error:
        error.add_note(f"The audio is that of job {job_id}, and can still be downloaded.")
        raise
