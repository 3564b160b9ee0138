"""The protocol between a session and a quota that several processes share, and its values.

The core knows nothing more of a shared quota; `contrib` keeps it. No I/O and no clock: the clocks of hosts differ, so
processes exchange durations from now, and never times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol, runtime_checkable

import attrs

__all__ = [
    "EXCHANGE_TIMEOUT",
    "Answer",
    "Ask",
    "HintLink",
    "Learning",
    "QuotaLink",
    "SharedHints",
    "SharedQuota",
    "Terms",
]

EXCHANGE_TIMEOUT = 1.0
"""Seconds for one exchange: a quota that takes longer counts as out of reach, and meanwhile delays no wait."""


@attrs.frozen(kw_only=True)
class Learning:
    """How processes learn together how many requests a window allows.

    Attributes:
        start: Requests per window with which they start.
        growth: Requests that a window must have taken without a 429 before that rate doubles.
        safety: The limit is this fraction of what a window took before its 429.
        used: Fraction of the limit: after a window used this much, the limit may rise, and a 429 needs no other cause.
        few: A 429 after fewer requests in a window may have another cause.
        convincing: After this many 429s, the limit is believed, however few the requests.
        rise: The fraction by which the limit rises after one window without a 429; each further window doubles it.
        burst: The fraction of the limit that may go back to back, until a 429.
        wary_burst: The same after a 429.
        late: Seconds for which the service may count a request after its end.
    """

    start: int
    growth: int
    safety: float
    used: float
    few: int
    convincing: int
    rise: float
    burst: float
    wary_burst: float
    late: float


@attrs.frozen
class Terms:
    """The terms of a shared quota; the same in every process that shares it.

    Attributes:
        name: The name of the quota: a digest of the service, the key and the operation.
        requests: The requests that a window allows; None if the processes learn this.
        window: Seconds.
        burst: Requests that may go back to back; the others are spaced evenly. If the quota is learned, this holds
            before the first 429.
        lease: Seconds for which a granted request may be in flight; after that its process counts as dead.
        ask_again: Seconds after which a process that waits for a permit asks again, at the latest.
        learning: How the processes learn the requests; None if they are known.
    """

    name: str
    requests: int | None
    window: float
    burst: int
    lease: float
    ask_again: float
    learning: Learning | None = None


@attrs.frozen
class Ask:
    """What a process asks and reports.

    Attributes:
        wanted: How many requests the process would send now; 0 if it only reports.
        hurry: Whether these requests need no even spacing.
        first: The number of the first request that may be granted; the others follow.
        places: The process's requests by number, and for how many seconds from now each still counts.
        unused: The numbers of requests that were granted and not sent.
        pause: Seconds for which a 429 pauses all processes; None if there was no 429.
        reopened: The number of the closing that a probe found to be over; None if no probe did.
        era: The era of the last answer, or None before the first.
        whole: Whether `places` holds all requests that count.
        limit: The requests per window that were learned, as far as this process knows. A quota without memory starts
            from there.
    """

    wanted: int
    hurry: bool
    first: int
    places: Mapping[int, float]
    unused: tuple[int, ...]
    pause: float | None
    reopened: int | None
    era: str | None
    whole: bool
    limit: float | None = None


@attrs.frozen
class Answer:
    """What a process may do.

    Attributes:
        granted: How many requests may go now.
        wait: Seconds after which to ask again, if more requests are wanted.
        pause: Seconds for which a 429 pauses all processes; 0 if one request may probe, None if there is no pause.
        era: Names the memory of the quota. A new era has forgotten all requests, and every process reports its own.
        closing: The number of the last 429 that any process reported. A request that was sent before it does not show
            whether the pause is over.
        active: How many processes have something to send, this one included.
        limit: The requests per window that were learned; None if they are known, or not yet learned.
    """

    granted: int
    wait: float
    pause: float | None
    era: str
    closing: int = 0
    active: int = 1
    limit: float | None = None


class QuotaLink(Protocol):
    """One process's link to a shared quota."""

    async def exchange(self, ask: Ask) -> Answer:
        """Report and ask.

        Any exception means that the quota is out of reach. After a cancellation it is unknown whether the quota
        received the question.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class SharedQuota(Protocol):
    """A quota that several processes share; may serve any number of sessions."""

    def open(self, terms: Terms) -> QuotaLink:
        """Return a link; called in a running loop, and must not wait for anything."""
        ...


class HintLink(Protocol):
    """One session's link to the others: hints that a job may have finished. Hints may get lost."""

    async def send(self, hint: str) -> None:
        """Send a hint to the other sessions. Any exception means that it is lost."""
        ...

    def hints(self) -> AsyncGenerator[str, None]:
        """Return the hints of other sessions, from now on. Any exception means that the connection is lost."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


@runtime_checkable
class SharedHints(Protocol):
    """A shared quota that also passes hints between the sessions."""

    def open_hints(self, name: str) -> HintLink:
        """Return a link for the sessions that share the quota of this name; called in a running loop."""
        ...
