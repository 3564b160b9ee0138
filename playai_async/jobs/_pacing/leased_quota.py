"""A quota that several processes share, as one of them sees it.

*Permits.* The keeper of the quota grants each request before it is sent. A permit has a number, and counts among those
of all processes from the moment it is granted. When any request ends, the oldest permit in use is reported as ended, so
that the leases of the others last longer than their requests.

*Reports.* The time for which a permit counts is reported as seconds from the report, never as a clock time. After a
request has ended, its permit counts for one window more, or a little longer if the service may receive the request
late. Until then, the lease bounds it in case this process dies.

*Out of reach.* While the quota cannot be asked, the process paces alone, with an equal share of the quota among the
processes that lately had something to send. What it was granted says nothing about its share: an idle process asks for
little. If 429s come all the same, it learns from them. It numbers its requests itself, and reports them once the quota
is back. A quota that is back with another *era* has lost its data, so the process reports all of its permits.

*Learned together.* If nobody knows the quota, its keeper learns from the reports of all processes how many requests a
window takes, and grants no more. Each process remembers that limit, and tells it to a keeper that has lost its data.
While the keeper is away, the process learns alone, starting from its share of the limit.
"""

from __future__ import annotations

import math
from collections import deque

from playai_async._settings import LATE_FRACTION, RAMP_BURST, Pacing
from playai_async._shared_quota import Answer, Ask, Terms
from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.known_quota import KnownQuota
from playai_async.jobs._pacing.learned_quota import LearnedQuota, shared_learning
from playai_async.jobs._pacing.token_bucket import burst_of
from playai_async.jobs._pacing.windows import WindowClock

__all__ = ["LeasedQuota", "terms_for"]

_ASKS_PER_WINDOW = 60
"""A process that waits for a permit asks again this often, so that a permit given back soon serves another process."""

_MAX_ASK_INTERVAL = 1.0
"""Seconds between two asks at most, however long the window."""

_DRIFT_FRACTION = 0.0005
"""Fraction of a window: a permit counts for this much longer, since the clocks of two hosts may differ a little."""

_MAX_UNUSED = 5.0
"""Seconds from asking for a permit to sending with it, at most; later permits go back, since their lease runs out. The
process may have been stopped meanwhile."""


def terms_for(pacing: Pacing, *, name: str, request_timeout: float) -> Terms:
    """Return the terms of a shared quota."""
    window, requests = pacing.window, pacing.requests_per_window
    return Terms(
        name=name,
        requests=requests,
        window=window,
        burst=RAMP_BURST if requests is None else burst_of(requests),
        learning=shared_learning(window) if requests is None else None,
        lease=_MAX_UNUSED + request_timeout + window * LATE_FRACTION,
        ask_again=min(_MAX_ASK_INTERVAL, window / _ASKS_PER_WINDOW),
    )


class LeasedQuota:
    """The permits that this process was granted, and what it has to report; a `Quota`.

    Args:
        terms: The terms of the shared quota.

    Attributes:
        windows: Where the service's windows begin, once that is known.
        away: Whether the shared quota is out of reach.
    """

    def __init__(self, terms: Terms) -> None:
        self.windows = WindowClock(terms.window)
        self._terms = terms
        self._late_margin = terms.window * LATE_FRACTION
        self._drift = terms.window * _DRIFT_FRACTION
        self._alone: KnownQuota | LearnedQuota
        if terms.requests is None:
            self._alone = LearnedQuota(terms.window, self.windows)
        else:
            self._alone = KnownQuota(terms.requests, terms.window, self.windows)
        self._learned: float | None = None  # the requests per window that all processes have learned
        self._next_number = 0
        self._granted: deque[int] = deque()
        self._use_until = -math.inf  # the permits that were granted
        self._in_flight: deque[int] = deque()
        self._counts_until: dict[int, float] = {}
        self._unreported: set[int] = set()
        self._unused: dict[int, float] = {}  # until when each may count at the quota's keeper
        self._throttled = False
        self._reopened: int | None = None
        self._closing = self._probed = 0  # the last closing that is known, and the one that our probe is about
        self._queued = False  # whether the keeper has us in its queue
        self._era: str | None = None
        self._report_all = True
        self._active, self._active_at = 1, -math.inf  # the most processes with something to send in the last window
        self.away = False

    @property
    def limit(self) -> int | None:
        """The requests per window that all processes keep to; while the quota is away, those of this process."""
        if self.away:
            return self._alone.limit
        if self._terms.requests is not None:
            return self._terms.requests
        return None if self._learned is None else math.floor(self._learned)

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return len(self._in_flight)

    def has_report(self, wanted: int) -> bool:
        """Return whether there is anything to report, given how many requests are wanted now."""
        left_queue = self._queued and not wanted
        return bool(left_queue or self._unreported or self._unused or self._throttled or self._reopened is not None)

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if it needs a permit first."""
        if self.away:
            return self._alone.delay(now, waited, hinted=hinted)
        return 0.0 if self._granted and now <= self._use_until else math.inf

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: a probe needs a permit, too."""
        return self._alone.probe_delay(now) if self.away else self.delay(now, 0.0)

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        self._alone.on_probe_sent(now)
        self._probed = self._closing
        self._use_permit(now)

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent."""
        self._alone.on_sent(now, waited, waiting, hinted=hinted)
        self._use_permit(now)

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended, and whether the service may count it late."""
        self._alone.on_ended(now, late=late)
        self._end_permit(now, late=late)

    def spent(self, now: float) -> bool:
        """Return whether a window may have been spent, if the service refuses a request now."""
        return self._alone.spent(now)

    def on_accepted(self, now: float, others: int | None = 0) -> None:
        """Record an answer that is not a 429."""
        self._alone.on_accepted(now, others)
        self._end_permit(now)

    def on_throttled(self, now: float, others: int = 0, *, first: bool) -> None:
        """Record a 429, which is reported to all processes."""
        self._alone.on_throttled(now, others, first=first)
        if self._terms.requests is None:  # what was refused is not what a window takes
            number = self._in_flight.popleft()
            self._counts_until.pop(number, None)
            self._unreported.discard(number)
            self._give_back(now, number)
        else:
            self._end_permit(now)
        self._throttled, self._reopened = True, None

    def on_reopened(self, now: float, reopening: Reopening) -> None:
        """Record that the service accepts requests again, which is reported to all processes."""
        self._alone.on_reopened(now, reopening)
        self._throttled, self._reopened = False, self._probed

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._alone.on_polled(found=found)

    def ask(self, now: float, wanted: int, waited: float, pause: float) -> Ask | None:
        """Return what to ask and to report, or None if there is nothing; unused permits go back.

        Args:
            now: The time.
            wanted: How many requests would go now.
            waited: Seconds for which the first request in the queue has been due.
            pause: Seconds for which a 429 of our own pauses us.
        """
        self._forget_expired(now)
        if self.away:
            wanted = min(wanted, 1)  # permits that are granted without an answer reaching us have to be given back
        while self._granted:
            number = self._granted.popleft()
            self._give_back(now, number)
            self._counts_until.pop(number, None)
        if not wanted and not self.has_report(wanted):
            return None
        reported = self._counts_until if self._report_all else self._unreported
        ask = Ask(
            wanted=wanted,
            hurry=self._alone.sends_at_once(waited),
            first=self._next_number,
            places={number: self._counts_until[number] - now for number in reported},
            unused=tuple(self._unused),
            pause=pause if self._throttled else None,
            reopened=self._reopened,
            era=self._era,
            whole=self._report_all,
            limit=self._learned,
        )
        self._next_number += wanted
        self._unreported.clear()
        self._queued = self._throttled = False
        self._reopened = None
        return ask

    def on_answer(self, now: float, asked: float, ask: Ask, answer: Answer) -> None:
        """Take the permits that were granted.

        Args:
            now: The time.
            asked: When the question was asked.
            ask: The question.
            answer: The answer.
        """
        if self.away:
            self._pace_alone(self._terms.requests or 0)
        self.away = False
        if answer.limit is not None:
            self._learned = answer.limit
        self._report_all = answer.era != ask.era and not ask.whole
        self._era, self._closing = answer.era, answer.closing
        self._queued = ask.wanted > answer.granted == 0
        if answer.active >= self._active or now - self._active_at > self._terms.window:
            self._active, self._active_at = answer.active, now
        for number in ask.unused:
            del self._unused[number]
        granted = range(ask.first, ask.first + answer.granted)
        self._use_until = asked + _MAX_UNUSED
        if now > self._use_until:
            self._give_back(now, *granted)
            return
        self._granted += granted
        self._counts_until.update(dict.fromkeys(granted, asked + self._terms.window + self._terms.lease))

    def on_lost(self, now: float, ask: Ask) -> None:
        """Record that no answer came: from now on this process paces alone."""
        self._forget_expired(now)
        if not self.away:
            self._pace_alone(self._share(now))
        self.away = self._report_all = True
        self._give_back(now, *range(ask.first, ask.first + ask.wanted))  # these may have been granted
        if not self._throttled and self._reopened is None:
            self._throttled, self._reopened = ask.pause is not None, ask.reopened

    def _share(self, now: float) -> int:
        """Return an equal share of the quota, at least one request; all of it if nothing is known of others.

        0: nothing is known of the quota.
        """
        active = self._active if now - self._active_at <= self._terms.window else 1
        return 0 if self.limit is None else max(1, self.limit // active)

    def _pace_alone(self, requests: int) -> None:
        if isinstance(self._alone, KnownQuota):
            self._alone.change(requests)
        else:
            self._alone = self._alone.restarted(requests)

    def _use_permit(self, now: float) -> None:
        if self._granted:
            number = self._granted.popleft()
        else:
            number = self._next_number
            self._next_number += 1
            self._counts_until[number] = now + self._terms.window + self._terms.lease
        self._in_flight.append(number)

    def _end_permit(self, now: float, *, late: bool = False) -> None:
        number = self._in_flight.popleft()
        # Moved to the end: the permit that counts longest stands last. One whose lease is over was forgotten.
        self._counts_until.pop(number, None)
        self._counts_until[number] = now + self._terms.window + (self._late_margin if late else self._drift)
        self._unreported.add(number)

    def _give_back(self, now: float, *numbers: int) -> None:
        self._unused.update(dict.fromkeys(numbers, now + self._terms.window + self._terms.lease))

    def _forget_expired(self, now: float) -> None:
        """Forget permits that no longer count, up to the first that does."""
        while self._counts_until:
            number, until = next(iter(self._counts_until.items()))
            if until > now:
                break
            del self._counts_until[number]
            self._unreported.discard(number)
        while self._unused and next(iter(self._unused.values())) <= now:
            del self._unused[next(iter(self._unused))]
