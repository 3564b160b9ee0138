"""The rate limit of the service: a number of requests for each API key in fixed windows.

Pure: the caller passes the time in. A client may spend two full quotas within moments, one on each side of the edge
between two windows; the service is documented to work this way.
"""

import math

from playai_async.emulator._service.clock import CLOCK_TOLERANCE


class FixedWindowLimiter:
    """Counts the requests of each key in the current window.

    Args:
        window: The length of a window in seconds.
        phase: Seconds of the first window that have passed when counting starts.
        quota: How many requests each key may send in a window; None: unlimited. Can be set at any time.
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
        """Place the windows so that `phase` seconds of one have passed now; later calls change nothing."""
        if not self._started:
            self._origin = now - self._phase
            self._started = True

    def try_spend(self, key: str, now: float) -> bool:
        """Spend one request of the key's quota, and return whether there was one left.

        A refused request spends nothing. So raising the quota in the middle of a window lets exactly the difference
        through.
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
        """Return the whole seconds, rounded up, until the current window ends: the value for `Retry-After`."""
        _, end = self._window_at(now)
        return max(1, math.ceil(end - now))

    def _window_at(self, now: float) -> tuple[int, float]:
        """Return the number of the current window and the time when it ends."""
        if now < self._origin:
            # The loop's clock went back: virtual time often begins, at zero, between a test's fixtures and the test.
            self._origin = -self._phase
        index = math.floor((now - self._origin + CLOCK_TOLERANCE) / self._window)
        return index, self._origin + (index + 1) * self._window
