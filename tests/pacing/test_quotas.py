"""A quota that the caller knows: never exceeded, used up, and spent when it is worth most."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Pacing
from playai_async._settings import RESOLUTION
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.known_quota import KnownQuota
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._pacing.windows import WindowClock
from tests.support.dice import Dice
from tests.support.simulation import FixedWindows, Session, run


@attrs.frozen
class Exchange:
    """A request, which the service counts at some moment from its start to its end, or later if it was cut off."""

    sent: float
    ended: float


@attrs.frozen
class Arrival:
    """A wish to send: so long after the one before, for an exchange of some length and ending."""

    after: float = 0.0
    takes: float = 0.0
    ending: str = "accepted"
    found: bool | None = None
    waited: float = 0.0
    waiting: int = 0
    hinted: bool = False


def spend(pacer: Pacer, arrivals: Sequence[Arrival], *, now: float = 0.0, early: float = 0.0) -> list[Exchange]:
    """Send each as soon as it is wished and allowed.

    Args:
        pacer: Says when.
        arrivals: What is wished.
        now: When to begin.
        early: Seconds by which a timer fires too early.
    """
    under_way: list[tuple[float, float, int, Arrival]] = []
    exchanges: list[Exchange] = []

    def settle(now: float) -> None:
        while under_way and under_way[0][0] <= now:
            ended, sent, _, arrival = heapq.heappop(under_way)
            if arrival.ending == "throttled":
                pacer.on_throttled(ended, sent, None)
            elif arrival.ending == "failed":
                pacer.on_failed(ended, several=True)
            elif arrival.ending == "abandoned":
                pacer.on_abandoned(ended)
            else:
                pacer.on_accepted(ended, found=arrival.found)

    for number, arrival in enumerate(arrivals):
        now += arrival.after
        settle(now)
        while (delay := pacer.delay(now, arrival.waited, hinted=arrival.hinted)) > 0:
            assert delay >= RESOLUTION  # or it would spin
            end = under_way[0][0] if under_way else math.inf
            now = min(end, now + delay - early)
            settle(now)
        pacer.on_sent(now, arrival.waited, arrival.waiting, hinted=arrival.hinted)
        exchanges.append(Exchange(now, now + arrival.takes))
        heapq.heappush(under_way, (now + arrival.takes, now, number, arrival))
    settle(math.inf)
    return exchanges


def most_in_a_window(exchanges: Sequence[Exchange], window: float) -> int:
    """Count the requests that the service may count in one window, whatever its phase and whenever it counts each."""
    # The worst window begins as an exchange ends: what ended before is out, and what is sent within it is in.
    starts, ends = sorted(exchange.sent for exchange in exchanges), sorted(exchange.ended for exchange in exchanges)
    return max(bisect.bisect_left(starts, begin + window) - bisect.bisect_left(ends, begin) for begin in ends)


def times(exchanges: Sequence[Exchange]) -> list[float]:
    """Say when each was sent, to the hundredth of a second."""
    return [round(exchange.sent, 2) for exchange in exchanges]


def seconds(first: int, last: int) -> list[float]:
    """List whole seconds, the last among them."""
    return [float(second) for second in range(first, last + 1)]


# Evenly, with a small burst


@pytest.mark.parametrize(
    ("quota", "window", "expected"),
    [
        (60, 60.0, [0.0] * 5 + seconds(1, 55)),
        (24, 60.0, [0.0] * 2 + [2.5 * number for number in range(1, 23)]),
        (23, 46.0, [2.0 * number for number in range(23)]),
        (12, 60.0, [5.0 * number for number in range(12)]),
        (1, 3_600.0, [0.0, 3_600.0, 7_200.0]),
        (2, 1.0, [0.0, 0.5, 1.0, 1.5]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
def test_a_known_quota_is_spread_evenly_but_for_a_small_burst(quota: int, window: float, expected: list[float]) -> None:
    """A twelfth of it at once, then one in each equal part of the window."""
    pacer = build_pacer(Pacing(requests_per_window=quota, window=window))
    assert times(spend(pacer, [Arrival()] * len(expected))) == expected
    assert pacer.quota == quota


def test_the_second_window_is_like_the_first() -> None:
    """A place is free one window after its request ended, and the burst with it."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    assert times(spend(pacer, [Arrival()] * 120))[60:] == [60.0] * 5 + seconds(61, 115)


def test_what_is_not_used_is_not_saved_up() -> None:
    """After an idle hour there is one burst, not sixty."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    arrivals = [Arrival(takes=0.1)] * 3 + [Arrival(3_600.0, 0.1)] + [Arrival(takes=0.1)] * 7
    assert times(spend(pacer, arrivals)) == [0.0] * 3 + [3_600.0] * 5 + [3_601.0, 3_602.0, 3_603.0]


def test_waits_in_step_with_the_quota_are_never_held_back() -> None:
    """One request a second is what sixty a minute allow."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    arrivals = [Arrival(1.002, 0.1)] * 300
    assert times(spend(pacer, arrivals)) == [round(1.002 * number, 2) for number in range(1, 301)]


def test_a_request_keeps_its_place_until_a_window_after_its_end() -> None:
    """The service may have counted it at the last moment."""
    pacer = build_pacer(Pacing(requests_per_window=2, window=60.0))
    exchanges = spend(pacer, [Arrival(takes=45.0), *[Arrival(takes=1.0)] * 3])
    assert times(exchanges) == [0.0, 30.0, 91.0, 121.0]


def test_while_every_place_is_under_way_there_is_no_telling_when() -> None:
    """The next hangs on an ending, which will ask again."""
    pacer = build_pacer(Pacing(requests_per_window=1, window=60.0))
    pacer.on_sent(0.0)
    assert pacer.delay(1_000.0) == math.inf
    pacer.on_accepted(1_000.0)
    assert pacer.delay(1_000.0) == pytest.approx(60.0, abs=1e-5)


@pytest.mark.parametrize(
    ("ending", "next_at"), [("accepted", 60.5), ("throttled", 60.5), ("failed", 65.5), ("abandoned", 65.5)]
)
def test_every_ending_takes_a_place(ending: str, next_at: float, dice: Dice) -> None:
    """The service may have counted a request that failed, or was given up, or was refused; some of them late."""
    pacer = build_pacer(Pacing(requests_per_window=1, window=60.0))
    assert times(spend(pacer, [Arrival(takes=0.5, ending=ending), Arrival()])) == [0.0, next_at]


@pytest.mark.parametrize(("hint", "delay", "following"), [(3.0, 10.0, 10.0), (30.0, 30.0, 20.0)], ids=str)
def test_gate_and_quota_both_hold(hint: float, delay: float, following: float, dice: Dice) -> None:
    """The longer of the two decides, and only the gate is a pause; a probe counts towards the quota."""
    pacer = build_pacer(Pacing(requests_per_window=2, window=20.0))
    pacer.on_sent(0.0)
    pacer.on_throttled(0.0, 0.0, hint)
    assert (pacer.delay(0.0), pacer.paused_for(0.0)) == (delay, hint)
    pacer.on_sent(delay)
    pacer.on_accepted(delay)
    assert pacer.delay(delay) == pytest.approx(following, abs=1e-5)


# A 429 all the same


def test_after_a_429_with_places_free_a_known_quota_sends_four_back_to_back_at_most(dice: Dice) -> None:
    """The service accepts the first probe, so it does not count per window: a rate is looked for."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    exchanges = spend(pacer, [*[Arrival()] * 20, Arrival(ending="throttled"), *[Arrival()] * 20, Arrival(10.0)])
    exchanges += spend(pacer, [Arrival()] * 8, now=exchanges[-1].sent)
    sent = times(exchanges)
    assert sent[:25] == [0.0] * 5 + seconds(1, 16) + [21.0] * 4
    assert all(after - before >= 0.99 for before, after in itertools.pairwise(sent[24:41]))
    assert sent[41:45] == [pytest.approx(sent[40] + 10.0, abs=0.011)] * 4
    assert all(after - before >= 0.99 for before, after in itertools.pairwise(sent[44:]))
    assert pacer.quota == 60


def test_after_a_429_within_such_a_burst_a_known_quota_sends_no_more_bursts(dice: Dice) -> None:
    """The rate stays: the service takes as many, but not at once."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    exchanges = spend(pacer, [*[Arrival()] * 20, Arrival(ending="throttled"), *[Arrival()] * 20])
    rate = pacer.quota
    refused = [Arrival(10.0), Arrival(ending="throttled"), Arrival(), Arrival(10.0), *[Arrival()] * 3]
    exchanges = spend(pacer, refused, now=exchanges[-1].sent)
    sent = times(exchanges)
    assert sent[0] == sent[1]
    assert all(after - before >= 0.99 for before, after in itertools.pairwise(sent[1:]))
    assert pacer.quota == rate == 60


def test_after_a_429_a_known_quota_is_lowered_by_half_at_most(dice: Dice) -> None:
    """Others may have spent the window: the even spacing is twice as wide then."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    spend(pacer, [Arrival()] * 3)
    pacer.on_sent(0.0)
    pacer.on_throttled(0.0, 0.0, 10.0)  # as a service with windows says
    sent = times(spend(pacer, [Arrival()] * 8, now=10.0))
    assert [after - before for before, after in itertools.pairwise(sent[-4:])] == [2.0] * 3


def test_a_known_quota_forgets_what_it_learned_once_the_service_allows_it_again(dice: Dice) -> None:
    """Others took two thirds for five minutes: a third is kept to then, and all of it a few windows later."""
    session = Session(pacer=build_pacer(Pacing(requests_per_window=60)))
    strangers = [60.0 * window + 0.01 * number for window in range(5) for number in range(40)]
    run(FixedWindows(60), [session], 1_200.0, strangers)
    assert session.refused_share() <= 0.04
    counts = [session.since(60.0 * window)[0] - session.since(60.0 * window + 60)[0] for window in range(20)]
    assert max(counts[:5]) <= 20
    assert min(counts[10:]) >= 59
    assert isinstance(session.pacer._quota, KnownQuota)
    assert session.pacer._quota._learned is None


@pytest.mark.parametrize(("quota", "latency"), [(600, 1.0), (1_000, 2.0)], ids=str)
def test_one_window_that_others_spent_does_not_slow_a_large_quota_for_long(
    quota: int, latency: float, dice: Dice
) -> None:
    """Behind a slow network, too: more may be in flight than one request beside what was proven."""
    session = Session(latency=lambda: latency, pacer=build_pacer(Pacing(requests_per_window=quota)))
    run(FixedWindows(quota), [session], 900.0, [0.001 * number for number in range(quota - 5)])
    assert session.since(300.0)[0] >= 0.65 * quota * 10


def test_a_known_quota_stops_sending_all_that_is_left_at_once_after_a_few(dice: Dice) -> None:
    """Not more than the burst may be refused, if the service counts in another way after all."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    now = spend(pacer, [FINDS] * 10)[-1].sent
    for _ in range(5):
        assert pacer.delay(now, 20.01) == 0.0
        pacer.on_sent(now, 20.01)
    assert pacer.delay(now, 20.01) > 0.0
    pacer.on_accepted(now, found=True)
    assert pacer.delay(now, 20.01) == 0.0


def test_a_place_that_is_about_to_be_free_lets_one_request_through() -> None:
    """A timer that fires a fraction of a microsecond early must not let a whole burst through."""
    pacer = build_pacer(Pacing(requests_per_window=24, window=24.0))
    arrivals = [Arrival(takes=30.0), *[Arrival(takes=40.0)] * 23, *[Arrival(takes=1.0)] * 2]
    exchanges = spend(pacer, arrivals, early=RESOLUTION / 2)
    assert times(exchanges[-2:]) == [54.0, 64.0]


def test_a_pacer_does_not_grow() -> None:
    """It remembers as many endings as there are places."""
    pacer = build_pacer(Pacing(requests_per_window=10, window=1.0))
    spend(pacer, [Arrival(takes=0.01)] * 2_000)
    assert isinstance(pacer._quota, KnownQuota)
    assert len(pacer._quota._sliding._expiries) <= 10


# When it is worth most

FLEET = Arrival(waiting=60)
"""A poll, while as many others are waited for as the quota has requests."""

FINDS = Arrival(found=True)


def test_where_more_jobs_are_waited_for_than_the_quota_allows_a_session_starts_gently() -> None:
    """One in six seconds for ten seconds, and no burst: the jobs are young, and what is saved finds them done."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    assert times(spend(pacer, [FLEET] * 20)) == [0.0, 2.0, 8.0, *seconds(14, 30)]


def test_what_a_gentle_start_saved_is_there_later() -> None:
    """Requests are as many in the end: the burst comes back when fewer wait."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    exchanges = spend(pacer, [*[FLEET] * 4, Arrival(20.0), *[Arrival()] * 4])
    assert times(exchanges) == [0.0, 2.0, 8.0, 14.0, 34.0, 34.0, 34.0, 34.0, 34.0]


def test_as_many_jobs_as_the_quota_allows_need_no_gentle_start() -> None:
    """One more waits than the others: there is a request for each."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    assert times(spend(pacer, [Arrival(waiting=59)] * 10)) == [0.0] * 5 + seconds(1, 5)


@pytest.mark.parametrize(
    ("idle", "gently"), [(59.0, False), (61.0, True)], ids=["not after less than a window", "after a window"]
)
def test_a_start_is_what_follows_idleness(idle: float, gently: bool) -> None:
    """After less than a window, the jobs at hand are not all young."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    pacer.on_sent(0.0)
    pacer.on_accepted(0.0)
    first, second, third = times(spend(pacer, [attrs.evolve(FLEET, after=idle), FLEET, FLEET]))
    assert (first, second, third) == ((idle, idle + 2.0, idle + 8.0) if gently else (idle, idle, idle))


@pytest.mark.parametrize(("finds", "gently"), [(6, True), (7, False)], ids=["six of them", "seven"])
def test_where_polls_mostly_find_their_jobs_done_no_start_is_gentle(finds: int, gently: bool) -> None:
    """These jobs are not young: seven finds in a row say so; a direct call says nothing."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    spend(pacer, [FINDS] * finds)
    spend(pacer, [Arrival()] * 3, now=30.0)
    second = times(spend(pacer, [FLEET] * 2, now=100.0))[1]
    assert second == (102.0 if gently else 100.0)


def test_what_is_left_goes_at_once_where_polls_find_jobs_done_and_others_have_long_been_due() -> None:
    """There is nothing to save for: but the quota holds."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    spend(pacer, [FINDS] * 10)
    assert pacer.delay(5.0, 20.0) == 1.0  # a third of a window is long, and no less
    exchanges = spend(pacer, [Arrival(waited=20.01)] * 55, now=5.0)
    assert times(exchanges) == [5.0] * 50 + [60.0] * 5


def test_a_request_of_which_nothing_is_said_has_just_become_due() -> None:
    """Where others may go at once, it waits, and is counted as one that does."""
    pacer = build_pacer(Pacing(requests_per_window=60, window=1.5))
    spend(pacer, [FINDS] * 10)
    now = 1.0
    while not pacer.delay(now):
        pacer.on_sent(now)
        pacer.on_accepted(now)
    assert pacer.delay(now) == pytest.approx(0.025)
    assert pacer.delay(now, 1.0) == 0.0


@pytest.mark.parametrize("finds", [0, 6], ids=["never", "six times"])
def test_what_has_long_been_due_waits_its_turn_where_polls_find_nothing(finds: int) -> None:
    """Another poll sooner would most likely be in vain."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    spend(pacer, [FINDS] * finds + [Arrival(found=False)] * 4)
    exchanges = spend(pacer, [Arrival(found=False, waited=100.0)] * 8, now=30.0)
    assert times(exchanges) == [30.0] * 5 + seconds(31, 33)


# Hints


def test_a_hinted_request_does_not_wait_for_the_even_spacing_and_the_others_make_up_for_it() -> None:
    """The rate stays that of the quota."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    exchanges = spend(pacer, [Arrival()] * 5 + [Arrival(hinted=True)] * 3 + [Arrival()] * 2)
    assert times(exchanges) == [0.0] * 8 + [4.0, 5.0]


def test_a_hinted_request_waits_for_the_quota() -> None:
    """Hints add no requests."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    assert times(spend(pacer, [Arrival(hinted=True)] * 65)) == [0.0] * 60 + [60.0] * 5


def test_a_hinted_request_costs_no_more_during_a_slow_start() -> None:
    """A hinted poll is likely to find its job finished, so there is nothing to save."""
    pacer = build_pacer(Pacing(requests_per_window=60))
    hinted = attrs.evolve(FLEET, hinted=True)
    assert times(spend(pacer, [hinted] * 5 + [FLEET] * 2)) == [0.0] * 5 + [1.0, 7.0]


# Whatever arrives

PATTERNS = {
    "greedy": lambda dice, window: Arrival(0.0, 0.01 * window * dice.random()),
    "instant": lambda dice, window: Arrival(),
    "slow": lambda dice, window: Arrival(0.0, dice.choice((0.1, 0.5, 1.0, 3.0)) * window),
    "waves": lambda dice, window: Arrival(window if dice.random() < 0.05 else 0.0, 0.02 * window),
    "scattered": lambda dice, window: Arrival(
        dice.expovariate(40 / window), dice.expovariate(8 / window), dice.choice(("accepted", "failed", "abandoned"))
    ),
    "throttled": lambda dice, window: Arrival(0.0, 0.05 * window, "throttled" if dice.random() < 0.1 else "accepted"),
    "finding": lambda dice, window: Arrival(
        0.0, 0.02 * window * dice.random(), found=dice.random() < 0.9, waited=dice.choice((0.0, window))
    ),
    "hinted": lambda dice, window: Arrival(0.0, 0.02 * window * dice.random(), hinted=dice.random() < 0.5),
    "fleet": lambda dice, window: Arrival(
        1.5 * window if dice.random() < 0.02 else 0.0, 0.01 * window, found=dice.random() < 0.2, waiting=1_000
    ),
}


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    seed=st.integers(0, 2**32),
    quota=st.sampled_from([1, 2, 5, 12, 24]),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    begin=st.floats(0.0, 1e8),
    early=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_a_known_quota_is_never_exceeded_over_any_window(
    pattern: str, seed: int, quota: int, window: float, begin: float, early: float
) -> None:
    """Whatever the phase of the service's windows, the length of the exchanges, and when in one it is counted."""
    dice = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    arrivals = [PATTERNS[pattern](dice, window) for _ in range(2 * quota + 10)]
    pacer = build_pacer(Pacing(requests_per_window=quota, window=window))
    exchanges = spend(pacer, arrivals, now=begin, early=early * RESOLUTION)
    assert most_in_a_window(exchanges, window) <= quota


@pytest.mark.parametrize("quota", [1, 5, 12, 24, 60, 600], ids=str)
@pytest.mark.parametrize("takes", [0.0, 0.1, 1.0], ids=str)
def test_the_quota_is_used_up(quota: int, takes: float) -> None:
    """With short exchanges, over ten minutes, to more than nineteen parts in twenty."""
    pacer = build_pacer(Pacing(requests_per_window=quota, window=60.0))
    exchanges = spend(pacer, [Arrival(takes=takes)] * (11 * quota))
    assert sum(exchange.sent < 600.0 for exchange in exchanges) > 0.95 * 10 * quota


@pytest.mark.parametrize("quota", [1, 5, 12, 24, 60, 600], ids=str)
def test_the_quota_is_used_up_where_many_wait(quota: int) -> None:
    """A gentle start is over after a sixth of a window, and costs no more than half of one: also of a small quota."""
    pacer = build_pacer(Pacing(requests_per_window=quota, window=60.0))
    exchanges = spend(pacer, [Arrival(takes=0.1, waiting=1_000)] * (11 * quota))
    assert sum(exchange.sent < 600.0 for exchange in exchanges) >= 9.5 * quota


def test_a_quota_that_is_changed_is_spread_evenly_anew() -> None:
    """As when the part of one process in a shared quota becomes smaller."""
    quota = KnownQuota(60, 60.0, WindowClock(60.0))
    quota.change(6)
    quota.on_sent(0.0, 0.0, 0)
    assert quota.delay(0.0, 0.0) == pytest.approx(10.0)
