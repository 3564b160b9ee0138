"""One HTTP exchange: a URL in, a `Reply` out, every way of failing turned into `TransportError` by one table.

The home of aiohttp. This module must not know what a reply means, nor whether or when to send again.
"""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from playai_async._exceptions import ConfigurationError, SessionClosedError, TransportError
from playai_async._protocol import Credentials, Reply
from playai_async._settings import LONGEST_REPLY
from playai_async._version import __version__

__all__ = ["Transport", "checked_http_session"]

_OK = 200

# The first line that fits names the failure. The order goes from the special to the general: most are OSError too.
_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "no answer in time"),
    (aiohttp.ClientConnectorDNSError, "the host name was not resolved"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (ssl.SSLError, "TLS failed"),
    (aiohttp.ServerFingerprintMismatch, "TLS failed"),
    (aiohttp.ClientConnectorError, "no connection"),
    (aiohttp.ClientPayloadError, "the answer broke off or was garbled"),
    (aiohttp.ClientResponseError, "the answer was no HTTP"),
    (aiohttp.ClientConnectionError, "the connection was lost"),
    (OSError, "the connection was lost"),
    (Exception, "the request failed"),
)

_NO_TIMEOUT = aiohttp.ClientTimeout()
"""Ours is the only clock on an exchange: aiohttp rounds its own up to whole seconds past the fifth."""


class Transport:
    """Sends requests over one `aiohttp.ClientSession`; to be made and used in a running loop.

    Args:
        credentials: What the service knows its caller by.
        request_timeout: Seconds for one exchange, from connecting to the last byte.
        connections: The size of the pool, where the client session is made here.
        http_session: The caller's own client session: used, never closed; or None, to make one.

    Attributes:
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
                "User-Agent": f"playai-async/{__version__}",
                **credentials.headers(),
            }
        )
        self._time_limit = _TimeLimit(request_timeout)
        self._owned = http_session is None
        self._http = http_session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_sent_once,),
        )
        connector = self._http.connector
        limits = [] if connector is None else [connector.limit, connector.limit_per_host]  # where 0 is no limit
        self.connections = min([connections, *filter(None, limits)])

    async def get(self, url: URL) -> Reply:
        """Send one GET with the credentials; redirects are not followed.

        Args:
            url: Where to.

        Returns:
            What came back. An answer that is no 200 is one by its status: what is missing of its body is let go.

        Raises:
            TransportError: No answer came.
            SessionClosedError: The caller closed their client session.

        A cancellation ends the exchange and closes its connection.
        """
        incoming = _Incoming()
        try:
            async with asyncio.timeout(None) as timeout:
                self._time_limit.begin(timeout)
                try:
                    await self._receive(url, incoming)
                finally:
                    self._time_limit.end(timeout)
            return incoming.reply(whole=incoming.size <= LONGEST_REPLY)
        except Exception as error:  # noqa: BLE001 - the table ends with it: nothing else may leave
            if incoming.status not in {0, _OK}:
                return incoming.reply(whole=False)
            failure = self._failure(url, error)
        # Out of the handler, so that the lower error does not come along as `__context__` with its frames.
        raise failure

    async def close(self) -> None:
        """Close the client session if it was made here."""
        self._time_limit.close()
        if self._owned:
            await self._http.close()

    async def _receive(self, url: URL, incoming: _Incoming) -> None:
        async with self._http.get(
            url,
            headers=self._headers,
            allow_redirects=False,
            auto_decompress=True,
            raise_for_status=False,
            timeout=_NO_TIMEOUT,
        ) as response:
            incoming.status = response.status
            incoming.retry_after = response.headers.get("Retry-After")
            content = response.content
            while True:  # `iter_any` would take another step to find the end, which most replies have reached by now
                chunk = await content.readany()
                incoming.chunks.append(chunk)
                incoming.size += len(chunk)
                if incoming.size > LONGEST_REPLY:
                    response.close()
                    return
                if content.at_eof():
                    return

    def _failure(self, url: URL, error: Exception) -> TransportError | SessionClosedError:
        if self._http.closed:
            return SessionClosedError("The aiohttp session given to this session was closed.")
        if isinstance(error, _SentOnceError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        words = next(words for kind, words in _FAILURES if isinstance(error, kind))
        failure = TransportError(f"GET {url} failed: {words} ({type(error).__name__}).")
        failure.__cause__ = self._presentable(error)
        return failure

    def _presentable(self, error: Exception) -> Exception:
        """Strip a lower error of what would show a header: request, echoed secrets, and frames with their locals."""
        if isinstance(error, aiohttp.ClientResponseError):
            request = aiohttp.RequestInfo(
                error.request_info.url, error.request_info.method, CIMultiDictProxy(CIMultiDict[str]())
            )
            return type(error)(request, (), status=error.status, message=self._credentials.redact(error.message))
        shown = repr(error)
        if self._credentials.redact(shown) != shown:
            return aiohttp.ClientError(self._credentials.redact(shown))
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = None
            link = link.__cause__ or link.__context__
        return error


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
