"""The sessions of the soak: a few at a time, each closed sooner or later under whoever waits in it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, deque
from typing import cast
from uuid import UUID
from weakref import WeakKeyDictionary

from playai_async import Pacing, PlayAISession
from playai_async.jobs._scheduling.request import Request, Worker
from tests.soak.account import Account
from tests.soak.callers import OWN
from tests.soak.oracle import LATE
from tests.soak.plan import REQUEST_TIMEOUT

SEATS = 3
"""Sessions that are open at once, each with a key, and so a quota, of its own."""

SHORTEST, LONGEST = 12.0, 45.0
"""Seconds that a session lives."""


KNOWN = 60.0, 150.0
"""Requests a second that a session may send where it knows its quota; for fewer the calm would be too short."""


TURNS = 0.2
"""Seconds after a close in which everybody who waited in the session has had a turn."""


IN_FLIGHT = 0.3
"""Seconds that whoever is to be told of a deadline may be told after its poll was given up, where many are."""

REMEMBERED = 5.0
"""Seconds; no machine that is of any use here is later."""


class Polls:
    """Which jobs a session asks for.

    A poll that was queued until just before a deadline is given up at it, maybe before a byte was sent: only here can
    that be told from one that never had its turn.

    Args:
        session: The session.
    """

    def __init__(self, session: PlayAISession) -> None:
        poller = session._runtime.open(None)
        dispatcher = poller._dispatcher
        self._loop = asyncio.get_running_loop()
        self._fetch, self._assign = poller._fetch, dispatcher._assign
        self._under_way: Counter[UUID] = Counter()
        self._lately: deque[tuple[float, UUID | None]] = deque()
        poller._fetch = self._noted_fetch
        dispatcher._assign = self._noted_turn  # type: ignore[method-assign]

    def has(self, job_id: UUID | None, slack: float) -> bool:
        """Say whether a job was asked for up to now, or up to when the machine was last in time."""
        since = self._loop.time() - IN_FLIGHT - slack
        return job_id in self._under_way or any(at >= since and job == job_id for at, job in self._lately)

    def _noted_turn(self, worker: Worker, request: Request) -> None:
        self._note(cast("UUID | None", request.job_id))
        self._assign(worker, request)

    async def _noted_fetch(self, job_id: UUID) -> object:
        self._under_way[job_id] += 1
        try:
            return await self._fetch(job_id)
        finally:
            self._under_way[job_id] -= 1
            if not self._under_way[job_id]:
                del self._under_way[job_id]
            self._note(job_id)

    def _note(self, job_id: UUID | None) -> None:
        now = self._loop.time()
        self._lately.append((now, job_id))
        while self._lately[0][0] < now - REMEMBERED:
            self._lately.popleft()


class Sessions:
    """Opens and closes sessions.

    Args:
        account: Says how, and is told.
        url: Where the service is.
        window: Seconds of its windows.

    Attributes:
        opened: How many there were.
        requests: What they sent, those that are closed.
        throttled: How many 429s they met, likewise.
        transient: How many failures, likewise.
    """

    def __init__(self, account: Account, url: str, window: float) -> None:
        self._account = account
        self._url = url
        self._window = window
        self._seated: dict[int, PlayAISession] = {}
        self._polls: WeakKeyDictionary[object, Polls] = WeakKeyDictionary()
        self._keepers: list[asyncio.Task[None]] = []
        self.opened = self.requests = self.throttled = self.transient = 0

    def at(self, seat: int) -> PlayAISession:
        """Return the session of a seat."""
        return self._seated[seat]

    def __str__(self) -> str:
        return "; ".join(f"{seat}: {session.stats}" for seat, session in self._seated.items())

    def is_polled(self, session: object, job_id: UUID | None) -> bool:
        """Say whether a session is being told of a job, or was until now."""
        return self._polls[session].has(job_id, self._account.slack())

    def queue(self, seat: int) -> bool:
        """Say whether polls of a session are due and wait for their turn."""
        return self._seated[seat].stats.queued > 0

    def open(self) -> None:
        """Open the first ones, and keep replacing them."""
        for seat in range(SEATS):
            self._seated[seat] = self._new(seat, 0)
            self._keepers.append(asyncio.create_task(self._keep(seat)))

    async def stay(self) -> None:
        """Replace none any more."""
        for keeper in self._keepers:
            keeper.cancel()
        for keeper in self._keepers:
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def close(self) -> None:
        """Close them all, of which one has nobody left to wait in it."""
        for session in self._seated.values():
            await self._close(session)

    async def _keep(self, seat: int) -> None:
        for generation in itertools.count(1):
            await asyncio.sleep(self._account.soak.dice("life", seat, generation).uniform(SHORTEST, LONGEST))
            old, self._seated[seat] = self._seated[seat], self._new(seat, generation)
            # Once begun it is seen through, also where the calm begins meanwhile.
            closing = asyncio.create_task(self._close(old))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await closing
                raise

    def _new(self, seat: int, generation: int) -> PlayAISession:
        dice = self._account.soak.dice("session", seat, generation)
        known = int(self._window * dice.uniform(*KNOWN)) if dice.random() < 0.4 else None
        self.opened += 1
        session = PlayAISession(
            f"key-{seat}-{generation}",
            f"user-{seat}",
            base_url=self._url,
            polling=OWN,
            pacing=Pacing(requests_per_window=known, window=self._window, max_in_flight=dice.randint(4, 32)),
            request_timeout=REQUEST_TIMEOUT,
        )
        self._polls[session] = Polls(session)
        return session

    async def _close(self, session: PlayAISession) -> None:
        account = self._account
        began = account.now
        account.closed.add(session)
        await session.aclose()
        took = account.now - began
        if took > LATE + account.slack():
            account.breach(f"at {began:.3f} s a session took {took:.3f} s to close")
        stats = session.stats
        if stats.open_waits or stats.distinct_jobs or stats.in_flight or stats.queued:
            account.breach(f"at {began:.3f} s a session was closed, and is left with {stats}")
        await asyncio.sleep(TURNS)
        for visit in account.visits:
            if visit.session is session and visit.outstays():
                account.breach(f"{visit.waits[0]}: at {began:.3f} s its session was closed; {visit.caller}")
        self.requests += stats.requests
        self.throttled += stats.throttled
        self.transient += stats.transient_failures
