"""What a session tells of itself, beside the log: waits, requests and pauses.

Here nobody listens, and nothing is kept or measured. `_opentelemetry` listens, where its package is installed.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from playai_async._exceptions import PlayAIError
from playai_async.jobs._pacing.pacer import PauseReason
from playai_async.jobs._polling.watch import Outcome, Waiter

__all__ = ["Telemetry"]


class Telemetry:
    """Takes no notice."""

    def wait_began(self, waiter: Waiter) -> None:
        """Take note of a wait that has joined its watch."""

    def wait_ended(self, waiter: Waiter, outcome: Outcome | None, now: float) -> None:
        """Take note of what came of a wait, or, with None, that it was let go."""

    def answered(self, method: str, status: int) -> None:
        """Take note of a request that was answered."""

    def unanswered(self, method: str, error: PlayAIError) -> None:
        """Take note of a request that met no answer."""

    def pause_began(self, method: str, reason: PauseReason, now: float) -> None:
        """Take note that requests of a method are held."""

    def pause_ended(self, method: str, now: float) -> None:
        """Take note that they are held no more."""

    def untraced(self) -> AbstractContextManager[None]:
        """Return a context in which no request is traced, for those whose URL must not be known."""
        return contextlib.nullcontext()
