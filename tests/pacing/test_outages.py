"""Transient failures in a row: the session asks one request at a time what is up."""

from __future__ import annotations

import math

import pytest

from playai_async import Pacing
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.pacer import Pacer
from tests.support.dice import Dice
from tests.support.pacers import PLENTY, sending


def failing(pacer: Pacer, now: float, *, several: bool = True) -> bool:
    """Send a request that fails at once; return whether that closed the gate."""
    sending(pacer, now)
    return pacer.on_failed(now, several=several)


def test_three_transient_failures_in_a_row_close_the_gate_for_ever_longer_pauses(dice: Dice) -> None:
    """Half as long again each, and as long as after a 429 at most; the third is news, and those after it are not."""
    pacer = build_pacer(PLENTY)
    assert [failing(pacer, 0.0) for _ in range(3)] == [False, False, True]
    pauses, now = [], 0.0
    for _ in range(7):
        assert pacer.pause_reason == "outage"
        assert pacer.delay(now) == pacer.paused_for(now)
        pauses.append(pacer.delay(now))
        now += pauses[-1]
        assert failing(pacer, now) is False
    assert pauses == [1.0, 1.5, 2.25, 3.375, 5.0, 5.0, 5.0]
    assert dice.asked == []


@pytest.mark.parametrize(
    ("window", "expected"), [(6.0, [0.5, 0.5]), (18.0, [1.0, 1.5, 1.5]), (3_600.0, [1.5**step for step in range(12)])]
)
def test_pauses_in_an_outage_are_a_twelfth_of_a_window_at_most(window: float, expected: list[float]) -> None:
    """As after a 429."""
    pacer, now = build_pacer(Pacing(10**6, window)), 0.0
    failing(pacer, now)
    failing(pacer, now)
    for pause in expected:
        failing(pacer, now)
        assert pacer.delay(now) == pytest.approx(pause, rel=1e-12)
        now += pause


def test_an_outage_of_any_length_keeps_its_pause() -> None:
    """Powers overflow after some thousand failures, and nothing may come of that."""
    pacer, now = build_pacer(PLENTY), 0.0
    for _ in range(5_000):
        failing(pacer, now)
        now += pacer.delay(now)
    failing(pacer, now)
    assert pacer.delay(now) == 5.0


def test_in_an_outage_one_request_goes_at_a_time() -> None:
    """And not before the earlier requests have ended, or two seconds later."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 4)
    assert [pacer.on_failed(now, several=True) for now in (1.0, 2.0, 3.0)] == [False, False, True]
    assert (pacer.delay(3.0), pacer.paused_for(3.0)) == (3.0, 1.0)
    assert pacer.on_failed(3.5, several=True) is False
    assert pacer.delay(3.5) == pacer.paused_for(3.5) == 0.5
    sending(pacer, 4.0)
    assert pacer.delay(100.0) == math.inf


def test_a_hint_on_a_failure_is_an_outage_by_itself(dice: Dice) -> None:
    """A 503 with `Retry-After` pauses also a single wait; a later, longer hint counts, and a shorter one does not."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 3)
    assert pacer.on_failed(1.0, 0.0, several=False, retry_after=30.0) is True
    assert (pacer.pause_reason, pacer.paused_for(1.0)) == ("outage", 30.0)
    assert pacer.on_failed(2.0, 0.0, several=False, retry_after=5.0) is False
    assert pacer.paused_for(2.0) == 29.0
    assert pacer.on_failed(3.0, 0.0, several=False, retry_after=60.0) is False
    assert pacer.paused_for(3.0) == 60.0
    sending(pacer, 63.0)
    assert pacer.on_failed(64.0, 63.0, several=False, retry_after=10.0) is False
    assert (pacer.pause_reason, pacer.delay(64.0)) == ("outage", 10.0)
    sending(pacer, 74.0)
    pacer.on_accepted(75.0, 74.0)
    assert (pacer.pause_reason, pacer.delay(75.0)) == (None, 0.0)


def test_a_hint_on_a_failed_probe_after_a_429_lengthens_its_pause(dice: Dice) -> None:
    """It is still about the 429."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0)
    pacer.on_throttled(1.0, 0.0, 1.0)
    sending(pacer, 2.0)
    pacer.on_failed(3.0, 2.0, several=True, retry_after=40.0)
    assert (pacer.pause_reason, pacer.delay(3.0)) == ("throttled", 40.0)


def test_an_accepted_request_ends_an_outage() -> None:
    """The gate is open, and the next outage begins with short pauses."""
    pacer = build_pacer(PLENTY)
    for _ in range(3):
        failing(pacer, 0.0)
    sending(pacer, 1.0)
    pacer.on_accepted(1.5)
    assert (pacer.delay(1.5), pacer.paused_for(1.5), pacer.pause_reason) == (0.0, 0.0, None)
    assert [failing(pacer, 2.0) for _ in range(3)] == [False, False, True]
    assert pacer.delay(2.0) == 1.0


def test_an_outage_that_ends_tells_of_no_edge(dice: Dice) -> None:
    """It had nothing to do with the quota."""
    pacer = build_pacer(PLENTY)
    for _ in range(3):
        failing(pacer, 0.0)
    sending(pacer, 1.0)
    pacer.on_accepted(1.0)
    sending(pacer, 2.0)
    pacer.on_throttled(2.0, 2.0, None)
    assert pacer.delay(2.0) == 5.0


@pytest.mark.parametrize("how", ["accepted", "throttled"], ids=str)
def test_any_verdict_on_the_quota_resets_the_count(how: str, dice: Dice) -> None:
    """In a row means in a row, and a service that says 429 is not down."""
    pacer = build_pacer(PLENTY)
    for now in (0.0, 100.0, 200.0):
        failing(pacer, now - 2.0)
        failing(pacer, now - 1.0)
        sending(pacer, now)
        if how == "throttled":
            pacer.on_throttled(now, now, 10.0)
            sending(pacer, now + 10.0)
        pacer.on_accepted(now + 10.0)
    assert (pacer.delay(300.0), pacer.pause_reason) == (0.0, None)


def test_a_request_that_was_abandoned_does_not_reset_the_count() -> None:
    """It says nothing, and the next goes at once."""
    pacer = build_pacer(PLENTY)
    failing(pacer, 0.0)
    failing(pacer, 0.0)
    sending(pacer, 0.0)
    pacer.on_abandoned(0.0)
    assert failing(pacer, 0.0) is True
    sending(pacer, 1.0)
    pacer.on_abandoned(1.0)
    assert (failing(pacer, 1.0), pacer.delay(1.0)) == (False, 1.5)


def test_failures_of_a_lonely_wait_count_but_do_not_close_the_gate() -> None:
    """Its own pauses are enough for it; as soon as others wait, they are not."""
    pacer = build_pacer(PLENTY)
    assert [failing(pacer, 0.0, several=False) for _ in range(1_000)] == [False] * 1_000
    assert (pacer.delay(0.0), pacer.pause_reason) == (0.0, None)
    pacer = build_pacer(PLENTY)
    assert [failing(pacer, 0.0, several=several) for several in (False, False, True)] == [False, False, True]


def test_a_wait_that_is_left_alone_in_an_outage_keeps_its_own_pauses() -> None:
    """The gate opens for it, though it failed."""
    pacer = build_pacer(PLENTY)
    for _ in range(3):
        failing(pacer, 0.0)
    assert failing(pacer, 1.0, several=False) is False
    assert (pacer.delay(1.0), pacer.paused_for(1.0), pacer.pause_reason) == (0.0, 0.0, None)


def test_a_429_in_an_outage_is_a_429(dice: Dice) -> None:
    """The gate was closed already, but for another reason, and for a shorter time."""
    pacer = build_pacer(PLENTY)
    for _ in range(3):
        failing(pacer, 0.0)
    sending(pacer, 1.0)
    assert pacer.on_throttled(1.0, 1.0, None) is True
    assert (pacer.delay(1.0), pacer.pause_reason) == (5.0, "throttled")


def test_a_429_to_a_request_from_before_an_outage_is_one_too(dice: Dice) -> None:
    """Whoever sent it: the quota is spent, and the probe that would have gone in a second waits for that."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0)
    for _ in range(3):
        failing(pacer, 0.0)
    assert pacer.on_throttled(0.5, 0.0, None) is True
    assert (pacer.delay(0.5), pacer.pause_reason) == (5.0, "throttled")
