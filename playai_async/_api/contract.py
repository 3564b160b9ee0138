"""The service's HTTP contract, without any HTTP: parameters into a body, replies into models or errors.

Pure functions of bytes and numbers. This module must not open, send or wait for anything, nor read a clock: the time
that an HTTP date is measured against is given to it. Source of the rules: the service's public API description
(`GET /api/v1/tts/{asyncTtsJobId}`, `POST /api/v1/tts`) and, for `Retry-After`, RFC 9110 section 10.2.3.
"""

from __future__ import annotations

import email.utils
import json
import math
from collections.abc import Mapping
from datetime import UTC
from typing import Any, cast
from uuid import UUID

import attrs

from playai_async._api.converter import ContractViolation, JobConverter
from playai_async._api.credentials import Credentials
from playai_async._exceptions import (
    APIStatusError,
    ForbiddenError,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnexpectedServiceError,
    about,
)
from playai_async._models import TtsJob, TtsParameters
from playai_async._settings import MAX_REPLY_BYTES, MAX_RETRY_AFTER

__all__ = ["Contract", "Reply", "parse_retry_after"]

_OK = 200
_CREATED = 201
_SERVER_ERRORS = 500
_ERROR_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    400: InvalidParametersError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitedError,
}
_LONGEST_EXCERPT = 200
_LONGEST_REDACTED = 65_536
_DEEPEST = 100
_MOST_MARKS = 200_000
_MOST_DIGITS = 300


@attrs.frozen
class Reply:
    """What one HTTP exchange brought.

    Attributes:
        status: The HTTP status.
        retry_after: The `Retry-After` header as it came, or None.
        body: The body after decompression, up to the limit.
        whole: Whether that was all of the body.
    """

    status: int
    retry_after: str | None
    body: bytes = attrs.field(repr=False)
    whole: bool = True


class Contract:
    """Deciphers what the service answered."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._converter = JobConverter()

    def parse_status(self, reply: Reply, job_id: UUID, *, now: float) -> TtsJob:
        """Read the answer to a status request.

        Args:
            reply: The answer.
            job_id: The job that was asked for.
            now: Seconds since the epoch, which an HTTP date in `Retry-After` is measured against.

        Returns:
            The job.

        Raises:
            InvalidResponseError: A 2xx that is not the job as the contract has it.
            APIStatusError: Any other status; the class tells which.
        """
        job = self._read(reply, {_OK}, job_id, now=now)
        if job.id != job_id:
            raise self._broken(reply, ["the id of another job @ $.id"], job_id)
        return job

    def parse_created(self, reply: Reply, *, now: float) -> TtsJob:
        """Read the answer to a request to create a job.

        The contract promises 201. 200 is taken too: a job that was made, and is paid for, must not be lost over that.

        Args:
            reply: The answer.
            now: Seconds since the epoch, which an HTTP date in `Retry-After` is measured against.

        Returns:
            The job.

        Raises:
            InvalidResponseError: A 2xx that is not a job as the contract has it.
            APIStatusError: Any other status; the class tells which.
        """
        return self._read(reply, {_CREATED, _OK}, None, now=now)

    def encode_parameters(self, parameters: TtsParameters) -> bytes:
        """Write the body of a request to create a job.

        Raises:
            ValueError: `extra` has a field that is given already; or some value has no JSON, such as NaN, a lone
                surrogate, or what holds itself.
            TypeError: `extra` holds what is no JSON.
        """
        fields = self._converter.unstructure_parameters(parameters)
        try:
            return json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # whose message would show the text
            raise ValueError("a text of the parameters has a lone surrogate, which is no character") from None
        except RecursionError:
            raise ValueError("extra is nested too deeply") from None

    def shown(self, text: str) -> str:
        """Make a text of the service's fit to be shown: redacted, short, and on one line."""
        # Lone surrogates cannot be written to a log, and line breaks would forge its lines.
        clean = text[:_LONGEST_REDACTED].encode("utf-8", "replace").decode()
        clean = "".join(character if character.isprintable() else " " for character in clean)
        return _shortened(self._credentials.redact(clean))

    def _read(self, reply: Reply, promised: set[int], job_id: UUID | None, *, now: float) -> TtsJob:
        if not _OK <= reply.status < _OK + 100:
            raise self._status_error(reply, job_id, now=now)
        try:
            return self._converter.structure(_decode(reply, promised), job_id)
        except ContractViolation as violation:
            problems = violation.problems
        # Out of the handler: a decoder's error holds the whole document, and would come along as `__context__`.
        raise self._broken(reply, problems, job_id)

    def _broken(self, reply: Reply, problems: list[str], job_id: UUID | None) -> InvalidResponseError:
        return InvalidResponseError(
            f"The answer {about(job_id)} breaks the contract ({reply.status}): {'; '.join(problems)}.",
            problems=problems,
            excerpt=self._excerpt(reply),
            job_id=job_id,
        )

    def _status_error(self, reply: Reply, job_id: UUID | None, *, now: float) -> APIStatusError:
        error_id, message = _error_words(reply)
        error_id = None if error_id is None else self.shown(error_id)
        message = None if message is None else self.shown(message)
        kind = _ERROR_BY_STATUS.get(reply.status, APIStatusError)
        if reply.status >= _SERVER_ERRORS:
            kind = UnexpectedServiceError
        words = [f"PlayAI answered {reply.status} {about(job_id)}", error_id, message]
        error = kind(
            ": ".join(word for word in words if word).removesuffix(".") + ".",
            status=reply.status,
            error_id=error_id,
            message=message,
            excerpt=self._excerpt(reply),
            job_id=job_id,
        )
        if isinstance(error, RateLimitedError):
            error.retry_after = parse_retry_after(reply.retry_after, now=now)
        return error

    def _excerpt(self, reply: Reply) -> str:
        # Redact before cutting, since half a key would not be found; only bound the work on an 8 MiB body.
        text = reply.body[:_LONGEST_REDACTED].decode("utf-8", "replace")
        return _shortened(self._credentials.redact(text.replace("\0", "")))  # as UTF-16 has between letters


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds, or an HTTP date.

    Args:
        value: The header as it came, or None.
        now: Seconds since the epoch.

    Returns:
        Seconds to wait, more than 0 and at most a day; None where there is no usable hint.
    """
    if value is None:
        return None
    text = value.strip()
    if not text.isascii():
        return None
    # A float takes any number of digits, where int() refuses thousands; too many are infinite.
    seconds = float(text) if text.isdigit() else _seconds_until(text, now=now)
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None


def _seconds_until(text: str, *, now: float) -> float:
    """Seconds until an HTTP date, or 0 where it is none."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)  # "-0000", which the e-mail rules read as a time of no known zone
        return date.timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


def _decode(reply: Reply, promised: set[int]) -> Any:
    if reply.status not in promised:
        raise ContractViolation([f"status {reply.status} where {max(promised)} was promised @ $"])
    if not reply.whole:
        raise ContractViolation([f"longer than {MAX_REPLY_BYTES} bytes @ $"])
    # Values take up to a hundred times their text in memory, and hold up the event loop while they are made.
    containers = reply.body.count(b"[") + reply.body.count(b"{")
    if containers + reply.body.count(b",") + reply.body.count(b":") > _MOST_MARKS:
        raise ContractViolation(["too many values @ $"])
    try:
        value = _parse(reply.body)
    except RecursionError:
        raise ContractViolation(["nested too deeply @ $"]) from None
    except ValueError:  # no UTF-8, no JSON, a number that is none, or one of hundreds of digits
        raise ContractViolation(["not JSON @ $"]) from None
    if containers > _DEEPEST and _is_deep(value):
        raise ContractViolation(["nested too deeply @ $"])
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _parse(body: bytes) -> Any:
    return json.loads(body.decode(), parse_constant=_refuse_constant, parse_float=_finite, parse_int=_bounded)


def _refuse_constant(name: str) -> float:
    raise ValueError(name)  # NaN and the infinities, which Python reads and JSON does not have


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _bounded(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # more than a double takes, and the time to read them grows with the square
        raise ValueError(digits[:_MOST_DIGITS])
    return int(digits)


def _error_words(reply: Reply) -> tuple[str | None, str | None]:
    """The service's `errorId` and `errorMessage`; or, as a 429 has it, the bare string as the message."""
    if len(reply.body) > _LONGEST_REDACTED:
        return None, None
    try:
        value = _parse(reply.body)
    except (ValueError, RecursionError):
        return None, None
    if isinstance(value, str):
        return None, value
    if not isinstance(value, dict):
        return None, None
    fields = cast("dict[str, object]", value)
    error_id, message = fields.get("errorId"), fields.get("errorMessage")
    return error_id if isinstance(error_id, str) else None, message if isinstance(message, str) else None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_EXCERPT else text[: _LONGEST_EXCERPT - 1] + "…"
