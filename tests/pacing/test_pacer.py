"""When a request may go: the gate that a 429 closes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Pacing
from playai_async._settings import RESOLUTION
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.leased_quota import LeasedQuota, terms_for
from playai_async.jobs._pacing.pacer import Pacer
from tests.support.dice import Dice
from tests.support.pacers import PLENTY, sending
from tests.support.simulation import Modelled, Session, run
from tools.limiters import CountingSlidingLogLimiter


def ending(pacer: Pacer, how: str, now: float) -> None:
    """End a request in a way that is no 429; alone, where it fails."""
    if how == "failed":
        assert pacer.on_failed(now, several=False) is False
    else:
        getattr(pacer, f"on_{how}")(now)


def closed_pacer(now: float = 0.0, retry_after: float | None = None, pacing: Pacing = PLENTY) -> Pacer:
    """Make a pacer whose first request met a 429."""
    pacer = build_pacer(pacing)
    sending(pacer, now)
    assert pacer.on_throttled(now, now, retry_after) is True
    return pacer


# The gate that a 429 closes


def test_nothing_is_held_back_before_the_first_429(dice: Dice) -> None:
    """The gate is open."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 1_000)
    assert pacer.in_flight == 1_000
    assert (pacer.delay(0.0), pacer.paused_for(0.0), pacer.pause_reason) == (0.0, 0.0, None)


@pytest.mark.parametrize("how", ["accepted", "failed", "abandoned"], ids=str)
def test_no_other_ending_closes_the_gate_on_a_lonely_wait(how: str, dice: Dice) -> None:
    """Only a 429 speaks of the quota."""
    pacer = build_pacer(PLENTY)
    for now in range(10):
        sending(pacer, float(now))
        ending(pacer, how, float(now))
    assert (pacer.delay(10.0), pacer.paused_for(10.0), pacer.pause_reason) == (0.0, 0.0, None)


@pytest.mark.parametrize("window", [60.0, 12.0, 0.5], ids=str)
@pytest.mark.parametrize("requests", [None, 10**6], ids=["unknown quota", "known quota"])
def test_without_a_hint_the_gate_is_closed_for_a_twelfth_of_a_window(
    requests: int | None, window: float, dice: Dice
) -> None:
    """Every five seconds of the service's sixty."""
    pacer = closed_pacer(100.0, None, Pacing(requests, window))
    assert pacer.delay(100.0) == pacer.paused_for(100.0) == pytest.approx(window / 12, rel=1e-12)
    assert pacer.pause_reason == "throttled"


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
    """And nothing with it, however long it takes; it is closed all the while."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    assert pacer.delay(10.0) == pacer.delay(1_000.0) == math.inf
    assert (pacer.paused_for(11.0), pacer.pause_reason) == (0.0, "throttled")


def test_a_probe_that_is_accepted_opens_the_gate(dice: Dice) -> None:
    """For everyone."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.on_accepted(10.5)
    assert pacer.pause_reason is None
    sending(pacer, 10.5, 100)


def test_a_probe_that_is_throttled_closes_it_anew(dice: Dice) -> None:
    """From its ending on, with its own hint; that is no news of a gate closing."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    assert pacer.on_throttled(12.0, 10.0, 3.0) is False
    assert pacer.delay(12.0) == 3.0
    sending(pacer, 15.0)
    assert pacer.on_throttled(15.0, 15.0, None) is False
    assert pacer.delay(15.0) == 6.25


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "alone"])
def test_a_probe_that_fails_closes_it_for_a_twelfth_of_a_window(shared: bool, dice: Dice) -> None:
    """It said nothing about the quota, and the service is not well: however often, it is the 429 that is not over."""
    pacer = closed_pacer(0.0, 10.0)
    now = 10.0
    for _ in range(10):
        sending(pacer, now)
        assert pacer.on_failed(now + 2.0, several=shared) is False
        assert (pacer.delay(now + 2.0), pacer.pause_reason) == (5.0, "throttled")
        now += 7.0


def test_after_a_probe_that_was_abandoned_the_next_goes_at_once(dice: Dice) -> None:
    """Its waiter was cancelled: nothing was learned, and others wait."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.on_abandoned(10.5)
    sending(pacer, 10.5)
    assert pacer.delay(10.5) == math.inf
    pacer.on_accepted(11.0)
    sending(pacer, 11.0, 10)


def test_the_probe_waits_for_earlier_requests_but_no_longer_than_two_seconds(dice: Dice) -> None:
    """One of them may hang until its timeout, and nothing else would go."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 4)
    pacer.on_throttled(1.0, 0.0, 10.0)
    assert pacer.delay(5.0) == 8.0
    pacer.on_failed(11.0, 0.0, several=True)
    assert pacer.delay(11.5) == 1.5
    pacer.on_abandoned(12.0, 0.0)
    sending(pacer, 13.0)
    assert pacer.delay(20.0) == math.inf


def test_the_probe_goes_once_all_earlier_requests_have_ended(dice: Dice) -> None:
    """They may have been counted late."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 2)
    pacer.on_throttled(1.0, 0.0, 10.0)
    pacer.on_accepted(11.5, 0.0)
    sending(pacer, 11.5)


@pytest.mark.parametrize("reason", ["throttled", "outage"], ids=str)
def test_an_earlier_request_that_ends_while_the_probe_is_in_flight_is_not_the_probe(reason: str, dice: Dice) -> None:
    """It neither opens the gate nor lets another probe go; a 429 among them can only delay."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 8)
    if reason == "throttled":
        pacer.on_throttled(1.0, 0.0, 1.0)
    else:
        assert [pacer.on_failed(1.0, 0.0, several=True) for _ in range(3)] == [False, False, True]
    sending(pacer, 5.0)
    pacer.on_accepted(5.1, 0.0)
    pacer.on_abandoned(5.2, 0.0)
    pacer.on_failed(5.3, 0.0, several=True)
    assert (pacer.pause_reason, pacer.delay(6.0)) == (reason, math.inf)
    assert pacer.on_throttled(6.0, 0.0, 30.0) is False
    assert (pacer.pause_reason, pacer.paused_for(6.0)) == (reason, 30.0)
    pacer.on_accepted(7.0, 5.0)
    assert (pacer.pause_reason, pacer.delay(7.0)) == (None, 0.0)


@pytest.mark.parametrize("how", ["accepted", "failed", "abandoned"], ids=str)
def test_the_ending_of_an_earlier_request_changes_nothing(how: str, dice: Dice) -> None:
    """An acceptance among them was counted before the quota was spent."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 2)
    pacer.on_throttled(1.0, 0.0, 10.0)
    ending(pacer, how, 2.0)
    assert pacer.delay(2.0) == pacer.paused_for(2.0) == 9.0


def test_after_a_request_was_abandoned_the_other_endings_still_change_nothing(dice: Dice) -> None:
    """It was no probe, and neither is what ends after it."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 3)
    pacer.on_throttled(1.0, 0.0, 10.0)
    pacer.on_abandoned(2.0)
    pacer.on_accepted(3.0)
    assert pacer.delay(3.0) == pacer.paused_for(3.0) == 8.0


@pytest.mark.parametrize(
    ("hint", "left"), [(None, 8.0), (3.0, 8.0), (8.0, 8.0), (30.0, 30.0)], ids=["none", "nearer", "same", "farther"]
)
def test_a_429_to_an_earlier_request_can_only_put_the_time_off(hint: float | None, left: float, dice: Dice) -> None:
    """It tells of the same spent quota; only a farther hint says something new."""
    pacer = build_pacer(PLENTY)
    sending(pacer, 0.0, 2)
    assert pacer.on_throttled(1.0, 0.0, 10.0) is True
    assert pacer.on_throttled(3.0, 0.0, hint) is False
    assert (pacer.delay(3.0), pacer.pause_reason) == (left, "throttled")


def test_a_probes_hint_is_its_own_even_after_a_long_pause(dice: Dice) -> None:
    """Each closing counts from the answer that caused it."""
    pacer = closed_pacer(0.0, 1_000.0)
    sending(pacer, 1_000.0)
    pacer.on_throttled(1_000.0, 1_000.0, 1.0)
    assert pacer.delay(1_000.0) == 1.0


def test_a_gate_that_opened_closes_again(dice: Dice) -> None:
    """And says so: it is news each time."""
    pacer = closed_pacer(0.0, 10.0)
    sending(pacer, 10.0)
    pacer.on_accepted(10.0)
    sending(pacer, 11.0)
    assert pacer.on_throttled(11.0, 11.0, 2.0) is True
    assert pacer.delay(11.0) == 2.0


def test_a_delay_too_short_for_a_timer_is_none(dice: Dice) -> None:
    """Asking again for it would spin."""
    pacer = closed_pacer(0.0, 10.0)
    assert pacer.delay(10.0 - RESOLUTION / 2) == 0.0
    assert pacer.delay(10.0 - 2 * RESOLUTION) == pytest.approx(2 * RESOLUTION)
    assert closed_pacer(0.0, RESOLUTION).delay(0.0) == RESOLUTION


# Pauses without a hint


def test_probes_go_less_often_the_longer_they_are_refused(dice: Dice) -> None:
    """The service may count what it refuses: after two windows, one pause lasts a whole window.

    Then each is longer by a quarter, up to 12.3 s of 60.
    """
    pacer, now, pauses = closed_pacer(0.0), 0.0, []
    for _ in range(29):
        pauses.append(pacer.delay(now))
        now += pauses[-1]
        sending(pacer, now)
        pacer.on_throttled(now, now, None)
    whole, longest = pytest.approx(60.3), pytest.approx(12.3)
    assert pauses == [5.0, *[6.25] * 19, whole, 7.8125, 9.765625, 12.20703125, *[longest] * 5]


def refused_until_silence(pacer: Pacer, now: float) -> tuple[float, float]:
    """Refuse every probe after a 429; return for how long, and the time after the pause of a whole window."""
    began = now
    pause = refused(pacer, now)
    while pause < 60.0:
        now += pause
        pause = refused(pacer, now)
    return now - began, now + pause


def test_silence_that_helped_comes_sooner_the_next_time(dice: Dice) -> None:
    """But after half a window of refused probes at least; and as late as at first once a probe was accepted sooner."""
    pacer, now, spans = build_pacer(PLENTY), 0.0, list[float]()
    for _ in range(3):
        span, now = refused_until_silence(pacer, now)
        sending(pacer, now)
        pacer.on_accepted(now)
        spans.append(span)
    assert spans == [123.75, 36.25, 36.25]
    assert refused(pacer, 1_000.0) == 5.0
    sending(pacer, 1_005.0)
    pacer.on_accepted(1_005.0)
    assert refused_until_silence(pacer, 2_000.0)[0] > 120.0


def test_a_service_that_counts_what_it_refuses_recovers(dice: Dice) -> None:
    """No probe for as long as a request counts: then it accepts one, though it had refused all for two windows."""
    service = Modelled(CountingSlidingLogLimiter(5, 60.0))
    for number in range(240):
        service.answer(-0.5 * number)
    session = Session(every=30.0, retries=True, pacer=build_pacer(Pacing()))
    run(service, [session], 1_800.0)
    assert session.since(900.0) == (30, 0)


def test_the_first_pause_is_learned_where_first_probes_are_accepted(dice: Dice) -> None:
    """It gets shorter by half each time, down to a sixteenth; and begins anew once one is refused."""
    pacer, pauses = build_pacer(Pacing()), []
    for now in range(0, 700, 100):
        sending(pacer, float(now))
        pacer.on_throttled(float(now), float(now), None)
        pauses.append(pacer.delay(float(now)))
        sending(pacer, now + pauses[-1])
        pacer.on_accepted(now + pauses[-1])
    assert pauses == [5.0, 2.5, 1.25, 0.625, 0.3125, 0.3125, 0.3125]
    sending(pacer, 700.0)
    pacer.on_throttled(700.0, 700.0, None)
    sending(pacer, 700.3125)
    pacer.on_throttled(700.3125, 700.3125, None)
    assert pacer.delay(700.3125) == 0.625


# Edges between the service's windows


def pacer_with_an_edge(dice: Dice) -> Pacer:
    """Make a pacer that knows an edge, which had passed by 11.75 s, and stretches pauses from then on."""
    pacer = closed_pacer(0.0)
    sending(pacer, 5.0)
    pacer.on_throttled(5.25, 5.0, None)
    sending(pacer, 11.5)
    pacer.on_accepted(11.75)
    dice.share = 1.0
    return pacer


def refused(pacer: Pacer, now: float) -> float:
    """Send a request that gets a 429 at once; return for how long the gate is closed."""
    sending(pacer, now)
    pacer.on_throttled(now, now, None)
    return pacer.delay(now)


def trusting_pacer(dice: Dice) -> Pacer:
    """Make a pacer whose edge was tested: it was refused before 71.75 s, and accepted then."""
    pacer = pacer_with_an_edge(dice)
    assert refused(pacer, 40.0) == 5.25
    assert refused(pacer, 45.25) == 26.5
    sending(pacer, 71.75)
    pacer.on_accepted(71.75)
    return pacer


def waits_for_edge(pacer: Pacer, now: float) -> bool:
    """Meet a 429, and send probes until one is accepted at the edge; return whether one of them tested the edge."""
    pause = refused(pacer, now)
    tests = pause < 10.0
    if tests:
        pause += refused(pacer, now + pause)
    sending(pacer, now + pause)
    pacer.on_accepted(now + pause)
    return tests


@pytest.mark.parametrize("now", [12.0, 40.25, 56.75], ids=str)
def test_an_edge_that_was_seen_is_tested_by_one_early_probe(now: float, dice: Dice) -> None:
    """If that is refused, the gate is closed until the edge: to the moment, since nobody gains by spreading."""
    pacer = pacer_with_an_edge(dice)
    assert refused(pacer, now) == pacer.paused_for(now) == 5.25
    assert refused(pacer, now + 5.25) == pytest.approx(71.75 - now - 5.25)
    sending(pacer, 71.75)


def test_shortly_before_an_edge_no_probe_tests_it(dice: Dice) -> None:
    """It would show little more than the edge itself: within a quarter of a window."""
    pacer = pacer_with_an_edge(dice)
    assert refused(pacer, 57.0) == 14.75


def test_after_a_test_the_gate_is_closed_until_the_next_edge(dice: Dice) -> None:
    """Nothing is sent in vain any more."""
    pacer = trusting_pacer(dice)
    assert refused(pacer, 90.0) == 41.75


def test_trusted_edges_are_tested_again_after_every_fourth_long_pause(dice: Dice) -> None:
    """Else a session that spends all at each edge would never see that the service has none any more."""
    pacer = trusting_pacer(dice)
    assert [window for window in range(12) if waits_for_edge(pacer, 80.0 + 60.0 * window)] == [2, 6, 10]


def test_an_early_probe_that_is_accepted_refutes_edges(dice: Dice) -> None:
    """The service does not count per window, so no pause lasts for most of one again."""
    pacer = pacer_with_an_edge(dice)
    assert refused(pacer, 30.0) == 5.25
    sending(pacer, 35.25)
    pacer.on_accepted(35.25)
    assert refused(pacer, 37.0) <= 2.625


@pytest.mark.parametrize("hint", [3.0, 90.0], ids=["nearer than the edge", "farther"])
def test_a_hint_is_obeyed_where_an_edge_was_seen(hint: float, dice: Dice) -> None:
    """The service knows better; a stretched pause, as ever."""
    pacer = pacer_with_an_edge(dice)
    sending(pacer, 30.0)
    pacer.on_throttled(30.0, 30.0, hint)
    assert pacer.delay(30.0) == pytest.approx(hint + min(1.0, hint / 20))


def test_a_probe_that_is_refused_behind_a_trusted_edge_forgets_the_edge(dice: Dice) -> None:
    """Probes are to find it anew, and then it is known again."""
    pacer = trusting_pacer(dice)
    assert [waits_for_edge(pacer, now) for now in (80.0, 140.0, 200.0)] == [False, False, True]
    assert refused(pacer, 270.0) == 41.75
    now = 311.75
    for pause in (6.5625, 6.5625, 6.5625, 6.5625):
        assert refused(pacer, now) == pause
        now += pause
    sending(pacer, now)
    pacer.on_accepted(now)
    assert refused(pacer, 380.0) == 5.25
    assert refused(pacer, 385.25) == pytest.approx(now + 60.0 - 385.25)


def test_a_probe_that_is_refused_where_a_hint_led_leaves_the_edge(dice: Dice) -> None:
    """It was not sent behind an edge, so the next one is awaited."""
    pacer = pacer_with_an_edge(dice)
    sending(pacer, 30.0)
    pacer.on_throttled(30.0, 30.0, 2.0)
    sending(pacer, 32.1)
    pacer.on_throttled(32.5, 32.1, None)
    assert pacer.delay(32.5) == 39.25


def test_what_follows_a_pause_of_more_than_half_a_window_tells_of_no_edge(dice: Dice) -> None:
    """It may have been anywhere between."""
    pacer = closed_pacer(0.0, 40.0)
    sending(pacer, 40.0)
    pacer.on_accepted(40.0)
    sending(pacer, 41.0)
    pacer.on_throttled(41.0, 41.0, None)
    assert pacer.delay(41.0) == 5.0


# Whatever happens

ENDINGS = ("accepted", "failed", "failed alone", "abandoned", "throttled")
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 20.0), st.sampled_from(["send", "send", "send", *ENDINGS]), st.none() | st.floats(0.1, 90)
    ),
    max_size=80,
)


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(steps=STEPS, requests=st.sampled_from([10**6, 20, None]))
def test_a_closed_gate_lets_single_probes_through_and_cuts_no_hint_short(  # noqa: C901 - a story, told in order
    steps: list[tuple[float, str, float | None]], requests: int | None
) -> None:
    """Whatever ends in whatever order, the pause is what was asked for, stretched by a second at most."""
    pacer = build_pacer(Pacing(requests))
    now, in_flight, probing, until = 0.0, 0, False, 0.0
    for wait, action, hint in steps:
        now += wait
        closed = pacer.pause_reason is not None
        pause = max(0.0, until - now) if closed else 0.0
        assert pause <= pacer.paused_for(now) <= pause + 1.0
        delay = pacer.delay(now)
        assert delay == 0.0 or delay >= RESOLUTION
        if closed and probing:
            assert delay == math.inf
        elif closed and in_flight:
            assert delay == pytest.approx(max(0.0, pacer._gate._closed_until + 2.0 - now), abs=1e-5)
        if action == "send":
            if delay == 0.0:
                assert not closed or now >= until - RESOLUTION
                pacer.on_sent(now)
                in_flight, probing = in_flight + 1, closed
            continue
        if not in_flight:
            assert delay < math.inf
            continue
        in_flight -= 1
        if action == "throttled":
            news = pacer.pause_reason != "throttled"
            assert pacer.on_throttled(now, now, hint) is news
            assert pacer.pause_reason == "throttled"
            if hint is not None:
                until = max(until if closed else 0.0, now + hint)
            elif probing or news:
                until = now + pacer.paused_for(now)
                assert now + RESOLUTION <= until <= now + 60.0
        elif action.startswith("failed"):
            news = pacer.on_failed(now, several=action == "failed")
            assert news is (not closed and pacer.pause_reason == "outage")
            if probing or news:
                until = now + pacer.paused_for(now)
                assert until <= now + 5.25
        else:
            ending(pacer, action, now)
            assert (pacer.pause_reason is not None) is (closed and not (probing and action == "accepted"))
        probing = False


# A 429 that another process met


def test_a_429_elsewhere_closes_the_gate_for_a_probe(dice: Dice) -> None:
    """As one of our own would, though it is no request of ours that was refused."""
    pacer = build_pacer(PLENTY)
    assert pacer.hold(0.0, 10.0) is True
    assert (pacer.delay(0.0), pacer.paused_for(4.0), pacer.pause_reason) == (10.0, 6.0, "throttled")
    assert pacer.hold(5.0, 8.0) is False
    sending(pacer, 13.0)
    assert pacer.delay(13.0) == math.inf
    pacer.on_accepted(13.1)
    assert (pacer.delay(13.1), pacer.pause_reason) == (0.0, None)


def test_a_429_elsewhere_does_not_hold_a_probe_that_is_out(dice: Dice) -> None:
    """Its own ending tells more, and later."""
    pacer = closed_pacer(retry_after=3.0)
    sending(pacer, 3.0)
    assert pacer.hold(3.1, 30.0) is False
    pacer.on_accepted(3.2)
    assert pacer.delay(3.2) == 0.0


@pytest.mark.parametrize("early", [0.0, RESOLUTION / 2], ids=["on time", "as early as timers fire"])
def test_a_probe_takes_a_permit_whenever_its_time_has_come(early: float) -> None:
    """Also where its timer fired a little early: it is asked for then, and nothing goes without it."""
    pacing = Pacing(requests_per_window=60)
    terms = terms_for(pacing, name="q", request_timeout=10.0)
    assert terms is not None
    pacer = build_pacer(pacing, leased=LeasedQuota(terms))
    pacer.hold(0.0, 30.0)
    assert (pacer.delay(29.0), pacer.allowed(29.0, 5)) == (1.0, 0)
    assert (pacer.delay(30.0 - early), pacer.allowed(30.0 - early, 5)) == (math.inf, 1)


def test_the_gate_lets_all_through_or_one_or_none(dice: Dice) -> None:
    """That is how many permits of a shared quota are worth asking for."""
    pacer = build_pacer(PLENTY)
    assert pacer.allowed(0.0, 5) == 5
    sending(pacer, 0.0, 2)
    pacer.on_throttled(0.0, 0.0, 3.0)
    assert pacer.allowed(1.0, 5) == 0
    assert pacer.allowed(3.0, 5) == 0  # one of the two is still under way
    pacer.on_accepted(3.0)
    assert (pacer.allowed(3.0, 5), pacer.allowed(3.0, 0)) == (1, 0)
