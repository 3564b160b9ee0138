"""A host of audio whose next answers can be scripted: the origin of signed links, as awkward as one likes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

import attrs
from aiohttp import web

from playai_async import Completed, TtsJob
from tests.support.scripted import JOB_ID

Answer: TypeAlias = "Callable[[AudioHost, web.BaseRequest], Awaitable[web.StreamResponse]]"

AUDIO = bytes(range(256)) * 4_000
"""A megabyte, every part of which can be told from its neighbours."""


@attrs.frozen
class Seen:
    """One request as it came."""

    target: str
    headers: Mapping[str, str]


@attrs.define(repr=False)  # asyncio shows the arguments of tasks, and the audio is long
class AudioHost:
    """What it serves, what its next answers are, and what it was asked; it offers ranges as far as it is told to."""

    audio: bytes = AUDIO
    accepts_ranges: bool = True
    etag: str = '"one"'
    last_modified: str = ""
    honours_if_range: bool = True
    origin: str = ""
    script: list[Answer] = attrs.field(factory=list["Answer"])
    seen: list[Seen] = attrs.field(factory=list[Seen])

    @property
    def link(self) -> str:
        """A signed link to the audio."""
        return f"{self.origin}/a.mp3?Signature=s%2Bx~&Expires=1"

    def job(self, url: str | None = None, *, file_size: float | None = None, kind: str = "audio/mpeg") -> TtsJob:
        """A completed job whose audio is here."""
        size = len(self.audio) if file_size is None else file_size
        noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
        return TtsJob(JOB_ID, noon, {}, noon, Completed(self.link if url is None else url, kind, size, 3.0))

    @property
    def ranges(self) -> list[str | None]:
        """The range that each request asked for."""
        return [seen.headers.get("Range") for seen in self.seen]

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer as scripted, or else with the audio."""
        self.seen.append(Seen(request.raw_path, dict(request.headers)))
        if self.script:
            return await self.script.pop(0)(self, request)
        return await self.head(request, self.rest(request))

    def rest(self, request: web.BaseRequest) -> bytes:
        """What a request asks for: all of it, or the rest of it."""
        if "Range" not in request.headers or not self.accepts_ranges:
            return self.audio
        known = request.headers.get("If-Range", self.etag) in {self.etag, self.last_modified}
        if self.honours_if_range and not known:
            return self.audio
        return self.audio[int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) :]

    async def head(self, request: web.BaseRequest, body: bytes, *, sent: int | None = None) -> web.StreamResponse:
        """Send the head of an answer, and its body or the beginning of it."""
        start = len(self.audio) - len(body)
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(body)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.audio) - 1}/{len(self.audio)}"
        offers = {"ETag": self.etag, "Last-Modified": self.last_modified}
        response.headers.update({name: value for name, value in offers.items() if value})
        if self.accepts_ranges:
            response.headers["Accept-Ranges"] = "bytes"
        await response.prepare(request)
        await response.write(body[:sent])
        return response


def answer(status: int, **headers: str) -> Answer:
    """Answer with a status and a few bytes."""

    async def answer(_: AudioHost, __: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=b"<Error/>", headers=headers)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    """Redirect each request; a location may be relative."""
    return answer(status, Location=location)


def breaks_off_after(size: int) -> Answer:
    """Send so many bytes of what was asked for, and then cut the connection."""

    async def answer(host: AudioHost, request: web.BaseRequest) -> web.StreamResponse:
        response = await host.head(request, host.rest(request), sent=size)
        assert request.transport is not None
        request.transport.close()  # once all of that is sent
        return response

    return answer


def falls_silent_after(size: int) -> Answer:
    """Send so many bytes of what was asked for, and then nothing for a day."""

    async def answer(host: AudioHost, request: web.BaseRequest) -> web.StreamResponse:
        await host.head(request, host.rest(request), sent=size)
        await asyncio.sleep(86_400)
        raise NotImplementedError

    return answer


@contextlib.asynccontextmanager
async def audio_host() -> AsyncIterator[AudioHost]:
    """Run a host of audio on loopback."""
    host = AudioHost()
    runner = web.ServerRunner(web.Server(host.serve, handler_cancellation=True, access_log=None, max_line_size=65_536))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield host
    finally:
        await runner.cleanup()
