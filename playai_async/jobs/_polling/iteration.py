"""Iterating over what becomes of jobs: the changes of one, and the ends of several at once.

No task for any of them: what there is to tell is put into one list that the caller reads. Each iteration is one async
generator with none inside it, since a loop that shuts down closes all it knows of at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from uuid import UUID

from playai_async._exceptions import PlayAIError
from playai_async._models import TtsJob, job_id_of
from playai_async._settings import Polling
from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._polling.watch import Follower, Member, News, Outcome, job_of

__all__ = ["Group", "changes"]

_OPENED_AT_ONCE = 200
"""Waits, before the event loop gets a turn."""


async def changes(
    poller_for: Callable[[UUID], Poller], job: UUID | str | TtsJob, polling: Polling, timeout: float | None
) -> AsyncGenerator[TtsJob, None]:
    """Iterate over the states of a job, the last of which is final.

    Args:
        poller_for: Gives the poller.
        job: The job; one that is done needs no waiting.
        polling: How to poll.
        timeout: Seconds over the whole iteration, or None.

    Yields:
        The job at each change.
    """
    job_id = job_id_of(job)
    poller = poller_for(job_id)
    if isinstance(job, TtsJob) and job.done:
        yield job
        return
    follower = Follower(News())
    poller.join(follower, job_id, polling, timeout)
    try:
        while True:
            change = job_of(await follower.news.next())
            yield change
            if change.done:
                return
    finally:
        await poller.let_go([follower])


class Group:
    """Several waits of one caller; for one use, by one task.

    Args:
        jobs: The jobs, in the caller's order; those that are done need no waiting.
        polling: How to poll.
        timeout: Seconds over each wait, or None.

    Raises:
        ValueError: A text that is no UUID.
        TypeError: Something that names no job, or a text in place of several.
    """

    def __init__(self, jobs: Iterable[UUID | str | TtsJob], polling: Polling, timeout: float | None) -> None:
        if isinstance(jobs, str | bytes):
            raise TypeError(f"jobs must be an iterable of jobs, not {type(jobs).__name__}")
        self._jobs = [job if isinstance(job, TtsJob) and job.done else job_id_of(job) for job in jobs]
        self._polling = polling
        self._timeout = timeout
        self._news: News[tuple[int, Outcome]] = News()
        self._members: dict[int, Member] = {}
        self._poller: Poller | None = None

    async def ends(
        self, poller_for: Callable[[UUID], Poller], *, return_exceptions: bool
    ) -> AsyncGenerator[Outcome, None]:
        """Wait for all of them, and give each as it ends; a reader that leaves early lets the rest go."""
        try:
            await self._begin(poller_for)
            for _ in self._jobs:
                index, outcome = await self._news.next()
                self._members.pop(index, None)  # it holds the job, and there may be thousands
                yield outcome if return_exceptions else job_of(outcome)
        finally:
            await self._let_go()

    async def results(self, poller_for: Callable[[UUID], Poller], *, return_exceptions: bool) -> list[Outcome | None]:
        """Wait for all of them, and give them in the caller's order; where that raises, the rest is let go."""
        results: list[Outcome | None] = [None] * len(self._jobs)
        try:
            await self._begin(poller_for)
            for _ in self._jobs:
                index, outcome = await self._news.next()
                results[index] = outcome if return_exceptions else job_of(outcome)
        finally:
            await self._let_go()
        return results

    async def _begin(self, poller_for: Callable[[UUID], Poller]) -> None:
        """Begin to wait for all of them.

        Args:
            poller_for: Gives the poller, or raises a `PlayAIError`, which is then the outcome of that job.
        """
        waited_for: list[tuple[int, UUID]] = []
        for index, job in enumerate(self._jobs):
            if isinstance(job, TtsJob):
                self._news.add((index, job))  # all of them before any answer can come
            else:
                waited_for.append((index, job))
        for index, job in waited_for:
            try:
                self._poller = poller_for(job)
            except PlayAIError as error:
                self._news.add((index, error))
                continue
            member = Member(self._news, index)
            self._poller.join(member, job, self._polling, self._timeout)
            self._members[index] = member
            if len(self._members) % _OPENED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _let_go(self) -> None:
        """Let go of those that have not ended."""
        if self._poller is not None:
            await self._poller.let_go(self._members.values())
