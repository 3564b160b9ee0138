"""The models of rate limiters that the emulator does not have."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async.emulator._service.limiters import FixedWindowLimiter, Limiter
from tools.limiters import (
    KINDS,
    CountingSlidingLogLimiter,
    FirstRequestLimiter,
    Setting,
    SharedLimiter,
    SlidingCounterLimiter,
    TieredLimiter,
)


def admitted(limiter: Limiter, *times: float) -> list[float]:
    """Send a request at each of the times, and return the times at which one was admitted."""
    return [at for at in times if limiter.admit("key", at)]


def test_a_sliding_counter_weighs_the_window_before() -> None:
    """Four of four in the first window: one place is free after each further quarter of the second."""
    limiter = SlidingCounterLimiter(4, 60.0)
    assert admitted(limiter, 0.0, 1.0, 2.0, 59.0, 59.9) == [0.0, 1.0, 2.0, 59.0]
    assert limiter.seconds_left("key", 59.9) == pytest.approx(15.1)
    assert admitted(limiter, 60.0, 74.9, 75.0, 75.1, 89.9, 90.0, 104.9, 105.0) == [75.0, 90.0, 105.0]


def test_a_sliding_counter_forgets_after_two_windows() -> None:
    """The count before the last is not weighed."""
    limiter = SlidingCounterLimiter(2, 60.0, phase=30.0)
    assert admitted(limiter, 0.0, 0.0, 0.0, 90.0, 90.0) == [0.0, 0.0, 90.0, 90.0]


def test_a_sliding_counter_may_count_what_it_refuses() -> None:
    """Then the next window pays for the hammering."""
    limiter = SlidingCounterLimiter(4, 60.0, counts_refused=True)
    assert admitted(limiter, *[0.0] * 8) == [0.0] * 4
    assert limiter.seconds_left("key", 0.0) == pytest.approx(97.5)
    assert admitted(limiter, 97.4, 97.5, 112.5) == [112.5]  # the first of them counts, too


def test_a_sliding_log_that_counts_what_it_refuses_needs_a_pause() -> None:
    """One request every 10 s is too much for two a minute, and stays refused."""
    limiter = CountingSlidingLogLimiter(2, 60.0)
    assert admitted(limiter, *[10.0 * number for number in range(30)]) == [0.0, 10.0]
    assert limiter.seconds_left("key", 290.0) == 50.0
    assert admitted(limiter, 340.0) == [340.0]


def test_a_window_may_begin_with_its_first_request() -> None:
    """So there is no grid."""
    limiter = FirstRequestLimiter(2, 60.0)
    assert admitted(limiter, 59.0, 60.0, 61.0, 118.9, 119.0, 150.0, 170.0, 179.0) == [59.0, 60.0, 119.0, 150.0, 179.0]


def test_a_window_may_begin_anew_with_each_refused_request() -> None:
    """Only a pause of a whole window ends it."""
    limiter = FirstRequestLimiter(1, 60.0, renews=True)
    assert admitted(limiter, 0.0, 30.0, 60.0, 119.0, 178.9, 238.9) == [0.0, 238.9]


def test_tiers_admit_what_fits_into_all_of_them() -> None:
    """A request that one tier refuses counts in none."""
    limiter = TieredLimiter((2, 1.0), (3, 60.0))
    assert admitted(limiter, 0.0, 0.1, 0.2, 1.0, 1.5, 59.9, 60.0, 60.1) == [0.0, 0.1, 1.0, 60.0, 60.1]
    assert limiter.seconds_left("key", 60.2) == pytest.approx(0.8)


def test_strangers_take_their_part() -> None:
    """About half of each window, whether anybody else asks or not."""
    limiter = SharedLimiter(FixedWindowLimiter(60, 60.0), 2.0, random.Random(1))  # noqa: S311 - not secret
    assert 20 <= len(admitted(limiter, *[59.0] * 60)) <= 40


@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].has_quota])
@given(
    pauses=st.lists(st.floats(0.0, 20.0), max_size=80),
    quota=st.integers(1, 20),
    phase=st.floats(0.0, 59.9),
)
def test_a_limiter_admits_when_it_says(kind: str, pauses: list[float], quota: int, phase: float) -> None:
    """Who waits as long as the 429 says is admitted, unless strangers came first; and no window takes two quotas."""
    limiter = KINDS[kind].make(Setting(quota, 60.0, phase, random.Random(1)))  # noqa: S311 - not secret
    now, times = 0.0, list[float]()
    for pause in pauses:
        now += pause
        if not limiter.admit("key", now):
            now += limiter.seconds_left("key", now)
            assert limiter.admit("key", now) or kind == "shared"
        times.append(now)
    assert all(sum(begin <= at < begin + 59.9 for at in times) <= 2 * quota for begin in times) or kind == "shared"
