"""One HTTP exchange: a URL in, a `Reply` out, every way of failing turned into `TransportError`.

The home of aiohttp. This module must not know what a reply means, nor whether or when to send again.
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
from playai_async._api.failures import given_session_closed, presentable, was_not_sent, words_for
from playai_async._exceptions import ConfigurationError, PlayAIError, TransportError
from playai_async._settings import MAX_REPLY_BYTES, USER_AGENT

__all__ = ["Transport", "checked_http_session"]

_NO_TIMEOUT = aiohttp.ClientTimeout()
"""Ours is the only clock on an exchange: aiohttp rounds its own up to whole seconds past the fifth."""

_CONNECT_SHARE = 0.99
"""The share of its time in which a request connects that must not be received twice.

Where that runs out first, it is known that nothing was sent.
"""

_LONGEST_PIECE = 2**20
"""Bytes. aiohttp warns of a longer body that is not read piece by piece."""

_GOOD = range(200, 300)


class Transport:
    """Sends requests over one `aiohttp.ClientSession`; to be made and used in a running loop.

    Args:
        credentials: What the service knows its caller by.
        request_timeout: Seconds for one exchange, from connecting to the last byte.
        connections: The size of the pool, where the client session is made here.
        http_session: The caller's own client session: used, never closed; or None, to make one.

    Attributes:
        http: The client session that it sends with.
        connections: How many requests may be under way without waiting for a connection, which would count towards
            the request timeout.
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
        # As aiohttp would make of a plain dict, once for each request.
        self._headers = CIMultiDict(
            {
                "Accept": "application/json",
                "User-Agent": USER_AGENT,
                **credentials.headers(),
            }
        )
        self._body_headers = self._headers.copy()
        self._body_headers["Content-Type"] = "application/json"
        self._time_limit = _TimeLimit(request_timeout)
        self._connecting = aiohttp.ClientTimeout(connect=_CONNECT_SHARE * request_timeout, ceil_threshold=math.inf)
        self._owned = http_session is None
        self.http = http_session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_sent_once,),
        )
        connector = self.http.connector
        limits = [] if connector is None else [connector.limit, connector.limit_per_host]  # where 0 is no limit
        self.connections = min([connections, *filter(None, limits)])

    async def get(self, url: URL) -> Reply:
        """Send one GET with the credentials; redirects are not followed.

        Args:
            url: Where to.

        Returns:
            What came back. An answer that is no 2xx is one by its status: what is missing of its body is let go.

        Raises:
            TransportError: No answer came.
            SessionClosedError: The caller closed their client session.
            ConfigurationError: The caller's client session has found a password for the service in a netrc.

        A cancellation ends the exchange and closes its connection.
        """
        return await self._exchange("GET", url, None, _NO_TIMEOUT)

    async def post(self, url: URL, body: bytes) -> Reply:
        """Send one POST of JSON; in all else as `get`."""
        return await self._exchange("POST", url, body, self._connecting)

    async def _exchange(self, method: str, url: URL, body: bytes | None, timeout: aiohttp.ClientTimeout) -> Reply:
        incoming = _Incoming()
        try:
            async with asyncio.timeout(None) as limit:
                self._time_limit.begin(limit)
                try:
                    await self._receive(method, url, body, timeout, incoming)
                finally:
                    self._time_limit.end(limit)
            return incoming.reply(whole=incoming.size <= MAX_REPLY_BYTES)
        except Exception as error:  # noqa: BLE001 - the table ends with it: nothing else may leave
            if incoming.status and incoming.status not in _GOOD:
                return incoming.reply(whole=False)
            failure = self._failure(method, url, error)
        # Out of the handler, so that the lower error does not come along as `__context__` with its frames.
        raise failure

    async def close(self) -> None:
        """Close the client session if it was made here."""
        self._time_limit.close()
        if self._owned:
            await self.http.close()

    async def _receive(
        self, method: str, url: URL, body: bytes | None, timeout: aiohttp.ClientTimeout, incoming: _Incoming
    ) -> None:
        async with self.http.request(
            method,
            url,
            data=io.BytesIO(body) if body is not None and len(body) > _LONGEST_PIECE else body,
            headers=self._headers if body is None else self._body_headers,
            allow_redirects=False,
            auto_decompress=True,
            raise_for_status=False,
            timeout=timeout,
        ) as response:
            incoming.status = response.status
            incoming.retry_after = response.headers.get("Retry-After")
            content = response.content
            while True:  # `iter_any` would take another step to find the end, which most replies have reached by now
                chunk = await content.readany()
                incoming.chunks.append(chunk)
                incoming.size += len(chunk)
                if incoming.size > MAX_REPLY_BYTES:
                    del incoming.chunks[1:]  # it is refused; an excerpt needs no more
                    response.close()
                    return
                if content.at_eof():
                    return
                await asyncio.sleep(0)  # what is unpacked is there at once, piece by piece, up to the limit

    def _failure(self, method: str, url: URL, error: Exception) -> PlayAIError:
        if self.http.closed:
            return given_session_closed()
        if self.http.trust_env and isinstance(error, ValueError) and "AUTHORIZATION" in str(error):
            # So aiohttp says that it has found one, before it connects; the next request would fare no better.
            words = "http_session trusts the environment, whose netrc has a password for"
            return ConfigurationError(f"{words} {url.host}, which aiohttp cannot send beside the key")
        if isinstance(error, _SentOnceError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        failure = TransportError(f"{method} {url} failed: {words_for(error)} ({type(error).__name__}).")
        failure.maybe_received = not was_not_sent(error)
        failure.__cause__ = presentable(error, self._credentials)
        return failure


class _SentOnceError(Exception):
    """A connection was lost; not one of the errors after which aiohttp would send a GET again by itself."""


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again: what the service has counted twice, the pacer must know of."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _SentOnceError from error


def checked_http_session(http_session: aiohttp.ClientSession | None) -> aiohttp.ClientSession | None:
    """Accept a caller's client session, or none.

    Raises:
        ConfigurationError: It could not send our headers.
        TypeError: It is of the wrong type.
    """
    if http_session is None:
        return None
    if not isinstance(http_session, aiohttp.ClientSession):
        raise TypeError(f"http_session must be an aiohttp.ClientSession, not {type(http_session).__name__}")
    if http_session.auth is not None:
        raise ConfigurationError("http_session has an `auth` of its own, which aiohttp cannot send beside the key")
    return http_session


class _TimeLimit:
    """Gives every exchange the same number of seconds, with one timer of the loop's for all.

    The one that began first is the first to run out of them. A timer for each, which nearly all would take off again
    long before it fires, was a tenth of a poll's processor time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Timeout, float] = {}  # in the order in which they began
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, timeout: asyncio.Timeout) -> None:
        """Let a timeout that was entered without a time expire when its exchange has run out of it."""
        ends = self._ends[timeout] = self._loop.time() + self._seconds
        if self._timer is None:
            self._set_timer(ends)

    def end(self, timeout: asyncio.Timeout) -> None:
        """Take note that an exchange is over."""
        self._ends.pop(timeout, None)

    def close(self) -> None:
        """Take the timer off the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, now: float) -> None:
        self._timer = None
        for timeout, ends in list(self._ends.items()):
            if ends > now:
                self._set_timer(ends)
                return
            self.end(timeout)
            timeout.reschedule(ends)  # which has passed: asyncio knows best how to cancel its task

    def _set_timer(self, when: float) -> None:
        # Told the time it was set for, since a timer may fire a little earlier than that.
        self._timer = self._loop.call_at(when, self._expire, when)


class _Incoming:
    """What came of an answer so far, kept outside the exchange so that it survives its breaking off."""

    __slots__ = ("chunks", "retry_after", "size", "status")

    def __init__(self) -> None:
        self.status = 0  # none yet
        self.retry_after: str | None = None
        self.chunks: list[bytes] = []
        self.size = 0

    def reply(self, *, whole: bool) -> Reply:
        return Reply(self.status, self.retry_after, b"".join(self.chunks), whole)
