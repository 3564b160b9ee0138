"""`JobPoller`: the public methods that wait for jobs. What they promise is kept by the modules below."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable
from types import EllipsisType, TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, cast, overload

from playai_async._exceptions import ConfigurationError
from playai_async._settings import REQUEST_TIMEOUT, Pacing, Polling, check_number, checked, wait_settings
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.log import Log
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._classify import classify_error
from playai_async.jobs._engine import Client, build_poller
from playai_async.jobs._errors import JobErrors
from playai_async.jobs._fetch_timeout import limited, transient_timeouts
from playai_async.jobs._polling.iteration import Group, changes
from playai_async.jobs._polling.planner import Traits
from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._polling.watch import Fetch, FutureWaiter, IsDone, WaitSpec
from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from playai_async.jobs._scheduling.request import Classify, Errors, JobId, Throttled, Transient, unwrap

__all__ = ["Host", "JobPoller", "poller_on"]

_IdT = TypeVar("_IdT", bound=Hashable)
_JobT = TypeVar("_JobT")


class Host(Protocol):
    """What a `JobPoller` runs on."""

    errors: Errors
    """The exceptions that it raises."""

    resends_throttled: bool
    """Whether `get` sends a request again that is throttled."""

    def open(self, job_id: JobId | None) -> Poller:
        """Return the poller, which is built at the first use; raise if closed or in another loop."""
        ...

    def opened(self, job_id: JobId | None) -> Poller | None:
        """Return the poller if it was built; raise if closed or in another loop, and bind nothing to this loop."""
        ...

    def parse(self, job: Any) -> tuple[JobId, object | None]:
        """Return a job's id, and the job itself if the caller has it and it is finished."""
        ...

    def known(self, job: Any) -> object | None:
        """Return the job itself if the caller has it, or None."""
        ...

    def stats(self) -> SessionStats:
        """Return a snapshot."""
        ...

    async def close(self) -> None:
        """End all waits and calls."""
        ...


class JobPoller(Generic[_IdT, _JobT]):
    """Waits for the jobs of one service, under one rate limit.

    Make one for each key of the service and share it: all waits draw on one quota, and callers that wait for the same
    job share its requests. A poller belongs to the first event loop that uses it; it may be created before any loop
    runs.

    Args:
        fetch: Makes one status request with any client, and returns the job or raises. Switch the client's own retries
            off. It runs in a task and a `contextvars` context of the poller's, because many callers may share it. A job
            is any object but None.
        is_done: Returns whether a job is finished. Like `classify`, a plain function.
        classify: Returns what an exception of `fetch` means: `Throttled` for a rate limit, `Transient` for what may
            pass, None for a final error. The default knows the usual HTTP and gRPC clients.
        polling: How waits poll, unless a wait has its own.
        pacing: What is known of the quota.
        request_timeout: Seconds for one `fetch`, or None for no limit. After this time the fetch is cancelled, and
            counts as transient.
        size: Returns any number that grows with the work of a job, or None. `Polling(forecast=True)` goes by it.
        run_time: Returns the seconds that a finished job took, if the service says so, or None. Otherwise the time is
            measured, as far as polls show it.

    Raises:
        ConfigurationError: A setting is out of range.
        TypeError: A setting has the wrong type.
    """

    def __init__(
        self,
        fetch: Callable[[_IdT], Awaitable[_JobT]],
        *,
        is_done: Callable[[_JobT], bool],
        classify: Callable[[Exception], Throttled | Transient | None] = classify_error,
        polling: Polling = Polling(),  # noqa: B008 - a frozen value
        pacing: Pacing = Pacing(),  # noqa: B008 - a frozen value
        request_timeout: float | None = REQUEST_TIMEOUT,
        size: Callable[[_JobT], float | None] | None = None,
        run_time: Callable[[_JobT], float | None] | None = None,
    ) -> None:
        for name, value in (("fetch", fetch), ("is_done", is_done), ("classify", classify)):
            if not callable(value):
                raise TypeError(f"{name} must be callable, not {type(value).__name__}")
        for name, value in (("is_done", is_done), ("classify", classify)):
            if inspect.iscoroutinefunction(value):  # its coroutine would count as true, and nothing would await it
                raise TypeError(f"{name} must be a plain function, not a coroutine function")
        for name, measure in (("size", size), ("run_time", run_time)):
            if measure is not None and not callable(measure):
                raise TypeError(f"{name} must be callable or None, not {type(measure).__name__}")
            if inspect.iscoroutinefunction(measure):
                raise TypeError(f"{name} must be a plain function, not a coroutine function")
        if request_timeout is not None:
            check_number("request_timeout", request_timeout)
        if checked("pacing", pacing, Pacing).shared is not None:
            raise ConfigurationError("a JobPoller cannot share its quota with other processes")
        self._polling = checked("polling", polling, Polling)
        self._is_done = is_done
        self._classify = transient_timeouts(classify)
        self._host: Host = _OwnHost(
            limited(fetch, request_timeout), is_done, self._classify, pacing, Traits(size, run_time)
        )

    async def get(self, job_id: _IdT) -> _JobT:
        """Fetch a job once, ahead of every poll.

        The request waits for its turn under the rate limit, and is sent again after a 429. It has no deadline: a 429 or
        an outage may hold it. Put an `asyncio.timeout` around it where that matters.

        Args:
            job_id: The job's id.

        Returns:
            The job as it is now.

        Raises:
            Exception: What `fetch` raised, transient or not, unless `classify` returns `Throttled` for it.
            PollerClosedError: The poller was closed, before the call or during it.
            ConfigurationError: The poller belongs to another event loop.
            TypeError: The id is not hashable.

        A cancellation takes the request off the queue, or cancels it in flight.
        """
        name, _ = self._host.parse(job_id)
        return cast("_JobT", await self._host.open(name).get(name, resend=self._host.resends_throttled))

    async def wait_for_completion(
        self, job_id: _IdT, *, polling: Polling | None = None, timeout: float | EllipsisType | None = ...
    ) -> _JobT:
        """Wait until a job is finished.

        Polls at once, and then after each pause of tenacity's backoff. A 429 never ends a wait: it pauses all polls
        until the service answers again. Transient failures are retried until `polling.max_failures` of them came in a
        row.

        Args:
            job_id: The job's id.
            polling: How to poll, in place of the poller's own.
            timeout: Seconds for the whole wait, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            The finished job.

        Raises:
            JobTimeoutError: The deadline passed. The job goes on and can be waited for again.
            Exception: What `fetch` raised, if it is final or came `polling.max_failures` times in a row; what `is_done`
                raised.
            PollerClosedError: The poller was closed, before the call or during it.
            ConfigurationError: The poller belongs to another event loop, or `polling.wait` failed.
            ValueError: The timeout is not positive.
            TypeError: An argument has the wrong type.

        A cancellation ends the wait at once. When nobody else waits for the job, polling stops.
        """
        # Awaits the future itself: a coroutine in between would cost memory for as long as the wait lasts.
        poller, waiter = self._begin(job_id, polling, timeout)
        try:
            outcome = await waiter.future
        except asyncio.CancelledError:
            await poller.leave(waiter)
            raise
        return cast("_JobT", unwrap(outcome))

    def watch(
        self, job_id: _IdT, *, polling: Polling | None = None, timeout: float | EllipsisType | None = ...
    ) -> AsyncGenerator[_JobT, None]:
        """Iterate over a job's states: the first answer at once, then each change, the finished job last.

        The wait begins with the first step of the iteration. A slow reader loses no change. A change is a job that is
        not equal (`!=`) to the last one.

        Args:
            job_id: The job's id.
            polling: How to poll, in place of the poller's own.
            timeout: Seconds for the whole iteration, or None for no deadline; left out, it is `polling.timeout`.

        Returns:
            An async generator. Close it to end the wait early, for example with `contextlib.aclosing`.

        Raises:
            ValueError: The timeout is not positive.
            TypeError: An argument has the wrong type.

        The iteration raises what `wait_for_completion` raises, and a cancellation ends it in the same way.
        """
        spec = self._spec(job_id, polling, timeout)
        return cast("AsyncGenerator[_JobT, None]", changes(self._host.open, spec))

    @overload
    def as_completed(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[_JobT, None]: ...

    @overload
    def as_completed(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> AsyncGenerator[_JobT | Exception, None]: ...

    def as_completed(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Iterate over jobs in the order in which they finish.

        The waits begin with the first step of the iteration. A slow reader loses no job.

        Args:
            job_ids: The jobs' ids; an id that is given twice is yielded twice.
            polling: How to poll, in place of the poller's own.
            timeout: Seconds for each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether to yield the exception of a wait that failed. Otherwise the first one is raised,
                which ends the iteration and the other waits.

        Returns:
            An async generator. Close it to end the waits early, for example with `contextlib.aclosing`.

        Raises:
            ValueError: The timeout is not positive.
            TypeError: An argument has the wrong type; nothing was sent.

        The iteration raises what `wait_for_completion` raises, and a cancellation ends it in the same way.
        """
        return self._group(job_ids, polling, timeout, return_errors=return_exceptions).ends()

    @overload
    async def wait_for_all(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: Literal[False] = False,
    ) -> list[_JobT]: ...

    @overload
    async def wait_for_all(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool,
    ) -> list[_JobT | Exception]: ...

    async def wait_for_all(
        self,
        job_ids: Iterable[_IdT],
        *,
        polling: Polling | None = None,
        timeout: float | EllipsisType | None = ...,
        return_exceptions: bool = False,
    ) -> list[Any]:  # the overloads say of what
        """Wait until all of these jobs are finished.

        Args:
            job_ids: The jobs' ids; an id that is given twice is returned twice.
            polling: How to poll, in place of the poller's own.
            timeout: Seconds for each wait, or None for no deadline; left out, it is `polling.timeout`.
            return_exceptions: Whether to return the exception of a wait that failed in place of its job. Otherwise the
                first one is raised, and the other waits end.

        Returns:
            One result per id, in the given order.

        Raises:
            Exception: What `wait_for_completion` raises, unless `return_exceptions` is true.
            ValueError: The timeout is not positive.
            TypeError: An argument has the wrong type; nothing was sent.

        A cancellation ends all of these waits.
        """
        return await self._group(job_ids, polling, timeout, return_errors=return_exceptions).results()

    def hint(self, job_id: _IdT) -> bool:
        """Tell the poller that a job may have finished, for example from a webhook handler.

        If somebody waits for the job, its next poll goes ahead of other polls, under the same rate limit. While hints
        prove true, it does not wait for the even spacing of polls either. A pause after a 429 or a failure is not
        shortened. If a poll of the job is in flight, one more follows it.

        A hint changes the order of polls, never a result. While fewer than half of the last ten hinted polls found
        their job finished, only one hint in ten is followed.

        Args:
            job_id: The job's id.

        Returns:
            Whether the hint is followed. False if nobody waits for the job: the hint is dropped.

        Raises:
            PollerClosedError: The poller was closed.
            ConfigurationError: The poller belongs to another event loop. From another thread, use
                `loop.call_soon_threadsafe`.
            TypeError: The id is not hashable.

        Does not block. May be called at any time in the poller's event loop.
        """
        name, finished = self._host.parse(job_id)
        poller = self._host.opened(name)
        return poller is not None and finished is None and poller.hint(name)

    @property
    def stats(self) -> SessionStats:
        """A snapshot of what the poller did and is doing; may be taken at any time."""
        return self._host.stats()

    async def aclose(self) -> None:
        """Close the poller: every open wait and call ends with `PollerClosedError`.

        Closing again does nothing. After a cancellation every wait has ended; call again to wait for what still runs.

        Raises:
            ConfigurationError: The poller belongs to another event loop.
        """
        await self._host.close()

    async def __aenter__(self) -> Self:
        """Bind the poller to the running loop.

        Raises:
            PollerClosedError: The poller was closed.
            ConfigurationError: The poller belongs to another event loop.
        """
        self._host.open(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the poller, as `aclose` does."""
        await self.aclose()

    def _begin(
        self, job: object, polling: Polling | None, timeout: float | EllipsisType | None
    ) -> tuple[Poller, FutureWaiter]:
        spec = self._spec(job, polling, timeout)
        poller = self._host.open(spec.job_id)
        return poller, poller.begin(spec)

    def _spec(self, job: object, polling: Polling | None, timeout: float | EllipsisType | None) -> WaitSpec:
        """Check what a caller asks for."""
        job_id, finished = self._host.parse(job)
        settings = wait_settings(self._polling, polling, timeout)
        return WaitSpec(job_id, *settings, finished, self._known(job, settings[0]))

    def _group(
        self,
        jobs: Iterable[object],
        polling: Polling | None,
        timeout: float | EllipsisType | None,
        *,
        return_errors: bool,
    ) -> Group:
        if isinstance(jobs, str | bytes):
            raise TypeError(f"expected an iterable of jobs, not {type(jobs).__name__}")
        settings = wait_settings(self._polling, polling, timeout)
        specs: list[WaitSpec] = []
        for job in jobs:
            job_id, finished = self._host.parse(job)
            specs.append(WaitSpec(job_id, *settings, finished, self._known(job, settings[0])))
        return Group(self._host.open, specs, return_errors=return_errors)

    def _known(self, job: object, polling: Polling) -> object | None:
        return self._host.known(job) if polling.forecast else None


def poller_on(host: Host, polling: Polling) -> JobPoller[Any, Any]:
    """Return a `JobPoller` that runs on a host with errors and jobs of another kind."""
    poller: JobPoller[Any, Any] = object.__new__(JobPoller)  # pyright: ignore[reportUnknownVariableType]  # of any
    poller.__dict__.update(_host=host, _polling=polling)  # in place of the host that the constructor makes
    return poller


class _OwnHost:
    """The host of a poller for any service."""

    errors: Errors = JobErrors()
    resends_throttled = True

    def __init__(self, fetch: Fetch, is_done: IsDone, classify: Classify, pacing: Pacing, traits: Traits) -> None:
        self._fetch = fetch
        self._is_done = is_done
        self._classify = classify
        self._pacing = pacing
        self._traits = traits
        self._lifecycle = Lifecycle(self.errors)
        self._poller: Poller | None = None

    def open(self, job_id: JobId | None) -> Poller:
        self._lifecycle.use(job_id)
        if self._poller is None:
            in_flight = InFlightLimiter(self._pacing.max_in_flight)
            client = Client(self._lifecycle, self.errors, self._classify, Emitter(Log()), in_flight)
            self._poller = build_poller(client, self._fetch, self._is_done, self._pacing, traits=self._traits)
        return self._poller

    def opened(self, job_id: JobId | None) -> Poller | None:
        self._lifecycle.check_usable(job_id)
        return self._poller

    def parse(self, job: Any) -> tuple[JobId, object | None]:
        hash(job)
        return job, None

    def known(self, job: Any) -> object | None:  # noqa: ARG002 - the caller has its id only
        return None

    def stats(self) -> SessionStats:
        if self._poller is None:
            return SessionStats.before_use(self._pacing.requests_per_window)
        return self._poller.stats()

    async def close(self) -> None:
        if self._lifecycle.close() and self._poller is not None:
            self._poller.end_all()
            await self._poller.join()
