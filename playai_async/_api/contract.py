"""The HTTP contract without HTTP: encode parameters into a body, and parse replies into models or errors.

Pure functions of bytes and numbers. This module must not perform I/O, wait, or read a clock: callers pass the time that
an HTTP date is compared with.

Source: the service's public API description (`GET /api/v1/tts/{asyncTtsJobId}`, `POST /api/v1/tts`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import attrs

from playai_async._api.credentials import Credentials
from playai_async._converter import MAX_DEPTH, ContractViolation
from playai_async._exceptions import (
    APIStatusError,
    ForbiddenError,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    UnauthorizedError,
    UnexpectedServiceError,
    about,
)
from playai_async._models import TtsJob, TtsParameters, job_converter
from playai_async._retry_after import parse_retry_after
from playai_async._settings import MAX_REPLY_BYTES

__all__ = ["Contract", "Reply"]

_OK, _CREATED, _ACCEPTED = 200, 201, 202
_SERVER_ERRORS = 500
_ERROR_BY_STATUS: Mapping[int, type[APIStatusError]] = {
    400: InvalidParametersError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitedError,
}

_MAX_EXCERPT = 200
"""Characters of a text from the service that an error or a log record shows."""

_MAX_TEXT = 65_536
"""Bytes or characters of a reply that are searched for an error message or for a secret."""

_MAX_TOKENS = 200_000
"""Brackets, braces, commas and colons. Each value has about one, and needs up to a hundred times its text in memory."""

_NAMED_ID = re.compile(r'"(id|jobId)"\s*:\s*"([0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12})"', re.ASCII)
"""A UUID that a JSON text names as the id of a job."""

_MAX_DIGITS = 300
"""Digits of an integer. A float has no more, and the time to parse an integer grows with the square of its length."""


@attrs.frozen
class Reply:
    """The result of one HTTP exchange.

    Attributes:
        status: The HTTP status.
        retry_after: The unparsed `Retry-After` header, or None.
        body: The decompressed body, up to `MAX_REPLY_BYTES`.
        complete: Whether `body` is the complete body.
        date: The unparsed `Date` header, or None.
        request_id: The unparsed `X-Request-ID` header, or None.
    """

    status: int
    retry_after: str | None
    body: bytes = attrs.field(repr=False)
    complete: bool = True
    date: str | None = None
    request_id: str | None = None


class Contract:
    """Parses replies of the service, and encodes what is sent to the service.

    Args:
        credentials: The secrets to redact from errors.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._converter = job_converter()

    def parse_status(self, reply: Reply, job_id: UUID, *, now: float) -> TtsJob:
        """Parse the reply to a status request.

        Args:
            reply: The reply.
            job_id: The requested job.
            now: The current time in seconds since the epoch, to compare an HTTP date in `Retry-After` with.

        Returns:
            The job.

        Raises:
            InvalidResponseError: The status is 2xx, but the body is not the requested job or breaks the contract.
            APIStatusError: The status is not 2xx. The subclass depends on the status.
        """
        job = self._parse_job(reply, (_OK,), job_id, now=now)
        if job.id != job_id:
            raise self._invalid_response(reply, ["the id of another job @ $.id"], job_id)
        return job

    def parse_created(self, reply: Reply, *, now: float) -> TtsJob:
        """Parse the reply to a request that creates a job.

        The contract promises 201. 200 and 202 are accepted too, so that a job that was created and paid for is not
        lost.

        Args:
            reply: The reply.
            now: The current time in seconds since the epoch, to compare an HTTP date in `Retry-After` with.

        Returns:
            The job.

        Raises:
            InvalidResponseError: The status is 2xx, but the body is not a job or breaks the contract. If the body names
                the job, `job_id` is set.
            APIStatusError: The status is not 2xx. The subclass depends on the status.
        """
        try:
            return self._parse_job(reply, (_CREATED, _OK, _ACCEPTED), None, now=now)
        except InvalidResponseError as error:
            self.name_created(error, reply)
            raise

    def name_created(self, error: PlayAIError, reply: Reply) -> None:
        """Add the id of a created job to an error, if what came of a reply is a 2xx that names it."""
        job_id = _created_id(reply.body) if _is_success(reply) else None
        if job_id is not None:
            error.job_id = job_id
            error.add_sentence(f"The reply names job {job_id}.")

    def encode_parameters(self, parameters: TtsParameters) -> bytes:
        """Encode the body of a request that creates a job.

        Args:
            parameters: The parameters of the job.

        Returns:
            JSON in UTF-8.

        Raises:
            ValueError: `extra` repeats a parameter, or a value cannot be written as JSON: NaN, an infinity, a lone
                surrogate, or a container that contains itself.
            TypeError: `extra` contains a type that JSON does not have.
        """
        fields = self._converter.unstructure_parameters(parameters)
        try:
            return json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # its message would show the text
            raise ValueError("a text of the parameters contains a lone surrogate, which is not a character") from None
        except RecursionError:
            raise ValueError("extra is nested too deeply") from None

    def sanitize(self, text: str) -> str:
        """Prepare a text from the service for an error or a log record: redacted, shortened, and on one line."""
        # A log handler cannot write lone surrogates, and a line break would forge a log line.
        clean = text[:_MAX_TEXT].encode("utf-8", "replace").decode()
        clean = "".join(character if character.isprintable() else " " for character in clean)
        return _truncate(self._credentials.redact(clean))

    def _parse_job(self, reply: Reply, expected: tuple[int, ...], job_id: UUID | None, *, now: float) -> TtsJob:
        if not _is_success(reply):
            raise self._status_error(reply, job_id, now=now)
        try:
            return self._converter.structure(_decode(reply, expected), job_id)
        except ContractViolation as violation:
            problems = violation.problems
        # Raised outside the handler: a decoder's error contains the document and would become `__context__`.
        raise self._invalid_response(reply, problems, job_id)

    def _invalid_response(self, reply: Reply, problems: list[str], job_id: UUID | None) -> InvalidResponseError:
        return InvalidResponseError(
            f"The response {about(job_id)} breaks the contract ({reply.status}): {'; '.join(problems)}.",
            problems=problems,
            excerpt=self._excerpt(reply),
            job_id=job_id,
        )

    def _status_error(self, reply: Reply, job_id: UUID | None, *, now: float) -> APIStatusError:
        error_id, message = _error_fields(reply)
        error_id = None if error_id is None else self.sanitize(error_id)
        message = None if message is None else self.sanitize(message)
        kind = _ERROR_BY_STATUS.get(reply.status, APIStatusError)
        if reply.status >= _SERVER_ERRORS:
            kind = UnexpectedServiceError
        parts = [f"PlayAI answered {reply.status} {about(job_id)}", error_id, message]
        error = kind(
            ": ".join(part for part in parts if part).removesuffix(".") + ".",
            status=reply.status,
            error_id=error_id,
            message=message,
            excerpt=self._excerpt(reply),
            request_id=None if reply.request_id is None else self.sanitize(reply.request_id).strip() or None,
            job_id=job_id,
        )
        error.retry_after = parse_retry_after(reply.retry_after, date=reply.date, now=now)
        return error

    def _excerpt(self, reply: Reply) -> str:
        # Redact before truncating, because half a key would not be found. The limit bounds the work on an 8 MiB body.
        text = reply.body[:_MAX_TEXT].decode("utf-8", "replace")
        return _truncate(self._credentials.redact(text.replace("\0", "")))  # UTF-16 has nulls between letters


def _is_success(reply: Reply) -> bool:
    return _OK <= reply.status < _OK + 100


def _created_id(body: bytes) -> UUID | None:
    """Return the id of the job that a reply names although it is not a valid job; None if none, or several, is named.

    Reads the text and not the JSON, because the reply may be truncated. The outermost object counts before inner ones.
    """
    text = body[:_MAX_TEXT].decode("utf-8", "replace")
    depth, end = 0, 0
    outer: dict[str, set[UUID]] = {"id": set(), "jobId": set()}
    inner = set[UUID]()
    for match in _NAMED_ID.finditer(text):
        depth += text.count("{", end, match.start()) - text.count("}", end, match.start())
        end = match.start()
        (outer[match[1]] if depth == 1 else inner).add(UUID(match[2]))
    ids = outer["id"] or outer["jobId"] or inner
    return ids.pop() if len(ids) == 1 else None


def _decode(reply: Reply, expected: tuple[int, ...]) -> Any:
    if reply.status not in expected:
        raise ContractViolation([f"expected status {expected[0]}, got {reply.status} @ $"])
    if not reply.complete:
        raise ContractViolation([f"longer than {MAX_REPLY_BYTES} bytes @ $"])
    # Count before decoding: a body with too many values would use much memory and block the event loop.
    containers = reply.body.count(b"[") + reply.body.count(b"{")
    if containers + reply.body.count(b",") + reply.body.count(b":") > _MAX_TOKENS:
        raise ContractViolation(["too many values @ $"])
    try:
        value = _parse_json(reply.body)
    except RecursionError:
        raise ContractViolation(["nested too deeply @ $"]) from None
    except ValueError:  # not UTF-8, not JSON, not a finite number, or a number with hundreds of digits
        raise ContractViolation(["not JSON @ $"]) from None
    if containers > MAX_DEPTH and _is_too_deep(value):
        raise ContractViolation(["nested too deeply @ $"])
    return value


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _parse_json(body: bytes) -> Any:
    return json.loads(body.decode(), parse_constant=_reject_constant, parse_float=_parse_float, parse_int=_parse_int)


def _reject_constant(name: str) -> float:
    raise ValueError(name)  # Python accepts NaN and infinities, which are not JSON


def _parse_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(digits[:_MAX_DIGITS])
    return int(digits)


def _error_fields(reply: Reply) -> tuple[str | None, str | None]:
    """Return `errorId` and `errorMessage`. The body of a 429 is a bare string, which is returned as the message."""
    if len(reply.body) > _MAX_TEXT:
        return None, None
    try:
        value = _parse_json(reply.body)
    except (ValueError, RecursionError):
        return None, None
    if isinstance(value, str):
        return None, value
    if not isinstance(value, dict):
        return None, None
    fields = cast("dict[str, object]", value)
    error_id, message = fields.get("errorId"), fields.get("errorMessage")
    return error_id if isinstance(error_id, str) else None, message if isinstance(message, str) else None


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_EXCERPT else text[: _MAX_EXCERPT - 1] + "…"
