"""The service's windows: where they begin, and what counts in the one at hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async._settings import RESOLUTION
from playai_async.jobs._pacing.windows import SlidingLog, SlidingWindow, WindowClock


def reopen(
    windows: WindowClock,
    after: float,
    before: float,
    *,
    refused: bool = True,
    predicted: bool = False,
    spent: bool = True,
) -> None:
    """Report a refused request and an accepted probe after it; by default, probes in between were refused."""
    windows.on_reopened(after, before, refused=refused, predicted=predicted, spent=spent)


def windows_with(*edges: tuple[float, float]) -> WindowClock:
    """Return windows of a minute, of which some edges were seen."""
    windows = WindowClock(60.0)
    for after, before in edges:
        reopen(windows, after, before)
    return windows


TRUSTED = ((100.0, 105.0), (160.0, 165.0), (220.0, 225.0))
"""Edges that are all where the first one predicts them."""


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


def test_an_edge_that_contradicts_trusted_ones_takes_their_place() -> None:
    """The service began its windows anew."""
    windows = windows_with(*TRUSTED, (310.0, 312.0))
    assert (windows.last_edge(312.0), windows.next_edge(312.0), windows.uncertainty()) == (310.0, 372.0, 2.0)
    assert (windows.known, windows.trusted) == (True, False)


def test_an_edge_that_contradicts_the_only_one_speaks_against_windows() -> None:
    """Neither of the two was an edge, it seems."""
    windows = windows_with((100.0, 105.0), (190.0, 192.0))
    assert (windows.known, windows.refuted, windows.last_edge(192.0)) == (False, True, -math.inf)


@pytest.mark.parametrize(("before", "known"), [(130.0, True), (130.1, False), (500.0, False)], ids=str)
def test_moments_more_than_half_a_window_apart_tell_nothing(before: float, known: bool) -> None:
    """The edge may be anywhere between, or there were several."""
    assert windows_with((100.0, before)).known is known


def test_moments_too_far_apart_leave_what_was_known() -> None:
    """They contradict nothing."""
    windows = windows_with((100.0, 105.0), (120.0, 166.0))
    assert (windows.last_edge(170.0), windows.uncertainty()) == (160.0, 5.0)


def test_a_forgotten_edge_is_known_again_once_two_agree() -> None:
    """A request was refused where the edge had surely passed: that speaks against windows, too."""
    windows = windows_with((100.0, 105.0))
    windows.forget()
    assert (windows.known, windows.last_edge(200.0), windows.next_edge(200.0)) == (False, -math.inf, math.inf)
    reopen(windows, 222.0, 223.0)
    assert windows.last_edge(223.0) == -math.inf
    reopen(windows, 282.0, 283.0)
    assert windows.last_edge(283.0) == 282.0


def test_a_forgotten_edge_that_was_trusted_is_known_again_at_the_next_one() -> None:
    """Much spoke for windows before: only their beginning has changed."""
    windows = windows_with(*TRUSTED)
    windows.forget()
    assert not windows.known
    reopen(windows, 322.0, 323.0)
    assert windows.last_edge(323.0) == 322.0


# The evidence for windows, and against them


def verdict(windows: WindowClock) -> str:
    """Return what is thought of windows, in one word."""
    if windows.refuted:
        return "refuted"
    if windows.doubtful:
        return "doubtful"
    return "trusted" if windows.trusted else "believed"


def test_windows_are_believed_before_anything_was_seen() -> None:
    """The service is documented to count in windows."""
    assert verdict(WindowClock(60.0)) == "believed"


@pytest.mark.parametrize(
    ("refused", "predicted", "spent", "expected"),
    [
        (True, False, True, "believed"),
        (False, True, True, "believed"),
        (False, False, True, "doubtful"),
        (False, False, False, "refuted"),
    ],
    ids=["after refused probes", "where a hint led", "first probe, window spent", "first probe, window not spent"],
)
def test_an_accepted_first_probe_speaks_against_windows(
    refused: bool, predicted: bool, spent: bool, expected: str
) -> None:
    """A window hardly ever ends between a 429 and the first probe, least of all one that was not spent."""
    windows = WindowClock(60.0)
    reopen(windows, 100.0, 105.0, refused=refused, predicted=predicted, spent=spent)
    assert verdict(windows) == expected


@pytest.mark.parametrize(
    ("refused", "predicted", "expected"),
    [(True, True, "trusted"), (True, False, "trusted"), (False, False, "trusted"), (False, True, "believed")],
)
def test_an_edge_where_it_was_predicted_is_evidence_unless_it_was_only_waited_for(
    refused: bool, predicted: bool, expected: str
) -> None:
    """Who waits for the edge and is accepted may have been accepted before it."""
    windows = windows_with((100.0, 105.0))
    reopen(windows, 161.0, 164.0, refused=refused, predicted=predicted)
    assert verdict(windows) == expected


@pytest.mark.parametrize(("predicted", "expected"), [(True, "trusted"), (False, "believed")])
def test_a_long_pause_that_ends_at_the_predicted_edge_is_evidence(predicted: bool, expected: str) -> None:
    """A probe was refused long before, and no edge is learned."""
    windows = windows_with((100.0, 105.0))
    reopen(windows, 120.0, 165.0, predicted=predicted)
    assert verdict(windows) == expected


def test_a_long_pause_is_no_evidence_before_an_edge_is_known() -> None:
    """There is nothing that it could confirm."""
    windows = WindowClock(60.0)
    reopen(windows, 120.0, 165.0, predicted=True)
    assert verdict(windows) == "believed"


def test_an_answer_in_the_middle_of_a_window_refutes_windows_that_are_not_trusted() -> None:
    """Trusted ones are doubted, or merely tested again."""
    seen = []
    for edges in (TRUSTED[:1], TRUSTED[:2], TRUSTED, (*TRUSTED, (280.0, 285.0))):
        windows = windows_with(*edges)
        reopen(windows, 300.0, 305.0)
        seen.append(verdict(windows))
    assert seen == ["refuted", "doubtful", "believed", "believed"]


def test_what_a_test_shows_is_evidence() -> None:
    """A spurt of requests that is accepted confirms windows; a refused one refutes them."""
    windows = WindowClock(60.0)
    reopen(windows, 100.0, 105.0, refused=False)
    windows.confirm()
    assert verdict(windows) == "believed"
    windows.refute()
    assert verdict(windows) == "refuted"


def test_refuted_windows_are_believed_again_after_three_edges_that_agree() -> None:
    """The opinion changes within a few windows when the service does."""
    windows = WindowClock(60.0)
    for _ in range(10):
        windows.refute()
    seen = []
    for number in range(5):
        reopen(windows, 100.0 + 60.0 * number, 105.0 + 60.0 * number)
        seen.append(verdict(windows))
    assert seen == ["refuted", "refuted", "doubtful", "believed", "trusted"]


def test_distrusted_windows_are_tested_once_more() -> None:
    """That takes nothing from windows which are doubted already."""
    windows = windows_with(*TRUSTED)
    windows.distrust()
    assert verdict(windows) == "believed"
    windows = windows_with((100.0, 105.0))
    windows.refute()
    windows.distrust()
    assert verdict(windows) == "refuted"


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
        reopen(windows, edge - before, edge + after)
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


# SlidingLog


def sliding_with(*ends: float) -> SlidingWindow:
    """Return the requests of a minute that ended at these times."""
    sliding = SlidingWindow(60.0)
    for end in ends:
        sliding.on_sent()
        sliding.on_ended(end)
    return sliding


def test_a_sliding_log_is_not_believed_before_anything_was_seen() -> None:
    """The service is documented to count in another way."""
    log = SlidingLog(sliding_with(0.0, 1.0))
    assert (log.believed, log.requests, log.fits()) == (False, 0, False)


def test_a_probe_that_is_accepted_once_a_request_is_a_window_ago_supports_a_sliding_log() -> None:
    """After probes that were refused; the log has room for those that counted then."""
    log = SlidingLog(sliding_with(0.0, 1.0, 2.0, 50.0))
    log.on_throttled(55.0)
    log.on_reopened(61.5, refused=True)
    assert (log.believed, log.requests) == (True, 4)


def test_a_first_probe_that_is_accepted_shows_nothing_about_a_sliding_log() -> None:
    """An older request may have stopped counting at any time."""
    log = SlidingLog(sliding_with(0.0, 1.0, 2.0, 50.0))
    log.on_throttled(55.0)
    log.on_reopened(61.5, refused=False)
    assert (log.believed, log.requests) == (False, 0)


def test_a_probe_that_is_accepted_while_all_requests_count_contradicts_a_sliding_log() -> None:
    """However much spoke for it before."""
    sliding = sliding_with(0.0, 1.0, 50.0)
    log = SlidingLog(sliding)
    for _ in range(10):
        log.support()
    log.on_throttled(55.0)
    log.on_reopened(56.0, refused=True)
    assert not log.believed
    log.support()
    log.support()
    assert not log.believed
    log.support()
    assert log.believed


def test_a_429_fits_a_sliding_log_while_about_as_many_count_as_at_an_earlier_one() -> None:
    """Nine tenths are about as many."""
    sliding = sliding_with(*[0.1 * number for number in range(20)])
    log = SlidingLog(sliding)
    log.on_throttled(55.0)
    log.on_reopened(61.05, refused=True)
    assert log.requests == 20
    assert not log.fits()
    for _ in range(9):
        sliding.on_sent()
        sliding.on_ended(61.05)
    assert sliding.ended == 18
    assert log.fits()
