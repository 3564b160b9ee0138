"""One request: what the dispatcher asks of it, what comes of it, and the request of one direct caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import ClassVar, Protocol, TypeAlias

import attrs

from playai_async._settings import MAX_RETRY_AFTER
from playai_async.jobs._scheduling.delay_queue import Entry

__all__ = [
    "Classify",
    "DirectRequest",
    "Errors",
    "Failure",
    "JobId",
    "Outcome",
    "Poll",
    "Request",
    "Send",
    "Success",
    "Throttled",
    "Transient",
    "Verdict",
    "Worker",
    "cancel_worker",
    "check_verdict",
    "join_worker",
    "unwrap",
]

JobId: TypeAlias = Hashable
"""What a service calls a job."""

Worker: TypeAlias = asyncio.Task[None]
"""A task that sends requests one after another."""

Send: TypeAlias = Callable[[], Awaitable[object]]
"""Makes one request, and returns the job or raises."""


def _usable(seconds: float | None) -> float | None:
    """Return a usable `retry_after`: more than 0 seconds and at most a day; or None."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"retry_after must be a number of seconds, not {type(seconds).__name__}")
    return float(min(seconds, MAX_RETRY_AFTER)) if seconds > 0 else None  # an integer may be too large for a float


@attrs.frozen
class Throttled:
    """The service refused a request because of a rate limit, as with a 429.

    Attributes:
        retry_after: Seconds that the service asked to wait, or None. A value of 0 or less is ignored, and at most one
            day is honoured.

    Raises:
        TypeError: `retry_after` is not a number.
    """

    retry_after: float | None = attrs.field(default=None, converter=_usable)


@attrs.frozen
class Transient:
    """A request failed in a way that may pass by itself, as with a 5xx or a lost connection.

    Attributes:
        retry_after: Seconds that the service asked to wait, as for `Throttled`.

    Raises:
        TypeError: `retry_after` is not a number.
    """

    retry_after: float | None = attrs.field(default=None, converter=_usable)


Verdict: TypeAlias = Throttled | Transient | None
"""What a failure means; None: it is final."""


def check_verdict(verdict: object) -> None:
    """Raise `TypeError` for what a caller's `classify` must not return."""
    if not isinstance(verdict, Throttled | Transient | None):
        raise TypeError(f"classify must return Throttled(...), Transient(...) or None, not {type(verdict).__name__}")


Classify: TypeAlias = Callable[[Exception], Verdict]
"""Says what an exception of a request means."""


@attrs.frozen
class Success:
    """A request brought the job.

    Attributes:
        job: The job.
        done: Whether the job is finished.
    """

    job: object
    done: bool


@attrs.frozen
class Failure:
    """A request brought an error; or a wait ended with one.

    Errors travel as values, because an exception that is set on a future which nobody awaits gets logged.

    Attributes:
        error: The error.
        verdict: What it means.
        answered: Whether the service answered. If the error is final, only an answer shows that the service accepts
            requests.
    """

    error: Exception
    verdict: Verdict = None
    answered: bool = False


Outcome: TypeAlias = Success | Failure


def unwrap(outcome: Outcome) -> object:
    """Return the job, or raise the error."""
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome.job


class Errors(Protocol):
    """The exceptions that a client raises for what happens in the engine."""

    def closed(self, job_id: JobId | None) -> Exception:
        """The client was closed."""
        ...

    def wrong_loop(self, job_id: JobId | None) -> Exception:
        """The client belongs to another event loop."""
        ...

    def cut_short(self, job_id: JobId | None) -> Exception:
        """Something outside of the client cancelled a request."""
        ...

    def is_answer(self, error: Exception) -> bool:
        """Return whether an exception of a request shows that the service answered."""
        ...

    def wrap(self, error: Exception, job_id: JobId | None) -> Exception:
        """Return the error that a caller gets for an exception of a request, or of handling its outcome."""
        ...

    def for_waiter(self, error: Exception, job_id: JobId) -> Exception:
        """Return the error that one of several waiters gets, which names the job.

        A raised exception grows the traceback of the caller that raises it, so no two waiters get the same.
        """
        ...

    def timed_out(
        self,
        job_id: JobId,
        *,
        job: object | None,
        last_error: Exception | None,
        elapsed: float,
        polls: int,
        why: str,
    ) -> Exception:
        """The deadline of a wait passed."""
        ...


class Request(Protocol):
    """What the dispatcher sends."""

    job_id: JobId | None
    """The job that the request is about; None for a request that creates one."""

    worker: Worker | None
    """The task that sends it, while it is in flight."""

    sent_at: float
    """When it was sent last."""

    is_poll: ClassVar[bool]
    """Whether it is sent for a wait, and not for a caller who asks once."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still wants the outcome."""
        ...

    @property
    def planned(self) -> bool:
        """Whether a forecast says that its job is likely to be finished."""
        ...

    def send(self) -> Awaitable[object]:
        """Make the request; return the job or raise."""
        ...

    def is_done(self, job: object, /) -> bool:
        """Return whether the job is finished."""
        ...

    def on_sent(self, now: float) -> None:
        """Record that the request is sent now."""
        ...

    def deliver(self, outcome: Outcome) -> None:
        """Take the outcome."""
        ...


class Poll(Request, Protocol):
    """A request that is sent again and again, and waits in the queue between."""

    due: float
    """When it is due, or counts as due: its place in the queue."""

    earliest: float
    """From when it may go; not after it is due."""

    entry: Entry | None
    answered: bool
    """Whether anything but a 429 has come yet."""
    hinted: bool
    """Whether it goes ahead of other polls, because of a hint that its job may have finished."""
    regular_due: float
    """When it would be due without that hint."""


@attrs.define(eq=False)
class DirectRequest:
    """A request of one caller, who awaits its outcome."""

    is_poll: ClassVar[bool] = False

    make: Send
    job_id: JobId | None
    rank: float
    """The request of the lowest rank goes first."""
    future: asyncio.Future[Outcome]
    entry: Entry | None = None
    sent_at: float = 0.0
    worker: Worker | None = None

    @property
    def planned(self) -> bool:
        """No: forecasts are about polls."""
        return False

    @property
    def wanted(self) -> bool:
        """Whether the caller is still there."""
        return not self.future.done()

    def send(self) -> Awaitable[object]:
        """Make the request."""
        return self.make()

    def is_done(self, job: object, /) -> bool:  # noqa: ARG002 - nobody asks again
        """Return True: the request is made once."""
        return True

    def on_sent(self, now: float) -> None:
        """Record that the request is sent now."""
        self.sent_at = now

    def deliver(self, outcome: Outcome) -> None:
        """Hand over the outcome, unless the caller has gone."""
        if self.wanted:
            self.future.set_result(outcome)


def cancel_worker(request: Request) -> Worker | None:
    """Cancel a request in flight, and return its worker; None if it is not in flight."""
    if request.worker is not None:
        request.worker.cancel()
    return request.worker


async def join_worker(worker: Worker | None) -> None:
    """Wait until a cancelled worker has ended, so that its caller leaves nothing running."""
    if worker is not None:
        await asyncio.wait([worker])
