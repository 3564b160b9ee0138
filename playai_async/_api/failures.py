"""What aiohttp, TLS and the system raise when an exchange fails: in words, and fit to be shown.

One table for all that is sent. This module must not send anything, nor decide what follows from a failure.
"""

from __future__ import annotations

import ssl
from typing import cast
from uuid import UUID

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from playai_async._api.credentials import Credentials
from playai_async._exceptions import SessionClosedError

__all__ = ["given_session_closed", "presentable", "was_not_sent", "words_for"]

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

_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ServerFingerprintMismatch)
"""aiohttp raises these before it sends anything: refused, DNS, TLS, the wrong server, or no connection in time."""


def words_for(error: Exception) -> str:
    """Name a failure."""
    return next(words for kind, words in _FAILURES if isinstance(error, kind))


def was_not_sent(error: Exception) -> bool:
    """Say whether it is sure that nothing of the request was sent."""
    return isinstance(error, _NO_CONNECTION)


def given_session_closed(job_id: UUID | None = None) -> SessionClosedError:
    """Return the error for a caller who closed the client session that they gave."""
    return SessionClosedError("The aiohttp session given to this session was closed.", job_id=job_id)


def presentable(error: Exception, credentials: Credentials) -> Exception:
    """Strip a lower error of what would show a secret: request, link, credentials, and frames with their locals.

    What aiohttp quotes of an answer is not shown either: it may begin or end in the middle of a secret that was echoed.

    Args:
        error: The lower error; its frames, and those of what caused it, are taken off it.
        credentials: What must not be shown.

    Returns:
        The error, or a copy that shows less.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        url = error.request_info.url.with_query(None)
        request = aiohttp.RequestInfo(url, error.request_info.method, CIMultiDictProxy(CIMultiDict[str]()))
        return type(error)(request, (), status=error.status, message="")
    links = _links(error)
    shown = "\n".join(f"{link!r} {link} {vars(link)}" for link in links)  # `vars` has the notes, too
    # aiohttp quotes a URL where a connector, or a resolver, raised a timeout.
    if credentials.redact(shown) != shown or "://" in shown:
        return aiohttp.ClientError(type(error).__name__)
    for link in links:
        link.__traceback__ = None
    return error


def _links(error: BaseException) -> list[BaseException]:
    """An error, and all that it came of or holds, which is printed with it."""
    links = [error]
    for link in links:  # which grows as it goes
        others = [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            others += cast("BaseExceptionGroup[BaseException]", link).exceptions
        links += [other for other in others if other is not None and all(other is not known for known in links)]
    return links
