"""Downloads the audio of a job from its signed URL into a file: completely or not at all, and without credentials.

The audio is on another host than the service. That host must learn neither the API key nor the user id, and a redirect
must not lead to an insecure connection. Requests carry only the headers in `_HEADERS`. They use a client session of
their own, because the caller's client session may add cookies and headers.

An attempt that fails is retried a few times. If the server supports ranges, the next attempt resumes where the previous
attempt stopped. This module must not know where a job comes from, nor choose the name of the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import aiohttp
import attrs
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random
from yarl import URL

from playai_async._api.credentials import Credentials
from playai_async._api.failures import describe, http_session_closed, sanitize
from playai_async._api.urls import checked_link
from playai_async._audio.files import PartFile
from playai_async._exceptions import DownloadError
from playai_async._models import Completed, TtsJob
from playai_async._settings import DOWNLOAD_ATTEMPTS, DOWNLOAD_PAUSE, MAX_REDIRECTS, USER_AGENT
from playai_async._telemetry.emitter import Emitter
from playai_async.jobs._scheduling.in_flight import InFlightLimiter

__all__ = ["Downloader", "OnProgress"]

logger = logging.getLogger("playai_async")

OnProgress: TypeAlias = Callable[[int, int | None], object]
"""Called with the number of bytes received, and the total number of bytes or None."""

# Identity encoding only: the expected size of the audio could not be compared with the size of compressed data.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}

_CHUNK = 64 * 1024
"""Bytes read and written at once, which blocks the event loop for some tens of microseconds."""

_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_REDIRECTS = {301, 302, 303, 307, 308}
_EXPIRED = {401, 403, 404, 410}
_BUSY = {408, 425, 429}
_SERVER_ERRORS = 500
_VISIBLE = re.compile(r"[ -~]+")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


class _AttemptFailedError(Exception):
    """An attempt failed, and the next attempt may succeed. The message gives the reason."""


class Downloader:
    """Downloads audio. Create and use it in a running event loop.

    Args:
        http: The client session whose connector and `trust_env` setting are used, and nothing else of it.
        credentials: Secrets to remove from errors, in case a server knows them.
        in_flight: Limits the requests in flight. Downloads use at most half of them, so that polls are not delayed.
        idle_timeout: Seconds without data after which an attempt fails.
        emitter: Keeps downloads out of traces.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        credentials: Credentials,
        in_flight: InFlightLimiter,
        idle_timeout: float,
        emitter: Emitter,
    ) -> None:
        self._api_http = http
        self._download_http: aiohttp.ClientSession | None = None
        self._credentials = credentials
        self._in_flight = in_flight
        self._downloads = asyncio.Semaphore(max(1, in_flight.limit // 2))
        self._idle_timeout = idle_timeout
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()

    async def download(self, job: TtsJob[Completed], path: Path, on_progress: OnProgress | None) -> None:
        """Download the audio of a job into a file.

        Cancellation ends the request and removes the partial file.

        Args:
            job: The completed job.
            path: The file. An existing file is replaced.
            on_progress: Called after each chunk; or None. An exception that it raises ends the download and is raised.

        Raises:
            DownloadError: The audio could not be downloaded completely.
            SessionClosedError: The caller closed their client session.
            OSError: The file could not be written.
        """
        url = _checked_url(job.id, job.output.url)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_AttemptFailedError),
            stop=stop_after_attempt(DOWNLOAD_ATTEMPTS),
            wait=wait_exponential(multiplier=DOWNLOAD_PAUSE) + wait_random(0, DOWNLOAD_PAUSE),
            reraise=True,
        )
        with PartFile(path) as part:
            transfer = _Transfer(job.id, part, job.output.file_size, on_progress)
            try:
                await retrying(self._attempt, url, transfer)
            except _AttemptFailedError as error:
                failure = _download_error(job.id, f"{error}, in the last of {DOWNLOAD_ATTEMPTS} attempts")
                failure.__cause__ = error.__cause__
            else:
                part.finish()
                return
        raise failure  # outside the handler, so that the failed attempt does not become `__context__`

    async def close(self) -> None:
        """Close the client session for downloads. Its connector belongs to the other client session."""
        if self._download_http is not None:
            await self._download_http.close()

    async def _attempt(self, url: URL, transfer: _Transfer) -> None:
        async with self._downloads, self._in_flight.one():
            if self._api_http.closed:
                raise http_session_closed(transfer.job_id)
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    await self._exchange(url, transfer, limit)
            except TimeoutError:
                if not limit.expired():
                    raise  # raised by the caller's `on_progress`
                failure = _AttemptFailedError(f"no data was received for {self._idle_timeout:g} s")
            except _AttemptFailedError as error:
                failure = error
            else:
                return
        fields = {
            "playai_event": "download_broke_off",
            "playai_job_id": str(transfer.job_id),
            "playai_received": transfer.part.size,
        }
        logger.debug("Job %s: download interrupted after %d bytes.", transfer.job_id, transfer.part.size, extra=fields)
        raise failure

    async def _exchange(self, url: URL, transfer: _Transfer, limit: asyncio.Timeout) -> None:
        async with self._open(url, transfer, limit) as response:
            transfer.on_head(response.status, response.headers)
            while True:
                with self._step(limit):
                    chunk = await response.content.read(_CHUNK)
                if not chunk:
                    break
                transfer.on_chunk(chunk)
            transfer.on_end()

    @contextlib.asynccontextmanager
    async def _open(
        self, url: URL, transfer: _Transfer, limit: asyncio.Timeout
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send the request, and follow redirects."""
        headers = transfer.headers()
        for _ in range(MAX_REDIRECTS + 1):
            with self._step(limit), self._emitter.untraced():  # a trace would record the signed URL
                response = await self._client().get(url, headers=headers, allow_redirects=False)
            try:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _checked_url(transfer.job_id, response.headers.get("Location", ""), url)
            finally:
                response.close()
        raise _download_error(transfer.job_id, f"more than {MAX_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _step(self, limit: asyncio.Timeout) -> Generator[None, None, None]:
        """Limit the time of one step of an exchange, and turn its exception into `_AttemptFailedError`."""
        limit.reschedule(self._loop.time() + self._idle_timeout)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the failure table covers every exception
            failure = _AttemptFailedError(f"{describe(error)} ({type(error).__name__})")
            failure.__cause__ = sanitize(error, self._credentials)
        else:
            return
        raise failure

    def _client(self) -> aiohttp.ClientSession:
        if self._download_http is None:
            self._download_http = aiohttp.ClientSession(
                connector=self._api_http.connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._api_http.trust_env,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(),
                middlewares=(_remove_authorization,),
            )
        return self._download_http


async def _remove_authorization(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Remove the password that aiohttp takes from the user's netrc file if `trust_env` is set."""
    request.headers.pop("Authorization", None)
    return await handler(request)


@attrs.define
class _Transfer:
    """The progress of one download over all of its attempts. Decides what each response means.

    Attributes:
        job_id: The job.
        part: The file that is written.
        expected_size: The size of the audio in bytes, as the service reports it.
        on_progress: Called after each chunk; or None.
        resumable: Whether the server supports range requests.
        validator: The `ETag` or `Last-Modified` of the audio, or None.
        sent_range: Whether the current attempt requested a range.
    """

    job_id: UUID
    part: PartFile
    expected_size: float
    on_progress: OnProgress | None
    resumable: bool = False
    validator: str | None = None
    sent_range: bool = False

    def headers(self) -> dict[str, str]:
        """Return the headers of the next attempt (RFC 9110, 13.1.5 and 14.2)."""
        self.sent_range = self.resumable and self.part.size > 0
        if not self.sent_range:
            return _HEADERS
        condition = {} if self.validator is None else {"If-Range": self.validator}
        return {**_HEADERS, "Range": f"bytes={self.part.size}-", **condition}

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Handle the status and the headers of a response."""
        if self.sent_range and status == _PARTIAL:
            if not self._is_requested_range(headers):
                self.resumable = False
                raise _AttemptFailedError("the server sent another range than requested")
        elif status == _OK:
            self._start_over(headers)
        elif self.sent_range and status == _RANGE_NOT_SATISFIABLE:
            self.resumable = False
            raise _AttemptFailedError(f"the server answered {status}")
        elif status in _EXPIRED:
            reason = f"its URL has expired or is not valid ({status}); get_job returns a fresh one"
            raise _download_error(self.job_id, reason)
        elif status in _BUSY or status >= _SERVER_ERRORS:
            raise _AttemptFailedError(f"the server answered {status}")
        else:
            raise _download_error(self.job_id, f"the server answered {status}")

    def on_chunk(self, chunk: bytes) -> None:
        """Write a chunk of the body, and report the progress."""
        received = self.part.size + len(chunk)
        if received > self.expected_size:
            raise self._wrong_size("more")
        self.part.write(chunk)
        if self.on_progress is not None:
            self.on_progress(received, int(self.expected_size))

    def on_end(self) -> None:
        """Handle the end of the body."""
        if self.part.size < self.expected_size:
            raise _AttemptFailedError(f"the response ended after {self.part.size} of {self.expected_size:.0f} bytes")

    def _is_requested_range(self, headers: Mapping[str, str]) -> bool:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if match is None or int(match[1]) != self.part.size or int(match[2]) != self.expected_size:
            return False
        return not _is_encoded(headers) and self.validator in {None, _validator_of(headers)}

    def _start_over(self, headers: Mapping[str, str]) -> None:
        if _is_encoded(headers):
            raise _download_error(self.job_id, "the server sent encoded content, which was not requested")
        length = headers.get("Content-Length", "")
        if _LENGTH.fullmatch(length) and int(length) != self.expected_size:
            raise self._wrong_size(f"{int(length)}")
        self.part.restart()
        self.validator = _validator_of(headers)
        self.resumable = headers.get("Accept-Ranges", "").strip().lower() == "bytes"

    def _wrong_size(self, received: str) -> DownloadError:
        return _download_error(self.job_id, f"expected {self.expected_size:.0f} bytes, but its URL returns {received}")


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity").lower() != "identity"


def _validator_of(headers: Mapping[str, str]) -> str | None:
    """Return the strong `ETag` or the `Last-Modified` date, if it can be sent back in `If-Range` (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    return validator if _VISIBLE.fullmatch(validator) else None


def _checked_url(job_id: UUID, url: str, base: URL | None = None) -> URL:
    try:
        return checked_link(url, base)
    except ValueError as error:
        reason = f"its URL {error}"
    raise _download_error(job_id, reason if base is None else f"{reason} (redirected)")


def _download_error(job_id: UUID, reason: str) -> DownloadError:
    return DownloadError(f"The audio of job {job_id} could not be downloaded: {reason}.", job_id=job_id)
