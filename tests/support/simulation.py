"""A service that limits requests, and sessions that send to it, as discrete events: no loop, no clock."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from playai_async import Pacing
from playai_async._settings import RESOLUTION
from playai_async.emulator._service.limiters import Limiter
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.pacer import Pacer


@attrs.frozen
class Answer:
    """What the service says to a request.

    Attributes:
        accepted: Whether it is not a 429.
        retry_after: The value of `Retry-After`, or None.
        takes: Seconds that the service works on the request.
    """

    accepted: bool
    retry_after: float | None = None
    takes: float = 0.0


class Service(Protocol):
    """What limits requests."""

    def answer(self, now: float) -> Answer:
        """Count a request, or refuse it."""
        ...


@attrs.define
class FixedWindows:
    """Allows a number of requests in each window, and counts each when it arrives.

    Attributes:
        quota: Requests a window, or what they are at a time.
        phase: Seconds by which its windows begin earlier than at 0, or what that is at a time.
        window: Seconds.
    """

    quota: int | Callable[[float], int]
    phase: float | Callable[[float], float] = 0.0
    window: float = 60.0
    counts: Counter[float] = attrs.field(factory=Counter[float])

    def answer(self, now: float) -> Answer:
        """Count a request, or refuse it."""
        phase = self.phase(now) if callable(self.phase) else self.phase
        # The moment at which this window began tells it from all others, also from those of another phase.
        began = round(math.floor((now + phase) / self.window) * self.window - phase, 6)
        if self.counts[began] >= (self.quota(now) if callable(self.quota) else self.quota):
            return Answer(accepted=False)
        self.counts[began] += 1
        return Answer(accepted=True)


@attrs.define
class Modelled:
    """Has a limiter of any kind.

    Attributes:
        limiter: The limiter.
        takes: Seconds that the service works on an accepted request.
        hints: Whether a 429 has a `Retry-After`.
    """

    limiter: Limiter
    takes: float = 0.0
    hints: bool = False

    def answer(self, now: float) -> Answer:
        """Count a request, or refuse it."""
        grant = self.limiter.admit("key", now)
        if grant is None:
            return Answer(accepted=False, retry_after=self.limiter.retry_after("key", now) if self.hints else None)
        grant.answered(now + self.takes)
        return Answer(accepted=True, takes=self.takes)


@attrs.frozen
class Sent:
    """A request that was answered.

    Attributes:
        at: When it was sent.
        accepted: Whether the answer was not a 429.
        due: When it was first wanted.
        ended: When the answer came.
    """

    at: float
    accepted: bool
    due: float
    ended: float


@attrs.define(eq=False)
class Session:
    """One that draws on the service: all it wants to send is due at its beginning, or comes bit by bit.

    Attributes:
        begins: When it begins.
        every: Seconds from each group of wishes to the next; 0: more than can ever be sent.
        group: Wishes that come at the same time.
        latency: Seconds from a request to its answer; it is counted half way.
        at_once: Requests under way, at most.
        waited: Seconds for which the first in the queue is told to have been due.
        waiting: How many polls are told to wait.
        found: Whether polls find their jobs done.
        retries: Whether a refused request is sent again, before all that were wanted later.
    """

    begins: float = 0.0
    every: float = 0.0
    group: int = 1
    latency: Callable[[], float] = lambda: 0.1
    at_once: int = 32
    waited: float = 0.0
    waiting: int = 0
    found: bool | None = None
    retries: bool = False
    pacer: Pacer = attrs.field(factory=lambda: build_pacer(Pacing()))
    under_way: int = 0
    wishes: int = 0
    refused: list[float] = attrs.field(factory=list[float])
    alarm: float = math.inf
    sent: list[Sent] = attrs.field(factory=list[Sent])
    limits: list[tuple[float, int | None]] = attrs.field(factory=list[tuple[float, int | None]])

    def due(self) -> float:
        """Return when the next request is, or was, wanted."""
        return self.refused[0] if self.refused else self.begins + self.wishes // self.group * self.every

    def take(self) -> float:
        """Take the next request, and return when it was wanted."""
        due = self.due()
        if self.refused:
            heapq.heappop(self.refused)
        else:
            self.wishes += 1
        return due

    def note(self, now: float) -> None:
        """Take note of the limit, where it has changed."""
        if not self.limits or self.limits[-1][1] != self.pacer.quota:
            self.limits.append((now, self.pacer.quota))

    def since(self, now: float) -> tuple[int, int]:
        """Count the requests that were accepted, and those that were not, of those sent since then."""
        verdicts = [sent.accepted for sent in self.sent if sent.at >= now]
        return sum(verdicts), len(verdicts) - sum(verdicts)

    def refused_share(self, now: float = 0.0) -> float:
        """Say which part of the requests since then met a 429."""
        accepted, refused = self.since(now)
        return refused / (accepted + refused)

    def limit_at(self, now: float) -> int | None:
        """Say what it kept to at a time."""
        return [limit for at, limit in self.limits if at <= now][-1]


def run(service: Service, sessions: Sequence[Session], until: float, strangers: Iterable[float] = ()) -> None:
    """Let sessions draw on a service, and others send at given times."""
    _Run(service).run(sessions, until, strangers)


class _Run:
    """What is to happen when."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.number = itertools.count()
        self.events: list[tuple[float, int, Callable[[float], object]]] = []

    def run(self, sessions: Sequence[Session], until: float, strangers: Iterable[float]) -> None:
        for session in sessions:
            self.wake(session, session.begins)
        for stranger in strangers:
            self.at(stranger, self.service.answer)
        while self.events and self.events[0][0] <= until:
            when, _, what = heapq.heappop(self.events)
            what(when)

    def at(self, when: float, what: Callable[[float], object]) -> None:
        heapq.heappush(self.events, (when, next(self.number), what))

    def wake(self, session: Session, when: float) -> None:
        """See that what is due then is sent, unless that is seen to already."""
        if when < session.alarm:
            session.alarm = when
            self.at(when, lambda now: self.ring(session, now))

    def ring(self, session: Session, now: float) -> None:
        if session.alarm == now:
            session.alarm = math.inf
            self.pump(session, now)

    def pump(self, session: Session, now: float) -> None:
        while (next_at := _next_at(session, now)) <= now:
            sent = session.pacer.on_sent(now, session.waited, session.waiting)
            session.under_way += 1
            self.send(session, sent, session.take())
        session.note(now)
        self.wake(session, next_at)

    def send(self, session: Session, sent: float, due: float) -> None:
        latency = session.latency()
        self.at(sent + latency / 2, lambda now: self.arrive(session, sent, due, now, latency))

    def arrive(self, session: Session, sent: float, due: float, now: float, latency: float) -> None:
        answer = self.service.answer(now)
        ended = now + answer.takes + latency / 2
        request = Sent(sent, answer.accepted, due, ended)
        self.at(ended, lambda now: self.end(session, request, answer.retry_after, now))

    def end(self, session: Session, request: Sent, retry_after: float | None, now: float) -> None:
        session.under_way -= 1
        session.sent.append(request)
        if request.accepted:
            session.pacer.on_accepted(now, request.at, found=session.found)
        else:
            session.pacer.on_throttled(now, request.at, retry_after)
            if session.retries:
                heapq.heappush(session.refused, request.due)
        self.pump(session, now)


def _next_at(session: Session, now: float) -> float:
    """Say when the next may go."""
    if session.due() > now:
        return session.due()
    if session.under_way >= session.at_once:
        return math.inf
    delay = session.pacer.delay(now, session.waited)
    assert delay == 0.0 or delay >= RESOLUTION, "it would spin"
    assert delay < math.inf or session.under_way, "it would never send again"
    return now + delay
