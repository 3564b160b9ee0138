"""What comes in and what is sent back, as values; and the bodies the contract documents for each status.

Knows nothing of HTTP libraries, jobs or clocks.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import attrs

JSON_TYPE: Final = "application/json"
RATE_LIMITED: Final = "Rate limit exceeded. Please wait a few moments and try again."

_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("INVALID_PARAMETERS", "The parameters are not valid."),
    401: ("UNAUTHORIZED", "The API key or the user id is missing or not valid."),
    403: ("UNSUPPORTED_PLAN", "Your plan does not include this endpoint."),
    404: ("NOT_FOUND", "There is no such job."),
    405: ("METHOD_NOT_ALLOWED", "This endpoint does not support the method."),
}


@attrs.frozen
class Request:
    """One HTTP request.

    Args:
        method: The HTTP method.
        path: The path, without its query.
        query: The parameters of the query.
        headers: The headers, looked up in any case.
        body: A POST's body; None: longer than is read.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None


class Body(Protocol):
    """Bytes, or what makes them as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@attrs.frozen
class Answer:
    """One HTTP response: its status, its body, and its headers, the content type among them."""

    status: int
    body: Body
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer with a JSON body; `headers` are added to its content type, or replace it."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": JSON_TYPE, **(headers or {})})


def usual_answer(status: int, headers: Mapping[str, str] | None = None, *, message: str | None = None) -> Answer:
    """Return what the service would send with a status: the documented body, or none below 400.

    The contract lists 400, 401, 403, 429 and 5xx. 404 and 405 are the emulator's own choice, in the same
    shape. A `message` takes the place of the usual one.
    """
    if status < HTTPStatus.BAD_REQUEST:
        return Answer(status, b"", headers or {})
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return json_answer(status, RATE_LIMITED, headers)
    error_id, usual = _ERRORS.get(status, ("INTERNAL_ERROR", "Something went wrong."))
    return json_answer(status, {"errorMessage": message or usual, "errorId": error_id}, headers)
