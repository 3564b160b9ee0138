"""The settings of waits and of pacing, and the constants that several folders share, each with its unit and reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import EllipsisType
from typing import Any, Literal, TypeVar

import attrs
from tenacity import RetryCallState
from tenacity.wait import wait_base

from playai_async._exceptions import ConfigurationError
from playai_async._shared_quota import SharedQuota
from playai_async._version import __version__

__all__ = [
    "BASE_URL",
    "BURST_FRACTION",
    "DISK_GRACE",
    "DOWNLOAD_ATTEMPTS",
    "DOWNLOAD_PAUSE",
    "FIRST_POLL_FRACTION",
    "LAST_POLL_FRACTION",
    "LAST_POLL_LEAD",
    "LATE_FRACTION",
    "MAX_COUNT",
    "MAX_REDIRECTS",
    "MAX_REPLY_BYTES",
    "MAX_RETRY_AFTER",
    "MIN_WINDOW",
    "OUTAGE_FAILURES",
    "OUTAGE_GROWTH",
    "OUTAGE_PAUSE",
    "PROBES_PER_WINDOW",
    "RAMP_BURST",
    "RAMP_GROWTH",
    "RAMP_START",
    "REQUEST_TIMEOUT",
    "RESOLUTION",
    "USER_AGENT",
    "Pacing",
    "Polling",
    "WaitStrategy",
    "check_number",
    "checked",
    "wait_settings",
]

BASE_URL = "https://api.play.ai"
"""The service's address in its API description."""

USER_AGENT = f"playai-async/{__version__}"
"""The `User-Agent` header of every request."""

RESOLUTION = 1e-6
"""Seconds. A shorter delay counts as none: timers fire early by this much, and asking again would spin."""

REQUEST_TIMEOUT = 10.0
"""Seconds for one exchange. The service answers a status request at once; later, the request counts as failed."""

MAX_REPLY_BYTES = 8 * 1024 * 1024
"""Bytes, after decompression. A job takes one or two kilobytes plus its text (50,000 characters at most)."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds. Quotas reset every minute; a `Retry-After` of more than a day is a mistake that must not stall a backend."""

LAST_POLL_LEAD = 1.0
"""Seconds. The last poll is sent this long before the deadline: the service answers well within a second."""

LAST_POLL_FRACTION = 0.1
"""Fraction of a short timeout: the most that the lead takes."""

MIN_WINDOW = 0.001
"""Seconds: what an event loop can tell apart."""

PROBES_PER_WINDOW = 12
"""After a 429 without a `Retry-After`, the first probe goes after a window divided by this: after 5 s of 60.

Later pauses are a quarter longer. So a reset is noticed 3 s late on average, and no minute loses more than a dozen
requests to probing.
"""

BURST_FRACTION = 1 / 12
"""Fraction of a quota: the requests that may go back to back (5 of 60), so that a few waits are not slowed."""

LATE_FRACTION = 1 / 12
"""Fraction of a window: how much later than its end the service may count a request that was cut off (5 s of 60)."""

RAMP_START = 60
"""Requests per window with which a session starts if no quota is known: one per second.

The service publishes this figure for comparable requests, so the first minute need not end in 429s.
"""

RAMP_BURST = 16
"""Requests that may go back to back at that rate, so that a dozen waits are not slowed."""

RAMP_GROWTH = 40
"""Requests that a window must have taken without a 429 before the rate doubles; the rate grows with the square.

So the session notices within a window that a service has no quota, whatever the number of waits.
"""

FIRST_POLL_FRACTION = 1 / 10
"""Fraction of a window: how much later than now a wait's first poll counts as due (6 s of 60).

It is sent at once if nothing else is due. Otherwise a job that was just created is the least likely to be finished.
"""

OUTAGE_FAILURES = 3
"""Transient failures in a row, of all requests of one kind, after which requests go one at a time."""

OUTAGE_PAUSE = 1.0
"""Seconds from the last of these failures to the next request; each further failure lengthens the pause by half.

With the defaults, the pauses of a single wait are no shorter. The pause is at most as long as after a 429.
"""

OUTAGE_GROWTH = 1.5
"""The factor from one pause of an outage to the next."""

DOWNLOAD_ATTEMPTS = 5
"""Attempts without progress after which a download is given up; with the pauses between, about eight seconds."""

DOWNLOAD_PAUSE = 0.5
"""Seconds from a lost connection to the next attempt; doubled without progress, plus up to half a second at random."""

DISK_GRACE = 1.0
"""Seconds to wait until a part file is removed. A disk that hangs must not hold up a cancellation."""

MAX_REDIRECTS = 5
"""Redirects from an audio's link to the audio: object stores need one or two, and a loop must end."""

MAX_COUNT = 10**9
"""The largest count that a setting may have; more is a mistake."""

_T = TypeVar("_T")

WaitStrategy = wait_base | Callable[[RetryCallState], float]
"""A tenacity wait strategy: seconds to pause, given the state of the retries."""


def check_number(
    name: str, value: object, *, zero: bool = False, error: Callable[[str], ValueError] = ConfigurationError
) -> None:
    """Check that a value is a positive, finite number.

    Args:
        name: The name of the value in the error.
        value: The value.
        zero: Whether 0 is allowed.
        error: The error to raise for a number that is out of range.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is not finite, negative, or 0 where that is not allowed. It is a `ConfigurationError`
            unless `error` is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):  # bool is an int in Python
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not 0 <= value <= sys.float_info.max or (value == 0 and not zero):
        raise error(f"{name} must be a {'non-negative' if zero else 'positive'}, finite number")


def checked(name: str, value: object, kind: type[_T]) -> _T:
    """Return a value of the right type.

    Raises:
        TypeError: The value has another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_number(attribute.name, value)


def _window(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    check_number(attribute.name, value)
    if value < MIN_WINDOW:
        raise ConfigurationError(f"{attribute.name} must be at least {MIN_WINDOW} s")


def _seconds_or_zero(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_number(attribute.name, value, zero=True)


def _growth(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    check_number(attribute.name, value)
    if value < 1:
        raise ConfigurationError(f"{attribute.name} must be at least 1: pauses never shrink")


def _share(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    check_number(attribute.name, value, zero=True)
    if value > 1:
        raise ConfigurationError(f"{attribute.name} must be at most 1: it is a fraction of the pause")


def _seconds_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        check_number(attribute.name, value)


def _count_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _count(None, attribute, value)


def _count(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ConfigurationError(f"{attribute.name} must be at least 1")
    if value > MAX_COUNT:
        raise ConfigurationError(f"{attribute.name} must be at most {MAX_COUNT:,}")


def _counting(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in ("sliding", "fixed"):
        checked(attribute.name, value, str)
        raise ConfigurationError(f'{attribute.name} must be "sliding" or "fixed"')


def _shared(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(getattr(value, "open", None)):
        raise TypeError(f"{attribute.name} must be a shared quota, not {type(value).__name__}")


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    checked(attribute.name, value, bool)


def _strategy(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name} must be a tenacity wait strategy, not {type(value).__name__}")


@attrs.frozen
class Polling:
    """How a wait polls its job.

    Waits for one job under equal settings share their requests. A `wait` strategy is equal to itself only.

    Attributes:
        initial: Seconds from the first poll to the second. A short text is finished in a second or two.
        multiplier: The factor from one pause to the next; at least 1.
        maximum: Seconds of the longest pause. If the quota allows, the end of a long job is noticed within this time.
        jitter: The fraction, from 0 to 1, by which each pause varies up or down, so that waits that began together
            spread out.
        timeout: Seconds for the whole wait, or None for no deadline. The longest text takes a few minutes.
        max_failures: How many transient failures in a row end the wait. With the default pauses, eight failures take
            half a minute: longer than a deployment of the service, shorter than an outage.
        wait: A tenacity wait strategy in place of the first four, or None. It must not block. It is called after valid
            answers, too, when there is no exception to look at.
        forecast: Whether to learn from finished jobs how long a job takes, by model and length of text, and to poll
            each job when it is likely to be finished. Without enough finished jobs, and after failures, the pauses are
            those above. No pause is longer than `maximum` or the window of the quota, whichever is longer.

    Raises:
        TypeError: A value has the wrong type.
        ConfigurationError: A value is out of range.
    """

    initial: float = attrs.field(default=1.0, validator=_seconds_or_zero)
    multiplier: float = attrs.field(default=1.5, validator=_growth)
    maximum: float = attrs.field(default=10.0, validator=_seconds)
    jitter: float = attrs.field(default=0.2, validator=_share)
    timeout: float | None = attrs.field(default=600.0, validator=_seconds_or_none)
    max_failures: int = attrs.field(default=8, validator=_count)
    wait: WaitStrategy | None = attrs.field(default=None, eq=id, validator=_strategy)
    forecast: bool = attrs.field(default=False, validator=_flag)

    def __attrs_post_init__(self) -> None:
        if self.maximum < self.initial:
            raise ConfigurationError("maximum must be at least initial")


@attrs.frozen
class Pacing:
    """How a session spends the quota of its key.

    Attributes:
        requests_per_window: The requests that this session may send per window: the key's quota, or a part of it if
            others use the key. None: learn it from 429s. Unless `counting` is "fixed", a known quota is never exceeded
            over any span of one window, however many waits are open.
        window: Seconds of the service's fixed windows. The pauses after a 429 depend on it, too.
        max_in_flight: The most requests in flight at once; also the size of the session's own connection pool.
        shared: Shares the quota with other processes that use the key, such as
            `playai_async.contrib.redis.RedisQuota`; None if this session has `requests_per_window` to itself. If
            `requests_per_window` is None, the processes learn the quota together. Job creation is not included: the
            service counts it separately.
        counting: How the service counts. "sliding": unknown, so `requests_per_window` is never exceeded over any span
            of a window. "fixed": in fixed windows, so the quota is spent once in each of them. The session learns from
            a 429 where the windows begin, and may ask once too often after it was idle to find out.

    Raises:
        TypeError: A value has the wrong type.
        ConfigurationError: A value is out of range.
    """

    requests_per_window: int | None = attrs.field(default=None, validator=_count_or_none)
    window: float = attrs.field(default=60.0, validator=_window)
    max_in_flight: int = attrs.field(default=32, validator=_count)
    shared: SharedQuota | None = attrs.field(default=None, validator=_shared)
    counting: Literal["sliding", "fixed"] = attrs.field(default="sliding", validator=_counting)

    def __attrs_post_init__(self) -> None:
        if self.counting == "fixed" and self.requests_per_window is None:
            raise ConfigurationError('counting="fixed" needs requests_per_window: the requests of each window')
        if self.counting == "fixed" and self.shared is not None:
            raise ConfigurationError('counting="fixed" cannot be combined with a shared quota')


def wait_settings(
    default: Polling, polling: Polling | None, timeout: float | EllipsisType | None
) -> tuple[Polling, float | None]:
    """Check how a caller wants to wait.

    Args:
        default: How to poll if the caller does not say.
        polling: How the caller wants to poll, or None.
        timeout: Seconds for the whole wait, None for no deadline, or `...` for that of the polling.

    Raises:
        ValueError: The timeout is not a positive, finite number.
        TypeError: An argument has the wrong type.
    """
    polling = default if polling is None else checked("polling", polling, Polling)
    if isinstance(timeout, EllipsisType):
        return polling, polling.timeout
    if timeout is not None:
        check_number("timeout", timeout, error=ValueError)  # an argument of a call, not a setting
    return polling, timeout
