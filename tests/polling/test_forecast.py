"""When a job is polled that is likely to be finished: the forecast by itself, without a clock."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playai_async.jobs._polling.forecast import Forecast, Plan

FAR = 1e9
"""Seconds: no limit."""

WINDOW = 60.0


def planned(forecast: Forecast, log_size: float = 0.0, age: float = 0.0, *, least: float = 0.0) -> Plan:
    """Plan a poll that no limit holds back."""
    plan = forecast.plan(log_size, age, least=least, most=FAR)
    assert plan is not None
    return plan


def after(lengths: Sequence[float]) -> Forecast:
    """Return a forecast that has seen jobs without a size."""
    forecast = Forecast()
    for length in lengths:
        forecast.learn(0.0, length)
    return forecast


def expected_lag(lengths: Sequence[float], age: float, at: float) -> float:
    """Return the lag that a poll is expected to end, by the definition."""
    survivors = [length for length in lengths if length > age]
    return sum(at - length for length in survivors if length < at) / (len(survivors) + 1)


def alternating(count: int) -> list[float]:
    """Return lengths whose mean logarithm stays near 0."""
    return [math.exp((-1) ** number * 0.1 * (number % 7)) * 20 for number in range(count)]


def lengths_of(forecast: Forecast, log_size: float = 0.0) -> list[float]:
    """Return the lengths that the residuals of a forecast stand for."""
    scale = math.exp(forecast._predict(log_size))
    return [ratio * scale for ratio in forecast._ratios]


def test_eight_residuals_make_a_forecast() -> None:
    """The first job has none, since nothing was predicted before it."""
    assert after([20.0] * 8).plan(0.0, 0.0, least=0.0, most=FAR) is None
    assert not after([20.0] * 8).ready
    assert after([20.0] * 9).plan(0.0, 0.0, least=0.0, most=FAR) is not None
    assert after([20.0] * 9).ready


def test_jobs_that_take_the_same_time_are_polled_when_they_have_taken_it() -> None:
    """Nine residuals of nothing: the expected lag is nine tenths of what a poll comes late."""
    plan = planned(after([20.0] * 10))
    assert plan.earliest == pytest.approx(20 + 0.25 * 10 / 9)
    assert plan.due == pytest.approx(20 + 2 * 10 / 9)
    assert plan.expected == pytest.approx(20)


@pytest.mark.parametrize("age", [0.0, 12.0, 19.0, 25.0])
def test_a_poll_may_go_and_is_due_at_two_values_of_the_expected_lag(age: float) -> None:
    """Of the survivors: what is shorter than the age is ruled out."""
    forecast = after(alternating(40))
    plan, lengths = planned(forecast, age=age), lengths_of(forecast)
    assert expected_lag(lengths, age, plan.earliest) == pytest.approx(0.25)
    assert expected_lag(lengths, age, plan.due) == pytest.approx(2.0)
    survivors = [length for length in lengths if length > age]
    assert plan.expected == pytest.approx(survivors[len(survivors) // 2])


def test_fewer_than_three_survivors_make_no_forecast() -> None:
    """The job takes longer than nearly all others did."""
    forecast = after(alternating(40))
    *_, third, second, _ = lengths_of(forecast)
    assert forecast.plan(0.0, third * 0.999, least=0.0, most=FAR) is not None
    assert forecast.plan(0.0, second * 0.999, least=0.0, most=FAR) is None


def test_no_poll_goes_before_the_least_age_or_is_planned_after_the_most() -> None:
    """Where these exclude each other, the least holds."""
    forecast = after([20.0] * 10)
    limits = [(30.0, FAR), (0.0, 15.0), (25.0, 15.0)]
    plans = [forecast.plan(0.0, 0.0, least=least, most=most) for least, most in limits]
    assert [plan and (plan.earliest, plan.due) for plan in plans] == [(30.0, 30.0), (15.0, 15.0), (25.0, 25.0)]


def test_a_longer_text_takes_longer() -> None:
    """In proportion, if the jobs before did so."""
    forecast, rng = Forecast(), random.Random(1)  # noqa: S311 - repeatable, not secret
    for _ in range(60):
        characters = rng.lognormvariate(7, 1)
        forecast.learn(math.log(characters), 0.02 * characters)
    for characters in (300, 1_000, 5_000):
        assert planned(forecast, math.log(characters)).expected == pytest.approx(0.02 * characters, rel=0.1)


def test_two_jobs_do_not_make_a_slope() -> None:
    """A small difference in size explains nothing yet."""
    forecast = Forecast()
    forecast.learn(7.0, 10.0)
    forecast.learn(7.01, 40.0)
    assert math.exp(forecast._predict(10.0)) == pytest.approx(20.0, rel=0.1)


def test_one_job_that_takes_for_ever_does_not_turn_the_line() -> None:
    """It is clipped in the line, and kept as it is among the residuals."""
    lengths = alternating(40)
    usual, after_one = after(lengths), after([*lengths, 1e6])
    assert math.exp(after_one._predict(0.0) - usual._predict(0.0)) < 1.1
    assert lengths_of(after_one)[-1] == pytest.approx(1e6, rel=0.1)


def test_a_service_that_becomes_slower_is_followed() -> None:
    """Old jobs count less, and only the last hundred residuals are kept."""
    forecast = after([*alternating(200), *(10 * length for length in alternating(200))])
    assert planned(forecast).expected == pytest.approx(200, rel=0.1)
    assert len(forecast._ratios) == len(forecast._recent) == 100


LENGTHS = st.floats(1e-6, 1e9)
LOG_SIZES = st.floats(-800, 800)
JOBS = st.lists(st.tuples(LOG_SIZES, LENGTHS), min_size=9, max_size=150)


@given(JOBS, LOG_SIZES, st.floats(0, 1e9), st.floats(0, 100))
def test_every_plan_is_finite_and_at_most_a_window_ahead(
    jobs: list[tuple[float, float]], log_size: float, age: float, pause: float
) -> None:
    """So that no poll starves, whatever was seen."""
    forecast = Forecast()
    for job in jobs:
        forecast.learn(*job)
    plan = forecast.plan(log_size, age, least=age + pause, most=age + WINDOW)
    if plan is not None:
        assert age + pause <= plan.earliest <= plan.due <= age + max(pause, WINDOW)
        assert math.isfinite(plan.expected)


@given(st.lists(st.tuples(LOG_SIZES, LENGTHS), min_size=1, max_size=300))
def test_the_sums_stay_finite_and_the_residuals_sorted(jobs: list[tuple[float, float]]) -> None:
    """However long a session lives."""
    forecast = Forecast()
    for job in jobs:
        forecast.learn(*job)
    assert all(map(math.isfinite, (forecast._n, forecast._x, forecast._y, forecast._xx, forecast._xy)))
    assert forecast._n <= 1 / (1 - 0.98)
    assert math.isfinite(forecast._base)
    assert math.isfinite(forecast._slope)
    assert forecast._ratios == sorted(forecast._recent)
    assert len(forecast._recent) == min(100, len(jobs) - 1)


@given(st.lists(st.floats(1.0, 100.0), min_size=12, max_size=120), st.floats(0, 60))
def test_the_search_finds_what_the_definition_says(lengths: list[float], age: float) -> None:
    """The expected lag, summed over all survivors, is 0.25 and 2 s at the times of the plan."""
    forecast = after(lengths)
    plan = forecast.plan(0.0, age, least=0.0, most=FAR)
    seen = lengths_of(forecast)
    if plan is None:
        assert sum(length > age for length in seen) < 3
    else:
        assert expected_lag(seen, age, plan.earliest) == pytest.approx(0.25, rel=1e-6)
        assert expected_lag(seen, age, plan.due) == pytest.approx(2.0, rel=1e-6)
