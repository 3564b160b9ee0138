"""The host that serves audio: an object store with signed links, which knows no keys and counts no requests.

A request in, an answer out; no I/O and no clock.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import attrs

from playai_async.emulator._service.audio import AUDIO_TYPE, Audio
from playai_async.emulator._service.clock import CLOCK_TOLERANCE
from playai_async.emulator._service.contract import parse_job_id
from playai_async.emulator._service.jobs import Job
from playai_async.emulator._service.messages import Endpoint, Request, Response

FORGED: Final = "The signature does not match."
EXPIRED: Final = "The link has expired."


class SignedLinks:
    """Makes links, and tells good ones from others.

    Args:
        lifetime: Seconds for which a link is good.
        origin: Says where the audio is, such as `http://127.0.0.1:8124`.
    """

    def __init__(self, lifetime: float, origin: Callable[[], str]) -> None:
        self._lifetime = lifetime
        self._origin = origin
        self._key = secrets.token_bytes(32)
        self._seen_at = math.inf
        self._offset = 0

    def sign(self, job_id: UUID, now: float) -> str:
        """Return a link to a job's audio that is good from now on."""
        # Without a fraction where there is none, as real ones are; with one, lest the link's life be rounded.
        expires = f"{self._time_of_day(now) + self._lifetime:.6f}".rstrip("0").rstrip(".")
        return f"{self._origin()}/{job_id}.wav?Expires={expires}&Signature={self._signature(job_id, expires)}"

    def refusal(self, job_id: UUID, query: Mapping[str, str], now: float) -> str | None:
        """Return why a link to a job's audio leads nowhere; None: it is good."""
        expires = query.get("Expires", "")
        given = query.get("Signature", "")
        # As bytes, since compare_digest() takes no text beyond ASCII.
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._signature(job_id, expires).encode()):
            return FORGED
        return EXPIRED if self._time_of_day(now) >= float(expires) - CLOCK_TOLERANCE else None

    def _signature(self, job_id: UUID, expires: str) -> str:
        signed = f"{job_id}\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()

    def _time_of_day(self, now: float) -> float:
        """Return the loop's time in seconds since 1970."""
        if now < self._seen_at:
            # The first look, or the clock was set back: virtual time often begins between a test's fixtures and
            # the test. In whole seconds, so that round times of the loop make round times of day.
            self._seen_at = now
            self._offset = math.floor(time.time() - now)
        return self._offset + now


FILE_PATH: Final = re.compile(r"/([^/]+)\.wav")
# int() refuses thousands of digits; forty are beyond any file.
RANGE: Final = re.compile(r"bytes=(?:(\d{1,40})-(\d{0,40})|-(\d{1,40}))", re.ASCII | re.IGNORECASE)


@attrs.frozen
class AudioOrigin:
    """The files of the jobs.

    Args:
        jobs: The jobs there are.
        links: Who tells good links from others.
    """

    jobs: Mapping[UUID, Job]
    links: SignedLinks

    def identify(self, _method: str, path: str) -> tuple[Endpoint, UUID | None]:
        """Return what a request is about: the audio of a job, or of none."""
        match = FILE_PATH.fullmatch(path)
        return "audio", parse_job_id(match[1]) if match else None

    def respond(self, request: Request, now: float) -> Response:
        """Answer one request: method 405, signature and expiry 403, no audio 404, and then the file.

        Args:
            request: The request.
            now: The loop time.

        Returns:
            The answer to send.
        """
        if request.method not in {"GET", "HEAD"}:
            return _refusal(405, "MethodNotAllowed", "There are GET and HEAD.", {"Allow": "GET, HEAD"})
        _, job_id = self.identify(request.method, request.path)
        job = self.jobs.get(job_id) if job_id else None
        if job is None:
            return _refusal(403, "AccessDenied", "The link leads nowhere.")
        reason = self.links.refusal(job.id, request.query, now)
        if reason is not None:
            return _refusal(403, "AccessDenied", reason)
        return _file(job.audio, request) if job.has_audio(now) else _refusal(404, "NoSuchKey", "There is no audio.")


def _file(audio: Audio, request: Request) -> Response:
    headers = {"Content-Type": AUDIO_TYPE, "Accept-Ranges": "bytes", "ETag": audio.etag}
    part = _part(audio, request)
    if part is None:
        return Response(200, audio.content(), headers)
    if not part:
        return _refusal(416, "InvalidRange", "There is no such range.", {"Content-Range": f"bytes */{audio.size}"})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{audio.size}"
    return Response(206, audio.content().part(part.start, part.stop), headers)


def _part(audio: Audio, request: Request) -> range | None:
    """Return which bytes are asked for: None means all, and an empty range some beyond the end.

    RFC 9110, section 14: a range is for GET alone, one that is malformed is ignored, and a server may ignore what
    else it does not care for, here several ranges at once.
    """
    match = RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.method != "GET" or request.headers.get("If-Range", audio.etag) != audio.etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return range(max(audio.size - int(suffix), 0), audio.size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, audio.size) if last else audio.size)


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(status, body.encode(), {"Content-Type": "application/xml", **(headers or {})})
