"""Checks of the caller's arguments: type and range. Each error names the argument.

The functions return the value unchanged; only `json_copy` returns a copy. Values come in as `object`, because
annotations are not enforced at run time.
"""

import ipaddress
import json
import math
from collections.abc import Mapping
from typing import Any, get_args
from uuid import UUID

from playai_async.emulator._service.limiters import LimiterKind


def check_seconds(name: str, value: object, *, zero: bool = True, infinite: bool = False) -> float:
    """Return a number of seconds; `zero` and `infinite` say whether these are allowed.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is negative, NaN, or not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero) or (math.isinf(value) and not infinite):
        allowed = ("non-negative" if zero else "positive") + ("" if infinite else ", finite")
        raise ValueError(f"{name} must be a {allowed} number of seconds, not {value!r}")
    return value


def check_count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """Return an integer from `least` to `most` (None: no upper bound).

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {allowed}, not {value}")
    return value


def check_credential(name: str, value: object) -> str | None:
    """Return the only credential to accept; None: any.

    Raises:
        TypeError: The value is neither a str nor None.
        ValueError: The text is empty.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def check_job_id(value: object) -> UUID | None:
    """Return a job id or None; a str raises `TypeError`, because it would match no job."""
    if value is not None and not isinstance(value, UUID):
        raise TypeError(f"job_id must be a uuid.UUID or None, not {type(value).__name__}")
    return value


def check_job_duration(value: object) -> float | None:
    """Return the seconds that created jobs take, infinity included; None: the duration follows from the text."""
    return None if value is None else check_seconds("job_duration", value, infinite=True)


def check_host(value: str) -> str:
    """Return an address to listen on; an address outside of the loopback raises `ValueError`."""
    if not ipaddress.ip_address(value).is_loopback:
        raise ValueError(f"host must be a loopback address, not {value!r}")
    return value


def check_quota(name: str, value: object) -> int | None:
    """Return the number of requests allowed in a window; None: unlimited."""
    return None if value is None else check_count(name, value)


def check_limiter(limiter: object, burst: object) -> None:
    """Check the kind of limiter and the size of its token bucket.

    Raises:
        TypeError: The kind is not a str, or the size is not an integer.
        ValueError: The kind is unknown, the size is less than 1, or the limiter is no token bucket.
    """
    if not isinstance(limiter, str):
        raise TypeError(f"limiter must be a str, not {type(limiter).__name__}")
    if limiter not in get_args(LimiterKind):
        raise ValueError(f"limiter must be one of {', '.join(get_args(LimiterKind))}, not {limiter!r}")
    if burst is None:
        return
    check_count("burst", burst, least=1)
    if limiter != "bucket":
        raise ValueError(f'burst needs limiter="bucket", not {limiter!r}')


def json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON object, or raise `TypeError` or `ValueError` if the value is not a JSON object.

    The copy goes through JSON. So later changes by the caller have no effect, and a value that cannot be sent fails
    here rather than in a response.
    """
    copy: dict[str, Any] = json.loads(json.dumps(dict(value)))
    return copy
