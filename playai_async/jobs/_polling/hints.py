"""Which hints to follow: callers say that a job may have finished, and may be wrong or lie.

No loop, no clock, no I/O, no jobs: the poller asks, and reports what the polls found.
"""

from __future__ import annotations

from collections import deque

__all__ = ["HintGuard"]

_JUDGED_POLLS = 10
"""The hinted polls that decide whether hints are trusted."""

_MIN_FOUND = 5
"""At least this many of these polls must have found their job finished. With fewer, polls in normal order find more."""

_FOLLOWED_IN = 10
"""While hints are not trusted, one in this many is followed: enough to notice that they have become true."""


class HintGuard:
    """Decides which hints to follow, by what the last hinted polls found.

    Hints are trusted at first, as if ten had been true.
    """

    def __init__(self) -> None:
        self._found = deque([True] * _JUDGED_POLLS, maxlen=_JUDGED_POLLS)
        self._ignored = 0

    @property
    def trusted(self) -> bool:
        """Whether all hints are followed."""
        return sum(self._found) >= _MIN_FOUND

    def follows(self) -> bool:
        """Return whether to follow the hint that has come."""
        if self.trusted:
            return True
        self._ignored = (self._ignored + 1) % _FOLLOWED_IN
        return not self._ignored

    def on_polled(self, *, found: bool) -> None:
        """Record whether a hinted poll found its job finished."""
        self._found.append(found)
