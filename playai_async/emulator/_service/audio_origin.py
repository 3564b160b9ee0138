"""The host that serves audio: an object store with signed links, without credentials and without a rate limit.

No I/O; the caller passes the loop time in.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import attrs

from playai_async.emulator._service.audio import AUDIO_TYPE, Audio
from playai_async.emulator._service.clock import CLOCK_TOLERANCE, WallClock
from playai_async.emulator._service.contract import parse_job_id
from playai_async.emulator._service.jobs import Job
from playai_async.emulator._service.messages import Endpoint, Request, Response

FORGED: Final = "The signature does not match."
EXPIRED: Final = "The link has expired."

FILE_PATH: Final = re.compile(r"/([^/]+)\.wav")
# int() refuses thousands of digits; forty digits are beyond the size of any file.
RANGE: Final = re.compile(r"bytes=(?:(\d{1,40})-(\d{0,40})|-(\d{1,40}))", re.ASCII | re.IGNORECASE)


class SignedLinks:
    """Signs and verifies links to audio. `Expires` is a time of day that advances with the loop's time.

    Args:
        lifetime: Seconds until a link expires.
        base_url: Returns the URL of the audio origin, such as `http://127.0.0.1:8124`.
    """

    def __init__(self, lifetime: float, base_url: Callable[[], str]) -> None:
        self._lifetime = lifetime
        self._base_url = base_url
        self._key = secrets.token_bytes(32)
        self._clock = WallClock()

    def sign(self, job_id: UUID, now: float) -> str:
        """Return a link to a job's audio whose lifetime begins at loop time `now`."""
        # A whole number where possible, as in real links; otherwise with its fraction, so that the lifetime is exact.
        expires = f"{self._clock.at(now) + self._lifetime:.6f}".rstrip("0").rstrip(".")
        return f"{self._base_url()}/{job_id}.wav?Expires={expires}&Signature={self._signature(job_id, expires)}"

    def refusal(self, job_id: UUID, query: Mapping[str, str], now: float) -> str | None:
        """Return why a link to a job's audio is refused at loop time `now`; None if it is valid."""
        expires = query.get("Expires", "")
        signature = query.get("Signature", "")
        # Encoded, because compare_digest() accepts no text beyond ASCII.
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(job_id, expires).encode()):
            return FORGED
        return EXPIRED if self._clock.at(now) >= float(expires) - CLOCK_TOLERANCE else None

    def _signature(self, job_id: UUID, expires: str) -> str:
        signed = f"{job_id}\n{expires}".encode("utf-8", "replace")
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()


@attrs.frozen
class AudioOrigin:
    """Serves the audio of the jobs.

    Args:
        jobs: The jobs by id.
        links: Verifies the links.
    """

    jobs: Mapping[UUID, Job]
    links: SignedLinks

    def identify(self, _method: str, path: str) -> tuple[Endpoint, UUID | None]:
        """Return the endpoint and the job id of a request."""
        match = FILE_PATH.fullmatch(path)
        return "audio", parse_job_id(match[1]) if match else None

    def respond(self, request: Request, now: float) -> Response:
        """Return the response at loop time `now`.

        The order of the checks: the method (405), the signature and the expiry of the link (403), the audio (404).
        """
        if request.method not in {"GET", "HEAD"}:
            return _error(405, "MethodNotAllowed", "Only GET and HEAD are allowed.", {"Allow": "GET, HEAD"})
        _, job_id = self.identify(request.method, request.path)
        job = self.jobs.get(job_id) if job_id else None
        if job is None:
            return _error(403, "AccessDenied", "The link belongs to no job.")
        reason = self.links.refusal(job.id, request.query, now)
        if reason is not None:
            return _error(403, "AccessDenied", reason)
        return _file(job.audio, request) if job.has_audio(now) else _error(404, "NoSuchKey", "The job has no audio.")


def _file(audio: Audio, request: Request) -> Response:
    headers = {"Content-Type": AUDIO_TYPE, "Accept-Ranges": "bytes", "ETag": audio.etag}
    part = _requested_range(audio, request)
    if part is None:
        return Response(200, audio.file(), headers)
    if not part:
        beyond = {"Content-Range": f"bytes */{audio.size}"}
        return _error(416, "InvalidRange", "The range is beyond the end of the file.", beyond)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{audio.size}"
    return Response(206, audio.file().part(part.start, part.stop), headers)


def _requested_range(audio: Audio, request: Request) -> range | None:
    """Return the requested bytes; None means the whole file, an empty range means bytes beyond its end.

    RFC 9110, section 14: ranges apply to GET only, a malformed range is ignored, and a server may ignore others. This
    server ignores several ranges in one request.
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


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(status, body.encode(), {"Content-Type": "application/xml", **(headers or {})})
