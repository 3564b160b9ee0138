"""Checks of a caller's arguments: the right type and range, or an error that names the argument.

They return what they were given and convert nothing, JSON aside, which they copy. Values come in as `object`:
annotations bind no caller.
"""

import ipaddress
import json
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID


def check_seconds(name: str, value: object, *, zero: bool = True, infinite: bool = False) -> float:
    """Return a span of time in seconds.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.
        zero: Whether 0 is allowed.
        infinite: Whether infinity is allowed.

    Returns:
        The value as it came.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is negative, NaN, or not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if math.isnan(value) or value < 0 or (value == 0 and not zero) or (math.isinf(value) and not infinite):
        raise ValueError(f"{name} must be a {'' if zero else 'positive '}span of seconds, not {value!r}")
    return value


def check_count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """Return a whole number.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.
        least: The smallest value allowed.
        most: The largest value allowed; None: no bound.

    Returns:
        The value as it came.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} must be {least} or more{f', and {most} or less' if most else ''}, not {value}")
    return value


def check_credential(name: str, value: object) -> str | None:
    """Return a credential to insist on; None for any.

    Args:
        name: The argument's name, for the message.
        value: What the caller gave.

    Returns:
        The value as it came.

    Raises:
        TypeError: The value is neither text nor None.
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
    """Return a job's id or None; text is refused with a `TypeError`, since it would match no job."""
    if value is not None and not isinstance(value, UUID):
        raise TypeError(f"job_id must be a uuid.UUID or None, not {type(value).__name__}")
    return value


def check_host(value: str) -> str:
    """Return an address to listen on; one that is not of the loopback is refused with a `ValueError`."""
    if not ipaddress.ip_address(value).is_loopback:
        raise ValueError(f"host must be a loopback address, not {value!r}")
    return value


def check_quota(name: str, value: object) -> int | None:
    """Return how many requests a window allows; None: unlimited."""
    return None if value is None else check_count(name, value)


def json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON object; a `TypeError` or `ValueError` if it is none.

    Made by way of JSON: later changes of the caller's do not show, and what can't be sent fails here, not there.
    """
    copy: dict[str, Any] = json.loads(json.dumps(dict(value)))
    return copy
