"""The service's windows: where they begin, and what counts in the one at hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async._settings import RESOLUTION
from playai_async.jobs._pacing.windows import Grid, Places


def grid_with(*edges: tuple[float, float]) -> Grid:
    """Make a grid of minutes that has seen some edges."""
    grid = Grid(60.0)
    for after, before in edges:
        grid.seen(after, before)
    return grid


# The grid


def test_of_a_grid_without_an_edge_nothing_is_known() -> None:
    """None has passed for sure, and none will."""
    grid = Grid(60.0)
    assert (grid.known, grid.passed(100.0), grid.next(100.0)) == (False, -math.inf, math.inf)


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
    grid = grid_with((100.0, 105.0))
    assert grid.known
    assert (grid.passed(now), grid.next(now), grid.span()) == (passed, following, 5.0)


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
    grid = grid_with((100.0, 105.0), second)
    assert (grid.passed(second[1] + 5.0), grid.next(late + 1.0)) == (early, late + 60.0)


def test_an_edge_that_contradicts_what_was_known_takes_its_place() -> None:
    """The service began its windows anew, or the first was no edge."""
    grid = grid_with((100.0, 105.0), (190.0, 192.0))
    assert (grid.passed(192.0), grid.next(192.0), grid.span()) == (190.0, 252.0, 2.0)


@pytest.mark.parametrize(("before", "known"), [(130.0, True), (130.1, False), (500.0, False)], ids=str)
def test_moments_more_than_half_a_window_apart_tell_nothing(before: float, known: bool) -> None:
    """The edge may be anywhere between, or there were several."""
    assert grid_with((100.0, before)).known is known


def test_moments_too_far_apart_leave_what_was_known() -> None:
    """They contradict nothing."""
    grid = grid_with((100.0, 105.0), (120.0, 166.0))
    assert (grid.passed(170.0), grid.span()) == (160.0, 5.0)


def test_what_is_forgotten_is_not_known() -> None:
    """Until an edge is seen again, wherever it is."""
    grid = grid_with((100.0, 105.0))
    grid.forget()
    assert (grid.known, grid.passed(200.0), grid.next(200.0)) == (False, -math.inf, math.inf)
    grid.seen(222.0, 223.0)
    assert grid.passed(223.0) == 222.0


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
    grid = Grid(60.0)
    number = 0
    for windows, before, after in sightings:
        number += windows
        edge = phase + 60.0 * number
        grid.seen(edge - before, edge + after)
        for now in (edge + after, edge + after + wait):
            passed = phase + 60.0 * math.floor((now - phase) / 60.0)
            assert grid.passed(now) <= passed + 1e-6
            assert grid.next(now) >= now + RESOLUTION / 2
            assert -1e-6 <= grid.next(now) - phase - 60.0 * round((grid.next(now) - phase - 5.0) / 60.0) <= 10.0


# Places


def test_a_request_takes_a_place_until_one_window_after_its_end() -> None:
    """While it is under way there is no telling when that will be."""
    places = Places(60.0)
    places.sent()
    assert (places.taken(1_000.0), places.next_free()) == (1, math.inf)
    places.ended(1_000.0)
    assert places.taken(1_060.0) == 1
    assert places.next_free() == pytest.approx(1_060.0, abs=3 * RESOLUTION)
    assert places.taken(places.next_free()) == 0


def test_a_request_that_may_be_counted_late_keeps_its_place_longer() -> None:
    """A twelfth of a window."""
    places = Places(60.0)
    places.sent()
    places.ended(0.0, late=True)
    assert (places.next_free(), places.taken(64.9), places.taken(65.1)) == (65.0, 1, 0)


def test_a_request_that_was_not_counted_takes_no_place() -> None:
    """Once it has ended."""
    places = Places(60.0)
    places.sent()
    assert places.taken(0.0) == 1
    places.ended(0.0, counted=False)
    assert (places.taken(0.0), places.next_free()) == (0, math.inf)


def test_behind_an_edge_the_places_taken_before_it_are_free() -> None:
    """But for those still under way, and those that may be counted late."""
    places = Places(60.0)
    for _ in range(4):
        places.sent()
    places.ended(0.0)
    places.ended(9.0, late=True)
    places.ended(12.0)
    assert places.taken(12.0, edge=-50.0) == 4
    assert places.taken(12.0, edge=10.0) == 3
    assert places.taken(20.0, edge=15.0) == 1


def test_those_that_ended_since_a_moment_are_counted() -> None:
    """That moment among them."""
    places = Places(60.0)
    for now in (0.0, 1.0, 2.0, 3.0):
        places.sent()
        places.ended(now)
    assert [places.ended_since(moment) for moment in (-1.0, 1.0, 1.1, 4.0)] == [4, 3, 2, 0]
