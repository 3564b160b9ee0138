"""Where requests may go: to a service, with the credentials, and to the audio's origin, without them.

Over TLS; without it to a loopback host alone, where an emulator is.
"""

from __future__ import annotations

import ipaddress
import os
import re

from yarl import URL

from playai_async._exceptions import ConfigurationError
from playai_async._settings import BASE_URL

__all__ = ["checked_base_url", "checked_link"]

_HOST = re.compile(r"(?=.{1,253}$)(?![0-9.]+$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
"""A name: what has digits and dots alone is an address, or nothing."""


def checked_base_url(base_url: str | URL | None) -> URL:
    """Accept where a service may be; left out, it is the environment's `PLAYAI_BASE_URL`, or PlayAI.

    Raises:
        ConfigurationError: It is no URL, or neither https nor on loopback, or has more than a host and a path.
        TypeError: It is of the wrong type.
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
            "base_url (PLAYAI_BASE_URL) has no host; it is https:// and a name, or http:// on loopback"
        )
    if not _is_secure(url):
        raise ConfigurationError(f"base_url (PLAYAI_BASE_URL) must be https, or http for a loopback host: {url}")
    return url


def checked_link(text: str, base: URL | None = None) -> URL:
    """Accept where audio may be fetched from.

    Args:
        text: A URL as the service or the audio's origin wrote it, which is sent as it is: it is signed.
        base: What it may be relative to, and must not be less secure than.

    Raises:
        ValueError: It is no such URL; the message says what it is or has, and does not show it: whoever knows it can
            fetch the audio.
    """
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("has a space, a line break or a character outside ASCII")
    if not text:
        raise ValueError("is missing")
    try:
        link = URL(text, encoded=True)
        url = link if base is None else base.join(link)
        host, _ = url.raw_host, url.port
    except ValueError:
        raise ValueError("is no URL") from None
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("has a user or a password in it")
    if not _is_host(host):
        raise ValueError("has no host that could be")
    if not _is_secure(url):
        raise ValueError("is not https, nor http on a loopback host")
    if base is not None and base.scheme == "https" and url.scheme == "http":
        raise ValueError("leads from https to http")
    return url.with_fragment(None)


def _is_host(host: str | None) -> bool:
    return host is not None and (_HOST.fullmatch(host) is not None or _is_address(host))


def _is_secure(url: URL) -> bool:
    """Say whether nobody else can read what is sent there."""
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.raw_host or ""))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"
