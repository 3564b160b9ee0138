"""Requests and responses as values, for the service and everything around it.

Knows nothing of HTTP libraries, jobs or clocks.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs

Endpoint: TypeAlias = Literal["status", "create", "audio"]

JSON_TYPE: Final = "application/json"


@attrs.frozen
class Request:
    """An HTTP request.

    Args:
        method: The HTTP method.
        path: The path without its query.
        query: The parameters of the query.
        headers: The headers, with case-insensitive lookup.
        body: The body of a POST; None if it was too long to be read.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None


class Body(Protocol):
    """Bytes, or an object that generates bytes when it is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@attrs.frozen
class Response:
    """An HTTP response.

    Args:
        status: The status.
        body: The body.
        headers: The headers, including the content type.
        on_end: Called with the loop time when the response has been sent, or when the request was aborted.
    """

    status: int
    body: Body
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    on_end: Callable[[float], None] | None = attrs.field(default=None, eq=False)


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body; `headers` may override the content type."""
    return Response(status, json.dumps(value).encode(), {"Content-Type": JSON_TYPE, **(headers or {})})
