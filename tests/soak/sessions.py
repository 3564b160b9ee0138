"""The sessions of the soak: a few at a time, each closed while callers wait in it, and replaced."""

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
from tests.soak.oracle import TOLERANCE
from tests.soak.plan import REQUEST_TIMEOUT

SLOTS = 3
"""Sessions that are open at once, each with its own key and so its own quota."""

SHORTEST, LONGEST = 12.0, 45.0
"""Seconds from the opening of a session to its close."""


KNOWN = 60.0, 150.0
"""Requests per second of a session with a known quota; with fewer, not all waits would end after the faults stopped."""


SETTLING = 0.2
"""Seconds after a close within which all callers of the session have run."""


IN_FLIGHT = 0.3
"""Seconds that the delivery of a timeout may take after its poll was cancelled, if many waits time out at once."""

REMEMBERED = 5.0
"""Seconds; a usable machine is never later than this."""


class Polls:
    """Records which jobs a session polls.

    A poll that was queued until just before a deadline is cancelled at the deadline, perhaps before any byte was sent.
    Only this record distinguishes it from a poll that was never sent.

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
        """Return whether a job was polled until now, or until the machine was last on time."""
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
        account: Records and checks the waits.
        url: The base URL of the service.
        window: Seconds of its windows.

    Attributes:
        opened: The number of sessions opened.
        requests: The requests of all closed sessions.
        throttled: The 429s of all closed sessions.
        transient: The transient failures of all closed sessions.
    """

    def __init__(self, account: Account, url: str, window: float) -> None:
        self._account = account
        self._url = url
        self._window = window
        self._sessions: dict[int, PlayAISession] = {}
        self._polls: WeakKeyDictionary[object, Polls] = WeakKeyDictionary()
        self._replacers: list[asyncio.Task[None]] = []
        self.opened = self.requests = self.throttled = self.transient = 0

    def at(self, slot: int) -> PlayAISession:
        """Return the session of a slot."""
        return self._sessions[slot]

    def __str__(self) -> str:
        return "; ".join(f"{slot}: {session.stats}" for slot, session in self._sessions.items())

    def is_polled(self, session: object, job_id: UUID | None) -> bool:
        """Return whether a session polls a job, or did until now."""
        return self._polls[session].has(job_id, self._account.slack())

    def queue(self, slot: int) -> bool:
        """Return whether a session has queued polls."""
        return self._sessions[slot].stats.queued > 0

    def open(self) -> None:
        """Open the first sessions, and start to replace them."""
        for slot in range(SLOTS):
            self._sessions[slot] = self._new(slot, 0)
            self._replacers.append(asyncio.create_task(self._replace(slot)))

    async def stop_replacing(self) -> None:
        """Stop replacing sessions."""
        for replacer in self._replacers:
            replacer.cancel()
        for replacer in self._replacers:
            with contextlib.suppress(asyncio.CancelledError):
                await replacer

    async def close(self) -> None:
        """Close all sessions. One of them has no waiting callers left."""
        for session in self._sessions.values():
            await self._close(session)

    async def _replace(self, slot: int) -> None:
        for generation in itertools.count(1):
            await asyncio.sleep(self._account.soak.rng("life", slot, generation).uniform(SHORTEST, LONGEST))
            old, self._sessions[slot] = self._sessions[slot], self._new(slot, generation)
            # A close that has started must finish, even if the faults stop meanwhile.
            closing = asyncio.create_task(self._close(old))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await closing
                raise

    def _new(self, slot: int, generation: int) -> PlayAISession:
        rng = self._account.soak.rng("session", slot, generation)
        known = int(self._window * rng.uniform(*KNOWN)) if rng.random() < 0.4 else None
        self.opened += 1
        session = PlayAISession(
            f"key-{slot}-{generation}",
            f"user-{slot}",
            base_url=self._url,
            polling=OWN,
            pacing=Pacing(requests_per_window=known, window=self._window, max_in_flight=rng.randint(4, 32)),
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
        if took > TOLERANCE + account.slack():
            account.violation(f"at {began:.3f} s closing a session took {took:.3f} s")
        stats = session.stats
        if stats.open_waits or stats.distinct_jobs or stats.in_flight or stats.queued:
            account.violation(f"at {began:.3f} s a session was closed, but its stats are {stats}")
        await asyncio.sleep(SETTLING)
        for tracked in account.callers:
            if tracked.session is session and tracked.is_open_after_close():
                account.violation(
                    f"{tracked.waits[0]}: still open after its session was closed at {began:.3f} s; {tracked.caller}"
                )
        self.requests += stats.requests
        self.throttled += stats.throttled
        self.transient += stats.transient_failures
