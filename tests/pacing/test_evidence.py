"""What a 429, a hint or another process's 429 shows, and what it does not."""

from __future__ import annotations

import math

import pytest

from playai_async.jobs._pacing.gate import Gate, Reopening
from playai_async.jobs._pacing.known_quota import KnownQuota
from playai_async.jobs._pacing.learned_quota import LearnedQuota
from playai_async.jobs._pacing.windows import WindowClock
from tests.support.dice import Dice


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """Dice that lengthen no pause."""
    dice = Dice(0.0)
    monkeypatch.setattr("random.uniform", dice)
    return dice


def windows_from(edge: float, *, certain: bool = False) -> WindowClock:
    """Make a clock of windows that has seen one edge."""
    windows = WindowClock(60.0, certain=certain)
    windows.on_reopened(edge - 0.1, edge, refused=True, predicted=True, spent=True)
    assert windows.known
    return windows


def test_a_request_that_hangs_past_the_edge_does_not_hide_what_the_window_took() -> None:
    quota = LearnedQuota(60.0, windows_from(0.0, certain=True))
    for number in range(95):  # of which the last one hangs
        quota.on_sent(1.0 + number * 0.6, 0.0, 0)
        if number < 94:
            quota.on_accepted(1.0 + number * 0.6)
    quota.on_sent(58.0, 0.0, 0)
    quota.on_throttled(58.0, first=True)
    quota.on_probe_sent(60.1)
    quota.on_reopened(60.2, Reopening(2.2, refused=False))
    quota.on_accepted(60.2)
    for _ in range(5):
        quota.on_sent(61.0, 0.0, 0)
        quota.on_accepted(61.0)
    assert quota.limit == math.floor(0.95 * 95)
    quota.on_ended(64.0, late=True)
    assert quota.limit == math.floor(0.95 * 95)


def test_a_long_hint_does_not_hide_what_the_window_took_while_a_request_hangs() -> None:
    quota = LearnedQuota(60.0, WindowClock(60.0))
    for number in range(40):  # of which the first one hangs
        quota.on_sent(float(number), 0.0, 0)
        if number:
            quota.on_accepted(float(number))
    quota.on_sent(40.0, 0.0, 0)
    quota.on_throttled(40.0, first=True)
    quota.on_probe_sent(95.0)
    assert quota.limit == math.floor(0.95 * 39)


def test_our_own_pause_that_a_shared_quota_returns_does_not_confirm_an_edge() -> None:
    windows = windows_from(0.0, certain=True)
    gate = Gate(5.0, windows)
    assert gate.on_throttled(20.0, 20.0, None, spent=True)
    edge = 20.0 + gate.closed_for(20.0)
    assert gate.hold(20.1, edge - 20.0) is False
    assert gate.closed_for(20.1) == pytest.approx(edge - 20.0), "a pause never gets shorter"
    assert gate.on_sent(edge + 0.2)
    gate.on_throttled(edge + 0.2, edge + 0.2, None, spent=False)
    assert not windows.known, "the service refused a request where the edge should have been"


def test_a_longer_pause_of_another_process_replaces_our_own() -> None:
    windows = windows_from(0.0, certain=True)
    gate = Gate(5.0, windows)
    assert gate.on_throttled(20.0, 20.0, None, spent=True)
    assert gate.hold(21.0, 120.0) is False
    assert gate.closed_for(21.0) == 120.0
    assert gate.on_sent(141.0)
    gate.on_throttled(141.0, 141.0, None, spent=False)
    assert windows.known, "others may have spent the window meanwhile"


def test_a_429_of_another_process_repeats_no_evidence_of_our_own() -> None:
    windows = WindowClock(60.0)
    gate = Gate(5.0, windows)
    assert gate.on_throttled(0.0, 0.0, None, spent=True)
    assert gate.on_sent(5.5)
    gate.on_throttled(5.5, 5.5, None, spent=True)
    assert gate.on_sent(16.0)
    assert gate.on_accepted(16.0, 16.0) == Reopening(16.0, refused=True)
    assert not windows.trusted
    for now in (18.0, 21.0, 24.0):
        assert gate.hold(now, 0.5) is True
        assert gate.on_sent(now + 1.0)
        assert gate.on_accepted(now + 1.0, now + 1.0) == Reopening(1.0, refused=False)
    assert not windows.trusted


@pytest.mark.parametrize("requests", [1, 3, 60])
def test_the_answer_to_the_probe_alone_is_no_test_of_a_new_window(requests: int) -> None:
    windows = WindowClock(60.0)
    quota = LearnedQuota(60.0, windows, known=requests)
    quota.on_sent(0.0, 0.0, 0)
    quota.on_throttled(0.0, first=True)
    windows.on_reopened(0.0, 5.0, refused=False, predicted=False, spent=True)
    quota.on_probe_sent(5.0)
    quota.on_reopened(5.0, Reopening(5.0, refused=False))
    quota.on_accepted(5.0)
    assert windows.doubtful
    assert quota.limit is not None
    for _ in range(max(1, math.ceil(0.3 * quota.limit) - 1)):
        assert windows.doubtful
        quota.on_sent(6.0, 0.0, 0)
        quota.on_accepted(6.0)
    assert not windows.doubtful


def test_hints_of_the_service_do_not_shorten_the_pauses_without_one() -> None:
    windows = WindowClock(60.0)
    while not windows.refuted:
        windows.refute()
    gate = Gate(5.0, windows)
    for now in range(0, 200, 40):
        assert gate.on_throttled(now, now, 30.0, spent=True)
        assert gate.on_sent(now + 30.0)
        assert gate.on_accepted(now + 30.0, now + 30.0)
    assert gate.on_throttled(200.0, 200.0, None, spent=True)
    assert gate.closed_for(200.0) == 5.0


def test_the_quota_that_is_reported_is_the_one_that_is_kept_to() -> None:
    windows = WindowClock(60.0, certain=True)
    quota = KnownQuota(60, 60.0, windows)
    assert quota.limit == 60
    for number in range(30):
        quota.on_sent(number * 0.5, 0.0, 0)
        quota.on_accepted(number * 0.5)
    quota.on_sent(15.0, 0.0, 0)
    quota.on_throttled(15.0, first=True)
    assert quota.limit < 60
    quota.change(10)
    assert quota.limit == 10


def test_until_a_429_shows_an_edge_two_quotas_may_go_in_a_span_of_one_window() -> None:
    """No more than that can be accepted: one before an edge, and one after it."""
    quota = KnownQuota(60, 60.0, WindowClock(60.0, certain=True), fixed=True)
    sent = 0
    while quota.delay(1.0, 0.0, hinted=True) == 0.0:
        quota.on_sent(1.0, 0.0, 0, hinted=True)
        quota.on_accepted(1.0)
        sent += 1
    assert sent == 120
