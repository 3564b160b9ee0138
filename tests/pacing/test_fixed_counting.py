"""A known quota of a service that surely counts in fixed windows: spent once per window, whose edges 429s show."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import ConfigurationError, Pacing
from playai_async.contrib.redis import RedisQuota
from playai_async.jobs._engine import build_pacer
from tests.support.dice import Dice
from tests.support.simulation import FixedWindows, Session, run

QUOTA = 60


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """Dice that stretch each pause by half of what they may."""
    dice = Dice(0.5)
    monkeypatch.setattr(random, "uniform", dice)
    return dice


FIXED = Pacing(requests_per_window=QUOTA, counting="fixed")


def fixed_session(*, at_once: bool = False, every: float = 0.0, begins: float = 0.0) -> Session:
    """A session with more to send than the quota allows, whose polls find finished jobs if all is due at once."""
    return Session(
        pacer=build_pacer(FIXED), every=every, begins=begins, waited=30.0 if at_once else 0.0, found=at_once or None
    )


def accepted_in_windows(session: Session, phase: float) -> dict[int, int]:
    """Count the accepted requests in each window of the service."""
    counts: dict[int, int] = {}
    for sent in session.sent:
        if sent.accepted:
            window = math.floor((sent.at + phase) / 60)
            counts[window] = counts.get(window, 0) + 1
    return counts


@pytest.mark.parametrize("phase", [0.0, 20.0, 41.0, 55.0])
def test_each_window_is_spent_whole_and_the_first_429_shows_where_it_ends(phase: float) -> None:
    session = fixed_session(at_once=True)
    run(FixedWindows(QUOTA, phase), [session], 600.0)
    counts = accepted_in_windows(session, phase)
    assert [counts[window] for window in sorted(counts)[1:-1]] == [QUOTA] * (len(counts) - 2)
    assert session.since(60.0 + 60.0 - phase)[1] <= 2, "later windows meet no 429s, or hardly any"


def test_two_quotas_go_around_an_edge() -> None:
    """A quota that is counted over any span would wait for a minute from the first request."""
    session = fixed_session(at_once=True)
    run(FixedWindows(QUOTA, 30.0), [session], 45.0)
    assert session.since(0.0)[0] > 1.5 * QUOTA


def test_waits_that_the_quota_serves_easily_meet_no_429() -> None:
    """Nothing is asked once too often: the edges are not needed."""
    session = fixed_session(every=1.5)
    run(FixedWindows(QUOTA, 17.0), [session], 1_800.0)
    assert session.since(0.0)[1] == 0


def test_a_constant_demand_meets_few_429s_and_uses_the_quota() -> None:
    session = fixed_session()
    run(FixedWindows(QUOTA, 17.0), [session], 1_800.0)
    assert session.refused_share() <= 0.02
    assert session.since(0.0)[0] >= 0.97 * QUOTA * 30


def test_after_idleness_the_edges_are_still_known() -> None:
    """The service's windows follow each other whether somebody asks or not."""
    session = fixed_session(at_once=True)
    run(FixedWindows(QUOTA, 20.0), [session], 130.0)
    late = Session(pacer=session.pacer, begins=3_600.0, waited=30.0, found=True)
    run(FixedWindows(QUOTA, 20.0), [late], 3_760.0)
    assert late.since(0.0)[1] <= 1


@pytest.mark.parametrize("allowed", [20, 40])
def test_a_quota_that_is_smaller_than_the_caller_says_is_learned(allowed: int) -> None:
    session = fixed_session()
    run(FixedWindows(allowed, 13.0), [session], 1_800.0)
    assert session.refused_share(180.0) <= 0.05
    assert session.since(180.0)[0] >= 0.8 * allowed * 27


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(
    phase=st.floats(0, 59.9),
    every=st.sampled_from([0.0, 0.5, 0.9, 1.1, 2.0]),
    at_once=st.booleans(),
    latency=st.sampled_from([0.02, 0.3, 2.0]),
)
def test_whatever_is_asked_few_requests_are_refused(phase: float, every: float, at_once: bool, latency: float) -> None:
    """At most 8 % of them, the first window included."""
    session = fixed_session(at_once=at_once, every=every)
    session.latency = lambda: latency
    run(FixedWindows(QUOTA, phase), [session], 900.0)
    assert session.refused_share() <= 0.08


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"counting": "fixed"}, ConfigurationError),
        ({"counting": "sometimes", "requests_per_window": 60}, ConfigurationError),
        ({"counting": None, "requests_per_window": 60}, TypeError),
        (
            {"counting": "fixed", "requests_per_window": 60, "shared": RedisQuota("redis://127.0.0.1:1/0")},
            ConfigurationError,
        ),
    ],
    ids=["unknown quota", "unknown word", "no text", "shared"],
)
def test_impossible_settings_are_refused(settings: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="counting"):
        Pacing(**settings)  # type: ignore[arg-type]  # the mistake under test
