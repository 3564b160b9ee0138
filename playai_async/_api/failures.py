"""What aiohttp, TLS and the operating system raise when an exchange fails.

The one table of these exceptions, for API requests and for downloads. It describes a failure in plain words, tells
whether the request was sent, and removes secrets from the exception. This module must not send anything, nor decide
what happens after a failure.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from typing import cast
from uuid import UUID

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from playai_async._api.credentials import Credentials
from playai_async._exceptions import ConfigurationError, SessionClosedError, TransportError
from playai_async._settings import BASE_URL

__all__ = [
    "check_http_session",
    "describe",
    "explain_closed_service",
    "http_session_closed",
    "is_netrc_conflict",
    "sanitize",
    "was_not_sent",
]

# The first match describes the failure. Special classes come before general ones: most are subclasses of OSError.
_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "the request timed out"),
    (aiohttp.ClientConnectorDNSError, "the host name was not resolved:"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (ssl.SSLError, "TLS failed"),
    (aiohttp.ServerFingerprintMismatch, "TLS failed"),
    (aiohttp.ClientProxyConnectionError, "no connection to the proxy"),
    (aiohttp.ClientConnectorError, "no connection to"),
    (aiohttp.ClientHttpProxyError, "no connection through the proxy"),
    (aiohttp.ClientPayloadError, "the response is incomplete or malformed"),
    (aiohttp.ClientResponseError, "the response is not HTTP"),
    (aiohttp.ClientConnectionError, "the connection was lost"),
    (OSError, "the connection was lost"),
    (Exception, "the request failed"),
)

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerFingerprintMismatch,
)
"""aiohttp raises these before it sends the request: connection refused, DNS, TLS, a proxy that refuses, wrong server,
connection timeout, and a URL of the service or of a proxy that it cannot use."""

_CONNECT = aiohttp.BaseConnector.connect.__code__


def describe(error: Exception) -> str:
    """Describe a failure in a few words. Of the error itself, they contain a host, a port and a status at most."""
    words = next(words for kind, words in _FAILURES if isinstance(error, kind))
    try:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            proxy = error.request_info.real_url  # `url` is where the proxy was to connect to
            return f"{words} {_address(proxy.raw_host, proxy.port)}, which answered {error.status}"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"{words} {error.host}"
        if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
            return f"{words} {_address(error.host, error.port)}"
    except Exception:  # noqa: BLE001 - raised by a caller's own code, with anything for a host
        return words.removesuffix(" to").removesuffix(":")
    return words if isinstance(error, _NOT_SENT) or not _failed_while_connecting(error) else f"{words} while connecting"


def explain_closed_service(failure: TransportError, url: URL) -> None:
    """Add to a failure at the default address what became of the service there, and how to name another server."""
    if url.host == URL(BASE_URL).host:
        failure.add_sentence(
            "PlayAI's own service was reported closed at the end of 2025; "
            "set PLAYAI_BASE_URL (or base_url) to a server that speaks its API."
        )


def was_not_sent(error: Exception) -> bool:
    """Return whether it is certain that no part of the request was sent."""
    return isinstance(error, _NOT_SENT) or _failed_while_connecting(error)


def is_netrc_conflict(error: Exception) -> bool:
    """Return whether aiohttp found a password in a netrc, which it cannot send together with the API key."""
    return type(error) is ValueError and "AUTHORIZATION" in str(error)


def check_http_session(http: aiohttp.ClientSession, job_id: UUID | None = None) -> None:
    """Check that a client session can send a request.

    Raises:
        SessionClosedError: The caller closed the client session.
        ConfigurationError: The client session belongs to another event loop.
    """
    if http.closed:
        raise http_session_closed(job_id)
    loop = getattr(http, "_loop", None)  # the public `loop` is deprecated, and warns
    if loop is not None and loop is not asyncio.get_running_loop():
        raise ConfigurationError(
            "http_session belongs to another event loop; create it in the loop that uses the session", job_id=job_id
        )


def http_session_closed(job_id: UUID | None = None) -> SessionClosedError:
    """Build the error for a caller who closed the client session that they passed in."""
    return SessionClosedError("The aiohttp session that was passed as http_session is closed.", job_id=job_id)


def sanitize(error: Exception, credentials: Credentials) -> Exception:
    """Remove secrets from an aiohttp error: request headers, signed URLs, credentials, and frames with their locals.

    Text that aiohttp quotes from a response is removed as well: it may contain part of a secret that the server echoed.

    Args:
        error: The error. Its traceback, and those of its causes, are removed.
        credentials: The secrets that must not be visible.

    Returns:
        The same error, or a replacement that shows less.
    """
    try:
        return _sanitized(error, credentials)
    except Exception:  # noqa: BLE001 - the `repr` or the attributes of an exception of any library
        return aiohttp.ClientError(type(error).__name__)


def _sanitized(error: Exception, credentials: Credentials) -> Exception:
    if isinstance(error, aiohttp.ClientResponseError):
        url = error.request_info.url.with_query(None)
        request = aiohttp.RequestInfo(url, error.request_info.method, CIMultiDictProxy(CIMultiDict[str]()))
        return type(error)(request, (), status=error.status, message="")
    related = _related_errors(error)
    visible = "\n".join(f"{each!r} {each} {vars(each)}" for each in related)  # `vars` includes the notes
    # aiohttp quotes the URL if a connector or a resolver raises a timeout.
    if credentials.redact(visible) != visible or "://" in visible:
        return aiohttp.ClientError(type(error).__name__)
    for each in related:
        each.__traceback__ = None
    return error


def _failed_while_connecting(error: Exception) -> bool:
    """Return whether an error was raised while aiohttp connected, whatever its class.

    A proxy can fail in many ways that look like failures of the service: the connection is lost, or the reply is not
    HTTP. Connectors of other libraries, for SOCKS, raise exceptions of their own. The frames tell them apart; aiohttp
    raises its own exception from an `OSError`.
    """
    tracebacks = [error.__traceback__, None if error.__cause__ is None else error.__cause__.__traceback__]
    return any(frame.f_code is _CONNECT for each in tracebacks for frame, _ in traceback.walk_tb(each))


def _related_errors(error: BaseException) -> list[BaseException]:
    """Return the error and everything that is printed with it: causes, contexts and members of groups."""
    related = [error]
    for each in related:  # the list grows during the loop
        others = [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            others += cast("BaseExceptionGroup[BaseException]", each).exceptions
        related += [other for other in others if other is not None and all(other is not known for known in related)]
    return related


def _address(host: str | None, port: int | None) -> str:
    return str(URL.build(host=host or "", port=port)).removeprefix("//")
