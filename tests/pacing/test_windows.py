"""The service's windows: where they begin, and what counts in the one at hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async._settings import RESOLUTION
from playai_async.jobs._pacing.windows import SlidingWindow, WindowClock


def windows_with(*edges: tuple[float, float]) -> WindowClock:
    """Make a windows of minutes that has seen some edges."""
    windows = WindowClock(60.0)
    for after, before in edges:
        windows.on_edge_between(after, before)
    return windows


# The windows


def test_of_a_grid_without_an_edge_nothing_is_known() -> None:
    """None has passed for sure, and none will."""
    windows = WindowClock(60.0)
    assert (windows.known, windows.last_edge(100.0), windows.next_edge(100.0)) == (False, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("now", "passed", "following"),
    [
        (105.0, 100.0, 165.0),
        (100.0, 40.0, 105.0),
        (104.0, 40.0, 105.0),
        (105.0 - RESOLUTION / 2, 100.0, 165.0),
        (105.0 - RESOLUTION * 2, 40.0, 105.0),
        (164.0, 100.0, 165.0),
        (165.0, 160.0, 225.0),
        (6_105.0, 6_100.0, 6_165.0),
        (0.0, -20.0, 45.0),
    ],
    ids=str,
)
def test_edges_come_every_window(now: float, passed: float, following: float) -> None:
    """Each is somewhere in five seconds: behind it for sure at their end, before it for sure at their beginning."""
    windows = windows_with((100.0, 105.0))
    assert windows.known
    assert (windows.last_edge(now), windows.next_edge(now), windows.uncertainty()) == (passed, following, 5.0)


@pytest.mark.parametrize(
    ("second", "early", "late"),
    [
        ((162.0, 168.0), 162.0, 165.0),
        ((158.0, 164.0), 160.0, 164.0),
        ((161.0, 164.0), 161.0, 164.0),
        ((140.0, 169.0), 160.0, 165.0),
        ((6_101.0, 6_102.0), 6_101.0, 6_102.0),
    ],
    ids=["later", "earlier", "within", "around", "much later"],
)
def test_what_is_known_of_an_edge_grows_with_each_that_is_seen(
    second: tuple[float, float], early: float, late: float
) -> None:
    """It lies in all the spans, put upon one another."""
    windows = windows_with((100.0, 105.0), second)
    assert (windows.last_edge(second[1] + 5.0), windows.next_edge(late + 1.0)) == (early, late + 60.0)


def test_an_edge_that_contradicts_what_was_known_takes_its_place() -> None:
    """The service began its windows anew, or the first was no edge."""
    windows = windows_with((100.0, 105.0), (190.0, 192.0))
    assert (windows.last_edge(192.0), windows.next_edge(192.0), windows.uncertainty()) == (190.0, 252.0, 2.0)


@pytest.mark.parametrize(("before", "known"), [(130.0, True), (130.1, False), (500.0, False)], ids=str)
def test_moments_more_than_half_a_window_apart_tell_nothing(before: float, known: bool) -> None:
    """The edge may be anywhere between, or there were several."""
    assert windows_with((100.0, before)).known is known


def test_moments_too_far_apart_leave_what_was_known() -> None:
    """They contradict nothing."""
    windows = windows_with((100.0, 105.0), (120.0, 166.0))
    assert (windows.last_edge(170.0), windows.uncertainty()) == (160.0, 5.0)


def test_what_is_forgotten_is_not_known() -> None:
    """Until an edge is seen again, wherever it is."""
    windows = windows_with((100.0, 105.0))
    windows.forget()
    assert (windows.known, windows.last_edge(200.0), windows.next_edge(200.0)) == (False, -math.inf, math.inf)
    windows.on_edge_between(222.0, 223.0)
    assert windows.last_edge(223.0) == 222.0


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    phase=st.floats(0.0, 60.0),
    sightings=st.lists(st.tuples(st.integers(0, 500), st.floats(0.001, 20.0), st.floats(0.001, 9.9)), min_size=1),
    wait=st.floats(0.0, 1_000.0),
)
def test_the_true_edges_are_where_the_grid_says(
    phase: float, sightings: list[tuple[int, float, float]], wait: float
) -> None:
    """However many windows lie between two that were seen."""
    windows = WindowClock(60.0)
    number = 0
    for skipped, before, after in sightings:
        number += skipped
        edge = phase + 60.0 * number
        windows.on_edge_between(edge - before, edge + after)
        for now in (edge + after, edge + after + wait):
            passed = phase + 60.0 * math.floor((now - phase) / 60.0)
            assert windows.last_edge(now) <= passed + 1e-6
            assert windows.next_edge(now) >= now + RESOLUTION / 2
            late = windows.next_edge(now) - phase
            assert -1e-6 <= late - 60.0 * round((late - 5.0) / 60.0) <= 10.0


# SlidingWindow


def test_a_request_takes_a_place_until_one_window_after_its_end() -> None:
    """While it is under way there is no telling when that will be."""
    sliding = SlidingWindow(60.0)
    sliding.on_sent()
    assert (sliding.count(1_000.0), sliding.next_expiry()) == (1, math.inf)
    sliding.on_ended(1_000.0)
    assert sliding.count(1_060.0) == 1
    assert sliding.next_expiry() == pytest.approx(1_060.0, abs=3 * RESOLUTION)
    assert sliding.count(sliding.next_expiry()) == 0


def test_a_request_that_may_be_counted_late_keeps_its_place_longer() -> None:
    """A twelfth of a window."""
    sliding = SlidingWindow(60.0)
    sliding.on_sent()
    sliding.on_ended(0.0, late=True)
    assert (sliding.next_expiry(), sliding.count(64.9), sliding.count(65.1)) == (65.0, 1, 0)


def test_a_request_that_was_not_counted_takes_no_place() -> None:
    """Once it has ended."""
    sliding = SlidingWindow(60.0)
    sliding.on_sent()
    assert sliding.count(0.0) == 1
    sliding.on_ended(0.0, counted=False)
    assert (sliding.count(0.0), sliding.next_expiry()) == (0, math.inf)


def test_behind_an_edge_the_places_taken_before_it_are_free() -> None:
    """But for those still under way, and those that may be counted late."""
    sliding = SlidingWindow(60.0)
    for _ in range(4):
        sliding.on_sent()
    sliding.on_ended(0.0)
    sliding.on_ended(9.0, late=True)
    sliding.on_ended(12.0)
    assert sliding.count(12.0, last_edge=-50.0) == 4
    assert sliding.count(12.0, last_edge=10.0) == 3
    assert sliding.count(20.0, last_edge=15.0) == 1


def test_those_that_ended_since_a_moment_are_counted() -> None:
    """That moment among them."""
    sliding = SlidingWindow(60.0)
    for now in (0.0, 1.0, 2.0, 3.0):
        sliding.on_sent()
        sliding.on_ended(now)
    assert [sliding.ended_since(moment) for moment in (-1.0, 1.0, 1.1, 4.0)] == [4, 3, 2, 0]
