"""The public methods that wait for jobs.

A few lines each; what they promise is kept by the modules that they call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from types import EllipsisType
from typing import Any, Literal, cast, overload
from uuid import UUID

from playai_async._exceptions import ConfigurationError, PlayAIError
from playai_async._models import Completed, Failed, TtsJob, job_id_of
from playai_async._runtime import Client
from playai_async._settings import Polling, check_number, checked
from playai_async.jobs._polling.iteration import Group, changes

__all__ = ["Waits"]


class Waits:
    """The part of a session that waits; not to be made by itself."""

    _client: Client
    _polling: Polling

    async def get_job(self, job: UUID | str | TtsJob) -> TtsJob:
        """Ask for a job's state once.

        Takes its turn under the session's pacing, ahead of polls. Always one request, also for a job that is done: its
        link may have expired. It has no deadline of its own, and a 429, an outage or a spent quota may hold it:
        where that matters, put an `asyncio.timeout` around it.

        Args:
            job: The job, its id, or the id's text.

        Returns:
            The job as it is now.

        Raises:
            APIStatusError: The service answered with an error; the class tells which.
            InvalidResponseError: The answer breaks the contract.
            TransportError: No answer came.
            SessionClosedError: The session was closed, before or meanwhile.
            ConfigurationError: The session belongs to another event loop.
            ValueError: A text that is no UUID.
            TypeError: Something that names no job.

        A cancellation gives the turn back or ends the request. May be called from many tasks at once.
        """
        job_id = job_id_of(job)
        return await self._client.poller(job_id).call(job_id)

    async def wait_for_completion(
        self,
        job: UUID | str | TtsJob,
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> TtsJob[Completed | Failed]:
        """Wait until a job is done, well or badly.

        Polls at once and then after each of tenacity's pauses. Waits for one job under equal `Polling` share their
        requests. A 429 never ends a wait: it holds the whole session until the service answers again. 5xx, broken
        replies and lost connections are polled again until `polling.max_failures` of them came in a row.

        Args:
            job: The job, its id, or the id's text. A job that is done is returned without a request.
            polling: How to poll, in place of the session's.
            timeout: Seconds over the whole wait, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            The job, completed or failed. A failure is a result: `job.raise_for_failure()` makes it an exception.

        Raises:
            WaitTimeoutError: The deadline passed. The job goes on and can be waited for again.
            TransportError, InvalidResponseError, UnexpectedServiceError: `polling.max_failures` in a row.
            APIStatusError: The service refused: 400, 401, 403, 404, any redirect or other 4xx.
            SessionClosedError: The session was closed, before or meanwhile.
            ConfigurationError: The session belongs to another event loop, or `polling.wait` failed.
            ValueError: A text that is no UUID, or a timeout that is not positive.
            TypeError: Something that names no job, or an argument of the wrong type.

        A cancellation passes through at once; when nobody else waits for the job, the polling stops. May be called
        from many tasks at once, for one job or for many.
        """
        job_id = job_id_of(job)
        polling, seconds = self._wait_settings(polling, timeout, job_id)
        poller = self._client.poller(job_id)
        if isinstance(job, TtsJob) and job.done:
            return cast("TtsJob[Completed | Failed]", job)
        return await poller.completion(job_id, polling, seconds)

    def watch(
        self,
        job: UUID | str | TtsJob,
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
    ) -> AsyncGenerator[TtsJob, None]:
        """Iterate over a job's states: the first answer at once, then each change, the final one last.

        The wait begins with the first step of the iteration. No change is lost on a reader that is slow.

        Args:
            job: The job, its id, or the id's text. A job that is done is yielded without a request.
            polling: How to poll, in place of the session's.
            timeout: Seconds over the whole iteration, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            An async generator of the job. To let go before its end, close it: `contextlib.aclosing` does at the end
            of its block.

        Raises:
            ValueError: A text that is no UUID, or a timeout that is not positive.
            TypeError: Something that names no job, or an argument of the wrong type.

        The iteration raises what `wait_for_completion` raises, and treats a cancellation as it does. May be called from
        many tasks at once; each iteration belongs to one of them.
        """
        return changes(self._client.poller, job, *self._wait_settings(polling, timeout, job_id_of(job)))

    @overload
    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[TtsJob[Completed | Failed], None]: ...

    @overload
    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> AsyncGenerator[TtsJob[Completed | Failed] | PlayAIError, None]: ...

    def as_completed(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Iterate over jobs in the order in which they end, each as `wait_for_completion` would return it.

        The waits begin with the first step of the iteration, and none of them is lost on a reader that is slow.

        Args:
            jobs: The jobs, their ids, or the ids' texts. Jobs that are done come first, without a request; one that is
                given twice comes twice.
            polling: How to poll, in place of the session's.
            timeout: Seconds over each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether a job that cannot be waited for is yielded as its `PlayAIError`, whose `job_id`
                tells which. Otherwise the first of them is raised, which ends the iteration and lets go of the rest.

        Returns:
            An async generator of the jobs, completed or failed. To let go before its end, close it:
            `contextlib.aclosing` does at the end of its block.

        Raises:
            ValueError: A text that is no UUID, or a timeout that is not positive; nothing was sent.
            TypeError: Something that names no job, or an argument of the wrong type.

        The iteration raises what `wait_for_completion` raises, and treats a cancellation as it does. May be called from
        many tasks at once; each iteration belongs to one of them.
        """
        group = Group(jobs, *self._wait_settings(polling, timeout))
        return group.ends(self._client.poller, return_exceptions=return_exceptions)

    @overload
    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> list[TtsJob[Completed | Failed]]: ...

    @overload
    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> list[TtsJob[Completed | Failed] | PlayAIError]: ...

    async def wait_for_all(
        self,
        jobs: Iterable[UUID | str | TtsJob],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> list[Any]:  # the overloads say of what
        """Wait until all of some jobs are done, all at once.

        Args:
            jobs: The jobs, their ids, or the ids' texts. Jobs that are done need no request; one that is given twice
                is returned twice.
            polling: How to poll, in place of the session's.
            timeout: Seconds over each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether a job that cannot be waited for is returned as its `PlayAIError`. Otherwise the
                first of them is raised, and the other waits are let go.

        Returns:
            One result for each entry, in the order given.

        Raises:
            PlayAIError: What `wait_for_completion` raises, unless `return_exceptions` is set.
            ValueError: A text that is no UUID, or a timeout that is not positive; nothing was sent.
            TypeError: Something that names no job, or an argument of the wrong type.

        A cancellation lets go of every wait. May be called from many tasks at once.
        """
        group = Group(jobs, *self._wait_settings(polling, timeout))
        return await group.results(self._client.poller, return_exceptions=return_exceptions)

    def _wait_settings(
        self, polling: Polling | None, timeout: float | EllipsisType | None, job_id: UUID | None = None
    ) -> tuple[Polling, float | None]:
        polling = self._polling if polling is None else checked("polling", polling, Polling)
        if isinstance(timeout, EllipsisType):
            return polling, polling.timeout
        if timeout is not None:
            try:
                check_number("timeout", timeout)
            except ConfigurationError as error:
                raise (error if job_id is None else error.for_job(job_id)) from None
        return polling, timeout
