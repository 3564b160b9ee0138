"""The protocol between a session and a quota that several processes share, and its values.

The core knows nothing more of a shared quota; `contrib` keeps it. No I/O and no clock: the clocks of hosts differ, so
processes exchange durations from now, and never times.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol, runtime_checkable

import attrs

__all__ = ["EXCHANGE_TIMEOUT", "Answer", "Ask", "HintLink", "QuotaLink", "SharedHints", "SharedQuota", "Terms"]

EXCHANGE_TIMEOUT = 1.0
"""Seconds for one exchange: a quota that takes longer counts as out of reach, and meanwhile delays no wait."""


@attrs.frozen
class Terms:
    """The terms of a shared quota; the same in every process that shares it.

    Attributes:
        name: The name of the quota: a digest of the service, the key and the operation.
        requests: The requests that a window allows.
        window: Seconds.
        burst: Requests that may go back to back; the others are spaced evenly.
        lease: Seconds for which a granted request may be in flight; after that its process counts as dead.
        ask_again: Seconds after which a process that waits for a permit asks again, at the latest.
    """

    name: str
    requests: int
    window: float
    burst: int
    lease: float
    ask_again: float


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
    """

    granted: int
    wait: float
    pause: float | None
    era: str
    closing: int = 0
    active: int = 1


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
