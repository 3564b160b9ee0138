"""A shared quota in memory, by the loop's own clock: grants by places alone, and misbehaves as a test says."""

from __future__ import annotations

import asyncio
import math
from typing import cast

import attrs

from playai_async._shared_quota import Answer, Ask, Terms
from tests.support.clock import now


@attrs.define
class MemoryQuota:
    """What keeps a quota, for any number of links.

    Attributes:
        error: What each exchange raises, or None.
        takes: Seconds for each exchange; infinite: it hangs.
        again: Seconds after which who was granted nothing is to ask again.
        pause: What answers say of a 429.
        spent: Whether nothing is granted at all.
        nonsense: Whether answers cannot be used.
        close_error: What closing a link raises, or None.
        asks: What was asked, and when.
    """

    error: Exception | None = None
    takes: float = 0.0
    again: float = 1.0
    pause: float | None = None
    spent: bool = False
    nonsense: bool = False
    close_error: Exception | None = None
    asks: list[tuple[float, Ask]] = attrs.field(factory=list[tuple[float, Ask]])
    links: list[MemoryLink] = attrs.field(factory=list["MemoryLink"])

    def open(self, terms: Terms) -> MemoryLink:
        """Return a way to it."""
        link = MemoryLink(self, terms)
        self.links.append(link)
        return link

    @property
    def wishes(self) -> list[float]:
        """When something was wanted."""
        return [when for when, ask in self.asks if ask.wanted]


@attrs.define
class MemoryLink:
    """One session's way to it."""

    quota: MemoryQuota
    terms: Terms
    places: dict[int, float] = attrs.field(factory=dict[int, float])
    closed: int = 0

    async def exchange(self, ask: Ask) -> Answer:
        """Tell, and ask."""
        quota = self.quota
        quota.asks.append((now(), ask))
        if quota.error is not None:
            raise quota.error
        if quota.takes:
            await (asyncio.sleep(quota.takes) if quota.takes < math.inf else asyncio.Event().wait())
        self.places |= {number: now() + seconds for number, seconds in ask.places.items()}
        for number in ask.unused:
            self.places.pop(number, None)
        if ask.reopened is not None:
            quota.pause = None
        taken = sum(until > now() for link in quota.links for until in link.places.values())
        free = ask.wanted if self.terms.requests is None else self.terms.requests - taken
        granted = 0 if quota.spent else max(0, min(ask.wanted, free))
        if quota.nonsense:
            return cast("Answer", None)
        until = now() + self.terms.window + self.terms.lease
        self.places |= dict.fromkeys(range(ask.first, ask.first + granted), until)
        return Answer(granted, 0.0 if granted else quota.again, quota.pause, "e")

    async def aclose(self) -> None:
        """Let go."""
        self.closed += 1
        if self.quota.close_error is not None:
            raise self.quota.close_error
