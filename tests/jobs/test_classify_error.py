"""`classify_error`: exceptions of any client, by their attributes, and what must not disturb it.

`test_exceptions_of_clients` has the real exceptions of the clients that it knows.
"""

from __future__ import annotations

import asyncio
import email.message
import http
import math
import socket
import ssl
import subprocess
import sys
import warnings
from typing import Any
from unittest import mock

import aiohttp
import attrs
import pytest
from typing_extensions import deprecated

from playai_async import Polling
from playai_async.jobs import JobPoller, Throttled, Transient, classify_error


class ServiceError(Exception):
    """An exception with any attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("refused")
        self.__dict__.update(attributes)


@attrs.frozen
class Response:
    """A response with any attributes."""

    status_code: object = None
    status: object = None
    headers: object = None


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, None),
        (302, None),
        (400, None),
        (404, None),
        (408, Transient()),
        (409, None),
        (425, Transient()),
        (429, Throttled()),
        (500, Transient()),
        (529, Transient()),
        (599, Transient()),
        (600, None),
    ],
)
def test_the_status_decides(status: int, verdict: Throttled | Transient | None) -> None:
    """As it does for `PlayAISession`."""
    assert classify_error(ServiceError(status_code=status)) == verdict


@pytest.mark.parametrize(
    "attributes",
    [
        {"status_code": 429},
        {"status": 429},
        {"code": 429},
        {"status": http.HTTPStatus.TOO_MANY_REQUESTS},
        {"response": Response(status_code=429)},
        {"response": Response(status=429)},
        {"response": {"ResponseMetadata": {"HTTPStatusCode": 429}}},
        {"status_code": None, "status": "FAILED", "code": "rate_limit", "response": Response(status_code=429)},
        {"status": True, "code": 0, "response": Response(status_code=429)},
    ],
    ids=str,
)
def test_the_status_is_found(attributes: dict[str, object]) -> None:
    """Wherever clients put it, and next to other attributes of the same name."""
    assert classify_error(ServiceError(**attributes)) == Throttled()


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"status_code": "429"},
        {"status_code": 429.0},
        {"status": "FAILED"},
        {"code": "gkpj"},
        {"code": 7},
        {"code": lambda: 429},
        {"response": {}},
        {"response": {"ResponseMetadata": None, "Error": {"Code": ["Throttling"]}}},
        {"response": mock.MagicMock(), "status_code": mock.AsyncMock(), "headers": mock.AsyncMock()},
        {"response": mock.AsyncMock()},
    ],
    ids=[
        "nothing",
        "text",
        "float",
        "state",
        "code of sqlalchemy",
        "small code",
        "method",
        "empty",
        "lists",
        "mocks",
        "async mock",
    ],
)
def test_what_is_no_status_is_final(attributes: dict[str, object]) -> None:
    """A status of a job, a code of a database, a mock of anything."""
    assert classify_error(ServiceError(**attributes)) is None


HEADERS = {"Retry-After": "9.5", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
DATED = {"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
MESSAGE = email.message.Message()
MESSAGE["retry-after"] = "10"


@pytest.mark.parametrize(
    "attributes",
    [
        {"response": Response(headers=HEADERS)},
        {"response": Response(headers=DATED)},
        {"response": {"ResponseMetadata": {"HTTPHeaders": DATED}}},
        {"headers": HEADERS},
        {"headers": MESSAGE},
        {"headers": HEADERS, "response": Response(headers={"Retry-After": None})},
    ],
    ids=["response", "HTTP date", "botocore", "error", "message", "other response"],
)
@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, Transient)])
def test_retry_after_is_read_from_the_headers(attributes: dict[str, object], status: int, kind: type) -> None:
    """A fraction is rounded up, and a date is measured against the `Date` of the reply."""
    assert classify_error(ServiceError(status_code=status, **attributes)) == kind(10.0)


@pytest.mark.parametrize("headers", [{"Retry-After": "soon"}, {"Retry-After": 7}, [("Retry-After", "7")]], ids=str)
def test_an_unreadable_retry_after_is_no_hint(headers: object) -> None:
    """The engine chooses a pause."""
    assert classify_error(ServiceError(status=429, headers=headers)) == Throttled()


@pytest.mark.parametrize("code", ["ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"])
def test_a_throttling_code_of_aws_is_throttled(code: str) -> None:
    """AWS sends it with status 400, and a stub without any."""
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    assert classify_error(ServiceError(response=response)) == Throttled()
    assert classify_error(ServiceError(response={"Error": {"Code": code}})) == Throttled()


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        BrokenPipeError(),
        socket.gaierror(-2, "unknown"),
        ssl.SSLCertVerificationError("self-signed"),
    ],
    ids=repr,
)
def test_a_failed_connection_is_transient(error: Exception) -> None:
    """Also one whose certificate is not trusted, as for `PlayAISession`."""
    assert classify_error(error) == Transient()


@pytest.mark.parametrize("error", [ValueError(), OSError(2, "missing"), KeyError("id"), asyncio.QueueFull()], ids=repr)
def test_everything_else_is_final(error: Exception) -> None:
    """A bug in `fetch` does not pass."""
    assert classify_error(error) is None


def test_a_status_counts_more_than_the_class() -> None:
    """A 404 is final, although some client made its error a `ConnectionError`."""

    class NotFoundError(ConnectionError):
        status = 404

    assert classify_error(NotFoundError()) is None


def test_what_an_exception_was_raised_from_does_not_count() -> None:
    """Who translates an exception means the new one."""
    for cause in (ServiceError(status=503), aiohttp.http_exceptions.BadHttpMessage("no HTTP")):
        error = ValueError("no such job")
        error.__cause__ = cause
        assert classify_error(error) is None


class BrokenError(Exception):
    """An exception of which nothing can be read."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class BrokenHeaders(dict[str, str]):
    """Headers that cannot be read."""

    def get(self, *_: object) -> Any:
        """Raise."""
        raise RuntimeError("closed")


class DeprecatedError(Exception):
    """An exception with deprecated attributes, as `code` is in aiohttp and websockets."""

    @property
    def status_code(self) -> int:
        """Warn."""
        warnings.warn("status_code is deprecated", DeprecationWarning, stacklevel=2)
        return 429

    @property
    @deprecated("use something else")
    def code(self) -> int:
        """Warn."""
        return 429


class ComputedError(Exception):
    """An exception whose status is a property."""

    @property
    def status(self) -> int:
        """Return the status."""
        return 429


def test_reading_an_exception_neither_raises_nor_warns() -> None:
    """Whatever it is."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert classify_error(BrokenError()) is None
        assert classify_error(DeprecatedError()) is None
        assert classify_error(ComputedError()) == Throttled()
        assert classify_error(ServiceError(status=429, headers=BrokenHeaders())) == Throttled()
    assert seen == []


def test_no_client_is_imported() -> None:
    """Not even one that is installed."""
    code = "import sys, playai_async.jobs as j; j.classify_error(Exception()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603
    assert {"httpx", "requests", "openai", "botocore", "grpc", "google", "azure"}.isdisjoint(done.stdout.split())


async def test_a_poller_classifies_with_it_by_default() -> None:
    """So a 429 does not end a wait, and a 503 ends it after `max_failures`."""
    answers = iter([ServiceError(status=429), "done", ServiceError(status=503), ServiceError(status=503)])

    async def fetch(_: str) -> str:
        answer = next(answers)
        if isinstance(answer, ServiceError):
            raise answer
        return str(answer)

    async with JobPoller(fetch, is_done=bool, polling=Polling(max_failures=2)) as poller:
        assert await poller.wait_for_completion("a") == "done"
        with pytest.raises(ServiceError):
            await poller.wait_for_completion("b")
        assert (poller.stats.throttled, poller.stats.transient_failures) == (1, 2)


@pytest.mark.parametrize("verdict", [Throttled, Transient])
def test_a_hint_that_is_too_large_for_a_float_is_a_day(verdict: type[Throttled | Transient]) -> None:
    """As infinity is; a `classify` may read it from JSON."""
    assert verdict(10**400).retry_after == verdict(math.inf).retry_after == 86_400.0
