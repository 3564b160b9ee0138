"""The service's rate limit: so many requests a key in fixed windows, counted afresh in each.

Pure: the time is passed in. Unlike a sliding window, two full quotas may pass within moments, one on each
side of an edge; the service is described to work this way.
"""

import math

from playai_async.emulator._service.clock import CLOCK_TOLERANCE


class FixedWindowLimiter:
    """Counts what each key spent in the current window.

    Args:
        window: The length of a window in seconds.
        phase: Seconds of the first window that are over when counting begins.
        quota: How many requests a window allows each key; None: unlimited. May be set at any time.
    """

    def __init__(self, window: float, phase: float, quota: int | None) -> None:
        self.quota = quota
        self._window = window
        self._phase = phase
        self._origin = -phase
        self._started = False
        self._index = 0
        # Only the current window is kept, so memory does not grow with the number of keys ever seen.
        self._spent: dict[str, int] = {}

    def start(self, now: float) -> None:
        """Lay the windows out so that `phase` seconds of one are over now; later calls change nothing."""
        if not self._started:
            self._origin = now - self._phase
            self._started = True

    def try_spend(self, key: str, now: float) -> bool:
        """Spend one request of a key's quota if any is left.

        A refused request spends nothing, so raising the quota in mid-window lets exactly the difference
        through.

        Args:
            key: Whose quota it is.
            now: The time in seconds.

        Returns:
            Whether the request is within the quota.
        """
        index, _ = self._window_at(now)
        if index != self._index:
            self._index = index
            self._spent.clear()
        spent = self._spent.get(key, 0)
        if self.quota is not None and spent >= self.quota:
            return False
        self._spent[key] = spent + 1
        return True

    def seconds_left(self, now: float) -> int:
        """Return the seconds until the current window ends, in whole ones rounded up, for `Retry-After`."""
        _, end = self._window_at(now)
        return max(1, math.ceil(end - now))

    def _window_at(self, now: float) -> tuple[int, float]:
        """Return the current window's number and its end."""
        if now < self._origin:
            # The clock was set back: virtual time often begins, at zero, between a test's fixtures and the test.
            self._origin = -self._phase
        index = math.floor((now - self._origin + CLOCK_TOLERANCE) / self._window)
        return index, self._origin + (index + 1) * self._window
