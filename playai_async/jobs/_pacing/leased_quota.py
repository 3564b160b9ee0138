"""A quota that several processes share, as one of them sees it. A pure state machine: no tasks, no I/O, no clock.

Theory of operation
-------------------
*Permits.* Whoever keeps the quota grants each request before it goes. A permit is numbered, and takes a place among
those of all processes from the moment it is granted. Which of the requests under way has ended is not known here, and
need not be: the place that was granted first is put down as the one that ended, so that the leases of the others
outlast them.

*News.* How long a place counts is told as seconds from the telling, never as a time: when a request has ended, it
counts for one window more, or a little longer where it may be received late, as in `_windows`. Until then the lease
bounds it, in case this process dies.

*Out of reach.* While the quota cannot be asked, the process paces alone: by what it learns from 429s, beginning with
what it was granted in the last window, and never faster than the whole quota allows. What it sends then takes places of
its own making, of which it tells once the quota is back. One that is back with another *era* has forgotten all, and is
told all.
"""

from __future__ import annotations

import math
from collections import deque

from playai_async._settings import PROBES_PER_WINDOW, QUOTA_BURST_SHARE, Pacing
from playai_async._shared_quota import Answer, Ask, Terms
from playai_async.jobs._pacing.quotas import KnownQuota, LearnedQuota
from playai_async.jobs._pacing.windows import Grid

__all__ = ["Permits", "terms_for"]

_ASKS_PER_WINDOW = 60
"""Who waits for a turn asks again this often a window, so that a turn which somebody left is soon another's."""

_SLOWEST_ASK = 1.0
"""Seconds from one ask to the next, at most, however long the window."""

_DRIFT = 0.0005
"""The share of a window for which a place is held longer: the seconds of two hosts differ by far less."""

_HELD = 5.0
"""Seconds from asking for a permit to sending with it, at most; past them it is given back, as its lease runs out."""


def terms_for(pacing: Pacing, *, name: str, request_timeout: float) -> Terms | None:
    """Return what holds for a quota that is known, or None where it is not."""
    if pacing.requests_per_window is None:
        return None
    window = pacing.window
    return Terms(
        name=name,
        requests=pacing.requests_per_window,
        window=window,
        burst=max(1, pacing.requests_per_window // QUOTA_BURST_SHARE),
        lease=_HELD + request_timeout + window / PROBES_PER_WINDOW,
        ask_again=min(_SLOWEST_ASK, window / _ASKS_PER_WINDOW),
    )


class Permits:
    """What this process was granted of a shared quota, and what it has to tell; a quota like those of `_quota`.

    Args:
        terms: What holds for the quota.

    Attributes:
        grid: Where the service's windows begin, once that is known.
        away: Whether the shared quota is out of reach.
    """

    def __init__(self, terms: Terms) -> None:
        self.grid = Grid(terms.window)
        self._terms = terms
        self._slack = terms.window / PROBES_PER_WINDOW
        self._drift = terms.window * _DRIFT
        self._known = KnownQuota(terms.requests, terms.window)
        self._learned = LearnedQuota(terms.window, self.grid)
        self._numbers = 0
        self._in_hand: deque[int] = deque()
        self._under_way: deque[int] = deque()
        self._counts_until: dict[int, float] = {}
        self._news: set[int] = set()
        self._unused: dict[int, float] = {}  # until when each may hold a place
        self._throttled = False
        self._reopened: int | None = None
        self._closing = self._probed = 0  # the last that is known of, and the one that our probe is about
        self._queued = False  # whether a turn of ours is waited for
        self._era: str | None = None
        self._whole = True  # what is to be told: all, or the news
        self.away = False

    @property
    def limit(self) -> int | None:
        """The requests a window that are kept to: by all together, or while the quota is away by this process."""
        learned = self._learned.limit if self.away else None
        return self._terms.requests if learned is None else min(self._terms.requests, learned)

    def has_news(self, wanted: int) -> bool:
        """Say whether there is anything to tell, given how many requests would go now: also that none would."""
        left = self._queued and not wanted
        return bool(left or self._news or self._unused or self._throttled or self._reopened is not None)

    def delay(self, now: float, waited: float) -> float:
        """Return the seconds until a request may go; infinite where it takes a permit first."""
        if self.away:
            return max(self._known.delay(now, waited), self._learned.delay(now, waited))
        return 0.0 if self._in_hand else math.inf

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: it takes a permit, too."""
        return self._known.probe_delay(now) if self.away else self.delay(now, 0.0)

    def probe_sent(self, now: float) -> None:
        """Take note that a probe goes out."""
        self._known.probe_sent(now)
        self._learned.probe_sent(now)
        self._probed = self._closing
        self._sent(now)

    def sent(self, now: float, waited: float, waiting: int) -> None:
        """Take note that a request goes out, while so many polls are put down for now or later."""
        self._known.sent(now, waited, waiting)
        self._learned.sent(now, waited, waiting)
        self._sent(now)

    def ended(self, now: float, *, late: bool = False) -> None:
        """Take note that a request ended, and may be counted late."""
        self._known.ended(now, late=late)
        self._learned.ended(now, late=late)
        self._ended(now, late=late)

    def accepted(self, now: float) -> None:
        """Take note of an answer that is no 429."""
        self._known.accepted(now)
        self._learned.accepted(now)
        self._ended(now)

    def throttled(self, now: float, *, news: bool) -> None:
        """Take note of a 429, of which all are to be told."""
        self._known.throttled(now, news=news)
        self._learned.throttled(now, news=news)
        self._ended(now)
        self._throttled, self._reopened = True, None

    def reopened(self, now: float) -> None:
        """Take note that the service accepts again, of which all are to be told."""
        self._learned.reopened(now)
        self._throttled, self._reopened = False, self._probed

    def polled(self, *, found: bool) -> None:
        """Take note of whether a poll found its job done."""
        self._known.polled(found=found)
        self._learned.polled(found=found)

    def ask(self, now: float, wanted: int, waited: float, pause: float) -> Ask | None:
        """Return what to ask and to tell, or None where there is neither; permits that are still in hand go back.

        Args:
            now: The time.
            wanted: How many requests would go now.
            waited: Seconds for which the first in the queue has been due.
            pause: Seconds for which a 429 of our own holds us.
        """
        self._forget(now)
        while self._in_hand:
            number = self._in_hand.popleft()
            self._give_back(now, number)
            self._counts_until.pop(number, None)
        if not wanted and not self.has_news(wanted):
            return None
        told = self._counts_until if self._whole else self._news
        ask = Ask(
            wanted=wanted,
            hurry=self._known.pays(waited),
            first=self._numbers,
            places={number: self._counts_until[number] - now for number in told},
            unused=tuple(self._unused),
            pause=pause if self._throttled else None,
            reopened=self._reopened,
            era=self._era,
            whole=self._whole,
        )
        self._numbers += wanted
        self._news.clear()
        self._queued = self._throttled = False
        self._reopened = None
        return ask

    def answered(self, now: float, asked: float, ask: Ask, answer: Answer) -> None:
        """Take in an answer.

        Args:
            now: The time.
            asked: When that was asked.
            ask: What was asked.
            answer: What came.
        """
        self.away = False
        self._whole = answer.era != ask.era and not ask.whole
        self._era, self._closing = answer.era, answer.closing
        self._queued = ask.wanted > answer.granted == 0
        for number in ask.unused:
            del self._unused[number]
        granted = range(ask.first, ask.first + answer.granted)
        if now - asked > _HELD:
            self._give_back(now, *granted)
            return
        self._in_hand += granted
        self._counts_until.update(dict.fromkeys(granted, asked + self._terms.window + self._terms.lease))

    def lost(self, now: float, ask: Ask) -> None:
        """Take note that an answer failed to come: from now on this process paces alone."""
        self._forget(now)
        if not self.away:
            self._learned.keep_to(len(self._counts_until))
        self.away = self._whole = True
        self._give_back(now, *range(ask.first, ask.first + ask.wanted))  # they may have been granted
        if not self._throttled and self._reopened is None:
            self._throttled, self._reopened = ask.pause is not None, ask.reopened

    def _sent(self, now: float) -> None:
        if self._in_hand:
            number = self._in_hand.popleft()
        else:
            number = self._numbers
            self._numbers += 1
            self._counts_until[number] = now + self._terms.window + self._terms.lease
        self._under_way.append(number)

    def _ended(self, now: float, *, late: bool = False) -> None:
        number = self._under_way.popleft()
        # Put at the end: what counts longest stands last. One that has outlasted its lease was forgotten.
        self._counts_until.pop(number, None)
        self._counts_until[number] = now + self._terms.window + (self._slack if late else self._drift)
        self._news.add(number)

    def _give_back(self, now: float, *numbers: int) -> None:
        self._unused.update(dict.fromkeys(numbers, now + self._terms.window + self._terms.lease))

    def _forget(self, now: float) -> None:
        """Forget the places that count no more, as far as none that counts is before them."""
        while self._counts_until:
            number, until = next(iter(self._counts_until.items()))
            if until > now:
                break
            del self._counts_until[number]
            self._news.discard(number)
        while self._unused and next(iter(self._unused.values())) <= now:
            del self._unused[next(iter(self._unused))]
