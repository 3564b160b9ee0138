"""Holds a request that the emulator recorded against the OpenAPI description of the contract.

For tests of whatever sends requests: it judges what arrived on the wire, not what a client meant to send.
"""

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import attrs
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from playai_async.emulator import Arrival, contract


def assert_request_conforms(arrival: Arrival, base_url: str) -> None:
    """Fail unless a request is one that the contract describes: endpoint, method, parameters, body and credentials.

    Args:
        arrival: The request, as `Emulator.arrivals` recorded it.
        base_url: Where it was sent.

    Raises:
        AssertionError: The request breaks the contract; the cause says how.
    """
    OpenAPIChecker(base_url).assert_conforms(arrival)


class OpenAPIChecker:
    """The same for many requests: the description is read once.

    Args:
        base_url: Where the requests are sent.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._description = OpenAPI.from_dict({**contract(), "servers": [{"url": base_url}]})

    def assert_conforms(self, arrival: Arrival) -> None:
        """Fail unless a request is one that the contract describes.

        Args:
            arrival: The request, as `Emulator.arrivals` recorded it.

        Raises:
            AssertionError: The request breaks the contract; the cause says how.
        """
        try:
            self._description.validate_request(_request(arrival, self._base_url))
        # openapi-core's errors share no base of their own, and any of them means the same here.
        except Exception as error:
            reason = error.__cause__ or error
            raise AssertionError(f"{arrival.method} {arrival.path} breaks the contract: {reason}") from error


@attrs.define
class _Request:
    """A request as openapi-core wants to see one; its protocol asks for settable attributes."""

    host_url: str
    path: str
    method: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None = None


def _request(arrival: Arrival, base_url: str) -> _Request:
    path, _, query = arrival.path.partition("?")
    origin = urlsplit(base_url)
    return _Request(
        host_url=f"{origin.scheme}://{origin.netloc}",
        path=path,
        method=arrival.method.lower(),
        parameters=RequestParameters(
            query=ImmutableMultiDict(parse_qsl(query, keep_blank_values=True)),
            header=Headers(list(_pairs(arrival.headers))),
        ),
        content_type=arrival.headers.get("Content-Type", ""),
        body=arrival.body or None,
    )


def _pairs(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items()]
