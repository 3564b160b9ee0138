"""What a service accepts that does not count requests per window: the rate, the burst, and the requests in flight."""

from __future__ import annotations

import itertools

import pytest

from playai_async._settings import MAX_COUNT
from playai_async.jobs._pacing.congestion import ConcurrencyLimit, RateControl


def accepting(control: RateControl, count: int, now: float) -> float:
    """Send requests as soon as each may go, all accepted at once; return the time of the last."""
    for _ in range(count):
        now += max(0.0, control.delay(now))
        control.on_sent(now)
        control.on_accepted(now)
    return now


def refused(control: RateControl, now: float) -> float:
    """Send a request as soon as it may go, which meets a 429; return its time."""
    now += max(0.0, control.delay(now))
    control.on_sent(now)
    control.on_throttled(now)
    return now


def controlled(rate: float = 60.0, *, taken: int = 60) -> tuple[RateControl, float]:
    """Return the control of a rate that is the most the service is known to accept, after as many requests."""
    control = RateControl(0.0, 60.0, rate, refused=True)
    return control, accepting(control, taken, 0.0)


# The rate


def test_requests_are_spread_evenly_after_a_first_burst() -> None:
    """Four go back to back, the probe among them, and then one at a time."""
    control = RateControl(10.0, 60.0, 60.0, refused=False)
    for _ in range(3):
        assert control.delay(10.0) <= 0.0
        control.on_sent(10.0)
    assert control.delay(10.0) == pytest.approx(1.0)
    assert control.delay(10.4) == pytest.approx(0.6)
    control.on_sent(11.0)
    assert control.delay(11.0) == pytest.approx(1.0)


def test_a_rate_that_was_refused_begins_a_tenth_lower_and_recovers() -> None:
    """As after any 429."""
    control = RateControl(0.0, 60.0, 60.0, refused=True)
    assert control.rate == pytest.approx(54.0)
    accepting(control, 3 + 29, 0.0)  # the rate held none of the first three back
    assert 59.9 < control.rate < 60.0
    control = RateControl(0.0, 60.0, 60.0, refused=True)
    accepting(control, 3 + 30, 0.0)
    assert control.rate == pytest.approx(60.0)


def test_the_rate_grows_fast_until_the_first_429() -> None:
    """Half as much again after each request that it held back; but it is at most twice what was accepted lately."""
    control, rates = RateControl(0.0, 60.0, 60.0, refused=False), []
    now = 0.0
    for _ in range(40):
        now = accepting(control, 1, now)
        rates.append(control.rate)
        assert control.rate <= max([2.0 * control._mean_rate(), *rates[:-1]])
    assert rates[:7] == pytest.approx([60.0, 60.0, 60.0, 90.0, 135.0, 202.5, 299.1], abs=0.1)
    assert rates[-1] > 1_000.0


def test_the_rate_does_not_grow_while_something_else_holds_requests_back() -> None:
    """Nothing shows that more would be accepted."""
    for refused_before in (True, False):
        control = RateControl(0.0, 60.0, 30.0, refused=refused_before)
        for number in range(1, 100):
            assert control.delay(10.0 * number) <= 0.0
            control.on_sent(10.0 * number)
            control.on_accepted(10.0 * number)
        assert control.rate == (27.0 if refused_before else 30.0)


def test_the_rate_grows_where_the_quota_held_a_request_back() -> None:
    """There was demand for more."""
    control = RateControl(0.0, 60.0, 30.0, refused=False)
    control.on_held()
    control.on_sent(10.0)
    control.on_accepted(10.0)
    assert control.rate == 45.0


def test_the_first_429_takes_the_rate_to_what_was_accepted_before() -> None:
    """A tenth less than the step before."""
    control = RateControl(0.0, 60.0, 60.0, refused=False)
    refused(control, accepting(control, 3 + 2, 0.0))
    assert control.rate == pytest.approx(60.0 * 1.5 * 0.9)


def test_a_429_lowers_the_rate_by_a_tenth_and_it_recovers_within_thirty_requests() -> None:
    """Fast at first, slow around the rate that was refused."""
    control, now = controlled()
    now = refused(control, now)
    assert control.rate == pytest.approx(54.0)
    rates = []
    for _ in range(3):
        now = accepting(control, 10, now)
        rates.append(control.rate)
    assert rates[0] > 57.5
    assert rates[1] > 59.5
    assert rates[2] == pytest.approx(60.0)


def test_the_rate_grows_beyond_what_was_refused_faster_and_faster() -> None:
    """The service may allow more by now."""
    control = RateControl(0.0, 60.0, 60.0, refused=False)
    now = refused(control, accepting(control, 3 + 4, 0.0))
    ceiling = control.rate / 0.9
    rates = []
    for _ in range(5):
        now = accepting(control, 30, now)
        rates.append(control.rate / ceiling)
    assert rates[0] == pytest.approx(1.0, abs=0.01)
    assert rates[1] == pytest.approx(1.1, abs=0.01)
    assert rates[2] == pytest.approx(1.8, abs=0.02)
    steps = [after / before for before, after in itertools.pairwise(rates)]
    assert steps[:3] == sorted(steps[:3])


def test_a_rate_never_grows_beyond_what_the_caller_says_that_the_service_allows() -> None:
    """Else a known quota would go in bursts again."""
    control, now = controlled(taken=300)
    assert control.rate == 60.0
    now = accepting(control, 300, refused(control, now))
    assert control.rate == 60.0


def test_a_small_rate_recovers_within_a_window() -> None:
    """It need not wait for thirty requests."""
    control, now = controlled(6.0, taken=3 + 12)
    now = refused(control, now)
    assert control.rate == pytest.approx(5.4)
    accepting(control, 6, now)
    assert control.rate == pytest.approx(6.0)


def test_429s_that_soon_follow_each_other_lower_the_rate_further() -> None:
    """The service allows much less: seven tenths at each, but never less than one request in a window."""
    control, now = controlled()
    rates = []
    for _ in range(14):
        now = refused(control, accepting(control, 2, now))
        rates.append(control.rate)
    assert rates[:2] == pytest.approx([54.0, 34.5], abs=0.5)
    assert rates[2] < 24.0
    assert rates[-1] == 1.0


def test_after_a_refused_probe_the_rate_is_no_more_than_what_the_last_window_took() -> None:
    """The service refuses for long after a stretch of requests, so it limits more than their rate."""
    control, _ = controlled(240.0)
    control.on_reopened(60)
    assert control.rate == pytest.approx(54.0)
    control.on_reopened(100)
    assert control.rate == pytest.approx(54.0)
    control.on_reopened(0)
    assert control.rate == 1.0


# The burst


def burst_of(control: RateControl, now: float) -> int:
    """Send as many requests back to back as may go; return how many."""
    count = 0
    while control.delay(now) <= 1e-9:
        control.on_sent(now)
        control.on_accepted(now)
        count += 1
    return count


def test_four_requests_may_go_back_to_back_and_one_more_after_each_sixty_accepted() -> None:
    """The service may have a bucket."""
    bursts = []
    for taken in (0, 59, 60, 119, 120, 181):
        control, now = controlled(taken=taken)
        bursts.append(burst_of(control, now + 30.0))
    assert bursts == [4, 4, 5, 5, 6, 7]


def test_a_429_within_the_first_burst_takes_the_burst_and_leaves_the_rate() -> None:
    """From then on, requests go one at a time, also after a pause."""
    control = RateControl(0.0, 60.0, 60.0, refused=False)
    refused(control, accepting(control, 2, 0.0))
    assert control.rate == 60.0
    assert burst_of(control, 30.0) == 1
    assert control.delay(30.0) == pytest.approx(1.0)


def test_a_stray_429_leaves_the_first_burst() -> None:
    """It came after requests that were spread, so a few waits are not slowed."""
    control, now = controlled(taken=30)
    rate = control.rate
    now = refused(control, now)
    assert control.rate < rate
    assert burst_of(control, now + 30.0) == 4


def test_a_429_after_a_burst_takes_the_burst_back_and_leaves_the_rate() -> None:
    """After that, twice as many requests must be accepted before the next try, and so on."""
    control, now = controlled(taken=61)
    accepted = []
    for _ in range(3):
        before = control.rate
        now += 30.0
        count = 0
        while control._burst == 1:
            now = accepting(control, 1, now)
            count += 1
        now += 30.0
        burst_of(control, now)
        control.on_sent(now)
        control.on_throttled(now)
        accepted.append(count)
        assert control.rate == pytest.approx(before)
        assert control._burst == 1
        assert control.delay(now) > 0.5
    assert accepted == [0, 120, 240]


def test_a_429_is_never_blamed_on_a_burst_of_one() -> None:
    """Behind a slow network, answers come in clusters; the rate was too high all the same."""
    control = RateControl(0.0, 60.0, 600.0, refused=True)
    refused(control, accepting(control, 1, 0.0))
    assert control._burst == 1
    assert control.rate == pytest.approx(540.0)
    for now in (1.0, 1.001, 1.002, 1.003):
        control.on_sent(now)
        control.on_accepted(now)
    control.on_throttled(1.004)
    assert control.rate == pytest.approx(540.0 * 0.7 * 0.9)


# The requests in flight


def test_a_number_in_flight_is_not_limited_before_the_first_429() -> None:
    """Whatever the service accepts."""
    limit = ConcurrencyLimit()
    for others in (0, 5, 100):
        limit.on_accepted(others)
    assert limit.limit == MAX_COUNT


@pytest.mark.parametrize(("others", "explains"), [(4, True), (3, True), (2, False), (1, False), (0, False)])
def test_a_429_beside_as_many_as_any_accepted_request_may_come_from_their_number(others: int, explains: bool) -> None:
    """Beside fewer, the 429 must have another cause: the client sees a request in flight for longer, never shorter."""
    limit = ConcurrencyLimit()
    for accepted in (0, 3, 1):
        limit.on_accepted(accepted)
    assert limit.explains(others) is explains


def test_a_429_to_a_request_that_was_alone_never_comes_from_the_number_in_flight() -> None:
    """Also where nothing was accepted yet, or the limit is one."""
    limit = ConcurrencyLimit()
    assert not limit.explains(0)
    assert limit.explains(1)
    limit.on_throttled(1)
    assert limit.limit == 1
    assert not limit.explains(0)


def test_a_429_that_fills_the_limit_is_explained_by_it() -> None:
    """Beside fewer than the limit allows, the 429 is not."""
    limit = limited(4)
    assert [others for others in range(6) if limit.explains(others)] == [3, 4, 5]


def accepting_up_to(most_others: int) -> ConcurrencyLimit:
    """Return the limit after a request was accepted beside each number of others."""
    limit = ConcurrencyLimit()
    for others in range(most_others + 1):
        limit.on_accepted(others)
    return limit


def limited(requests: int) -> ConcurrencyLimit:
    """Return a limit that a 429 lowered to this many requests."""
    limit = accepting_up_to(requests)
    limit.on_throttled(requests)
    assert limit.limit == requests
    return limit


@pytest.mark.parametrize("others", [4, 7])
def test_a_429_lowers_the_limit_to_one_less_than_were_accepted_at_once(others: int) -> None:
    """Five were in flight when the last of them was accepted; each further 429 lowers the limit by one."""
    limit, limits = accepting_up_to(4), []
    while limit.explains(others):
        limit.on_throttled(others)
        limits.append(limit.limit)
        others = limit.limit - 1
    assert limits == [4, 3, 2, 1]


def test_the_limit_grows_by_one_after_enough_requests_that_filled_it() -> None:
    """Twenty times the limit; requests that did not fill it show nothing."""
    limit = limited(4)
    for _ in range(200):
        limit.on_accepted(2)
    for _ in range(79):
        limit.on_accepted(3)
    assert limit.limit == 4
    limit.on_accepted(3)
    assert limit.limit == 5
    for _ in range(99):
        limit.on_accepted(4)
    assert limit.limit == 5
    limit.on_throttled(4)
    assert limit.limit == 4
    for _ in range(79):
        limit.on_accepted(3)
    assert limit.limit == 4  # the count began anew
    limit.on_accepted(3)
    assert limit.limit == 5


def test_a_request_that_is_accepted_beside_more_raises_the_limit_at_once() -> None:
    """It was sent before the limit was lowered."""
    limit = ConcurrencyLimit()
    limit.on_throttled(9)
    assert limit.limit == 1
    limit.on_accepted(6)
    assert limit.limit == 7


def test_the_requests_that_survive_a_429_show_how_many_may_run_at_once() -> None:
    """They were all in flight when another was refused, whichever was sent first."""
    limit, limits = ConcurrencyLimit(), []
    limit.on_throttled(9)
    for _ in range(3):
        limit.on_survived()
        limits.append(limit.limit)
    assert limits == [1, 2, 3]


def test_fewer_survivors_than_the_limit_leave_the_limit() -> None:
    """The others had ended before the 429."""
    limit, limits = limited(4), []
    for _ in range(5):
        limit.on_survived()
        limits.append(limit.limit)
    assert limits == [4, 4, 4, 4, 5]


def test_survivors_are_counted_anew_after_each_429() -> None:
    """Those of different 429s were not in flight together."""
    limit = ConcurrencyLimit()
    for _ in range(2):
        limit.on_throttled(9)
        limit.on_survived()
        limit.on_survived()
    assert limit.limit == 2


def test_a_further_429_to_a_request_that_was_alone_shows_another_cause() -> None:
    """No limit on concurrency refuses a single request."""
    limit = accepting_up_to(4)
    limit.on_throttled(4)
    assert limit.on_also_throttled(0)


def test_further_429s_show_no_other_cause_where_no_limit_was_known() -> None:
    """All that were too many are refused."""
    limit = accepting_up_to(4)
    limit.on_throttled(5)
    assert not any(limit.on_also_throttled(others) for others in range(6, 40))


@pytest.mark.parametrize(("requests", "further"), [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (9, 4)])
def test_many_429s_within_a_known_limit_show_another_cause(requests: int, further: int) -> None:
    """More than half of what the limit is lowered to, and two at least: the limit would refuse one or two."""
    limit = limited(requests)
    limit.on_throttled(requests - 1)
    verdicts = [limit.on_also_throttled(requests - 2 or 1) for _ in range(further)]
    assert verdicts == [False] * (further - 1) + [True]


def test_the_429s_within_a_known_limit_are_counted_anew_after_each_first_one() -> None:
    """A single one too many, now and then, is what a limit refuses."""
    limit = limited(9)
    for _ in range(3):
        limit.on_throttled(8)
        limit.on_also_throttled(7)
        for others in range(9):
            limit.on_accepted(others)
    limit.on_throttled(8)
    assert not limit.on_also_throttled(7)


def test_a_forgotten_limit_limits_nothing_and_its_429_explains_no_other_beside_fewer() -> None:
    """That 429 had another cause, so as many in flight as beside it are no reason."""
    limit = accepting_up_to(2)
    limit.on_throttled(5)
    assert limit.limit == 2
    limit.forget()
    assert limit.limit == MAX_COUNT
    assert not limit.explains(4)
    assert limit.explains(5)


def test_to_forget_a_limit_keeps_what_was_accepted_since() -> None:
    """That is evidence, whatever the 429 meant."""
    limit = limited(2)
    limit.on_accepted(8)
    limit.forget()
    assert not limit.explains(7)
    assert limit.explains(8)
