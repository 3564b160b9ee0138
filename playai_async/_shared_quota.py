"""What a session asks of a quota that it shares with other processes: a protocol, and the values it speaks in.

The core knows no more of it than this; what keeps the quota is in `contrib`. No I/O, and no clock: those of hosts
differ, so no time crosses a process's border, but only how long ago or how long from now something is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

__all__ = ["Answer", "Ask", "QuotaLink", "SharedQuota", "Terms"]


@attrs.frozen
class Terms:
    """What holds for a shared quota; the same in every process that shares it.

    Attributes:
        name: What the quota is of: a digest of the service, the key and the operation.
        requests: How many a window allows.
        window: Seconds.
        burst: Requests that may go out back to back; the others are spaced evenly.
        lease: Seconds for which a granted request may be under way; past them its process counts as dead.
        ask_again: Seconds after which who waits for a turn asks again, at the latest.
    """

    name: str
    requests: int
    window: float
    burst: int
    lease: float
    ask_again: float


@attrs.frozen
class Ask:
    """What a process asks, and what it has to tell.

    Attributes:
        wanted: How many requests it would send now; 0 where it has only to tell.
        hurry: Whether they are not held to even spacing.
        first: The number of the first request that may be granted; the next ones follow on it.
        places: Requests by number, and for how many seconds from now each still counts.
        unused: The numbers of those that were granted and not sent.
        pause: Seconds for which a 429 holds all who share the quota; None where there was none.
        reopened: Which closing a probe has found to be over, by its number; None where none has.
        era: What the last answer said of it, or None before the first.
        whole: Whether `places` are all that count.
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
    """What may be done.

    Attributes:
        granted: How many requests may go now.
        wait: Seconds after which to ask again, where some are wanted.
        pause: Seconds for which a 429 holds all who share the quota; 0 where one request may try whether it is over,
            None where nothing holds them.
        era: What knows the places; another than before has forgotten them, and has to be told all.
        closing: The number of the last 429 that was told of, by whichever process. What was sent before that one
            says nothing about whether it is over.
    """

    granted: int
    wait: float
    pause: float | None
    era: str
    closing: int = 0


class QuotaLink(Protocol):
    """One process's way to a shared quota."""

    async def exchange(self, ask: Ask) -> Answer:
        """Tell, and ask.

        Whatever it raises means that the quota is out of reach. A cancellation leaves it open whether it was received.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is open."""
        ...


class SharedQuota(Protocol):
    """A quota that several processes share; may serve any number of sessions."""

    def open(self, terms: Terms) -> QuotaLink:
        """Return a way to it; called in a running loop, and must not wait for anything."""
        ...
