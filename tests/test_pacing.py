"""When a request may go: the gate that a 429 closes, and a known quota that is never exceeded."""

from __future__ import annotations

import bisect
import heapq
import math
import random
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Pacing
from playai_async._pacing import RESOLUTION, Pacer
from tests.dice import Dice

NO_QUOTA = Pacing()


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """Dice that stretch no pause, unless told otherwise."""
    dice = Dice(0.0)
    monkeypatch.setattr(random, "uniform", dice)
    return dice


def sending(pacer: Pacer, now: float, count: int = 1) -> None:
    """Send some requests, each of which must be allowed."""
    for _ in range(count):
        assert pacer.delay(now) == 0.0
        pacer.sent(now)


def closed_pacer(now: float = 0.0, retry_after: float | None = None, pacing: Pacing = NO_QUOTA) -> Pacer:
    """Make a pacer whose first request met a 429."""
    pacer = Pacer(pacing)
    sending(pacer, now)
    assert pacer.throttled(now, retry_after) is True
    return pacer


# The gate


def test_nothing_is_held_back_before_the_first_429(dice: Dice) -> None:
    """With no quota known, the gate is all there is, and it is open."""
    pacer = Pacer(NO_QUOTA)
    sending(pacer, 0.0, 1_000)
    assert (pacer.delay(0.0), pacer.paused_for(0.0)) == (0.0, 0.0)


@pytest.mark.parametrize("ending", ["accepted", "failed", "abandoned"], ids=str)
def test_no_other_ending_closes_the_gate(ending: str, dice: Dice) -> None:
    """Only a 429 speaks of the quota."""
    pacer = Pacer(NO_QUOTA)
    for now in range(10):
        sending(pacer, float(now))
        getattr(pacer, ending)(float(now))
    assert (pacer.delay(10.0), pacer.paused_for(10.0)) == (0.0, 0.0)


@pytest.mark.parametrize("window", [60.0, 12.0, 0.5], ids=str)
def test_without_a_hint_the_gate_is_closed_for_a_twelfth_of_a_window(window: float, dice: Dice) -> None:
    """Every five seconds of the service's sixty."""
    pacer = closed_pacer(100.0, None, Pacing(window=window))
    assert pacer.delay(100.0) == pacer.paused_for(100.0) == pytest.approx(window / 12, rel=1e-12)


@pytest.mark.parametrize("hint", [0.5, 7.0, 60.0, 86_400.0], ids=str)
def test_a_hint_is_obeyed_to_the_second(hint: float, dice: Dice) -> None:
    """It may be shorter than the pause without one, and far longer."""
    pacer = closed_pacer(100.0, hint)
    assert pacer.delay(100.0) == pacer.paused_for(100.0) == hint
    assert pacer.delay(100.0 + hint / 2) == hint / 2
    assert pacer.delay(100.0 + hint) == pacer.paused_for(100.0 + hint) == 0.0


@pytest.mark.parametrize(
    ("hint", "stretch"),
    [(2.0, 0.1), (10.0, 0.5), (20.0, 1.0), (21.0, 1.0), (86_400.0, 1.0), (None, 0.25)],
    ids=str,
)
def test_a_pause_is_stretched_a_little_and_never_shortened(hint: float | None, stretch: float, dice: Dice) -> None:
    """By a twentieth or a second at most, so that the processes behind one key do not come back as one."""
    dice.share = 1.0
    pacer = closed_pacer(0.0, hint)
    assert dice.asked == [(0.0, stretch)]
    assert pacer.delay(0.0) == pytest.approx((5.0 if hint is None else hint) + stretch)


def test_once_the_gate_may_open_one_probe_goes(dice: Dice) -> None:
    """And nothing with it, however long it takes."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    assert pacer.delay(10.0) == pacer.delay(1_000.0) == math.inf
    assert pacer.paused_for(11.0) == 0.0


def test_a_probe_that_is_accepted_opens_the_gate(dice: Dice) -> None:
    """For everyone."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.accepted(10.5)
    sending(pacer, 10.5, 100)


def test_a_probe_that_is_throttled_closes_it_anew(dice: Dice) -> None:
    """From its ending on, with its own hint; that is no news of a gate closing."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    assert pacer.throttled(12.0, 3.0) is False
    assert pacer.delay(12.0) == 3.0
    sending(pacer, 15.0)
    assert pacer.throttled(15.0, None) is False
    assert pacer.delay(15.0) == 5.0


def test_a_probe_that_fails_closes_it_for_a_twelfth_of_a_window(dice: Dice) -> None:
    """It said nothing about the quota, and the service is not well."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.failed(12.0)
    assert pacer.delay(12.0) == 5.0
    sending(pacer, 17.0)
    assert pacer.delay(17.0) == math.inf


def test_after_a_probe_that_was_abandoned_the_next_goes_at_once(dice: Dice) -> None:
    """Its waiter was cancelled: nothing was learned, and others wait."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.abandoned(10.5)
    sending(pacer, 10.5)
    assert pacer.delay(10.5) == math.inf
    pacer.accepted(11.0)
    sending(pacer, 11.0, 10)


def test_the_probe_waits_until_all_sent_before_have_ended(dice: Dice) -> None:
    """From the first 429 on, at most one request is under way."""
    pacer = Pacer(NO_QUOTA)
    sending(pacer, 0.0, 3)
    pacer.throttled(1.0, 10.0)
    assert pacer.delay(20.0) == math.inf
    pacer.failed(20.0)
    assert pacer.delay(20.0) == math.inf
    pacer.abandoned(21.0)
    sending(pacer, 21.0)


@pytest.mark.parametrize("ending", ["accepted", "failed", "abandoned"], ids=str)
def test_the_ending_of_an_earlier_request_changes_nothing(ending: str, dice: Dice) -> None:
    """An acceptance among them was counted before the quota was spent."""
    pacer = Pacer(NO_QUOTA)
    sending(pacer, 0.0, 2)
    pacer.throttled(1.0, 10.0)
    getattr(pacer, ending)(2.0)
    assert pacer.delay(2.0) == pacer.paused_for(2.0) == 9.0


def test_after_a_request_was_abandoned_the_other_endings_still_change_nothing(dice: Dice) -> None:
    """It was no probe, and neither is what ends after it."""
    pacer = Pacer(NO_QUOTA)
    sending(pacer, 0.0, 3)
    pacer.throttled(1.0, 10.0)
    pacer.abandoned(2.0)
    pacer.accepted(3.0)
    assert pacer.delay(3.0) == pacer.paused_for(3.0) == 8.0


@pytest.mark.parametrize(
    ("hint", "left"), [(None, 8.0), (3.0, 8.0), (8.0, 8.0), (30.0, 30.0)], ids=["none", "nearer", "same", "farther"]
)
def test_a_429_to_an_earlier_request_can_only_put_the_time_off(hint: float | None, left: float, dice: Dice) -> None:
    """It tells of the same spent quota; only a farther hint says something new."""
    pacer = Pacer(NO_QUOTA)
    sending(pacer, 0.0, 2)
    assert pacer.throttled(1.0, 10.0) is True
    assert pacer.throttled(3.0, hint) is False
    assert pacer.delay(3.0) == left


def test_a_probes_hint_is_its_own_even_after_a_long_pause(dice: Dice) -> None:
    """Each closing counts from the answer that caused it."""
    pacer = closed_pacer(0.0, 1_000.0)
    sending(pacer, 1_000.0)
    pacer.throttled(1_000.0, 1.0)
    assert pacer.delay(1_000.0) == 1.0


def test_a_gate_that_opened_closes_again(dice: Dice) -> None:
    """And says so: it is news each time."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.accepted(10.0)
    sending(pacer, 11.0)
    assert pacer.throttled(11.0, 2.0) is True
    assert pacer.delay(11.0) == 2.0


def test_a_delay_too_short_for_a_timer_is_none(dice: Dice) -> None:
    """Asking again for it would spin."""
    pacer = closed_pacer(0.0, 10.0)
    assert pacer.delay(10.0 - RESOLUTION / 2) == 0.0
    assert pacer.delay(10.0 - 2 * RESOLUTION) == pytest.approx(2 * RESOLUTION)


ENDINGS = ("accepted", "failed", "abandoned", "throttled")
STEPS = st.lists(
    st.tuples(st.floats(0.0, 20.0), st.sampled_from(["send", "send", *ENDINGS]), st.none() | st.floats(0.1, 90.0)),
    max_size=80,
)

SAME_EVERY_TIME = settings(derandomize=True, database=None, deadline=None, max_examples=100)


@SAME_EVERY_TIME
@given(steps=STEPS)
def test_a_closed_gate_lets_single_probes_through_and_cuts_no_hint_short(
    steps: list[tuple[float, str, float | None]],
) -> None:
    """Whatever ends in whatever order, the pause is what was asked for, stretched by a second at most."""
    pacer = Pacer(NO_QUOTA)
    now, in_flight, closed, probing, until = 0.0, 0, False, False, 0.0
    for wait, action, hint in steps:
        now += wait
        pause = max(0.0, until - now) if closed else 0.0
        assert pause <= pacer.paused_for(now) <= pause + 1.0
        if action == "send":
            if closed and in_flight:
                assert pacer.delay(now) == math.inf
            elif pacer.delay(now) == 0.0:
                assert not closed or now >= until - RESOLUTION
                pacer.sent(now)
                in_flight, probing = in_flight + 1, closed
            else:
                assert closed
        elif in_flight:
            in_flight -= 1
            if action == "throttled":
                if hint is not None or probing or not closed:
                    until = max(until if closed else 0.0, now + (5.0 if hint is None else hint))
                assert pacer.throttled(now, hint) is not closed
                closed = True
            else:
                getattr(pacer, action)(now)
                closed = closed and not (probing and action == "accepted")
                if probing and action == "failed":
                    until = now + 5.0
            probing = False


# The known quota


@attrs.frozen
class Exchange:
    """A request, which the service counts at some moment from its start to its end."""

    sent: float
    ended: float


@attrs.frozen
class Arrival:
    """A wish to send: so long after the one before, for an exchange of some length and ending."""

    after: float
    takes: float
    ending: str = "accepted"


def spend(pacer: Pacer, arrivals: Sequence[Arrival], *, now: float = 0.0, early: float = 0.0) -> list[Exchange]:
    """Send each as soon as it is wished and allowed; timers fire a little early.

    Args:
        pacer: Says when.
        arrivals: What is wished.
        now: When to begin.
        early: Seconds by which a timer fires too early.
    """
    under_way: list[tuple[float, str]] = []
    exchanges: list[Exchange] = []

    def settle(now: float) -> None:
        while under_way and under_way[0][0] <= now:
            ended, ending = heapq.heappop(under_way)
            if ending == "throttled":
                pacer.throttled(ended, None)
            else:
                getattr(pacer, ending)(ended)

    for arrival in arrivals:
        now += arrival.after
        settle(now)
        while (delay := pacer.delay(now)) > 0:
            assert delay >= RESOLUTION  # or it would spin
            end = under_way[0][0] if under_way else math.inf
            now = min(end, now + delay - early)
            settle(now)
        pacer.sent(now)
        exchanges.append(Exchange(now, now + arrival.takes))
        heapq.heappush(under_way, (now + arrival.takes, arrival.ending))
    return exchanges


def most_in_a_window(exchanges: Sequence[Exchange], window: float) -> int:
    """Count the requests that the service may count in one window, whatever its phase and whenever it counts each."""
    # The worst window begins as an exchange ends: what ended before is out, and what is sent within it is in.
    starts, ends = sorted(exchange.sent for exchange in exchanges), sorted(exchange.ended for exchange in exchanges)
    return max(bisect.bisect_left(starts, begin + window) - bisect.bisect_left(ends, begin) for begin in ends)


def times(exchanges: Sequence[Exchange]) -> list[float]:
    """Say when each was sent, to the hundredth of a second."""
    return [round(exchange.sent, 2) for exchange in exchanges]


@pytest.mark.parametrize(
    ("quota", "window", "expected"),
    [
        (60, 60.0, [0.0] * 5 + [float(second) for second in range(1, 56)]),
        (24, 60.0, [0.0] * 2 + [2.5 * number for number in range(1, 23)]),
        (23, 46.0, [2.0 * number for number in range(23)]),
        (12, 60.0, [5.0 * number for number in range(12)]),
        (1, 3_600.0, [0.0, 3_600.0, 7_200.0]),
        (2, 1.0, [0.0, 0.5, 1.0, 1.5]),
    ],
    ids=str,
)
def test_a_known_quota_is_spread_evenly_but_for_a_small_burst(quota: int, window: float, expected: list[float]) -> None:
    """A twelfth of it at once, then one in each equal part of the window."""
    pacer = Pacer(Pacing(requests_per_window=quota, window=window))
    assert times(spend(pacer, [Arrival(0.0, 0.0)] * len(expected))) == expected


def test_the_second_window_is_like_the_first() -> None:
    """A place is free one window after its request ended, and the burst with it."""
    pacer = Pacer(Pacing(requests_per_window=60))
    assert times(spend(pacer, [Arrival(0.0, 0.0)] * 120))[60:] == [60.0] * 5 + [
        float(second) for second in range(61, 116)
    ]


def test_what_is_not_used_is_not_saved_up() -> None:
    """After an idle hour there is one burst, not sixty."""
    pacer = Pacer(Pacing(requests_per_window=60))
    arrivals = [Arrival(0.0, 0.1)] * 3 + [Arrival(3_600.0, 0.1)] + [Arrival(0.0, 0.1)] * 7
    assert times(spend(pacer, arrivals)) == [0.0] * 3 + [3_600.0] * 5 + [3_601.0, 3_602.0, 3_603.0]


def test_waits_in_step_with_the_quota_are_never_held_back() -> None:
    """One request a second is what sixty a minute allow."""
    pacer = Pacer(Pacing(requests_per_window=60))
    arrivals = [Arrival(1.002, 0.1)] * 300
    assert times(spend(pacer, arrivals)) == [round(1.002 * number, 2) for number in range(1, 301)]


def test_a_request_keeps_its_place_until_a_window_after_its_end() -> None:
    """The service may have counted it at the last moment."""
    pacer = Pacer(Pacing(requests_per_window=2, window=60.0))
    exchanges = spend(pacer, [Arrival(0.0, 45.0), Arrival(0.0, 1.0), Arrival(0.0, 1.0), Arrival(0.0, 1.0)])
    assert times(exchanges) == [0.0, 30.0, 91.0, 121.0]


def test_while_every_place_is_under_way_there_is_no_telling_when() -> None:
    """The next hangs on an ending, which will ask again."""
    pacer = Pacer(Pacing(requests_per_window=1, window=60.0))
    sending(pacer, 0.0)
    assert pacer.delay(1_000.0) == math.inf
    pacer.accepted(1_000.0)
    assert pacer.delay(1_000.0) == pytest.approx(60.0, abs=1e-5)


@pytest.mark.parametrize("ending", ENDINGS, ids=str)
def test_every_ending_takes_a_place(ending: str, dice: Dice) -> None:
    """The service may have counted a request that failed, or was given up, or was refused; some of them late."""
    pacer = Pacer(Pacing(requests_per_window=1, window=60.0))
    exchanges = spend(pacer, [Arrival(0.0, 0.5, ending), Arrival(0.0, 0.5)])
    assert times(exchanges) == [0.0, 65.5 if ending in {"failed", "abandoned"} else 60.5]


def test_gate_and_quota_both_hold(dice: Dice) -> None:
    """The longer of the two decides, and only the gate is a pause."""
    pacer = closed_pacer(0.0, 3.0, Pacing(requests_per_window=6, window=60.0))
    assert (pacer.delay(0.0), pacer.paused_for(0.0)) == (10.0, 3.0)
    pacer = closed_pacer(0.0, 30.0, Pacing(requests_per_window=6, window=60.0))
    assert (pacer.delay(0.0), pacer.paused_for(0.0)) == (30.0, 30.0)


def test_a_place_that_is_about_to_be_free_lets_one_request_through() -> None:
    """A timer that fires a fraction of a microsecond early must not let a whole burst through."""
    pacer = Pacer(Pacing(requests_per_window=24, window=24.0))
    arrivals = [Arrival(0.0, 30.0), *[Arrival(0.0, 40.0)] * 23, Arrival(0.0, 1.0), Arrival(0.0, 1.0)]
    exchanges = spend(pacer, arrivals, early=RESOLUTION / 2)
    assert times(exchanges[-2:]) == [54.0, 64.0]


PATTERNS = {
    "greedy": lambda dice, window: Arrival(0.0, 0.01 * window * dice.random()),
    "instant": lambda dice, window: Arrival(0.0, 0.0),
    "slow": lambda dice, window: Arrival(0.0, dice.choice((0.1, 0.5, 1.0, 3.0)) * window),
    "waves": lambda dice, window: Arrival(window if dice.random() < 0.03 else 0.0, 0.02 * window),
    "scattered": lambda dice, window: Arrival(
        dice.expovariate(40 / window), dice.expovariate(8 / window), dice.choice(("accepted", "failed", "abandoned"))
    ),
    "throttled": lambda dice, window: Arrival(0.0, 0.05 * window, "throttled" if dice.random() < 0.1 else "accepted"),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(SAME_EVERY_TIME, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    quota=st.sampled_from([1, 2, 5, 12, 24, 48]),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    begin=st.sampled_from([0.0, 123_456.789, 1e8]),
    early=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_a_known_quota_is_never_exceeded_over_any_window(  # noqa: PLR0917 - drawn by name
    pattern: str, seed: int, quota: int, window: float, begin: float, early: float
) -> None:
    """Whatever the phase of the service's windows, the length of the exchanges, and when in one it is counted."""
    dice = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    arrivals = [PATTERNS[pattern](dice, window) for _ in range(2 * quota + 20)]
    pacer = Pacer(Pacing(requests_per_window=quota, window=window))
    exchanges = spend(pacer, arrivals, now=begin, early=early * RESOLUTION)
    assert most_in_a_window(exchanges, window) <= quota


@pytest.mark.parametrize("quota", [1, 5, 12, 24, 60, 600], ids=str)
@pytest.mark.parametrize("takes", [0.0, 0.1, 1.0], ids=str)
def test_the_quota_is_used_up(quota: int, takes: float) -> None:
    """With short exchanges, over ten minutes, to more than nineteen parts in twenty."""
    pacer = Pacer(Pacing(requests_per_window=quota, window=60.0))
    exchanges = spend(pacer, [Arrival(0.0, takes)] * (11 * quota))
    assert sum(exchange.sent < 600.0 for exchange in exchanges) > 0.95 * 10 * quota


def test_a_pacer_does_not_grow() -> None:
    """It remembers as many endings as there are places."""
    pacer = Pacer(Pacing(requests_per_window=10, window=1.0))
    spend(pacer, [Arrival(0.0, 0.01)] * 2_000)
    assert pacer._quota is not None
    assert len(pacer._quota._freed_at) <= 10
