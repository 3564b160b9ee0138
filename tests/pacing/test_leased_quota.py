"""A quota that several processes share, as one of them sees it: what it asks, what it tells, what it is granted."""

from __future__ import annotations

import math

import pytest

from playai_async._settings import Pacing
from playai_async._shared_quota import Answer, Ask, Terms
from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.leased_quota import LeasedQuota, terms_for

TERMS = Terms("a", requests=60, window=60.0, burst=5, lease=20.0, ask_again=1.0)
LEARNED = terms_for(Pacing(), name="a", request_timeout=10.0)

COUNTS = 60.03
"""Seconds for which a request counts after its end: a window, and as much as two hosts' clocks may drift apart."""

COUNTS_LATE = 65.0
"""The same where it may reach the service late."""


def asked(quota: LeasedQuota, now: float, wanted: int = 0, pause: float = 0.0) -> Ask:
    """What is asked, since there is something to ask or to tell."""
    ask = quota.ask(now, wanted, 0.0, pause)
    assert ask is not None
    return ask


def granted(quota: LeasedQuota, now: float, requests: int, *, era: str = "e") -> Ask:
    """Ask for this many permits, and get them."""
    ask = asked(quota, now, requests)
    quota.on_answer(now, now, ask, Answer(requests, 0.0, None, era))
    return ask


@pytest.fixture
def quota() -> LeasedQuota:
    """LeasedQuota of a quota that answers, none in hand."""
    quota = LeasedQuota(TERMS)
    granted(quota, 0.0, 1)
    asked(quota, 0.0)  # gives it back
    return quota


def test_terms_are_those_of_a_known_quota() -> None:
    """Five of sixty may go out at once; a request may take its time and be counted late; asks are a second apart."""
    pacing = Pacing(requests_per_window=60)
    assert terms_for(pacing, name="a", request_timeout=10.0) == TERMS


def test_terms_of_an_unknown_quota_say_how_to_learn_it() -> None:
    """It starts at a request a second, apart from a burst."""
    assert (LEARNED.requests, LEARNED.burst) == (None, 16)
    assert LEARNED.learning is not None
    assert (LEARNED.learning.start, LEARNED.learning.late) == (60, 5.0)


def test_asks_come_as_often_in_a_short_window() -> None:
    """The window is the scale of all that is about turns."""
    terms = terms_for(Pacing(requests_per_window=5, window=6.0), name="a", request_timeout=10.0)
    assert terms.burst == 1
    assert terms.ask_again == pytest.approx(0.1)


def test_a_request_takes_a_permit(quota: LeasedQuota) -> None:
    """Each is for one request; a probe is one like any other."""
    assert quota.delay(1.0, 0.0) == quota.probe_delay(1.0) == math.inf
    granted(quota, 1.0, 2)
    assert quota.delay(1.0, 0.0) == 0.0
    quota.on_sent(1.0, 0.0, 0)
    assert quota.probe_delay(1.0) == 0.0
    quota.on_probe_sent(1.0)
    assert quota.delay(1.0, 0.0) == math.inf


def test_a_hinted_request_needs_a_permit_and_no_spacing_while_the_quota_is_away(quota: LeasedQuota) -> None:
    """Only the even spacing is skipped."""
    assert quota.delay(1.0, 0.0, hinted=True) == math.inf
    quota.on_lost(1.0, asked(quota, 1.0, 1))
    for _ in range(5):
        quota.on_sent(1.0, 0.0, 0)
        quota.on_accepted(1.0)
    assert quota.delay(1.0, 0.0) > quota.delay(1.0, 0.0, hinted=True) == 0.0


def test_the_end_of_a_request_is_told_as_how_long_it_still_counts(quota: LeasedQuota) -> None:
    """From the telling, since the clocks of two hosts have nothing in common."""
    first = granted(quota, 1.0, 1).first
    quota.on_sent(1.0, 0.0, 0)
    quota.on_accepted(2.0)
    assert asked(quota, 5.0).places == {first: pytest.approx(COUNTS - 3.0)}
    assert quota.ask(5.0, 0, 0.0, 0.0) is None  # told once


def test_a_request_that_was_cut_off_counts_for_longer(quota: LeasedQuota) -> None:
    """It may reach the service late."""
    first = granted(quota, 1.0, 1).first
    quota.on_sent(1.0, 0.0, 0)
    quota.on_ended(2.0, late=True)
    assert asked(quota, 2.0).places == {first: pytest.approx(COUNTS_LATE)}


def test_the_place_that_was_granted_first_is_the_first_to_end(quota: LeasedQuota) -> None:
    """Whichever request has ended: the leases of the others last for longer then."""
    first = granted(quota, 1.0, 1).first
    quota.on_sent(1.0, 0.0, 0)
    second = granted(quota, 3.0, 1).first
    quota.on_sent(3.0, 0.0, 0)
    quota.on_accepted(4.0)
    assert list(asked(quota, 4.0).places) == [first]
    quota.on_accepted(4.0)
    assert list(asked(quota, 4.0).places) == [second]


def test_a_permit_that_nothing_needs_is_given_back(quota: LeasedQuota) -> None:
    """With the next ask, as what comes of it was not."""
    first = granted(quota, 1.0, 3).first
    quota.on_sent(1.0, 0.0, 0)
    assert asked(quota, 1.0).unused == (first + 1, first + 2)
    assert quota.delay(1.0, 0.0) == math.inf


def test_a_permit_that_came_too_late_is_given_back(quota: LeasedQuota) -> None:
    """The process may have stood still for so long that the lease is about to end."""
    ask = asked(quota, 1.0, 1)
    quota.on_answer(6.5, 1.0, ask, Answer(1, 0.0, None, "e"))
    assert quota.delay(6.5, 0.0) == math.inf
    assert asked(quota, 6.5).unused == (ask.first,)


def test_what_was_given_back_is_told_until_it_was_heard(quota: LeasedQuota) -> None:
    """An answer is to what was asked, and not to what came meanwhile."""
    first = granted(quota, 1.0, 2).first
    ask = asked(quota, 1.0, 1)
    assert ask.unused == (first, first + 1)
    quota.on_lost(2.0, ask)
    assert asked(quota, 3.0, 1).unused == (first, first + 1, ask.first)


def test_a_long_outage_leaves_little_to_give_back(quota: LeasedQuota) -> None:
    """A process asks for one permit at a time, and gives back what it may have been granted within a lease."""
    for second in range(3600):
        quota.on_lost(second + 0.5, asked(quota, second, 1000))
    ask = asked(quota, 3600.0, 1000)
    assert ask.wanted == 1
    assert len(ask.unused) <= 60 + 20 + 1


def test_what_was_given_back_is_told_once(quota: LeasedQuota) -> None:
    """Once it was heard."""
    granted(quota, 1.0, 2)
    granted(quota, 1.0, 1)
    assert asked(quota, 1.0, 1).unused == (3,)


def test_a_turn_that_nothing_waits_for_any_more_is_left(quota: LeasedQuota) -> None:
    """And not only found out to be, since others stand behind it."""
    ask = asked(quota, 1.0, 1)
    quota.on_answer(1.0, 1.0, ask, Answer(0, 1.0, None, "e"))
    assert not quota.has_report(1)
    assert asked(quota, 1.5, 0).wanted == 0
    assert quota.ask(1.5, 0, 0.0, 0.0) is None


def test_the_first_ask_tells_all() -> None:
    """There is nothing that an answer could be compared with."""
    quota = LeasedQuota(TERMS)
    assert quota.ask(0.0, 0, 0.0, 0.0) is None
    ask = asked(quota, 0.0, 1)
    assert (ask.era, ask.whole, ask.places) == (None, True, {})


def test_another_era_is_told_all(quota: LeasedQuota) -> None:
    """What keeps the quota has forgotten: requests under way, for their lease, and those that still count."""
    first = granted(quota, 10.0, 2).first
    quota.on_sent(10.0, 0.0, 0)
    quota.on_sent(10.0, 0.0, 0)
    quota.on_accepted(11.0)
    ask = asked(quota, 20.0, 1)
    assert (ask.era, ask.whole) == ("e", False)
    quota.on_answer(20.0, 20.0, ask, Answer(0, 0.0, None, "f"))
    ask = asked(quota, 21.0, 1)
    assert (ask.era, ask.whole) == ("f", True)
    assert ask.places == {first + 1: pytest.approx(80.0 - 11.0), first: pytest.approx(COUNTS - 10.0)}
    quota.on_answer(21.0, 21.0, ask, Answer(0, 0.0, None, "f"))
    assert not asked(quota, 22.0, 1).whole


def test_what_counts_no_more_is_forgotten(quota: LeasedQuota) -> None:
    """A process that runs for months remembers a window's worth."""
    for minute in range(100):
        now = 70.0 * minute
        granted(quota, now, 1)
        quota.on_sent(now, 0.0, 0)
        quota.on_accepted(now)
        asked(quota, now)
    assert len(quota._counts_until) == 1
    assert len(quota._alone._sliding._expiries) == 1


def test_a_request_may_outlast_its_lease(quota: LeasedQuota) -> None:
    """The process may have stood still for longer: it counts from its end, as any other."""
    first = granted(quota, 1.0, 1).first
    quota.on_sent(1.0, 0.0, 0)
    asked(quota, 100.0, 1)
    quota.on_accepted(100.0)
    assert asked(quota, 100.0).places == {first: pytest.approx(COUNTS)}


def test_a_permit_is_not_used_after_the_process_was_stopped(quota: LeasedQuota) -> None:
    """It may have expired, so a new one is asked for."""
    first = granted(quota, 1.0, 1).first
    assert quota.delay(6.0, 0.0) == 0.0
    assert quota.delay(6.1, 0.0) == quota.probe_delay(6.1) == math.inf
    ask = asked(quota, 6.1, 1)
    assert (ask.unused, ask.wanted) == ((first,), 1)


def test_a_permit_may_outlast_its_lease_in_hand(quota: LeasedQuota) -> None:
    """It is given back, as one that was not needed."""
    first = granted(quota, 1.0, 1).first
    assert asked(quota, 100.0).unused == (first,)


def test_news_that_counts_no_more_is_not_told(quota: LeasedQuota) -> None:
    """Nobody was asked for longer than a window."""
    granted(quota, 0.0, 1)
    quota.on_sent(0.0, 0.0, 0)
    quota.on_accepted(0.0)
    assert asked(quota, 61.0, 1).places == {}


def test_a_429_is_told_once_and_so_is_its_end(quota: LeasedQuota) -> None:
    """With the pause that it led to here."""
    granted(quota, 1.0, 2)
    quota.on_sent(1.0, 0.0, 0)
    quota.on_throttled(2.0, first=True)
    ask = asked(quota, 2.0, pause=30.0)
    assert (ask.pause, ask.reopened) == (30.0, None)
    assert asked(quota, 3.0, 1, pause=29.0).pause is None
    ask = asked(quota, 32.0, 1)
    quota.on_answer(32.0, 32.0, ask, Answer(1, 0.0, 0.0, "e", closing=7))
    quota.on_probe_sent(32.0)
    ask = asked(quota, 32.5, 1)
    quota.on_answer(32.5, 32.5, ask, Answer(0, 1.0, 0.0, "e", closing=8))  # one that the probe is not about
    quota.on_reopened(33.0, Reopening(1.0, refused=False))
    quota.on_accepted(33.0)
    ask = asked(quota, 33.0)
    assert (ask.pause, ask.reopened) == (None, 7)
    assert asked(quota, 33.0, 1).reopened is None


@pytest.mark.parametrize("again", [False, True], ids=["and nothing since", "and another since"])
def test_a_429_that_was_not_heard_of_is_told_again(quota: LeasedQuota, *, again: bool) -> None:
    """The exchange may have failed before it arrived; what came since is newer."""
    granted(quota, 1.0, 2)
    quota.on_sent(1.0, 0.0, 0)
    quota.on_sent(1.0, 0.0, 0)
    quota.on_throttled(2.0, first=True)
    ask = asked(quota, 2.0, pause=30.0)
    if again:
        quota.on_throttled(2.5, first=False)
    quota.on_lost(3.0, ask)
    assert asked(quota, 3.0, 1, pause=29.0).pause == 29.0


def test_an_end_that_was_not_heard_of_is_told_again(quota: LeasedQuota) -> None:
    """Or all would be held for a 429 that is over."""
    quota.on_reopened(2.0, Reopening(1.0, refused=False))
    quota.on_lost(3.0, asked(quota, 2.0))
    assert asked(quota, 3.0, 1).reopened == 0


@pytest.mark.parametrize("granted_before", [0, 1, 20])
def test_out_of_reach_it_keeps_to_an_equal_share(quota: LeasedQuota, granted_before: int) -> None:
    """Of the quota, among the processes that had something to send. What an idle process asked for is not its share."""
    for second in range(granted_before):
        granted(quota, second, 1)
        quota.on_sent(second, 0.0, 0)
        quota.on_accepted(second)
    quota.on_answer(50.0, 50.0, asked(quota, 50.0, 1), Answer(0, 1.0, None, "e", active=3))
    quota.on_answer(51.0, 51.0, asked(quota, 51.0, 1), Answer(0, 1.0, None, "e", active=2))  # one had just paused
    quota.on_lost(59.0, asked(quota, 59.0, 1))
    assert (quota.away, quota.limit) == (True, 20)


def test_out_of_reach_it_keeps_to_the_whole_quota_if_no_other_process_was_active(quota: LeasedQuota) -> None:
    """Those that were active more than a window ago do not count."""
    quota.on_answer(50.0, 50.0, asked(quota, 50.0, 1), Answer(0, 1.0, None, "e", active=3))
    granted(quota, 120.0, 1)
    quota.on_lost(121.0, asked(quota, 121.0, 1))
    assert quota.limit == 60


def test_a_share_is_at_least_one_request(quota: LeasedQuota) -> None:
    """Also with more processes than requests."""
    quota.on_answer(1.0, 1.0, asked(quota, 1.0, 1), Answer(0, 1.0, None, "e", active=100))
    quota.on_lost(2.0, asked(quota, 2.0, 1))
    assert quota.limit == 1


def test_requests_that_were_sent_alone_are_reported(quota: LeasedQuota) -> None:
    """They need no permit, since there is nobody to ask."""
    quota.on_lost(1.0, asked(quota, 1.0, 1))
    assert quota.delay(2.0, 0.0) <= 0.0
    quota.on_sent(2.0, 0.0, 0)
    quota.on_accepted(2.0)
    assert len(asked(quota, 2.5, 1).places) == 1


def test_a_process_that_was_never_answered_keeps_to_the_whole_quota() -> None:
    """It knows nothing of others; and a probe takes no permit."""
    quota = LeasedQuota(TERMS)
    quota.on_lost(1.0, asked(quota, 0.0, 1))
    assert quota.limit == 60
    assert max(quota.delay(1.0, 0.0), quota.probe_delay(1.0)) <= 0.0
    for _ in range(5):
        quota.on_sent(1.0, 0.0, 0)
        quota.on_accepted(1.0)
    assert quota.delay(1.0, 0.0) == pytest.approx(1.0)


def test_it_is_lost_once(quota: LeasedQuota) -> None:
    """What was learned meanwhile is not forgotten with each exchange that fails."""
    quota.on_answer(1.0, 1.0, asked(quota, 1.0, 1), Answer(0, 1.0, None, "e", active=4))
    quota.on_lost(2.0, asked(quota, 2.0, 1))
    assert quota.limit == 15
    quota.on_sent(10.0, 0.0, 0)
    quota.on_throttled(10.5, first=True)
    pause = quota.delay(11.0, 0.0)
    quota.on_lost(11.0, asked(quota, 11.0, 1))
    assert quota.delay(11.0, 0.0) == pause > 0


def test_it_comes_back_with_the_first_answer(quota: LeasedQuota) -> None:
    """From then on requests take permits again, and the process reports what it sent alone."""
    quota.on_lost(2.0, asked(quota, 2.0, 1))
    quota.on_sent(3.0, 0.0, 0)
    quota.on_accepted(3.0)
    ask = asked(quota, 4.0, 1)
    assert ask.whole
    assert list(ask.places.values()) == [pytest.approx(COUNTS - 1.0)]
    quota.on_answer(4.0, 4.0, ask, Answer(0, 1.0, None, "e"))
    assert (quota.away, quota.limit, quota.delay(4.0, 0.0)) == (False, 60, math.inf)


def test_it_is_in_a_hurry_where_polls_find_their_jobs_done(quota: LeasedQuota) -> None:
    """And others have long been due to find theirs: there is nothing to save for."""
    for _ in range(20):
        quota.on_polled(found=True)
    calm, hurry = quota.ask(1.0, 1, 5.0, 0.0), quota.ask(1.0, 1, 30.0, 0.0)
    assert [ask is not None and ask.hurry for ask in (calm, hurry)] == [False, True]


def test_a_window_may_have_been_spent_once_most_of_the_quota_was_used(quota: LeasedQuota) -> None:
    """By this process: a 429 needs no other cause then."""
    for number in range(48):
        granted(quota, 1.0 + number, 1)
        quota.on_sent(1.0 + number, 0.0, 0)
        assert quota.spent(1.0 + number) is (number >= 47)
        quota.on_accepted(1.0 + number)


# Learned together


def test_a_limit_that_was_learned_is_remembered() -> None:
    """And told to a keeper that has lost its data, or to the next one."""
    quota = LeasedQuota(LEARNED)
    ask = asked(quota, 0.0, 1)
    assert (quota.limit, ask.limit) == (None, None)
    quota.on_answer(0.0, 0.0, ask, Answer(0, 1.0, None, "e", limit=57.5))
    assert quota.limit == 57
    quota.on_answer(1.0, 1.0, asked(quota, 1.0, 1), Answer(0, 1.0, None, "f"))
    assert (quota.limit, asked(quota, 2.0, 1).limit) == (57, 57.5)


def test_out_of_reach_it_learns_alone_from_its_share() -> None:
    """Once the keeper is back, what was learned together holds again."""
    quota = LeasedQuota(LEARNED)
    quota.on_answer(0.0, 0.0, asked(quota, 0.0, 1), Answer(0, 1.0, None, "e", active=3, limit=57.5))
    quota.on_lost(1.0, asked(quota, 1.0, 1))
    assert (quota.away, quota.limit) == (True, 19)
    assert quota.delay(1.0, 0.0) <= 0.0
    quota.on_answer(2.0, 2.0, asked(quota, 2.0, 1), Answer(0, 1.0, None, "e", active=3, limit=57.5))
    assert (quota.away, quota.limit) == (False, 57)


def test_out_of_reach_from_the_beginning_it_learns_from_nothing() -> None:
    """As a process does that shares nothing."""
    quota = LeasedQuota(LEARNED)
    quota.on_lost(1.0, asked(quota, 0.0, 1))
    assert quota.limit is None
    assert quota.delay(1.0, 0.0) <= 0.0


def test_a_refused_request_is_not_what_a_window_takes() -> None:
    """Its permit goes back. Of a known quota, the service may have counted it."""
    quota = LeasedQuota(LEARNED)
    ask = granted(quota, 0.0, 2)
    quota.on_sent(0.0, 0.0, 0)
    quota.on_sent(0.0, 0.0, 0)
    quota.on_accepted(1.0)
    quota.on_throttled(1.0, first=True)
    report = asked(quota, 1.0, 0, 5.0)
    assert (list(report.places), report.unused, report.pause) == ([ask.first], (ask.first + 1,), 5.0)


def test_while_it_learns_it_is_in_a_hurry_as_well() -> None:
    """Where polls find their jobs done, and others have long been due."""
    quota = LeasedQuota(LEARNED)
    for _ in range(20):
        quota.on_polled(found=True)
    ask = quota.ask(0.0, 1, 30.0, 0.0)
    assert ask is not None
    assert ask.hurry
