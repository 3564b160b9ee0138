"""The `Retry-After` header, which PlayAI's contract and the exceptions of other clients have in common.

Pure: callers pass the time that an HTTP date is compared with.
"""

from __future__ import annotations

import email.utils
import math
import re
from datetime import UTC

from playai_async._settings import MAX_RETRY_AFTER

__all__ = ["parse_retry_after"]

_SECONDS = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)
"""Seconds in `Retry-After`, with or without a fraction."""


def parse_retry_after(value: str | None, *, now: float, date: str | None = None) -> float | None:
    """Parse a `Retry-After` header: seconds, or an HTTP date (RFC 9110, 10.2.3).

    A date is compared with the `Date` header of the same reply, so that it does not matter if the clocks of the service
    and of this machine differ. A fraction of a second is not allowed by the RFC, but some servers send one: it is
    rounded up.

    Args:
        value: The header, or None.
        now: The current time in seconds since the epoch. Used if `date` is missing or unreadable.
        date: The `Date` header of the reply, or None.

    Returns:
        Seconds to wait, more than 0 and at most `MAX_RETRY_AFTER`. None if the header is missing, unreadable, 0 or in
        the past.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        # float() accepts any number of digits, and returns infinity for too many. int() refuses thousands of digits.
        seconds = float(math.ceil(min(float(text), MAX_RETRY_AFTER)))
    else:
        until, sent = _parse_date(text), _parse_date(date or "")
        seconds = 0.0 if until is None else min(until - (now if sent is None else sent), MAX_RETRY_AFTER)
    return seconds if seconds > 0 else None


def _parse_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch, or None if the text is not a date."""
    if not text.isascii():
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)  # "-0000" means "no known zone" in e-mail, and UTC in HTTP
        return date.timestamp()
    except (ValueError, OverflowError):
        return None
