"""Where requests may go: to the service with the credentials, and to the host of the audio without them.

Both need TLS. Plain http is allowed for loopback hosts only, where an emulator runs.
"""

from __future__ import annotations

import ipaddress
import os
import re

from yarl import URL

from playai_async._exceptions import ConfigurationError
from playai_async._settings import BASE_URL

__all__ = ["checked_base_url", "checked_link", "is_loopback"]

_HOST = re.compile(r"(?=.{1,253}$)(?![0-9.]+$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
"""A host name. Text of only digits and dots is an IP address or invalid."""


def checked_base_url(base_url: str | URL | None) -> URL:
    """Validate the URL of the service.

    Args:
        base_url: The URL; or None for the environment variable `PLAYAI_BASE_URL`, and PlayAI if that is not set.

    Raises:
        ConfigurationError: The value is not a URL, is neither https nor http on loopback, or has a user, a password, a
            query or a fragment.
        TypeError: The value has the wrong type.
    """
    if base_url is None:
        base_url = os.environ.get("PLAYAI_BASE_URL") or BASE_URL
    if not isinstance(base_url, str | URL):
        raise TypeError(f"base_url must be a str or a yarl.URL, not {type(base_url).__name__}")
    try:
        url = URL(base_url)
        host, _ = url.raw_host, url.port
    except ValueError:
        raise ConfigurationError("base_url (PLAYAI_BASE_URL) is not a URL") from None
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ConfigurationError("base_url (PLAYAI_BASE_URL) must have no user, password, query or fragment")
    if not _is_host(host):
        raise ConfigurationError(
            "base_url (PLAYAI_BASE_URL) has no valid host; use https:// and a host name, or http:// and a loopback host"
        )
    if not _is_secure(url):
        raise ConfigurationError(f"base_url (PLAYAI_BASE_URL) must be https, or http for a loopback host: {url}")
    return url


def checked_link(text: str, base: URL | None = None) -> URL:
    """Validate the URL of an audio file.

    Args:
        text: The URL as the service or the audio host wrote it. It is signed, so it is sent unchanged.
        base: The URL that `text` may be relative to and must not be less secure than; or None.

    Raises:
        ValueError: The URL is invalid. The message completes the sentence "the URL ..." and does not contain the URL:
            anyone who knows the URL can fetch the audio.
    """
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("contains a space, a line break or a character outside ASCII")
    if not text:
        raise ValueError("is missing")
    try:
        link = URL(text, encoded=True)
        url = link if base is None else base.join(link)
        host, _ = url.raw_host, url.port
    except ValueError:
        raise ValueError("is not valid") from None
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("contains a user or a password")
    if not _is_host(host):
        raise ValueError("has no valid host")
    if not _is_secure(url):
        raise ValueError("is neither https nor http on a loopback host")
    if base is not None and base.scheme == "https" and url.scheme == "http":
        raise ValueError("leads from https to http")
    return url.with_fragment(None)


def _is_host(host: str | None) -> bool:
    return host is not None and (_HOST.fullmatch(host) is not None or _is_address(host))


def _is_secure(url: URL) -> bool:
    """Return whether nobody else can read what is sent to the URL."""
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.raw_host or ""))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"
