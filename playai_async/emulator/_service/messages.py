"""What comes in and what is sent back, as values; and the bodies the contract documents for each status.

Knows nothing of HTTP libraries, jobs or clocks.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs

Endpoint: TypeAlias = Literal["status", "create", "audio"]

JSON_TYPE: Final = "application/json"


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
class Response:
    """One HTTP response: its status, its body, and its headers, the content type among them."""

    status: int
    body: Body
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with a JSON body; `headers` are added to its content type, or replace it."""
    return Response(status, json.dumps(value).encode(), {"Content-Type": JSON_TYPE, **(headers or {})})
