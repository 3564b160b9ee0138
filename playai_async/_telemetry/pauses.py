"""Reports the pauses of one operation: when its requests are paused, why, and when they go again."""

from __future__ import annotations

from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import PauseEnded, PauseReason, PauseStarted

__all__ = ["PauseReporter"]


class PauseReporter:
    """Turns the state of a gate into events.

    Args:
        operation: The requests, in the plural.
        method: Their HTTP method.
        emitter: Where to report.
    """

    def __init__(self, operation: str, method: str, emitter: Emitter) -> None:
        self._operation = operation
        self._method = method
        self._emitter = emitter
        self._current: tuple[PauseReason, float] | None = None

    def start(self, reason: PauseReason, now: float, pause: float) -> None:
        """Report that requests are paused, for these seconds at first; that ends an earlier pause."""
        self.end(now)
        self._current = reason, now
        self._emitter.emit(PauseStarted(self._operation, self._method, reason, now, pause))

    def end(self, now: float) -> None:
        """Report that requests go again, if a pause was reported."""
        if self._current is None:
            return
        (reason, started), self._current = self._current, None
        self._emitter.emit(PauseEnded(self._operation, self._method, reason, started, now))
