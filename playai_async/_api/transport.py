"""One HTTP exchange: a URL in, a `Reply` out. Every failure becomes a `TransportError`.

The home of aiohttp. This module must not know what a reply means, nor whether or when to retry.
"""

from __future__ import annotations

import asyncio
import io
import math

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from playai_async._api.contract import Reply
from playai_async._api.credentials import Credentials
from playai_async._api.failures import describe, http_session_closed, sanitize, was_not_sent
from playai_async._exceptions import ConfigurationError, PlayAIError, TransportError
from playai_async._settings import MAX_REPLY_BYTES, USER_AGENT

__all__ = ["Transport", "checked_http_session"]

_NO_TIMEOUT = aiohttp.ClientTimeout()
"""aiohttp's own timeouts are off, because aiohttp rounds a timeout of more than 5 s up to whole seconds."""

_CONNECT_FRACTION = 0.99
"""The fraction of the request timeout in which a POST must connect.

If connecting takes longer, aiohttp raises its connection timeout first, and it is certain that nothing was sent.
"""

_MAX_BYTES_BODY = 2**20
"""Bytes. aiohttp warns about a larger body of type `bytes`, so a larger body is sent from a file object."""

_SUCCESS = range(200, 300)


class Transport:
    """Sends requests over one `aiohttp.ClientSession`. Create and use it in a running event loop.

    Args:
        credentials: The API key and the user id.
        request_timeout: Seconds for one exchange, from connecting to the last byte.
        connections: The size of the connection pool, if the client session is created here.
        http_session: The caller's client session, which is used but never closed; or None to create one.

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
    ) -> None:
        self._credentials = credentials
        # A multidict, because aiohttp would convert a plain dict for each request.
        self._headers = CIMultiDict(
            {
                "Accept": "application/json",
                "User-Agent": USER_AGENT,
                **credentials.headers(),
            }
        )
        self._json_headers = self._headers.copy()
        self._json_headers["Content-Type"] = "application/json"
        self._timer = _RequestTimer(request_timeout)
        self._connect_timeout = aiohttp.ClientTimeout(
            connect=_CONNECT_FRACTION * request_timeout, ceil_threshold=math.inf
        )
        self._owns_http = http_session is None
        self.http = http_session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_disable_aiohttp_retry,),
        )
        connector = self.http.connector
        limits = [] if connector is None else [connector.limit, connector.limit_per_host]  # 0 means no limit
        self.connections = min([connections, *filter(None, limits)])

    async def get(self, url: URL) -> Reply:
        """Send one GET request with the credentials. Redirects are not followed.

        Cancellation ends the exchange and closes its connection.

        Args:
            url: The URL to request.

        Returns:
            The reply. If the status is not 2xx, the status is enough: the body may be incomplete.

        Raises:
            TransportError: No reply, or only part of a 2xx reply, was received.
            SessionClosedError: The caller closed their client session.
            ConfigurationError: The caller's client session found a password for the service in a netrc file.
        """
        return await self._exchange("GET", url, None, _NO_TIMEOUT)

    async def post(self, url: URL, body: bytes) -> Reply:
        """Send one POST request with a JSON body. Everything else is as in `get`."""
        return await self._exchange("POST", url, body, self._connect_timeout)

    async def close(self) -> None:
        """Close the client session if it was created here."""
        self._timer.close()
        if self._owns_http:
            await self.http.close()

    async def _exchange(self, method: str, url: URL, body: bytes | None, timeout: aiohttp.ClientTimeout) -> Reply:
        partial = _PartialReply()
        try:
            async with asyncio.timeout(None) as limit:
                self._timer.start(limit)
                try:
                    await self._receive(method, url, body, timeout, partial)
                finally:
                    self._timer.stop(limit)
            return partial.reply(complete=partial.size <= MAX_REPLY_BYTES)
        except Exception as error:  # noqa: BLE001 - the last line of the failure table; nothing else may be raised
            if partial.status and partial.status not in _SUCCESS:
                return partial.reply(complete=False)
            failure = self._to_public_error(method, url, error)
        # Raised outside the handler, so that the lower error and its frames do not become `__context__`.
        raise failure

    async def _receive(
        self, method: str, url: URL, body: bytes | None, timeout: aiohttp.ClientTimeout, partial: _PartialReply
    ) -> None:
        async with self.http.request(
            method,
            url,
            data=io.BytesIO(body) if body is not None and len(body) > _MAX_BYTES_BODY else body,
            headers=self._headers if body is None else self._json_headers,
            allow_redirects=False,
            auto_decompress=True,
            raise_for_status=False,
            timeout=timeout,
        ) as response:
            partial.status = response.status
            partial.retry_after = response.headers.get("Retry-After")
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

    def _to_public_error(self, method: str, url: URL, error: Exception) -> PlayAIError:
        if self.http.closed:
            return http_session_closed()
        if self.http.trust_env and isinstance(error, ValueError) and "AUTHORIZATION" in str(error):
            # aiohttp raises this before it connects, if it found a password in a netrc. A retry would fail as well.
            return ConfigurationError(
                f"http_session trusts the environment, whose netrc has a password for {url.host}, "
                "and aiohttp cannot send both the password and the API key"
            )
        if isinstance(error, _ConnectionLostError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        failure = TransportError(f"{method} {url} failed: {describe(error)} ({type(error).__name__}).")
        failure.maybe_received = not was_not_sent(error)
        failure.__cause__ = sanitize(error, self._credentials)
        return failure


class _ConnectionLostError(Exception):
    """A connection was lost. aiohttp does not retry a GET after this error, as it would after its own errors."""


async def _disable_aiohttp_retry(
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
    cancelled long before they fire, took a tenth of a poll's processor time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._deadlines: dict[asyncio.Timeout, float] = {}  # in the order in which the exchanges started
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout: asyncio.Timeout) -> None:
        """Start the clock of an exchange. `timeout` must have been entered without a deadline."""
        deadline = self._deadlines[timeout] = self._loop.time() + self._seconds
        if self._timer is None:
            self._set_timer(deadline)

    def stop(self, timeout: asyncio.Timeout) -> None:
        """Stop the clock of an exchange. Unknown exchanges are ignored."""
        self._deadlines.pop(timeout, None)

    def close(self) -> None:
        """Cancel the event loop timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, now: float) -> None:
        self._timer = None
        for timeout, deadline in list(self._deadlines.items()):
            if deadline > now:
                self._set_timer(deadline)
                return
            self.stop(timeout)
            timeout.reschedule(deadline)  # in the past: asyncio cancels the task and raises TimeoutError

    def _set_timer(self, when: float) -> None:
        # Pass the planned time, because an event loop may fire a timer slightly early.
        self._timer = self._loop.call_at(when, self._expire, when)


class _PartialReply:
    """The part of a reply received so far. Kept outside the exchange, so that it survives an interrupted exchange."""

    __slots__ = ("chunks", "retry_after", "size", "status")

    def __init__(self) -> None:
        self.status = 0  # no status yet
        self.retry_after: str | None = None
        self.chunks: list[bytes] = []
        self.size = 0

    def reply(self, *, complete: bool) -> Reply:
        return Reply(self.status, self.retry_after, b"".join(self.chunks), complete)
