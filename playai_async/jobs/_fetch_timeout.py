"""The time that a `fetch` may take.

All fetches of a poller have the same limit, so the one that began first is the first whose time is over. One timer
serves all of them. An `asyncio.timeout` for each would set and cancel a timer of the event loop for each poll, which
costs a fifth of all processor time of the engine.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, cast

from playai_async.jobs._polling.watch import Fetch
from playai_async.jobs._scheduling.request import Classify, JobId, Transient
from playai_async.jobs._scheduling.timers import Timer

__all__ = ["FetchTimeoutError", "limited", "transient_timeouts"]


class FetchTimeoutError(TimeoutError):
    """A status request took too long."""


def limited(fetch: Fetch, seconds: float | None) -> Fetch:
    """Limit the time of each status request; past it the request is cancelled and raises `FetchTimeoutError`."""
    return fetch if seconds is None else _LimitedFetch(fetch, seconds).fetch


def transient_timeouts(classify: Classify) -> Classify:
    """Count a status request that took too long as transient, whatever `classify` says of timeouts."""
    return lambda error: Transient() if isinstance(error, FetchTimeoutError) else classify(error)


class _Running:
    """A fetch that has not ended."""

    __slots__ = ("cancelled", "cancelling", "ends", "task")

    def __init__(self, task: asyncio.Task[Any], ends: float) -> None:
        self.task = task
        self.cancelling = task.cancelling()
        self.ends = ends
        self.cancelled = False


class _LimitedFetch:
    """Makes status requests, and cancels those that take too long."""

    def __init__(self, fetch: Fetch, seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._running: dict[_Running, None] = {}  # in the order of their ends
        self._timer: Timer | None = None

    async def fetch(self, job_id: JobId) -> object:
        """Make one status request, in a task.

        Raises:
            FetchTimeoutError: The request took too long.
        """
        loop = asyncio.get_running_loop()
        running = _Running(cast("asyncio.Task[Any]", asyncio.current_task()), loop.time() + self._seconds)
        self._running[running] = None
        if self._timer is None:
            self._timer = Timer(loop, contextvars.Context(), self._on_time)
        self._timer.set(running.ends)
        try:
            return await self._fetch(job_id)
        except asyncio.CancelledError:
            if not running.cancelled or running.task.cancelling() - 1 > running.cancelling:
                raise  # somebody else cancelled the task, too
            raise FetchTimeoutError(f"The request took more than {self._seconds:g} s.") from None
        finally:
            self._running.pop(running, None)
            if running.cancelled:
                running.task.uncancel()

    def _on_time(self) -> None:
        """Cancel the requests that have taken too long, and set the timer for the next one."""
        timer = cast("Timer", self._timer)
        now = asyncio.get_running_loop().time()
        for running in list(self._running):
            if running.ends > now:
                timer.set(running.ends)
                return
            del self._running[running]
            running.cancelled = True
            running.task.cancel()
