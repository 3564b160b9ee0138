"""Loop time and the wall clock.

The emulator measures time by the event loop alone, so that tests can run in virtual time. `WallClock` is the only
code that converts loop time into a time of day.
"""

import math
import time
from typing import Final

CLOCK_TOLERANCE: Final = 1e-6
"""Seconds by which a timer may fire early, because of float rounding and the resolution of the loop's clock.

Whatever is due at an instant counts as due this much earlier, so that a client that slept until then is not too early.
"""


class WallClock:
    """Converts loop time into seconds since 1970.

    The first call reads the wall clock. From then on, the time of day advances with the loop's time, virtual or real.
    """

    def __init__(self) -> None:
        self._first_seen = math.inf
        self._offset = 0

    def at(self, now: float) -> float:
        """Return the time of day, in seconds since 1970, at loop time `now`."""
        if now < self._first_seen:
            # The first call, or the loop's clock went back: virtual time often begins between a test's fixtures and
            # the test. The offset is in whole seconds so that round loop times give round times of day.
            self._first_seen = now
            self._offset = math.floor(time.time() - now)
        return self._offset + now
