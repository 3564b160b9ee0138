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


class _LimitedFetch:
    """Makes status requests, and cancels those that take too long. Each runs in a task that nobody has cancelled."""

    def __init__(self, fetch: Fetch, seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._ends: dict[asyncio.Task[Any], float] = {}  # of the tasks whose time is not over, in order
        self._timer: Timer | None = None

    async def fetch(self, job_id: JobId) -> object:
        """Make one status request.

        Raises:
            FetchTimeoutError: The request took too long.
        """
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[Any]", asyncio.current_task())
        ends = self._ends[task] = loop.time() + self._seconds
        if len(self._ends) == 1:
            self._set_timer(loop, ends)
        try:
            return await self._fetch(job_id)
        except asyncio.CancelledError:
            if task in self._ends or task.cancelling() > 1:
                raise  # somebody else cancelled the task, perhaps too
            raise FetchTimeoutError(f"The request took more than {self._seconds:g} s.") from None
        finally:
            if self._ends.pop(task, None) is None:
                task.uncancel()

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is None:
            self._timer = Timer(loop, contextvars.Context(), self._on_time)
        self._timer.set(when)

    def _on_time(self) -> None:
        """Cancel the requests that have taken too long, and set the timer for the next one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, ends in list(self._ends.items()):
            if ends > now:
                self._set_timer(loop, ends)
                return
            del self._ends[task]
            task.cancel()
