"""A pacer whose quota is no matter, for tests of the gate."""

from __future__ import annotations

from playai_async import Pacing
from playai_async.jobs._pacing.pacer import Pacer

PLENTY = Pacing(requests_per_window=10**6)
"""A quota that holds nothing back, so that the gate is all there is."""


def sending(pacer: Pacer, now: float, count: int = 1) -> None:
    """Send some requests, each of which must be allowed."""
    for _ in range(count):
        assert pacer.delay(now) == 0.0
        pacer.on_sent(now)
