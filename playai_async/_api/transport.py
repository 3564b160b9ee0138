"""One HTTP exchange: a URL in, a `Reply` out. Every failure of the network becomes a `TransportError`.

This module must not know what a reply means, nor whether or when to retry.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, TypeAlias, cast

import aiohttp
import attrs
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict, istr
from yarl import URL

from playai_async._api.contract import Reply
from playai_async._api.credentials import Credentials
from playai_async._api.failures import (
    check_http_session,
    describe,
    explain_closed_service,
    http_session_closed,
    is_netrc_conflict,
    sanitize,
    was_not_sent,
)
from playai_async._api.tracing import TraceGuard
from playai_async._exceptions import ConfigurationError, PlayAIError, TransportError
from playai_async._settings import MAX_REPLY_BYTES, USER_AGENT

__all__ = ["PartialReply", "Transport", "checked_http_session", "disable_aiohttp_retry"]

_NO_TIMEOUT = aiohttp.ClientTimeout()
"""aiohttp's own timeouts are off, because aiohttp rounds a timeout of more than 5 s up to whole seconds."""

_CONNECT_FRACTION = 0.99
"""The fraction of the request timeout in which a POST must connect.

If connecting takes longer, aiohttp raises its connection timeout first, and it is certain that nothing was sent.
"""

_MAX_BYTES_BODY = 2**20
"""Bytes. aiohttp warns about a larger body of type `bytes`, so a larger body is sent from a file object."""

_CHECK_INTERVAL = 0.1
"""Seconds. While a request is in flight, this often `Transport` looks whether the caller closed their client session.

aiohttp does not wake a request whose connection is closed from outside while its body is read or while it connects.
"""

_SUCCESS = range(200, 300)
_REQUEST_ID = istr("X-Request-ID")


class Transport:
    """Sends requests over one `aiohttp.ClientSession`. Create and use it in a running event loop.

    A POST has a separate connection, which is new and is closed afterwards. On a connection that was kept open, a
    reply that nobody asked for would be read as the reply to the POST, and somebody else's job would be returned. In a
    session without an `http_session`, a second client session never keeps a connection. A caller's client session may
    share its connector with anybody: there, `server_hostname`, with the value that it has anyway, separates the
    connections of POSTs from those of requests that do not set it, and `_SeparateBody` closes them.

    Args:
        credentials: The API key and the user id.
        request_timeout: Seconds for one exchange, from connecting to the last byte.
        connections: The size of the connection pool, if the client session is created here.
        http_session: The caller's client session, which is used but never closed; or None to create one.
        trace_guard: Keeps trace callbacks from disturbing a request.

    Attributes:
        http: The client session that sends the requests.
        connections: How many requests can run at once without waiting for a connection. Such a wait would count
            towards the request timeout.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        request_timeout: float,
        connections: int,
        http_session: aiohttp.ClientSession | None,
        trace_guard: TraceGuard,
    ) -> None:
        self._credentials = credentials
        self._trace_guard = trace_guard
        # A multidict, because aiohttp would convert a plain dict for each request.
        self._headers = CIMultiDict(
            {
                "Accept": "application/json",
                "User-Agent": USER_AGENT,
                **credentials.headers(),
            }
        )
        self._json_headers = self._headers.copy()
        self._json_headers.update({"Content-Type": "application/json", "Connection": "close"})
        self._timer = _RequestTimer(request_timeout, http_session)
        self._connect_timeout = aiohttp.ClientTimeout(
            connect=_CONNECT_FRACTION * request_timeout, ceil_threshold=math.inf
        )
        self.http = http_session or _own_client(connections, force_close=False)
        self._post_http = None if http_session is not None else _own_client(connections, force_close=True)
        connector = self.http.connector
        limits = [] if connector is None else [connector.limit, connector.limit_per_host]  # 0 means no limit
        self.connections = min([connections, *filter(None, limits)])

    def get(self, url: URL) -> Awaitable[Reply]:
        """Send one GET request with the credentials. Redirects are not followed.

        Cancellation ends the exchange and closes its connection.

        Args:
            url: The URL to request.

        Returns:
            The exchange, which ends with the reply. If the status is not 2xx, the status is enough: the body may be
            incomplete.

        Raises:
            TransportError: No reply, or only part of a 2xx reply, was received.
            SessionClosedError: The caller closed their client session.
            ConfigurationError: The caller's client session belongs to another event loop, or found a password for the
                service in a netrc file.
        """
        self.check_usable()
        return self._exchange(_Request(self.http, "GET", url, self._headers, _NO_TIMEOUT), PartialReply())

    def post(self, url: URL, body: bytes, partial: PartialReply) -> Awaitable[Reply]:
        """Send one POST request with a JSON body. `partial` has what came of a reply. All else is as in `get`."""
        self.check_usable()
        data: _Body
        if self._post_http is not None:
            data = io.BytesIO(body) if len(body) > _MAX_BYTES_BODY else body
            request = _Request(self._post_http, "POST", url, self._json_headers, self._connect_timeout, data)
        else:
            data = _SeparateBody(io.BytesIO(body))
            request = _Request(
                self.http, "POST", url, self._json_headers, self._connect_timeout, data, server_hostname=url.raw_host
            )
        return self._exchange(request, partial)

    def check_usable(self) -> None:
        """Check that a request can be sent.

        Raises:
            SessionClosedError: The caller closed their client session.
            ConfigurationError: The caller's client session belongs to another event loop.
        """
        if self._post_http is None:  # the caller's client session, which the caller may close
            check_http_session(self.http)

    async def close(self) -> None:
        """Close the client sessions that were created here."""
        self._timer.close()
        if self._post_http is not None:
            try:
                await self._post_http.close()
            finally:
                await self.http.close()

    async def _exchange(self, request: _Request, partial: PartialReply) -> Reply:
        try:
            with _TimeLimit(self._timer):
                if request.http.trace_configs:
                    with self._trace_guard.applied(request.http) as http:
                        await request.send(http, partial)
                else:
                    await request.send(request.http, partial)
            return partial.reply(complete=partial.size <= MAX_REPLY_BYTES)
        except asyncio.CancelledError:
            task = cast("asyncio.Task[object]", asyncio.current_task())
            if not request.http.closed or task.cancelling():
                raise
            failure: PlayAIError = (
                http_session_closed()
            )  # this closing cancelled the wait for a free connection, and not the task
        except Exception as error:  # noqa: BLE001 - the last line of the failure table; nothing else may be raised
            if partial.status and partial.status not in _SUCCESS:
                return partial.reply(complete=False)
            failure = self._to_public_error(request, error)
        # Raised outside the handler, so that the lower error and its frames do not become `__context__`.
        raise failure

    def _to_public_error(self, request: _Request, error: Exception) -> PlayAIError:
        if request.http.closed:
            return http_session_closed()
        if request.http.trust_env and is_netrc_conflict(error):
            # aiohttp raises this before it connects, if it found a password in a netrc. A retry would fail as well.
            return ConfigurationError(
                f"http_session trusts the environment, whose netrc has a password for {request.url.host}, "
                "and aiohttp cannot send both the password and the API key"
            )
        if isinstance(error, _ConnectionLostError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        failure = TransportError(f"{request.method} {request.url} failed: {describe(error)} ({type(error).__name__}).")
        explain_closed_service(failure, request.url)
        failure.maybe_received = request.was_written or not was_not_sent(error)
        failure.__cause__ = sanitize(error, self._credentials)
        return failure


def _own_client(connections: int, *, force_close: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, force_close=force_close),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(disable_aiohttp_retry,),
    )


class _SeparateBody(aiohttp.BytesIOPayload):
    """A request body whose connection is closed after the reply, even if the server keeps it open.

    Attributes:
        written: Whether aiohttp has begun to send the request.
    """

    written = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body. aiohttp calls this once it has a connection, and sends the headers together with the body."""
        self.written = True
        cast("Any", writer).protocol.force_close()  # not in the abstract class, but in the one that aiohttp uses
        await super().write_with_length(writer, content_length)


_Body: TypeAlias = bytes | io.BytesIO | _SeparateBody | None


@attrs.define(eq=False)  # not frozen, which costs a call for each field of each request
class _Request:
    """One request."""

    http: aiohttp.ClientSession
    method: str
    url: URL
    headers: CIMultiDict[str] = attrs.field(repr=False)  # contain the key
    timeout: aiohttp.ClientTimeout
    data: _Body = attrs.field(default=None, repr=False)  # contains spoken text
    server_hostname: str | None = None

    @property
    def was_written(self) -> bool:
        """Whether it is known that aiohttp has begun to send it, perhaps in an earlier attempt of a middleware."""
        return isinstance(self.data, _SeparateBody) and self.data.written

    async def send(self, http: aiohttp.ClientSession, partial: PartialReply) -> None:
        """Send the request over a client session, and receive the reply."""
        async with http.request(
            self.method,
            self.url,
            data=self.data,
            headers=self.headers,
            allow_redirects=False,
            auto_decompress=True,
            raise_for_status=False,
            timeout=self.timeout,
            server_hostname=self.server_hostname,
        ) as response:
            partial.status = response.status
            partial.headers = response.headers
            content = response.content
            while True:  # not `iter_any`, which needs one more step to find the end that most replies have reached
                chunk = await content.readany()
                partial.chunks.append(chunk)
                partial.size += len(chunk)
                if partial.size > MAX_REPLY_BYTES:
                    del partial.chunks[1:]  # the reply is rejected, and an excerpt needs only the first chunk
                    response.close()
                    return
                if content.at_eof():
                    return
                await asyncio.sleep(0)  # a compressed body can be ready at once: let other tasks run between chunks


class _ConnectionLostError(Exception):
    """A connection was lost. aiohttp does not retry a GET after this error, as it would after its own errors."""


async def disable_aiohttp_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from retrying a request: the service may count both, and the pacer would know of only one."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError from error


def checked_http_session(http_session: aiohttp.ClientSession | None) -> aiohttp.ClientSession | None:
    """Validate the caller's client session; None is valid.

    Raises:
        ConfigurationError: The client session cannot send the required headers.
        TypeError: The value has the wrong type.
    """
    if http_session is None:
        return None
    if not isinstance(http_session, aiohttp.ClientSession):
        raise TypeError(f"http_session must be an aiohttp.ClientSession, not {type(http_session).__name__}")
    if http_session.auth is not None:
        raise ConfigurationError("http_session has `auth` set, and aiohttp cannot send both `auth` and the API key")
    return http_session


class _RequestTimer:
    """Gives every exchange the same timeout, with one event loop timer for all of them.

    All timeouts are equal, so the exchange that started first expires first. One timer per exchange, nearly all of them
    cancelled long before they fire, took a tenth of a poll's processor time. If the caller closes their client session,
    all exchanges expire.
    """

    def __init__(self, seconds: float, http_session: aiohttp.ClientSession | None) -> None:
        self._seconds = seconds
        self._http_session = http_session
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[_TimeLimit, float] = {}  # in the order in which the exchanges started
        self._timer: asyncio.TimerHandle | None = None

    def start(self, limit: _TimeLimit) -> None:
        """Start the clock of an exchange."""
        deadline = self._deadlines[limit] = self._loop.time() + self._seconds
        if self._timer is None:
            self._set_timer(deadline)

    def stop(self, limit: _TimeLimit) -> None:
        """Stop the clock of an exchange, unless it expired."""
        self._deadlines.pop(limit, None)

    def close(self) -> None:
        """Cancel the event loop timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, now: float) -> None:
        self._timer = None
        closed = self._http_session is not None and self._http_session.closed
        for limit, deadline in list(self._deadlines.items()):
            if deadline > now and not closed:
                self._set_timer(deadline)
                return
            self.stop(limit)
            limit.expire()

    def _set_timer(self, when: float) -> None:
        if self._http_session is not None:
            when = min(when, self._loop.time() + _CHECK_INTERVAL)
        # Pass the planned time, because an event loop may fire a timer slightly early.
        self._timer = self._loop.call_at(when, self._expire, when)


class _TimeLimit:
    """Cancels an exchange when it expires, and raises `TimeoutError` then, as `asyncio.timeout` does.

    Less than half as expensive as an `asyncio.timeout`, because the `_RequestTimer` keeps the time.
    """

    __slots__ = ("_cancelling", "_expired", "_task", "_timer")

    def __init__(self, timer: _RequestTimer) -> None:
        self._timer = timer
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self._expired = False

    def __enter__(self) -> None:
        self._timer.start(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.stop(self)
        # With another request to cancel the task, from outside, the cancellation goes on.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the exchange."""
        self._expired = True
        self._task.cancel()


class PartialReply:
    """The part of a reply received so far. Kept outside the exchange, so that it survives an interrupted exchange."""

    __slots__ = ("chunks", "headers", "size", "status")

    def __init__(self) -> None:
        self.status = 0  # no status yet
        self.headers: Mapping[str, str] = {}
        self.chunks: list[bytes] = []
        self.size = 0

    def reply(self, *, complete: bool) -> Reply:
        return Reply(
            self.status,
            self.headers.get(hdrs.RETRY_AFTER),
            b"".join(self.chunks),
            complete,
            date=self.headers.get(hdrs.DATE),
            request_id=self.headers.get(_REQUEST_ID),
        )
