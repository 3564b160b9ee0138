"""What is told of pauses: that the requests of one operation are held, why, and when they go again.

Told by whoever sends, and decides nothing.
"""

from __future__ import annotations

import logging

from playai_async._telemetry.events import Telemetry
from playai_async.jobs._pacing.pacer import PauseReason

__all__ = ["Pauses"]

logger = logging.getLogger("playai_async")


class Pauses:
    """Tells the log, and OpenTelemetry, of the pauses of one operation.

    Args:
        operation: What its requests are, in the plural.
        method: Their HTTP method.
        telemetry: What tells OpenTelemetry.
    """

    def __init__(self, operation: str, method: str, telemetry: Telemetry) -> None:
        self._operation = operation
        self._method = method
        self._telemetry = telemetry
        self._since: float | None = None

    def began(self, reason: PauseReason, now: float, pause: float) -> None:
        """Tell that requests are held, for so many seconds at first; another pause is over with that."""
        self.ended(now)
        fields = {
            "playai_event": "pause_began",
            "playai_operation": self._operation,
            "playai_reason": reason,
            "playai_pause": pause,
        }
        if reason == "throttled":
            logger.info("Throttled: no %s for %.1f s.", self._operation, pause, extra=fields)
        else:
            logger.info("Failing in a row: %s go one at a time.", self._operation, extra=fields)
        self._since = now
        self._telemetry.pause_began(self._method, reason, now)

    def ended(self, now: float) -> None:
        """Tell that requests go again, if any pause was told of."""
        if self._since is None:
            return
        pause, self._since = now - self._since, None
        fields = {"playai_event": "pause_ended", "playai_operation": self._operation, "playai_pause": pause}
        logger.info("Over: %s go again, after %.1f s.", self._operation, pause, extra=fields)
        self._telemetry.pause_ended(self._method, now)
