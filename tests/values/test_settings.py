"""The settings: which values are taken, which are refused and how, and when two are equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from tenacity import RetryCallState, wait_fixed, wait_none

from playai_async import ConfigurationError, Pacing, Polling
from playai_async._settings import check_number

TOO_LARGE = 10**400
"""An integer that no float can hold."""


def half_a_second(_: RetryCallState) -> float:
    """Be a wait strategy that is a plain function."""
    return 0.5


def label(part: object) -> str:
    """Name a part of a case, briefly and the same in every run."""
    if not isinstance(part, dict):
        return getattr(part, "__name__", str(part))
    plain = str | int | float | None
    return ",".join(
        f"{name}={str(value)[:12] if isinstance(value, plain) else type(value).__name__}"
        for name, value in part.items()
    )


class Unhashable:
    """A wait strategy that cannot be hashed, and is equal to every other."""

    __hash__ = None  # type: ignore[assignment]  # the point of the class

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self, _: RetryCallState) -> float:
        return 0.5


def test_the_defaults_are_the_documented_ones() -> None:
    """User code and documentation rely on them."""
    assert attrs.asdict(Polling()) == {
        "initial": 1.0,
        "multiplier": 1.5,
        "maximum": 10.0,
        "jitter": 0.2,
        "timeout": 600.0,
        "max_failures": 8,
        "wait": None,
        "forecast": False,
    }
    assert attrs.asdict(Pacing()) == {
        "requests_per_window": None,
        "window": 60.0,
        "max_in_flight": 32,
        "shared": None,
        "counting": "sliding",
    }


GOOD: tuple[tuple[Callable[..., object], dict[str, Any]], ...] = (
    (Polling, {"initial": 0}),
    (Polling, {"initial": 0.001}),
    (Polling, {"initial": 10, "maximum": 10}),
    (Polling, {"multiplier": 1}),
    (Polling, {"multiplier": 1e9}),
    (Polling, {"maximum": 1e9}),
    (Polling, {"jitter": 0}),
    (Polling, {"jitter": 1}),
    (Polling, {"timeout": None}),
    (Polling, {"timeout": 1e-9}),
    (Polling, {"max_failures": 1}),
    (Polling, {"wait": None}),
    (Polling, {"wait": wait_none()}),
    (Polling, {"wait": half_a_second}),
    (Polling, {"wait": Unhashable()}),
    (Pacing, {"requests_per_window": None}),
    (Pacing, {"requests_per_window": 1}),
    (Pacing, {"requests_per_window": 1_000_000}),
    (Pacing, {"window": 0.5}),
    (Pacing, {"window": 0.001}),
    (Pacing, {"window": 3600}),
    (Pacing, {"max_in_flight": 1}),
)


@pytest.mark.parametrize(("settings", "values"), GOOD, ids=label)
def test_what_can_work_is_taken_as_it_is(settings: Callable[..., object], values: dict[str, Any]) -> None:
    """The bounds themselves are in."""
    made = settings(**values)
    assert {name: getattr(made, name) for name in values} == values


WRONG_TYPES: tuple[tuple[Callable[..., object], dict[str, Any], str], ...] = (
    *((Polling, {name: "1"}, f"{name} must be a number, not str") for name in ("initial", "multiplier", "maximum")),
    (Polling, {"initial": None}, "initial must be a number, not NoneType"),
    (Polling, {"initial": True}, "initial must be a number, not bool"),
    (Polling, {"multiplier": 2j}, "multiplier must be a number, not complex"),
    (Polling, {"jitter": True}, "jitter must be a number, not bool"),
    (Polling, {"jitter": (0.1, 0.2)}, "jitter must be a number, not tuple"),
    (Polling, {"timeout": "600"}, "timeout must be a number, not str"),
    (Polling, {"timeout": False}, "timeout must be a number, not bool"),
    (Polling, {"max_failures": 8.0}, "max_failures must be an integer, not float"),
    (Polling, {"max_failures": True}, "max_failures must be an integer, not bool"),
    (Polling, {"max_failures": None}, "max_failures must be an integer, not NoneType"),
    (Polling, {"wait": 1.0}, "wait must be a tenacity wait strategy, not float"),
    (Polling, {"wait": "exponential"}, "wait must be a tenacity wait strategy, not str"),
    (Pacing, {"requests_per_window": 60.0}, "requests_per_window must be an integer, not float"),
    (Pacing, {"requests_per_window": True}, "requests_per_window must be an integer, not bool"),
    (Pacing, {"requests_per_window": "60"}, "requests_per_window must be an integer, not str"),
    (Pacing, {"window": None}, "window must be a number, not NoneType"),
    (Pacing, {"window": "60"}, "window must be a number, not str"),
    (Pacing, {"max_in_flight": None}, "max_in_flight must be an integer, not NoneType"),
    (Pacing, {"max_in_flight": 1.5}, "max_in_flight must be an integer, not float"),
)


@pytest.mark.parametrize(("settings", "values", "message"), WRONG_TYPES, ids=label)
def test_a_wrong_type_is_a_type_error(settings: Callable[..., object], values: dict[str, Any], message: str) -> None:
    """It names the setting and what came, and comes when the settings are made."""
    with pytest.raises(TypeError) as caught:
        settings(**values)
    assert str(caught.value) == message


POSITIVE = "must be a positive, finite number"
NON_NEGATIVE = "must be a non-negative, finite number"

OUT_OF_RANGE: tuple[tuple[Callable[..., object], dict[str, Any], str], ...] = (
    (Polling, {"initial": -0.001}, f"initial {NON_NEGATIVE}"),
    (Polling, {"initial": math.nan}, f"initial {NON_NEGATIVE}"),
    (Polling, {"initial": math.inf, "maximum": math.inf}, f"initial {NON_NEGATIVE}"),
    (Polling, {"initial": TOO_LARGE}, f"initial {NON_NEGATIVE}"),
    (Polling, {"initial": 10.001}, "maximum must be at least initial"),
    (Polling, {"maximum": 0.999}, "maximum must be at least initial"),
    (Polling, {"multiplier": 0}, f"multiplier {POSITIVE}"),
    (Polling, {"multiplier": math.inf}, f"multiplier {POSITIVE}"),
    (Polling, {"multiplier": TOO_LARGE}, f"multiplier {POSITIVE}"),
    (Polling, {"multiplier": 0.999}, "multiplier must be at least 1: pauses never shrink"),
    (Polling, {"initial": 0, "maximum": 0}, f"maximum {POSITIVE}"),
    (Polling, {"maximum": math.nan}, f"maximum {POSITIVE}"),
    (Polling, {"maximum": math.inf}, f"maximum {POSITIVE}"),
    (Polling, {"maximum": TOO_LARGE}, f"maximum {POSITIVE}"),
    (Polling, {"jitter": -0.1}, f"jitter {NON_NEGATIVE}"),
    (Polling, {"jitter": math.nan}, f"jitter {NON_NEGATIVE}"),
    (Polling, {"jitter": 1.001}, "jitter must be at most 1: it is a fraction of the pause"),
    (Polling, {"timeout": 0}, f"timeout {POSITIVE}"),
    (Polling, {"timeout": -1}, f"timeout {POSITIVE}"),
    (Polling, {"timeout": math.inf}, f"timeout {POSITIVE}"),
    (Polling, {"timeout": math.nan}, f"timeout {POSITIVE}"),
    (Polling, {"timeout": TOO_LARGE}, f"timeout {POSITIVE}"),
    (Polling, {"max_failures": 0}, "max_failures must be at least 1"),
    (Polling, {"max_failures": -8}, "max_failures must be at least 1"),
    (Pacing, {"requests_per_window": 0}, "requests_per_window must be at least 1"),
    (Pacing, {"requests_per_window": -60}, "requests_per_window must be at least 1"),
    (Pacing, {"window": 0}, f"window {POSITIVE}"),
    (Pacing, {"window": -60.0}, f"window {POSITIVE}"),
    (Pacing, {"window": math.nan}, f"window {POSITIVE}"),
    (Pacing, {"window": math.inf}, f"window {POSITIVE}"),
    (Pacing, {"window": TOO_LARGE}, f"window {POSITIVE}"),
    (Pacing, {"window": 5e-324}, "window must be at least 0.001 s"),
    (Pacing, {"max_in_flight": 0}, "max_in_flight must be at least 1"),
    (Pacing, {"requests_per_window": TOO_LARGE}, "requests_per_window must be at most 1,000,000,000"),
)


@pytest.mark.parametrize(("settings", "values", "message"), OUT_OF_RANGE, ids=label)
def test_what_cannot_work_is_a_configuration_error(
    settings: Callable[..., object], values: dict[str, Any], message: str
) -> None:
    """It says what would do, and comes when the settings are made."""
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    assert str(caught.value) == message


def test_a_number_is_checked_under_the_name_given() -> None:
    """Other modules check their arguments in the same words."""
    with pytest.raises(ConfigurationError, match=r"^request_timeout must be a positive, finite number$"):
        check_number("request_timeout", 0)
    check_number("request_timeout", 0, zero=True)
    check_number("request_timeout", 10)


def test_polling_without_a_strategy_is_equal_by_value() -> None:
    """Waits under equal settings share their requests, so equal settings are one key."""
    assert Polling(initial=2) == Polling(initial=2.0)
    assert hash(Polling(initial=2)) == hash(Polling(initial=2.0))
    assert Polling(initial=2) != Polling(initial=3)


def test_a_strategy_is_equal_to_itself_alone() -> None:
    """What two strategies do cannot be compared; the same one surely does the same."""
    strategy = wait_fixed(1)
    assert Polling(wait=strategy) == Polling(wait=strategy)
    assert hash(Polling(wait=strategy)) == hash(Polling(wait=strategy))
    assert Polling(wait=strategy) != Polling(wait=wait_fixed(1))
    assert Polling(wait=strategy) != Polling()


def test_a_strategy_is_never_asked_whether_it_is_equal() -> None:
    """Its own equality may be anything, and it may have no hash."""
    one, other = Polling(wait=Unhashable()), Polling(wait=Unhashable())
    assert one != other
    assert len({one, other, one}) == 2


def test_pacing_is_equal_by_value() -> None:
    """It is a value like any other."""
    assert Pacing(requests_per_window=60) == Pacing(requests_per_window=60, window=60)
    assert hash(Pacing(requests_per_window=60)) == hash(Pacing(requests_per_window=60, window=60))
    assert Pacing() != Pacing(requests_per_window=60)
