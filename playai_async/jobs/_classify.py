"""What the exceptions of other clients mean: `classify_error`, the default of `JobPoller`.

It knows exceptions by their attributes and by the names of their classes, and must not import any client: users have
some of them, in versions that are not known here. Reading an exception of any library must neither raise nor warn.
"""

from __future__ import annotations

import email.message
import inspect
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, cast

from playai_async._retry_after import parse_retry_after
from playai_async.jobs._scheduling.request import Throttled, Transient

__all__ = ["classify_error", "status_of"]

_STATUS, _NO_STATUS = 100, 600
_FIRST_ERROR = 400
_THROTTLED = 429
_TRANSIENT = frozenset({408, 425, *range(500, 600)})

_BUILT_IN = (TimeoutError, ConnectionError, socket.gaierror, ssl.SSLError)

_HTTPX = frozenset({"DecodingError", "NetworkError", "ProtocolError", "ProxyError", "TimeoutException"})
_ANY = ""

_NO_REPLY: Mapping[str, frozenset[str]] = {
    _ANY: frozenset({"APIConnectionError"}),  # openai, anthropic, runwayml: all that Stainless generates
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "azure": frozenset({"IncompleteReadError", "ServiceRequestError", "ServiceResponseError"}),
    "botocore": frozenset({"ConnectionError", "HTTPClientError", "IncompleteReadError"}),
    "google": frozenset({"RetryError", "TransportError"}),
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "requests": frozenset({"ChunkedEncodingError", "ConnectionError", "ContentDecodingError", "RetryError", "Timeout"}),
    "urllib3": frozenset(
        {
            *("DecodeError", "IncompleteRead", "InvalidChunkLength", "NewConnectionError", "PoolError"),
            *("ProtocolError", "ProxyError", "SSLError", "TimeoutError"),
        }
    ),
}
"""By package, the classes for a request that got no reply, or half of one. Their subclasses count, too.

A certificate that is not trusted is transient, as it is for `PlayAISession`: a proxy or a deployment may show one for a
moment, and `Polling.max_failures` limits the wait. A URL that cannot be used is final, and so is a reply that is not
what the client expected.
"""

_PROXY: Mapping[str, frozenset[str]] = {"aiohttp": frozenset({"ClientHttpProxyError"})}
_REPLY: Mapping[str, frozenset[str]] = {"aiohttp": frozenset({"ClientResponseError"})}
_NO_HTTP: Mapping[str, frozenset[str]] = {"aiohttp": frozenset({"HttpProcessingError"})}
"""aiohttp raises the second from the third, with a status of 400, for bytes that are no HTTP."""

_GRPC: Mapping[str, frozenset[str]] = {"grpc": frozenset({"RpcError"})}

_GRPC_STATUSES: Mapping[str, int] = {
    "RESOURCE_EXHAUSTED": 429,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The HTTP status of each gRPC status that may pass (`google/rpc/code.proto`)."""

_AWS_THROTTLED = frozenset(
    {
        *("BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException", "PriorRequestNotComplete"),
        *("ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled"),
        *("RequestThrottledException", "SlowDown", "ThrottledException", "Throttling", "ThrottlingException"),
        *("TooManyRequestsException", "TransactionInProgressException"),
    }
)
_AWS_TIMEOUTS = frozenset({"RequestTimeout", "RequestTimeoutException"})
"""AWS sends these error codes with status 400 as well; they are botocore's own lists."""


def classify_error(error: Exception) -> Throttled | Transient | None:
    """Return what an exception of an HTTP or gRPC client means for a wait.

    Knows the exceptions of aiohttp, httpx, requests, urllib3, openai, anthropic, runwayml, replicate, fal-client,
    azure-core, botocore, aiobotocore, google-api-core and grpc, and of clients with similar ones. The HTTP status is an
    integer in `status_code`, `status`, `code`, `response.status_code`, `response.status`, or in botocore's
    `response["ResponseMetadata"]["HTTPStatusCode"]`. `Retry-After` is read from the headers of the response.

    Args:
        error: What a status request raised.

    Returns:
        `Throttled` for a 429, gRPC's RESOURCE_EXHAUSTED, and AWS's throttling codes. `Transient` for 408, 425 and 5xx,
        `TimeoutError`, `ConnectionError`, and the connection and timeout errors of these clients. None for everything
        else: it is final.
    """
    if _is_a(error, _PROXY) or (_is_a(error, _REPLY) and _is_a(error.__cause__, _NO_HTTP)):
        return Transient()  # the status is not the service's
    response = _read(error, "response")
    aws_code = _text(_item(response, "Error"), "Code")
    status = _status_of(error, response)
    if status == _THROTTLED or aws_code in _AWS_THROTTLED:
        return Throttled(_retry_after(error, response))
    if status in _TRANSIENT or aws_code in _AWS_TIMEOUTS:
        return Transient(_retry_after(error, response))
    if status is not None and status >= _FIRST_ERROR:
        return None
    return Transient() if isinstance(error, _BUILT_IN) or _is_a(error, _NO_REPLY) else None


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that an exception carries, or None."""
    return _status_of(error, _read(error, "response"))


def _status_of(error: Exception, response: object) -> int | None:
    return next((int(value) for value in _statuses(error, response) if _is_status(value)), None)


def _statuses(error: Exception, response: object) -> Iterator[object]:
    """Yield what may be a status."""
    yield _read(error, "status_code")
    yield _read(error, "status")
    yield _read(error, "code")
    yield _read(response, "status_code")
    yield _read(response, "status")
    yield _item(_item(response, "ResponseMetadata"), "HTTPStatusCode")
    yield _grpc_status(error)


def _is_status(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and _STATUS <= value < _NO_STATUS


def _grpc_status(error: Any) -> int | None:
    """Return the HTTP status of a gRPC status. google-api-core has a few that it gives no HTTP status itself."""
    try:
        code = error.code() if _is_a(error, _GRPC) else error.grpc_status_code
        return _GRPC_STATUSES.get(str(code.name))
    except Exception:  # noqa: BLE001 - no gRPC status, or not readable
        return None


def _retry_after(error: Exception, response: object) -> float | None:
    """Return the seconds that a service asked to wait, or None."""
    for headers in (
        _read(response, "headers"),
        _item(_item(response, "ResponseMetadata"), "HTTPHeaders"),
        _read(error, "headers"),
    ):
        value = _header(headers, "Retry-After")
        if value is not None:
            return parse_retry_after(value, date=_header(headers, "Date"), now=time.time())
    return None


def _header(headers: object, name: str) -> str | None:
    """Return a header. A plain dict has its name as the client wrote it, which is in lower case for some."""
    return _text(headers, name) or _text(headers, name.lower())


def _read(owner: object, name: str) -> object:
    """Return an attribute, or None; a property can raise anything, and one that would warn is not read."""
    try:
        static = inspect.getattr_static(owner, name, None)
        return None if isinstance(static, property) and _warns(static) else getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - of any library
        return None


def _warns(attribute: property) -> bool:
    """Return whether a property is deprecated, such as `code` in aiohttp and websockets.

    Looks at its code. To suppress the warning instead would change the filters of all threads.
    """
    getter: Any = attribute.fget
    return hasattr(getter, "__deprecated__") or "warn" in getattr(getattr(getter, "__code__", None), "co_names", ())


def _item(container: object, key: str) -> object:
    """Return an item of a mapping, or None. Other objects may have a `get` that does something else."""
    try:
        return cast("Any", container).get(key) if isinstance(container, Mapping | email.message.Message) else None
    except Exception:  # noqa: BLE001 - of any library
        return None


def _text(container: object, key: str) -> str | None:
    value = _item(container, key)
    return value if isinstance(value, str) else None


def _is_a(error: BaseException | None, classes: Mapping[str, frozenset[str]]) -> bool:
    """Return whether one of these classes is the error's, or a base of it."""
    kinds = ((str(kind.__module__).partition(".")[0], kind.__name__) for kind in type(error).__mro__)
    return any(name in classes.get(package, ()) or name in classes.get(_ANY, ()) for package, name in kinds)
