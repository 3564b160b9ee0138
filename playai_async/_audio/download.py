"""Downloads the audio of a job from its signed URL into a file: completely or not at all, and without credentials.

The audio is on another host than the service. That host must learn neither the API key nor the user id, and a redirect
must not lead to an insecure connection. Requests carry only the headers of `transfer`. They use a client session of
their own, because the caller's client session may add cookies and headers.

An attempt that fails is retried a few times; `transfer` decides what each response means. This module must not know
where a job comes from, nor choose the name of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from typing import TypeAlias, cast
from uuid import UUID

import aiohttp
import attrs
from tenacity import AsyncRetrying, retry_if_exception_type
from yarl import URL

from playai_async._api.credentials import Credentials
from playai_async._api.failures import check_http_session, describe, sanitize
from playai_async._api.urls import checked_link
from playai_async._audio.connections import download_session
from playai_async._audio.disk import Disk
from playai_async._audio.files import PartFile
from playai_async._audio.transfer import AttemptFailedError, LinkExpiredError, Transfer, download_error
from playai_async._exceptions import PlayAIError, SessionClosedError
from playai_async._models import Completed, TtsJob
from playai_async._settings import DOWNLOAD_ATTEMPTS, MAX_REDIRECTS
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import DownloadInterrupted
from playai_async.jobs._scheduling.in_flight import InFlightLimiter

__all__ = ["Downloader", "OnProgress"]

OnProgress: TypeAlias = Callable[[int, int | None], object]
"""Called with the number of bytes received, and the total number of bytes or None."""

_FetchAgain: TypeAlias = Callable[[], Awaitable[TtsJob]]

_CHUNK = 64 * 1024
"""Bytes read and written at once, at most."""

_END_GRACE = 0.25
"""Seconds in which a response of unknown length must end after the last byte that is expected, or is cut off."""

_REDIRECTS = {301, 302, 303, 307, 308}


class Downloader:
    """Downloads audio. Create and use it in a running event loop.

    Args:
        http: The client session whose connector and `trust_env` setting are used, and nothing else of it.
        credentials: Secrets to remove from errors, in case a server knows them.
        in_flight: Limits the requests in flight. Downloads use at most half of them, so that polls are not delayed. If
            the limit is one, a download uses a connection beside it.
        idle_timeout: Seconds without data after which an attempt fails.
        emitter: Reports interrupted downloads, and keeps downloads out of traces.
        disk: Runs file operations.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        credentials: Credentials,
        in_flight: InFlightLimiter,
        idle_timeout: float,
        emitter: Emitter,
        disk: Disk,
    ) -> None:
        self._api_http = http
        self._download_http: aiohttp.ClientSession | None = None
        self._credentials = credentials
        self._in_flight = in_flight
        self._apart = in_flight.limit == 1
        self._downloads = asyncio.Semaphore(max(1, in_flight.limit // 2))
        self._idle_timeout = idle_timeout
        self._emitter = emitter
        self._disk = disk
        self._loop = asyncio.get_running_loop()

    async def download(
        self, job: TtsJob[Completed], path: Path, on_progress: OnProgress | None, fetch_again: _FetchAgain
    ) -> None:
        """Download the audio of a job into a file.

        Cancellation ends the request and removes the partial file.

        Args:
            job: The completed job.
            path: The file. An existing file is replaced.
            on_progress: Called after each chunk; or None. An exception that it raises ends the download and is raised.
            fetch_again: Fetches the job, called once if its URL has expired.

        Raises:
            DownloadError: The audio could not be downloaded completely.
            JobFailedError: The job was fetched again, and is a failed job now.
            SessionClosedError: The caller closed their client session.
            OSError: The file could not be written.
        """
        download = _Download(job.id, fetch_again, on_progress, self._disk, PartFile(path))
        download.use(job)
        try:
            await self._try(download)
            await self._disk.run(download.part.finish)
        except BaseException:
            await self._disk.clean_up(download.part.discard)
            raise

    async def close(self) -> None:
        """Close the client session for downloads."""
        if self._download_http is not None:
            await self._download_http.close()

    async def _try(self, download: _Download) -> None:
        """Make attempts until one succeeds."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(AttemptFailedError),
            stop=lambda _: download.transfer.given_up,
            wait=lambda _: download.transfer.pause(),
            reraise=True,
        )
        try:
            await retrying(self._attempt, download)
        except AttemptFailedError as error:
            reason = f"{error}, in the last of {DOWNLOAD_ATTEMPTS} attempts without progress"
            failure = download_error(download.job_id, reason)
            failure.__cause__ = error.__cause__
        else:
            return
        raise failure  # outside the handler, so that the failed attempt does not become `__context__`

    async def _attempt(self, download: _Download) -> None:
        try:
            async with self._downloads:
                while True:
                    try:
                        await self._exchange_in_turn(download)
                    except LinkExpiredError as error:
                        expired = error
                    else:
                        return
                    # Not in line again: while others go first, the fresh link might expire as well.
                    await download.refresh(expired)
        except AttemptFailedError:
            download.transfer.on_failure()
            self._emitter.emit(DownloadInterrupted(download.job_id, download.transfer.received))
            raise

    async def _exchange_in_turn(self, download: _Download) -> None:
        async with contextlib.nullcontext() if self._apart else self._in_flight.one():
            check_http_session(self._api_http, download.job_id)
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    await self._exchange(download, limit)
            except TimeoutError:
                if not limit.expired():
                    raise  # raised by the caller's `on_progress`
            else:
                return
        raise AttemptFailedError(f"no data was received for {self._idle_timeout:g} s")

    async def _exchange(self, download: _Download, limit: asyncio.Timeout) -> None:
        transfer = download.transfer
        async with self._open(download, limit) as response:
            headers = {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers}
            starts_over = transfer.on_head(response.status, headers)
            limit.reschedule(None)  # the disk may take longer
            if starts_over:
                await download.start_over()
            while not transfer.complete:
                chunk, failure = await self._read(response.content, limit)
                limit.reschedule(None)
                await download.on_chunk(chunk)
                if failure is not None and not transfer.complete:
                    raise failure
                if not chunk:
                    break
            more = transfer.complete and await self._goes_on(response.content)
            transfer.on_end(more=more)

    async def _read(
        self, content: aiohttp.StreamReader, limit: asyncio.Timeout
    ) -> tuple[bytes, AttemptFailedError | None]:
        """Read what has come, with the failure of the connection if that was lost since."""
        try:
            with self._step(limit):
                return await content.read(_CHUNK), None
        except AttemptFailedError as error:
            failure = error
        # aiohttp raises the error even if it still has data that came before.
        content.set_exception(cast("BaseException", None))
        return content.read_nowait(), failure

    async def _goes_on(self, content: aiohttp.StreamReader) -> bool:
        """Return whether more data comes than expected. However the response ends after that, the audio is complete."""
        if content.at_eof():
            return False
        try:
            async with asyncio.timeout(_END_GRACE):
                return bool(await content.read(1))
        except Exception:  # noqa: BLE001 - the connection was lost, or is silent
            return False

    @contextlib.asynccontextmanager
    async def _open(self, download: _Download, limit: asyncio.Timeout) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send the request, and follow redirects."""
        url, headers = download.url, download.transfer.headers()
        for _ in range(MAX_REDIRECTS + 1):
            with self._step(limit), self._emitter.untraced():  # a trace would record the signed URL
                response = await self._client().get(url, headers=headers, allow_redirects=False)
            try:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _checked_url(download.job_id, response.headers.get("Location", ""), url)
            finally:
                response.close()
        raise download_error(download.job_id, f"more than {MAX_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _step(self, limit: asyncio.Timeout) -> Generator[None, None, None]:
        """Limit the time of one step of an exchange, and turn its exception into `AttemptFailedError`."""
        limit.reschedule(self._loop.time() + self._idle_timeout)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the failure table covers every exception
            failure = AttemptFailedError(f"{describe(error)} ({type(error).__name__})")
            failure.__cause__ = sanitize(error, self._credentials)
        else:
            return
        raise failure

    def _client(self) -> aiohttp.ClientSession:
        if self._download_http is None:
            self._download_http = download_session(self._api_http, apart=self._apart)
        return self._download_http


@attrs.define
class _Download:
    """One download: where the audio comes from, what has been received of it, and where it goes.

    Attributes:
        job_id: The job.
        fetch_again: Fetches the job if its URL has expired; None after that.
        on_progress: Called after each chunk; or None.
        disk: Runs file operations.
        part: The file that is written.
        url: The URL of the audio.
        transfer: What has been received from it.
    """

    job_id: UUID
    fetch_again: _FetchAgain | None
    on_progress: OnProgress | None
    disk: Disk
    part: PartFile
    url: URL = attrs.field(init=False)
    transfer: Transfer = attrs.field(init=False)

    def use(self, job: TtsJob[Completed]) -> None:
        """Download from the URL of a job from now on. What came from another URL may be of another version."""
        self.url = _checked_url(self.job_id, job.output.url)
        self.transfer = Transfer(self.job_id, job.output.file_size)

    async def refresh(self, expired: LinkExpiredError) -> None:
        """Fetch the job, and use its URL.

        Raises:
            DownloadError: There is no fresh URL.
            JobFailedError: The job is a failed job now.
            SessionClosedError: The session was closed.
        """
        if self.fetch_again is None:
            raise download_error(self.job_id, f"{expired}, and a fresh one was refused as well")
        fetch_again, self.fetch_again = self.fetch_again, None
        try:
            job = await fetch_again()
        except SessionClosedError:
            raise
        except PlayAIError as error:
            failure = download_error(self.job_id, f"{expired}, and no fresh one could be fetched")
            failure.__cause__ = error
        else:
            if job.done:
                self.use(job.raise_for_failure())
                return
            failure = download_error(self.job_id, f"{expired}, and the job is not done any more")
        raise failure

    async def start_over(self) -> None:
        """Discard everything received so far."""
        await self.disk.run(self.part.restart)

    async def on_chunk(self, chunk: bytes) -> None:
        """Keep a chunk, and report the progress."""
        if not chunk:
            return
        self.transfer.on_chunk(len(chunk))
        await self.disk.run(self.part.write, chunk)
        if self.on_progress is not None:
            outcome = self.on_progress(self.transfer.received, int(self.transfer.expected_size))
            if inspect.iscoroutine(outcome):
                outcome.close()
                raise TypeError("on_progress returned a coroutine, which nothing awaits; it must be a plain callable")


def _checked_url(job_id: UUID, url: str, base: URL | None = None) -> URL:
    try:
        return checked_link(url, base)
    except ValueError as error:
        reason = f"its URL {error}"
    raise download_error(job_id, reason if base is None else f"{reason} (redirected)")
