"""What the responses of one download mean: go on, start over, try again or give up.

Two versions of the audio must never be mixed. So an attempt resumes where the last one stopped only if the server sent
a strong validator (RFC 9110, section 8.8) and confirms it with the rest. No I/O and no clock here.
"""

from __future__ import annotations

import email.utils
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import attrs

from playai_async._exceptions import DownloadError
from playai_async._settings import DOWNLOAD_ATTEMPTS, DOWNLOAD_PAUSE, USER_AGENT

__all__ = ["AttemptFailedError", "LinkExpiredError", "Transfer", "download_error"]

# Identity encoding only: the expected size of the audio could not be compared with the size of compressed data.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}

_COMPRESSIONS = {"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd"}
"""The content codings that change the data. Object stores serve other values, such as `aws-chunked`, that do not."""

_MIN_AGE = 60.0
"""Seconds from `Last-Modified` to `Date` that make a date a strong validator, whether or not one clock set both."""

_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_EXPIRED = {401, 403, 404, 410}
_BUSY = {408, 425, 429}
_SERVER_ERRORS = 500
_STRONG_TAG = re.compile(r'"[!#-~]*"')
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


class AttemptFailedError(Exception):
    """An attempt failed, and the next attempt may succeed. The message gives the reason."""


class LinkExpiredError(Exception):
    """The server refused the URL, with a status that a signed URL gets after its time."""

    def __init__(self, status: int) -> None:
        super().__init__(f"its URL has expired or is not valid ({status})")


@attrs.define
class Transfer:
    """The progress of one download from one URL, over all of its attempts.

    Header names are in lower case, and a header that was sent several times is joined by commas.

    Attributes:
        job_id: The job.
        expected_size: The size of the audio in bytes, as the service reports it.
        received: The number of bytes received and kept.
        failures: How many attempts failed since the last progress. An attempt that made progress counts as the first.
    """

    job_id: UUID
    expected_size: float
    received: int = 0
    failures: int = 0
    _most_received: int = 0
    _validator: str | None = None
    _resumable: bool = False
    _sent_range: bool = False
    _end: float = 0

    @property
    def complete(self) -> bool:
        """Whether all bytes have come."""
        return self.received >= self.expected_size

    @property
    def given_up(self) -> bool:
        """Whether too many attempts have failed since the last progress."""
        return self.failures >= DOWNLOAD_ATTEMPTS

    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        return DOWNLOAD_PAUSE * 2.0 ** (self.failures - 1) + random.uniform(0, DOWNLOAD_PAUSE)  # noqa: S311 - no secret

    def headers(self) -> dict[str, str]:
        """Return the headers of the next attempt (RFC 9110, 13.1.5 and 14.2)."""
        self._sent_range = self._resumable and self.received > 0
        if self._validator is None or not self._sent_range:
            return _HEADERS
        return {**_HEADERS, "Range": f"bytes={self.received}-", "If-Range": self._validator}

    def on_head(self, status: int, headers: Mapping[str, str]) -> bool:
        """Handle the status and the headers of a response.

        Returns:
            Whether the body is the whole audio, which replaces everything received so far.

        Raises:
            AttemptFailedError: The next attempt may succeed.
            LinkExpiredError: A fresh URL may succeed.
            DownloadError: The audio cannot be downloaded.
        """
        if self._sent_range and status == _PARTIAL:
            self._go_on(headers)
            return False
        if status == _OK:
            self._start_over(headers)
            return True
        if self._sent_range and status == _RANGE_NOT_SATISFIABLE:
            self._resumable = False
        elif status in _EXPIRED:
            raise LinkExpiredError(status)
        elif status not in _BUSY and status < _SERVER_ERRORS:
            raise download_error(self.job_id, f"the server answered {status}")
        raise AttemptFailedError(f"the server answered {status}")

    def on_chunk(self, size: int) -> None:
        """Count a chunk of the body before it is kept."""
        received = self.received + size
        if received > self.expected_size:
            raise self._wrong_size("more")
        if received > self._end:
            self._resumable = False
            raise AttemptFailedError("the server sent more than the range that it announced")
        self.received = received

    def on_end(self, *, more: bool) -> None:
        """Handle the end of the body, or that the audio is complete; `more` is whether the body goes on after it."""
        if more:
            raise self._wrong_size("more")
        if not self.complete:
            raise AttemptFailedError(f"the response ended after {self.received} of {self.expected_size:.0f} bytes")

    def on_failure(self) -> None:
        """Count a failed attempt."""
        self.failures = 1 if self.received > self._most_received else self.failures + 1
        self._most_received = max(self._most_received, self.received)

    def _wrong_size(self, received: str) -> DownloadError:
        """Build the error for audio of another size than the job's."""
        return download_error(self.job_id, f"expected {self.expected_size:.0f} bytes, but its URL returns {received}")

    def _go_on(self, headers: Mapping[str, str]) -> None:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        start, last, size = map(int, match.groups()) if match else (0, 0, 0)
        if (
            (start, size) != (self.received, self.expected_size)
            or not start <= last < size
            or _is_compressed(headers)
            or self._validator not in {headers.get("etag"), headers.get("last-modified")}
        ):
            self._resumable = False
            raise AttemptFailedError("the server sent another range than requested")
        self._end = last + 1

    def _start_over(self, headers: Mapping[str, str]) -> None:
        if _is_compressed(headers):
            raise download_error(self.job_id, "the server sent encoded content, which was not requested")
        length = headers.get("content-length", "")
        if _LENGTH.fullmatch(length) and int(length) != self.expected_size:
            raise self._wrong_size(f"{int(length)}")
        self.received, self._end = 0, self.expected_size
        self._validator = _strong_validator(headers)
        accepts_ranges = headers.get("accept-ranges", "").strip().lower() == "bytes"
        self._resumable = accepts_ranges and self._validator is not None


def download_error(job_id: UUID, reason: str) -> DownloadError:
    """Build the error for audio that could not be downloaded; the reason completes the sentence."""
    return DownloadError(f"The audio of job {job_id} could not be downloaded: {reason}.", job_id=job_id)


def _is_compressed(headers: Mapping[str, str]) -> bool:
    codings = headers.get("content-encoding", "").lower().split(",")
    return any(coding.strip() in _COMPRESSIONS for coding in codings)


def _strong_validator(headers: Mapping[str, str]) -> str | None:
    """Return the value for `If-Range`: a strong `ETag`, or a `Last-Modified` that is strong where there is no `ETag`.

    RFC 9110, 13.1.5, forbids the date if the response has an `ETag`, also a weak one.
    """
    tag = headers.get("etag")
    if tag is not None:
        return tag if _STRONG_TAG.fullmatch(tag) else None
    text = headers.get("last-modified", "")
    modified, sent = _date(text), _date(headers.get("date", ""))
    if modified is None or sent is None or (sent - modified).total_seconds() < _MIN_AGE:
        return None  # the audio may have changed twice within a second of that date (RFC 9110, 8.8.2.2)
    return text


def _date(text: str) -> datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
