"""A quota that is learned from the 429s it costs, against a service that counts in fixed windows."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Pacing
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.pacer import Pacer
from tests.support.dice import Dice
from tests.support.simulation import FixedWindows, Session, run

MOMENTS = (0.0, 13.0, 31.0, 44.0, 59.0)
PHASES = pytest.mark.parametrize("phase", MOMENTS, ids=str)


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> Dice:
    """Dice that stretch each pause by half of what they may."""
    dice = Dice(0.5)
    monkeypatch.setattr(random, "uniform", dice)
    return dice


def accepting(pacer: Pacer, count: int, *, now: float = 0.0) -> float:
    """Send requests one after the other, as soon as each may go, all accepted at once; return the time of the last."""
    for _ in range(count):
        now += pacer.delay(now)
        pacer.on_sent(now)
        pacer.on_accepted(now)
    return now


def hinted_at(pacer: Pacer, now: float) -> float:
    """Send a hinted request as soon as it may go, which is accepted at once; return its time."""
    now += pacer.delay(now, hinted=True)
    pacer.on_sent(now, hinted=True)
    pacer.on_accepted(now)
    return now


def refused(pacer: Pacer, now: float, hint: float | None = None) -> float:
    """Send a request as soon as it may go, which meets a 429; return its time."""
    now += pacer.delay(now)
    pacer.on_sent(now)
    pacer.on_throttled(now, now, hint)
    return now


# The ramp, where nothing is known


def test_sixteen_requests_go_at_once_and_then_one_a_second() -> None:
    """A dozen waits are not slowed, and a first minute hardly meets a 429."""
    pacer = build_pacer(Pacing())
    times = []
    now = 0.0
    for _ in range(22):
        now += pacer.delay(now)
        pacer.on_sent(now)
        times.append(now)
    assert times == pytest.approx([0.0] * 16 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert pacer.quota is None


def test_hinted_requests_keep_to_the_ramp() -> None:
    """While no quota is known, the ramp is all that limits them."""
    pacer = build_pacer(Pacing())
    accepting(pacer, 16)
    assert hinted_at(pacer, 0.0) > 0.0


def test_hinted_requests_do_not_wait_for_the_spacing_of_a_learned_quota_but_for_the_quota() -> None:
    """As for a known one."""
    pacer = build_pacer(Pacing())
    now = accepting(pacer, 40)
    now = accepting(pacer, 1, now=refused(pacer, now))
    limit = pacer.quota
    assert limit == 38
    later = now + 120.0
    assert [hinted_at(pacer, later) for _ in range(limit)] == [later] * limit
    assert pacer.delay(later, hinted=True) > 1.0


@pytest.mark.parametrize(("window", "spacing"), [(60.0, 1.0), (6.0, 0.1)], ids=str)
@pytest.mark.parametrize(("taken", "times"), [(0, 1), (40, 2), (80, 5), (120, 10)], ids=str)
def test_the_rate_grows_with_the_square_of_what_a_window_has_taken(
    taken: int, times: int, window: float, spacing: float
) -> None:
    """Twice as fast after forty, five times after eighty."""
    pacer = build_pacer(Pacing(window=window))
    now = accepting(pacer, taken) + window / 2
    for _ in range(16):
        assert pacer.delay(now) == 0.0
        pacer.on_sent(now)
    assert pacer.delay(now) == pytest.approx(spacing / times, rel=1e-6)


@pytest.mark.parametrize(("latency", "within"), [(0.01, 48.0), (0.1, 50.0), (0.3, 60.0)], ids=str)
def test_a_service_without_a_quota_answers_a_thousand_within_a_minute(latency: float, within: float) -> None:
    """It is found out soon."""
    session = Session(latency=lambda: latency)
    run(FixedWindows(10**9), [session], within)
    assert len(session.sent) >= 1_000
    assert session.pacer.quota is None


# The first 429


@pytest.mark.parametrize(("taken", "limit"), [(16, 15), (40, 38), (60, 57), (100, 95)], ids=str)
def test_the_first_429_takes_the_bound(taken: int, limit: int) -> None:
    """A little less than the window has taken, since others may use the key as well."""
    pacer = build_pacer(Pacing())
    refused(pacer, accepting(pacer, taken))
    assert pacer.quota == limit


def test_what_was_under_way_at_the_429_counts_as_it_ends() -> None:
    """Those accepted among it were in that window; the refused, the cut off and the cancelled may have been."""
    pacer = build_pacer(Pacing())
    now = accepting(pacer, 40) + 9.0
    for _ in range(6):
        assert pacer.delay(now) == 0.0
        pacer.on_sent(now)
    pacer.on_throttled(now, now, None)
    assert pacer.quota is None
    for end in (pacer.on_accepted, pacer.on_accepted, pacer.on_abandoned):
        end(now)
    pacer.on_failed(now, several=True)
    assert pacer.quota is None
    assert pacer.on_throttled(now, now, None) is False
    assert pacer.quota == math.floor(0.95 * 44)


def reopened(pacer: Pacer, now: float) -> float:
    """Send probes after a 429, of which the first one is refused, as where windows are; return when the gate opens."""
    now = refused(pacer, now)
    return accepting(pacer, 1, now=now)


def test_an_early_429_after_few_requests_does_not_limit_a_session() -> None:
    """Others may have spent that window; three of them are no accident."""
    pacer, now, limits = build_pacer(Pacing()), 0.0, []
    for _ in range(3):
        now = refused(pacer, accepting(pacer, 10, now=now))
        limits.append(pacer.quota)
        now = reopened(pacer, now) + 61.0
    assert limits == [None, None, 9]


def test_after_an_early_429_no_more_go_at_once_than_a_window_has_taken() -> None:
    """The rest follow one by one, a second apart."""
    pacer = build_pacer(Pacing())
    now = reopened(pacer, refused(pacer, accepting(pacer, 10))) + 61.0
    for _ in range(10):
        assert pacer.delay(now) == 0.0
        pacer.on_sent(now)
    assert pacer.delay(now) == pytest.approx(1 / (1 + (10 / 40) ** 2))


def test_a_limit_is_one_request_at_least() -> None:
    """Else nothing would ever be learned again."""
    pacer, now = build_pacer(Pacing()), 0.0
    for _ in range(4):
        now = refused(pacer, accepting(pacer, 1, now=now + 120.0), hint=90.0)
    assert pacer.quota == 1
    assert accepting(pacer, 3, now=now) < now + 400.0


def test_a_429_after_no_request_at_all_tells_nothing() -> None:
    """Others have spent the window: only the gate reacts."""
    pacer, now = build_pacer(Pacing()), 0.0
    for _ in range(10):
        now = reopened(pacer, refused(pacer, now + 120.0)) + 120.0
    assert pacer.quota is None


def test_a_429_after_no_request_at_all_does_not_lower_a_rate() -> None:
    """Where the service does not count per window, a rate is looked for: a quota that idles shows nothing of it."""
    pacer, now = build_pacer(Pacing()), 0.0
    for _ in range(10):
        now = accepting(pacer, 1, now=refused(pacer, now + 120.0)) + 120.0
    assert pacer.quota == 60


# Constant demand


@PHASES
def test_from_the_first_edge_on_the_counts_are_exact(phase: float) -> None:
    """What is accepted between an edge and a 429 is the quota: 57 of 60 are kept to, then a little more is tried."""
    session = Session()
    run(FixedWindows(60, phase), [session], 900.0)
    limits = [limit for at, limit in session.limits if at > 180.0]
    at = limits.index(57)
    assert limits[at:] == ([57, 59, 65] * 10)[: len(limits) - at]
    assert len(limits) - at >= 9


@PHASES
@pytest.mark.parametrize("latency", [0.05, 2.0], ids=str)
def test_a_constant_demand_uses_the_quota_and_hardly_meets_a_429(phase: float, latency: float) -> None:
    """At most 3 % after the first window, and more than nine parts in ten are used."""
    session = Session(latency=lambda: latency)
    run(FixedWindows(60, phase), [session], 1_800.0)
    assert session.refused_share(60.0) <= 0.03
    assert session.refused_share(180.0) <= 0.01
    assert session.since(180.0)[0] >= 0.93 * 60 * (1_800 - 180) / 60


SIZES = ((1, 0.34, 0.9), (2, 0.21, 0.7), (5, 0.1, 0.8), (17, 0.03, 0.9), (240, 0.01, 0.93))


@pytest.mark.parametrize(
    ("quota", "refused", "used", "phase"),
    [*((*size, phase) for size in SIZES for phase in MOMENTS), (1_000, 0.01, 0.93, 13.0)],
    ids=str,
)
def test_quotas_of_any_size_are_learned(quota: int, refused: float, used: float, phase: float) -> None:
    """A single 429 in three windows is a larger part of a small one, and so is the test of an edge in every tenth."""
    session = Session()
    run(FixedWindows(quota, phase), [session], 1_200.0)
    assert session.refused_share(120.0) <= refused
    assert session.since(180.0)[0] >= used * quota * (1_200 - 180) / 60


@PHASES
@pytest.mark.parametrize("quota", [1, 5, 60], ids=str)
def test_a_fleet_that_waits_uses_the_quota_all_the_same(quota: int, phase: float) -> None:
    """More polls waiting than the quota has requests: only the first window after idleness is begun gently."""
    session = Session(waiting=1_000)
    run(FixedWindows(quota, phase), [session], 1_800.0)
    assert session.since(300.0)[0] >= 0.8 * quota * (1_800 - 300) / 60


@PHASES
def test_a_limit_is_never_above_the_quota_for_long(phase: float) -> None:
    """Each try at more ends in the window it is made in."""
    session = Session()
    run(FixedWindows(60, phase), [session], 1_800.0)
    changes = [*session.limits, (1_800.0, None)]
    above = [
        until - since
        for (since, limit), (until, _) in itertools.pairwise(changes)
        if since > 180.0 and limit is not None and limit > 60
    ]
    assert above
    assert max(above) < 60.0


# A quota that changes


@PHASES
def test_a_quota_that_halves_and_doubles_is_followed(phase: float) -> None:
    """Down at once, up within a few windows."""
    service = FixedWindows(lambda now: 30 if 600 <= now < 1_500 else 60, phase)
    session = Session()
    run(service, [session], 2_400.0)
    for now in range(725, 1_500, 10):
        limit = session.limit_at(float(now))
        assert limit is not None
        assert 28 <= limit <= 33
    assert max(limit or 0 for at, limit in session.limits if 1_500 < at < 1_500 + 6 * 60) >= 57
    assert session.refused_share(60.0) <= 0.02
    assert session.since(1_860.0)[0] >= 0.9 * 60 * (2_400 - 1_860) / 60


def test_a_limit_falls_by_half_at_most() -> None:
    """A window may have been spent by others."""
    session = Session()
    run(FixedWindows(60), [session], 930.0, strangers=[900.5 + number * 1e-4 for number in range(59)])
    before, after = [limit for at, limit in session.limits if at < 930.0][-2:]
    assert (before, after) == (65, 32)


def test_windows_that_begin_elsewhere_cost_few_429s() -> None:
    """A service that was started again counts from then on; what was learned of its edges is wrong."""
    session = Session()
    run(FixedWindows(60, lambda now: 0.0 if now < 600 else 25.0), [session], 1_800.0)
    assert session.refused_share(600.0) <= 0.01
    assert session.since(900.0)[0] >= 0.7 * 60 * (1_800 - 900) / 60


# Rising


@PHASES
def test_a_limit_rises_by_ever_larger_steps_after_windows_that_were_used(phase: float) -> None:
    """A twentieth, then twice that, and so on: doubled each time in the end."""
    session = Session()
    run(FixedWindows(lambda now: 60 if now < 300 else 10**6, phase), [session], 800.0)
    limits = [limit for _, limit in session.limits]
    rising = limits[len(limits) - limits[::-1].index(57) - 1 :]
    expected = [exact := 57.0]
    expected += [exact := exact * (1 + rise) for rise in (0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * 10)]
    assert len(rising) >= 8
    assert rising == pytest.approx(expected[: len(rising)], abs=1)


@PHASES
def test_a_limit_rises_only_after_windows_that_were_used(phase: float) -> None:
    """A window that was not, to four fifths, says nothing about how much more might be had."""
    session = Session(every=1.5)  # 40 a minute
    strangers = [60.0 * window - phase + 0.01 * number for window in range(10) for number in range(40)]
    run(FixedWindows(60, phase), [session], 3_600.0, strangers)
    limits = [session.limit_at(1_800.0 + 60.0 * window) for window in range(30)]
    assert limits == [limits[0]] * 30
    assert limits[0] is not None
    assert 50 <= limits[0] <= 100


def test_a_limit_that_rose_is_tried_one_request_at_a_time() -> None:
    """What no window has taken yet."""
    session = Session(latency=lambda: 1.5)
    run(FixedWindows(60), [session], 1_800.0)
    refused = [sent.at // 60 for sent in session.sent if sent.at > 240.0 and not sent.accepted]
    assert len(refused) >= 3
    assert len(set(refused)) == len(refused)


# Others


@PHASES
@pytest.mark.parametrize(("later", "latency"), [(0.0, 0.1), (0.7, 0.5), (20.0, 0.1)], ids=str)
def test_two_that_learn_on_one_key_both_get_their_share(phase: float, later: float, latency: float) -> None:
    """Under 10 % of 429s each, and neither has less than a quarter; together they use what there is."""
    one, other = Session(latency=lambda: latency), Session(begins=later, latency=lambda: latency)
    run(FixedWindows(60, phase), [one, other], 1_800.0)
    assert max(one.refused_share(60.0), other.refused_share(60.0)) < 0.1
    shares = sorted((one.since(60.0)[0], other.since(60.0)[0]))
    assert shares[0] >= 0.25 * sum(shares)
    assert sum(shares) >= 0.85 * 60 * (1_800 - 60) / 60


@PHASES
@pytest.mark.parametrize("later", [100.0, 250.0, 615.0], ids=str)
def test_who_comes_late_to_a_key_in_use_is_not_starved(phase: float, later: float) -> None:
    """Nor does the first one pay for it in 429s."""
    one, other = Session(), Session(begins=later)
    run(FixedWindows(60, phase), [one, other], later + 1_800.0)
    assert max(one.refused_share(60.0), other.refused_share(later + 60.0)) < 0.1
    shares = sorted((one.since(later + 60.0)[0], other.since(later + 60.0)[0]))
    assert shares[0] >= 0.15 * sum(shares)


@PHASES
def test_a_stranger_who_takes_most_of_each_window_leaves_the_rest(phase: float) -> None:
    """Forty of sixty as the window begins: what is left is ours, with few 429s."""
    session = Session()
    strangers = [60.0 * window - phase + 0.01 * number for window in range(1, 30) for number in range(40)]
    run(FixedWindows(60, phase), [session], 1_740.0, strangers)
    assert session.refused_share(120.0) <= 0.05
    assert session.since(300.0)[0] >= 0.8 * 20 * (1_740 - 300) / 60


@PHASES
def test_a_greedy_stranger_costs_few_429s(phase: float) -> None:
    """Two a second, whatever the answer: little is left for us, and little is what we ask for."""
    session = Session()
    run(FixedWindows(60, phase), [session], 1_800.0, [0.5 * number for number in range(3_600)])
    assert session.since(120.0)[1] <= 20
    assert session.since(120.0)[0] >= 28


# What happens at an edge, and what is worth more than an even pace


def learned_pacer() -> tuple[Pacer, float]:
    """Make a pacer that keeps to 57 a minute, has seen an edge, and is in the midst of a window; with the time."""
    session = Session(latency=lambda: 0.01)
    run(FixedWindows(60), [session], 76.0)
    assert session.pacer.quota == 57
    assert not session.under_way
    return session.pacer, 76.0


def test_behind_an_edge_the_places_taken_before_it_are_free_at_once() -> None:
    """Not a window after each request; and what is left of a window is spread over what is left of it."""
    session = Session(latency=lambda: 0.2)
    run(FixedWindows(60), [session], 1_800.0)
    times = [sent.at for sent in session.sent if sent.accepted]
    counts = [sum(60.0 * window <= at < 60.0 * (window + 1) for at in times) for window in range(5, 29)]
    assert min(counts) >= 54
    assert max(counts) <= 60


def test_the_gate_opens_at_the_edge_and_what_follows_is_not_held_up() -> None:
    """One probe; then the burst, and the even pace."""
    session = Session(latency=lambda: 0.2)
    run(FixedWindows(60), [session], 1_800.0)
    last = max(sent.at for sent in session.sent if not sent.accepted)
    edge = math.ceil(last / 60) * 60
    following = [sent.at for sent in session.sent if sent.at >= edge][:6]
    assert edge <= following[0] <= edge + 6
    assert following[5] - following[0] < 3.0


def test_what_is_left_goes_at_once_where_polls_find_jobs_done_and_others_have_long_been_due() -> None:
    """As under a known quota; but not while nothing is known."""
    pacer, now = learned_pacer()
    for _ in range(10):
        now += pacer.delay(now)
        pacer.on_sent(now)
        pacer.on_accepted(now, found=True)
    assert pacer.delay(now, 20.0) > 0.5
    assert pacer.delay(now, 20.1) == 0.0
    left = 0
    while pacer.delay(now, 20.1) == 0.0:
        pacer.on_sent(now, 20.1)
        pacer.on_accepted(now, found=True)
        left += 1
    assert left >= 10
    pacer = build_pacer(Pacing())
    for _ in range(16):
        pacer.on_sent(0.0)
        pacer.on_accepted(0.0, found=True)
    assert pacer.delay(0.0, 100.0) > 0.5


def test_an_edge_after_a_window_of_no_requests_tells_nothing_of_the_limit() -> None:
    """A long hint, a refused probe, and an accepted one: nothing else was in the window before."""
    pacer = build_pacer(Pacing())
    now = refused(pacer, accepting(pacer, 40), hint=600.0)
    now = refused(pacer, now)
    now = accepting(pacer, 1, now=now)
    assert pacer.quota == 38
    # Nor do the requests that follow, for whom nothing was closed.
    accepting(pacer, 1, now=accepting(pacer, 3, now=now) + 60.0)
    assert pacer.quota == 38


@pytest.mark.parametrize("phase", [36.0, 45.0, 57.0], ids=str)
def test_a_limit_that_was_counted_across_an_edge_is_corrected_once_the_edge_is_known(phase: float) -> None:
    """The first bound may hold what two windows have taken."""
    session = Session()
    run(FixedWindows(60, phase), [session], 200.0)
    first, second, *_ = [limit for _, limit in session.limits if limit is not None]
    assert first > 70
    assert 57 <= second <= 68  # the edge lies somewhere in the 6.25 s between two probes
    assert session.limit_at(190.0) == 57


# A 429 that seemed to come from the requests in flight


def crowded_pacer() -> Pacer:
    """Make a pacer of which the sixth of a burst of eight was the first to be refused, so their number may be why."""
    pacer = build_pacer(Pacing())
    sent = [pacer.on_sent(0.0) for _ in range(8)]
    for at in sent[:5]:
        pacer.on_accepted(0.0, at)
    for at in sent[5:]:
        pacer.on_throttled(0.0, at, None)
    return pacer


def test_fewer_are_in_flight_after_a_429_beside_more_than_were_ever_accepted() -> None:
    """One fewer than were accepted at once, since nothing else explains it."""
    pacer = crowded_pacer()
    now = accepting(pacer, 1, now=0.0) + 60.0
    for _ in range(4):
        assert pacer.delay(now) < math.inf
        now += pacer.delay(now)
        pacer.on_sent(now)
    assert pacer.delay(now) == math.inf


@pytest.mark.parametrize("survivors", [0, 3, 6])
def test_the_requests_that_were_in_flight_at_such_a_429_may_be_in_flight_again(survivors: int) -> None:
    """Beside none of them was one accepted before, but all of them ran at once."""
    pacer = build_pacer(Pacing())
    sent = [pacer.on_sent(0.0) for _ in range(8)]
    pacer.on_accepted(0.0, sent[0])
    pacer.on_throttled(0.0, sent[2], None)
    for number, at in enumerate((sent[1], *sent[3:])):
        if number < survivors:
            pacer.on_accepted(0.0, at)
        else:
            pacer.on_abandoned(0.0, at)
    now = accepting(pacer, 1, now=5.125)
    assert now == 5.125
    assert in_flight_at(pacer, now + 60.0) == max(1, survivors)


def in_flight_at(pacer: Pacer, now: float) -> int:
    """Send requests until the number in flight holds one back, and cancel them all; return how many there were."""
    sent: list[float] = []
    while pacer.delay(now) < math.inf and len(sent) < 32:
        now += pacer.delay(now)
        sent.append(pacer.on_sent(now))
    for at in sent:
        pacer.on_abandoned(now, at)
    return len(sent)


@pytest.mark.parametrize(("refused", "in_flight"), [(1, 3), (2, 32)], ids=["one", "two"])
def test_many_429s_within_the_limit_show_that_the_requests_in_flight_were_not_the_cause(
    refused: int, in_flight: int
) -> None:
    """A limit on concurrency would refuse a single one of four; so it was a spent window, as two of four show."""
    pacer = crowded_pacer()
    now = accepting(pacer, 1, now=0.0) + 60.0
    sent: list[float] = []
    for _ in range(4):
        now += pacer.delay(now)
        sent.append(pacer.on_sent(now))
    for at in sent[: len(sent) - 1 - refused : -1]:
        pacer.on_throttled(now, at, None)
    for at in sent[: len(sent) - refused]:
        pacer.on_abandoned(now, at)
    now = accepting(pacer, 1, now=now)
    assert in_flight_at(pacer, now + 60.0) == in_flight


def test_a_probe_that_is_refused_alone_shows_that_the_requests_in_flight_were_not_the_cause() -> None:
    """Then the first 429 came from a spent window, like those of all later bursts that are refused."""
    pacer = crowded_pacer()
    now = accepting(pacer, 1, now=refused(pacer, 0.0)) + 60.0
    assert pacer._quota.in_flight == 0
    for _ in range(5):
        pacer.on_sent(now)
    assert pacer.delay(now) < math.inf


def test_a_small_quota_that_is_met_in_bursts_is_learned_from_three_windows() -> None:
    """Eight at once, where five are allowed."""
    session = Session(every=20.0, group=8, retries=True)
    run(FixedWindows(5, 10.0), [session], 1_200.0)
    assert session.refused_share(240.0) <= 0.1
    assert session.limit_at(239.0) is not None


# Where windows are doubted


def doubting_pacer() -> tuple[Pacer, float]:
    """Make a pacer that met a 429 after 40 requests, and whose first probe was accepted; with the time of that."""
    pacer = build_pacer(Pacing())
    now = accepting(pacer, 1, now=refused(pacer, accepting(pacer, 40)))
    assert pacer.quota == 38
    return pacer, now


def test_an_accepted_first_probe_is_tested_by_a_spurt_of_requests() -> None:
    """Three tenths of the limit at once, the probe among them, up to four in flight: only a new window takes them."""
    pacer, now = doubting_pacer()
    for _ in range(2):
        for _ in range(4):
            assert pacer.delay(now) == 0.0
            pacer.on_sent(now)
        assert pacer.delay(now) == math.inf
        for _ in range(4):
            pacer.on_accepted(now)
    for _ in range(3):
        assert pacer.delay(now) == 0.0
        pacer.on_sent(now)
        pacer.on_accepted(now)
    assert pacer.delay(now) > 0.0


def test_windows_are_believed_after_a_spurt_that_is_accepted() -> None:
    """The next 429 leads to a probe, and then to the edge after the one that was seen."""
    pacer, now = doubting_pacer()
    edge = now
    now = refused(pacer, accepting(pacer, 30, now=now))
    assert pacer.delay(now) == pytest.approx(5.125)
    now = refused(pacer, now)
    assert now + pacer.delay(now) == pytest.approx(edge + 60.0)


def test_windows_are_refuted_by_a_spurt_that_is_refused() -> None:
    """After a burst of four, requests go at a rate that rises from the limit; a 429 costs a short pause."""
    pacer, now = doubting_pacer()
    now = refused(pacer, accepting(pacer, 3, now=now))
    now = accepting(pacer, 1, now=now)
    assert pacer.quota == 38
    assert accepting(pacer, 3, now=now) == now
    assert pacer.quota == 38
    assert pacer.delay(now) == pytest.approx(60 / 38)
    now = refused(pacer, accepting(pacer, 10, now=now))
    assert pacer.delay(now) <= 2.6


@pytest.mark.parametrize(("idle", "quota"), [(0.0, 60), (61.0, 3)], ids=["early", "after a window"])
def test_after_a_refused_probe_a_rate_is_what_the_last_window_took_once_a_whole_one_was_seen(
    idle: float, quota: int
) -> None:
    """Before that, the requests that were accepted are not all that a window takes."""
    pacer = build_pacer(Pacing())
    now = accepting(pacer, 1, now=refused(pacer, accepting(pacer, 1)))
    assert pacer.quota == 60  # the service does not count per window, and takes one a second to begin with
    now = accepting(pacer, 3, now=now + idle)
    accepting(pacer, 1, now=refused(pacer, refused(pacer, now)))
    assert pacer.quota == quota


def test_an_edge_between_a_429_and_the_first_probe_costs_no_quota() -> None:
    """It happens in one session of twelve; the service counts in windows all the same."""
    session = Session()
    run(FixedWindows(60, 33.0), [session], 600.0)
    assert session.refused_share(60.0) <= 0.02
    assert session.since(60.0)[0] >= 0.9 * 60 * 9


# Whatever happens


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    quota=st.sampled_from([1, 2, 5, 16, 40, 80]),
    phase=st.floats(0.0, 60.0),
    slowest=st.sampled_from([0.001, 0.3, 5.0, 20.0]),
    every=st.sampled_from([0.0, 0.0, 0.5, 3.0, 40.0]),
    at_once=st.sampled_from([1, 4, 32]),
    waiting=st.sampled_from([0, 1_000]),
    found=st.sampled_from([None, True, False]),
)
def test_whatever_is_asked_of_whatever_service_429s_are_few(
    seed: int,
    quota: int,
    phase: float,
    slowest: float,
    every: float,
    at_once: int,
    waiting: int,
    found: bool | None,
) -> None:
    """It neither crashes, nor spins, nor stops for ever; once learned, a quota costs a 429 every few windows."""
    dice = random.Random(seed)  # noqa: S311 - latencies, not secrets
    session = Session(
        every=every,
        latency=lambda: slowest * dice.random(),
        at_once=at_once,
        waiting=waiting,
        waited=30.0 if found else 0.0,
        found=found,
    )
    run(FixedWindows(quota, phase), [session], 1_200.0)
    accepted, refused = session.since(240.0)
    assert accepted >= 1
    assert refused <= 3 + 2 * (1_200 - 240) / 60
