"""A job's audio from its signed link into a file: whole or not at all, and without credentials.

The link leads to another host than the service's, which must learn neither the key nor the user id, nor may a redirect
lead to where they could be read on the way. The request carries nothing but what is named in `_HEADERS`, and comes from
a client session of its own: one of the caller's may hold cookies and headers of theirs.

An attempt that breaks off is made again a few times, and goes on where the last one ended if the server says how.
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
"""Told the bytes received, and those there will be if that is known."""

# Compressed, the lengths that a download is checked by would be those of something else.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}

_CHUNK = 64 * 1024
"""Bytes that are read and written at once; some tens of microseconds of the event loop's time."""

_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_REDIRECTS = {301, 302, 303, 307, 308}
_EXPIRED = {401, 403, 404, 410}
_BUSY = {408, 425, 429}
_SERVER_ERRORS = 500
_VISIBLE = re.compile(r"[ -~]+")
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


class _BrokenOffError(Exception):
    """An attempt came to nothing that the next one may not; its text says why."""


class Downloader:
    """Downloads audio; to be made and used in a running loop.

    Args:
        http: The client session whose connections, and whose trust in the environment's proxies, are used; no more.
        credentials: What must not be shown, should a server know it.
        in_flight: How many requests may be in flight; downloads take at most half of them, lest no status be asked for.
        idle_timeout: Seconds without a byte after which an attempt is given up.
        emitter: What keeps its requests out of traces.
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
        self._others = http
        self._own: aiohttp.ClientSession | None = None
        self._credentials = credentials
        self._in_flight = in_flight
        self._share = asyncio.Semaphore(max(1, in_flight.limit // 2))
        self._idle_timeout = idle_timeout
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()

    async def download(self, job: TtsJob[Completed], path: Path, on_progress: OnProgress | None) -> None:
        """Download a job's audio into a file.

        Args:
            job: The job.
            path: The file, which is replaced if it is there.
            on_progress: Told how far it is, after each piece. What it raises ends the download.

        Raises:
            DownloadError: It could not be had whole.
            SessionClosedError: The caller closed their client session.
            OSError: The file could not be written.

        A cancellation ends the request, and leaves no file behind.
        """
        link = _checked(job.id, job.output.url)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_BrokenOffError),
            stop=stop_after_attempt(DOWNLOAD_ATTEMPTS),
            wait=wait_exponential(multiplier=DOWNLOAD_PAUSE) + wait_random(0, DOWNLOAD_PAUSE),
            reraise=True,
        )
        with PartFile(path) as part:
            transfer = _Transfer(job.id, part, job.output.file_size, on_progress)
            try:
                await retrying(self._attempt, link, transfer)
            except _BrokenOffError as error:
                failure = _error(job.id, f"{error}, the last of {DOWNLOAD_ATTEMPTS} times")
                failure.__cause__ = error.__cause__
            else:
                part.finish()
                return
        raise failure  # out of the handler, lest what broke off come along as `__context__`

    async def close(self) -> None:
        """Close the client session made here; the connections are others'."""
        if self._own is not None:
            await self._own.close()

    async def _attempt(self, link: URL, transfer: _Transfer) -> None:
        async with self._share, self._in_flight.one():
            if self._others.closed:
                raise http_session_closed(transfer.job_id)
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    await self._exchange(link, transfer, limit)
            except TimeoutError:
                if not limit.expired():
                    raise  # the caller's own, out of `on_progress`
                broken = _BrokenOffError(f"no byte came for {self._idle_timeout:g} s")
            except _BrokenOffError as error:
                broken = error
            else:
                return
        fields = {
            "playai_event": "download_broke_off",
            "playai_job_id": str(transfer.job_id),
            "playai_received": transfer.part.size,
        }
        logger.debug(
            "Job %s: its download broke off after %d bytes.", transfer.job_id, transfer.part.size, extra=fields
        )
        raise broken

    async def _exchange(self, link: URL, transfer: _Transfer, limit: asyncio.Timeout) -> None:
        async with self._answer(link, transfer, limit) as response:
            transfer.begin(response.status, response.headers)
            while True:
                with self._step(limit):
                    chunk = await response.content.read(_CHUNK)
                if not chunk:
                    break
                transfer.add(chunk)
            transfer.end()

    @contextlib.asynccontextmanager
    async def _answer(
        self, url: URL, transfer: _Transfer, limit: asyncio.Timeout
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Follow a link to an answer that is no redirect."""
        headers = transfer.headers()
        for _ in range(MAX_REDIRECTS + 1):
            with self._step(limit), self._emitter.untraced():  # lest a trace hold the link, which is signed
                response = await self._http().get(url, headers=headers, allow_redirects=False)
            try:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _checked(transfer.job_id, response.headers.get("Location", ""), url)
            finally:
                response.close()
        raise _error(transfer.job_id, f"more than {MAX_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _step(self, limit: asyncio.Timeout) -> Generator[None, None, None]:
        """Bound one step of an exchange, and say what became of it."""
        limit.reschedule(self._loop.time() + self._idle_timeout)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the table of failures ends with it
            broken = _BrokenOffError(f"{describe(error)} ({type(error).__name__})")
            broken.__cause__ = sanitize(error, self._credentials)
        else:
            return
        raise broken

    def _http(self) -> aiohttp.ClientSession:
        if self._own is None:
            self._own = aiohttp.ClientSession(
                connector=self._others.connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._others.trust_env,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(),
                middlewares=(_without_credentials,),
            )
        return self._own


async def _without_credentials(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Take off what aiohttp may have found in the user's netrc, where the environment is trusted."""
    request.headers.pop("Authorization", None)
    return await handler(request)


@attrs.define
class _Transfer:
    """How far the audio has come, over however many attempts; decides what each answer means.

    Attributes:
        job_id: The job.
        part: Where it is written.
        promised: Bytes that the job has, as the service says.
        on_progress: Told how far it is.
        resumable: Whether the server gives what is missing alone.
        validator: What it knows this very audio by, or None.
        asked_for_rest: Whether this attempt asked for what is missing alone.
    """

    job_id: UUID
    part: PartFile
    promised: float
    on_progress: OnProgress | None
    resumable: bool = False
    validator: str | None = None
    asked_for_rest: bool = False

    def headers(self) -> dict[str, str]:
        """Return the headers of the next attempt (RFC 9110, 13.1.5 and 14.2)."""
        self.asked_for_rest = self.resumable and self.part.size > 0
        if not self.asked_for_rest:
            return _HEADERS
        condition = {} if self.validator is None else {"If-Range": self.validator}
        return {**_HEADERS, "Range": f"bytes={self.part.size}-", **condition}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of an answer."""
        if self.asked_for_rest and status == _PARTIAL:
            if not self._is_the_rest(headers):
                self.resumable = False
                raise _BrokenOffError("not what was asked for came")
        elif status == _OK:
            self._begin_anew(headers)
        elif self.asked_for_rest and status == _RANGE_NOT_SATISFIABLE:
            self.resumable = False
            raise _BrokenOffError(f"it was answered with {status}")
        elif status in _EXPIRED:
            why = f"its link has expired, or is not valid ({status}); get_job brings a fresh one"
            raise _error(self.job_id, why)
        elif status in _BUSY or status >= _SERVER_ERRORS:
            raise _BrokenOffError(f"it was answered with {status}")
        else:
            raise _error(self.job_id, f"it was answered with {status}")

    def _is_the_rest(self, headers: Mapping[str, str]) -> bool:
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.part.size or int(found[2]) != self.promised:
            return False
        return not _is_encoded(headers) and self.validator in {None, _validator_of(headers)}

    def _begin_anew(self, headers: Mapping[str, str]) -> None:
        if _is_encoded(headers):
            raise _error(self.job_id, "it came encoded, which was not asked for")
        length = headers.get("Content-Length", "")
        if _LENGTH.fullmatch(length) and int(length) != self.promised:
            raise self._wrong_length(f"{int(length)}")
        self.part.restart()
        self.validator = _validator_of(headers)
        self.resumable = headers.get("Accept-Ranges", "").strip().lower() == "bytes"

    def add(self, chunk: bytes) -> None:
        """Take what comes next."""
        received = self.part.size + len(chunk)
        if received > self.promised:
            raise self._wrong_length("more")
        self.part.write(chunk)
        if self.on_progress is not None:
            self.on_progress(received, int(self.promised))

    def end(self) -> None:
        """Take the end of an answer."""
        if self.part.size < self.promised:
            raise _BrokenOffError(f"it ended after {self.part.size} of {self.promised:.0f} bytes")

    def _wrong_length(self, length: str) -> DownloadError:
        return _error(self.job_id, f"the job has {self.promised:.0f} bytes, and its link {length}")


def _is_encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity").lower() != "identity"


def _validator_of(headers: Mapping[str, str]) -> str | None:
    """Return what a host knows some audio by, if that is good enough for ranges and can be sent back."""
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified", "")
    return validator if _VISIBLE.fullmatch(validator) else None


def _checked(job_id: UUID, link: str, base: URL | None = None) -> URL:
    try:
        return checked_link(link, base)
    except ValueError as error:
        why = f"its link {error}"
    raise _error(job_id, why if base is None else f"{why} (redirected)")


def _error(job_id: UUID, why: str) -> DownloadError:
    return DownloadError(f"The audio of job {job_id} could not be downloaded: {why}.", job_id=job_id)
