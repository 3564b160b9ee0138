"""Plans polls by forecasts: which jobs are alike, how old each is, and how long those took that finished.

Ages are local: they count from the reply that created a job, or from the beginning of its watch. The service's
timestamps are compared with each other only, and believed only if they fit what was seen. No loop, no clock, no I/O.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import attrs

from playai_async.jobs._polling.forecast import Forecast, Plan, bounded_log
from playai_async.jobs._polling.watch import Watch
from playai_async.jobs._scheduling.request import Failure, JobId, Outcome, Success

__all__ = ["Measure", "Planner", "Traits"]

Measure: TypeAlias = Callable[[Any], float | None]
"""Returns a number that a job has, or None."""

_SLACK = 2.0
"""Seconds by which a length may lie outside of what was seen: requests take time, and timestamps are rounded."""

_MIN_LENGTH_FRACTION = 1 / 1000
"""Fraction of a window: the shortest length that matters (0.06 s of 60)."""

_MAX_GROUPS = 64
"""Groups of jobs that are kept, about 10 kB each. With more, the oldest is forgotten."""

_MAX_CREATED = 1_024
"""Created jobs that are remembered. With more, the oldest is forgotten; its age then counts from its first wait."""

_Kind: TypeAlias = tuple[Hashable, float]
"""The group of a job, and the logarithm of its size."""

_SIZELESS: _Kind = object(), 0.0
"""The jobs without a size are one group."""


def _one_group(_: Any) -> Hashable:
    return None


@attrs.frozen
class Traits:
    """How to read what forecasts go by.

    Attributes:
        size: Returns any number that grows with the work; None: no job has one.
        run_time: Returns the seconds that a finished job took, by the service's clock; None: they are measured.
        group: Returns the group of a job. Each group has its own line.
    """

    size: Measure | None = None
    run_time: Measure | None = None
    group: Callable[[Any], Hashable] = _one_group


class Planner:
    """Plans polls, and learns from finished jobs.

    Args:
        traits: How to read jobs.
        window: Seconds of the service's windows; no poll is planned further ahead.
    """

    def __init__(self, traits: Traits, window: float) -> None:
        self._traits = traits
        self._window = window
        self._forecasts: OrderedDict[Hashable, Forecast] = OrderedDict()
        self._created: OrderedDict[JobId, tuple[float, _Kind]] = OrderedDict()

    @property
    def ready(self) -> bool:
        """Whether there is a forecast for any group of jobs."""
        return any(forecast.ready for forecast in self._forecasts.values())

    def on_created(self, job_id: JobId, job: object, now: float) -> None:
        """Remember a job that was created now."""
        self._created[job_id] = now, self._kind(job)
        if len(self._created) > _MAX_CREATED:
            self._created.popitem(last=False)

    def first_poll(self, watch: Watch, known: object | None, now: float) -> Plan | None:
        """Plan the first poll of a watch, whose job was unfinished when it was created or handed in.

        Args:
            watch: The watch.
            known: The job if the caller has it, or None.
            now: The time.

        Returns:
            The plan; None if the first poll should go as without a forecast. It also goes so if the caller's wait
            strategy or a trait raises: what it raises again after that poll ends the wait.
        """
        try:
            return self._first_poll(watch, known, now)
        except Exception:  # noqa: BLE001 - of the caller's own
            return None

    def _first_poll(self, watch: Watch, known: object | None, now: float) -> Plan | None:
        watch.began_at = now
        created = self._created.get(watch.job_id)
        if created is not None:
            watch.began_at, kind = created
        elif known is not None:
            kind = self._kind(known)
        else:
            return None
        watch.unfinished_at = watch.began_at
        forecast = self._forecasts.get(kind[0])
        if forecast is None or not forecast.ready:
            return None
        pause = watch.backoff.pause_after(Success(known, done=False))  # the reply was the first answer
        watch.first_pause = pause or 0.0
        age = now - watch.began_at
        return forecast.plan(kind[1], 0.0, least=watch.first_pause, most=age + self._window)

    def next_poll(self, watch: Watch, outcome: Outcome, pause: float, now: float) -> Plan | None:
        """Plan the poll of a watch after one that came back now and did not end it.

        Args:
            watch: The watch.
            outcome: What that poll brought.
            pause: The pause that tenacity wants, in seconds.
            now: The time.

        Returns:
            The plan; None if the next poll should go as without a forecast, as it does after a failure.

        Raises:
            Exception: A trait raised.
        """
        if watch.first_pause < 0:
            watch.first_pause = pause
        if isinstance(outcome, Failure):
            return None
        watch.unfinished_at = watch.sent_at
        group, log_size = self._kind(outcome.job)
        forecast = self._forecasts.get(group)
        if forecast is None:
            return None
        age = now - watch.began_at
        return forecast.plan(log_size, age, least=age + watch.first_pause, most=age + self._window)

    def on_finished(self, watch: Watch, job: object, now: float) -> None:
        """Learn from a job that was found finished now.

        Raises:
            Exception: A trait raised.
        """
        length = self._length(watch, job, now)
        group, log_size = self._kind(job)
        if length is None:
            return
        forecast = self._forecasts.get(group)
        if forecast is None:
            forecast = self._forecasts[group] = Forecast()
            if len(self._forecasts) > _MAX_GROUPS:
                self._forecasts.popitem(last=False)
        forecast.learn(log_size, max(length, self._window * _MIN_LENGTH_FRACTION))

    def _length(self, watch: Watch, job: object, now: float) -> float | None:
        """Return how long a job took, or None if that is not known."""
        lower, upper = watch.unfinished_at - watch.began_at, now - watch.began_at
        run_time = None if self._traits.run_time is None else _number("run_time", self._traits.run_time(job))
        if run_time is not None and max(lower, 0.0) - _SLACK <= run_time <= upper + _SLACK:
            return run_time
        if lower == -math.inf:
            return None  # it may have finished long before anybody waited for it
        return (lower + upper) / 2

    def _kind(self, job: object) -> _Kind:
        size = None if self._traits.size is None else _number("size", self._traits.size(job))
        if size is None or not 0 < size < math.inf:
            return _SIZELESS
        return self._traits.group(job), bounded_log(math.log(size))


def _number(name: str, value: float | None) -> float | None:
    """Return what a trait returned, if it is a number or None.

    Raises:
        TypeError: It is something else.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{name} must return a number or None, not {type(value).__name__}")
    return value
