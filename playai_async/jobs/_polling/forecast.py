"""When a job is likely to be finished, judged by the jobs that finished before. Pure: no clock, no I/O, no event loop.

*A poll should go once the job is expected to have been finished for long enough.* A `Forecast` keeps two things of the
jobs of one group:

- a line through the logarithms of their sizes and of their lengths, in which older jobs count less and less;
- the last 100 residuals of that line: how much longer each job took than the line said before it was known.

The line says how long a job of some size takes, and the residuals say how far off that may be. A job that is not
finished at some age rules out the residuals below. The others are the survivors, each as likely as any other. They
give the lag that a poll at some time is expected to end: the time since the job finished, averaged over the survivors.

A poll may go when that is 0.25 s, and its place in the queue is the time at which it is 2 s. Under a quota the queue
then holds the polls that would end the most lag, first. The place is an absolute time, so no poll starves.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import deque

import attrs

__all__ = ["Forecast", "Plan", "bounded_log"]

_MEMORY = 0.98
"""The weight of the past when a job is added to the line: about fifty jobs count."""

_SHRINKAGE = 1.0
"""Added to the variance of the sizes: a slope needs evidence."""

_RESIDUALS = 100
"""The residuals that are kept."""

_READY = 8
"""Residuals below which there is no forecast."""

_SURVIVORS = 3
"""Survivors below which there is no forecast: the job takes longer than nearly all others did."""

_WORTH_A_POLL = 0.25
"""Seconds of expected lag at which a poll may go."""

_DUE = 2.0
"""Seconds of expected lag at which a poll is due, which is its place in the queue; 1 to 4 s make no difference."""

_OUTER_FRACTION = 1 / 8
"""Fraction of the residuals on either side of the inner 75 %."""

_WIDEST_SPREADS = 2.0
"""Residuals beyond this many times the spread of the inner 75 % are clipped in the line."""

_MAX_LOG = 30.0
"""The largest logarithm of a length or size that is believed; the lower bound is its negative. It keeps sums finite,
and keeps one absurd size from outweighing all others in the line."""


@attrs.frozen
class Plan:
    """When the next poll of a job should go, by the age of the job in seconds.

    Attributes:
        earliest: The age from which the poll may go.
        due: The age at which the poll is due; never before `earliest`.
        expected: The age at which the job is expected to finish: half of the survivors took less.
    """

    earliest: float
    due: float
    expected: float


class Forecast:
    """How long the jobs of one group take, by their size."""

    __slots__ = ("_base", "_n", "_ratios", "_recent", "_slope", "_sums", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._base = self._slope = 0.0
        self._recent: deque[float] = deque(maxlen=_RESIDUALS)
        # A residual is kept as a factor: the length of a job over the length that was predicted.
        self._ratios: list[float] = []  # sorted
        self._sums: list[float] | None = None  # of the first ratios; None: not up to date

    @property
    def ready(self) -> bool:
        """Whether enough jobs were seen."""
        return len(self._ratios) >= _READY

    def learn(self, log_size: float, length: float) -> None:
        """Add a finished job.

        Args:
            log_size: The logarithm of its size; 0 if it has none.
            length: Seconds that it took; positive.
        """
        log_length = bounded_log(math.log(length))
        if self._n:
            predicted = self._predict(log_size)
            residual = log_length - predicted
            log_length = predicted + self._clipped(residual)
            self._keep(math.exp(residual))
        self._n = _MEMORY * self._n + 1
        self._x = _MEMORY * self._x + log_size
        self._y = _MEMORY * self._y + log_length
        self._xx = _MEMORY * self._xx + log_size * log_size
        self._xy = _MEMORY * self._xy + log_size * log_length
        mean = self._x / self._n
        spread = max(0.0, self._xx - self._x * mean)
        self._slope = (self._xy - self._y * mean) / (spread + _SHRINKAGE)
        self._base = self._y / self._n - self._slope * mean

    def plan(self, log_size: float, age: float, *, least: float, most: float) -> Plan | None:
        """Plan the next poll of a job that was not finished at some age.

        Args:
            log_size: The logarithm of its size; 0 if it has none.
            age: The last age at which it was not finished.
            least: The age before which no poll goes.
            most: The latest age to plan for; `least` wins if it is larger.

        Returns:
            The plan, or None if there is no forecast.
        """
        ratios = self._ratios
        if not self.ready:
            return None
        scale = math.exp(self._predict(log_size))
        first = bisect_right(ratios, age / scale)
        survivors = len(ratios) - first
        if survivors < _SURVIVORS:
            return None
        unit = (survivors + 1) / scale
        worth, finished = self._reached(first, first + 1, _WORTH_A_POLL * unit)
        due, _ = self._reached(first, finished, _DUE * unit)
        earliest = max(least, min(most, worth * scale))
        return Plan(earliest, max(earliest, min(most, due * scale)), ratios[first + survivors // 2] * scale)

    def _predict(self, log_size: float) -> float:
        """Return the logarithm of the length of a job, by the line."""
        return bounded_log(self._base + self._slope * log_size)

    def _clipped(self, residual: float) -> float:
        """Clip a residual that is far from the others, so that one job does not turn the line."""
        if not self.ready:
            return residual
        outer = int(len(self._ratios) * _OUTER_FRACTION)
        widest = _WIDEST_SPREADS * math.log(self._ratios[-1 - outer] / self._ratios[outer])
        return max(-widest, min(widest, residual))

    def _keep(self, ratio: float) -> None:
        """Add a residual, in place of the oldest if there are enough."""
        if len(self._recent) == _RESIDUALS:
            del self._ratios[bisect_left(self._ratios, self._recent[0])]
        self._recent.append(ratio)
        insort(self._ratios, ratio)
        self._sums = None

    def _reached(self, first: int, low: int, area: float) -> tuple[float, int]:
        """Return when the survivors' summed lag reaches `area`, and the index after the last that finished before.

        The time is a factor of the prediction. With all ratios up to the last that is below it, the sum is linear in
        time; that last one lies at `low` or above.
        """
        ratios, sums = self._ratios, self._sums
        if sums is None:
            sums = self._sums = list(itertools.accumulate(ratios, initial=0.0))
        area -= sums[first]
        high = len(ratios)
        while low < high:
            middle = (low + high) // 2
            if (middle - first) * ratios[middle] - sums[middle] < area:
                low = middle + 1
            else:
                high = middle
        return (area + sums[low]) / (low - first), low


def bounded_log(log: float) -> float:
    """Return the logarithm of a length or size, or the nearest one that is believed."""
    return max(-_MAX_LOG, min(_MAX_LOG, log))
