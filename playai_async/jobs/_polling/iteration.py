"""The changes of one job, and the ends of several jobs.

Neither needs a task: outcomes go into one mailbox that the caller reads. Each iteration is one async generator with
none inside it, because a loop that shuts down closes all async generators at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import cast

from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._polling.watch import ChangeWaiter, GroupWaiter, Mailbox, WaitSpec
from playai_async.jobs._scheduling.request import Failure, JobId, Outcome, Success, unwrap

__all__ = ["Group", "OpenPoller", "changes"]

OpenPoller = Callable[[JobId], Poller]
"""Returns the poller, or raises if the client is closed or belongs to another loop."""

_OPENED_AT_ONCE = 200
"""Waits that begin before the event loop gets a turn."""


async def changes(open_poller: OpenPoller, spec: WaitSpec) -> AsyncGenerator[object, None]:
    """Iterate over the states of a job, the last of which is final.

    Args:
        open_poller: Returns the poller.
        spec: The wait.

    Yields:
        The job at each change.
    """
    poller = open_poller(spec.job_id)
    if spec.finished is not None:
        yield spec.finished
        return
    waiter = ChangeWaiter(Mailbox())
    poller.subscribe(waiter, spec)
    try:
        ended = False
        while not ended:
            ended, change = await waiter.mailbox.next()
            yield unwrap(cast("Outcome", change)) if ended else change
    finally:
        await poller.unsubscribe([waiter])


class Group:
    """Several waits of one caller; for one use, by one task.

    Args:
        open_poller: Returns the poller, or raises an error which is then the outcome of that job.
        specs: The waits, in the caller's order.
        return_errors: Whether an error is returned in place of the job, and not raised.
    """

    def __init__(
        self,
        open_poller: OpenPoller,
        specs: Sequence[WaitSpec],
        *,
        return_errors: bool,
    ) -> None:
        self._open_poller = open_poller
        self._specs = specs
        self._return_errors = return_errors
        self._mailbox: Mailbox[tuple[int, Outcome]] = Mailbox()
        self._waiters: dict[int, GroupWaiter] = {}
        self._poller: Poller | None = None

    async def ends(self) -> AsyncGenerator[object, None]:
        """Yield each job as it ends; a caller that leaves early ends the other waits."""
        try:
            await self._begin()
            for _ in self._specs:
                index, outcome = await self._mailbox.next()
                self._waiters.pop(index, None)  # it holds the job, and there may be thousands
                yield self._result(outcome)
        finally:
            await self._unsubscribe()

    async def results(self) -> list[object]:
        """Return the jobs in the caller's order; an error that is raised ends the other waits."""
        results: list[object] = [None] * len(self._specs)
        try:
            await self._begin()
            for _ in self._specs:
                index, outcome = await self._mailbox.next()
                results[index] = self._result(outcome)
        finally:
            await self._unsubscribe()
        return results

    def _result(self, outcome: Outcome) -> object:
        if self._return_errors and isinstance(outcome, Failure):
            return outcome.error
        return unwrap(outcome)

    async def _begin(self) -> None:
        waiting: list[tuple[int, WaitSpec]] = []
        for index, spec in enumerate(self._specs):
            if spec.finished is not None:
                self._mailbox.add((index, Success(spec.finished, done=True)))  # all of them before any poll's outcome
            else:
                waiting.append((index, spec))
        for index, spec in waiting:
            try:
                self._poller = self._open_poller(spec.job_id)
            except Exception as error:  # noqa: BLE001 - the outcome of that job
                self._mailbox.add((index, Failure(error)))
                continue
            waiter = GroupWaiter(self._mailbox, index)
            self._poller.subscribe(waiter, spec)
            self._waiters[index] = waiter
            if len(self._waiters) % _OPENED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _unsubscribe(self) -> None:
        """End the waits that have not ended."""
        if self._poller is not None:
            await self._poller.unsubscribe(self._waiters.values())
