"""A service with jobs behind a limiter: what a client's requests meet, and what is counted of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Hashable
from typing import Protocol

import attrs

from playai_async.emulator._service.limiters import Limiter

ONE_WAY = (0.015, 0.035)
"""Seconds that a request, and its response, take on the network: 50 ms together."""

KEY = "key"


class RefusedError(Exception):
    """A 429.

    Attributes:
        retry_after: Seconds that the service asked to wait, or None.
    """

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("429")
        self.retry_after = retry_after


@attrs.frozen
class Sent:
    """A request as the service saw it.

    Attributes:
        at: When it arrived.
        admitted: Whether the limiter admitted it.
    """

    at: float
    admitted: bool


@attrs.define
class Counts:
    """The requests of a client.

    Attributes:
        requests: All requests.
        throttled: Those that received a 429.
        requests_later: The requests after the first two windows.
        throttled_later: Those of them that received a 429.
    """

    requests: int = 0
    throttled: int = 0
    requests_later: int = 0
    throttled_later: int = 0

    def count(self, *, admitted: bool, later: bool) -> None:
        """Count a request."""
        self.requests += 1
        self.throttled += not admitted
        self.requests_later += later
        self.throttled_later += later and not admitted


class Service(Protocol):
    """What a client polls."""

    counts: Counts

    async def fetch(self, job_id: Hashable) -> bool:
        """Make one status request, and return whether the job is finished; or raise `RefusedError`."""
        ...


class ModelService:
    """A service in virtual time, which a model of a limiter protects.

    Args:
        limiter: The limiter.
        window: Seconds of its windows.
        hints: Whether a 429 has a `Retry-After`.
        takes: Seconds that an admitted request takes at the service.
        seed: Decides the latencies.
        one_way: The least and the most seconds that a request, and its response, take on the network.
    """

    def __init__(
        self,
        limiter: Limiter,
        window: float,
        *,
        hints: bool,
        takes: float,
        seed: int,
        one_way: tuple[float, float] = ONE_WAY,
    ) -> None:
        self.counts = Counts()
        self.sent: list[Sent] = []
        self.finishes: dict[Hashable, float] = {}
        self._limiter = limiter
        self._later = 2 * window
        self._hints = hints
        self._takes = takes
        self._one_way = one_way
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._loop = asyncio.get_running_loop()

    async def fetch(self, job_id: Hashable) -> bool:
        """Make one status request, and return whether the job is finished; or raise `RefusedError`."""
        await asyncio.sleep(self._rng.uniform(*self._one_way))
        now = self._loop.time()
        grant = self._limiter.admit(KEY, now)
        self.counts.count(admitted=grant is not None, later=now >= self._later)
        self.sent.append(Sent(now, grant is not None))
        if grant is None:
            hint = self._limiter.retry_after(KEY, now) if self._hints else None
            await asyncio.sleep(self._rng.uniform(*self._one_way))
            raise RefusedError(hint)
        if self._takes:
            try:
                await asyncio.sleep(self._takes)
            finally:
                grant.answered(self._loop.time())
        done = self._loop.time() >= self.finishes[job_id]
        await asyncio.sleep(self._rng.uniform(*self._one_way))
        return done
