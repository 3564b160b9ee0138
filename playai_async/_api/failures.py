"""What aiohttp, TLS and the operating system raise when an exchange fails.

The one table of these exceptions, for API requests and for downloads. It describes a failure in plain words, tells
whether the request was sent, and removes secrets from the exception. This module must not send anything, nor decide
what happens after a failure.
"""

from __future__ import annotations

import ssl
from typing import cast
from uuid import UUID

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from playai_async._api.credentials import Credentials
from playai_async._exceptions import SessionClosedError

__all__ = ["describe", "http_session_closed", "sanitize", "was_not_sent"]

# The first match describes the failure. Special classes come before general ones: most are subclasses of OSError.
_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "the request timed out"),
    (aiohttp.ClientConnectorDNSError, "the host name was not resolved"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (ssl.SSLError, "TLS failed"),
    (aiohttp.ServerFingerprintMismatch, "TLS failed"),
    (aiohttp.ClientConnectorError, "no connection"),
    (aiohttp.ClientPayloadError, "the response is incomplete or malformed"),
    (aiohttp.ClientResponseError, "the response is not HTTP"),
    (aiohttp.ClientConnectionError, "the connection was lost"),
    (OSError, "the connection was lost"),
    (Exception, "the request failed"),
)

_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ServerFingerprintMismatch)
"""aiohttp raises these before it sends the request: connection refused, DNS, TLS, wrong server, connection timeout."""


def describe(error: Exception) -> str:
    """Describe a failure in a few words that contain nothing of the error itself."""
    return next(words for kind, words in _FAILURES if isinstance(error, kind))


def was_not_sent(error: Exception) -> bool:
    """Return whether it is certain that no part of the request was sent."""
    return isinstance(error, _NO_CONNECTION)


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


def _related_errors(error: BaseException) -> list[BaseException]:
    """Return the error and everything that is printed with it: causes, contexts and members of groups."""
    related = [error]
    for each in related:  # the list grows during the loop
        others = [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            others += cast("BaseExceptionGroup[BaseException]", each).exceptions
        related += [other for other in others if other is not None and all(other is not known for known in related)]
    return related
