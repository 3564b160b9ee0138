"""The events that a client reports: plain values, told after the state has changed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, TypeAlias

import attrs

__all__ = [
    "ContentTypeMismatch",
    "CreationCancelled",
    "DownloadInterrupted",
    "DurableDatabaseSilent",
    "DurableHandlerFailed",
    "DurableHandlerUnknown",
    "DurableKeyRefused",
    "DurableRowRescued",
    "DurableRowTaken",
    "DurableRowUnknown",
    "DurableRowUnwritten",
    "DurableWorkerMisconfigured",
    "Event",
    "JobChanged",
    "PauseEnded",
    "PauseReason",
    "PauseStarted",
    "PollPlanned",
    "RequestEnded",
    "RequestFailed",
    "SharedQuotaLost",
    "SharedQuotaRegained",
    "UnknownStatus",
    "WaitEnded",
    "WaitStarted",
]

PauseReason: TypeAlias = Literal["throttled", "outage"]
"""Why requests are paused: a 429, or transient failures in a row."""


@attrs.frozen
class WaitStarted:
    """A caller began to wait for a job.

    Attributes:
        wait: What tells this wait from others.
        job_id: The job.
    """

    wait: object
    job_id: Hashable


@attrs.frozen
class WaitEnded:
    """A wait ended: with a job, with an error, or, with neither, by a cancellation.

    Attributes:
        wait: What tells this wait from others.
        started: When the wait began, by the event loop's clock.
        ended: When it ended, by the same clock.
        job: The finished job, or None.
        error: The error, or None.
        polls: Status requests during the wait.
        throttled: How many of them met a 429.
        queued: Seconds for which polls were due but not sent.
    """

    wait: object
    started: float
    ended: float
    job: object | None
    error: Exception | None
    polls: int
    throttled: int
    queued: float


@attrs.frozen
class JobChanged:
    """A poll brought a job that is not equal to the last one.

    Attributes:
        job_id: The job's id.
        job: The job as it is now.
        previous: The job as it was, or None.
    """

    job_id: Hashable
    job: object
    previous: object | None


@attrs.frozen
class PollPlanned:
    """A forecast says when a job is polled next.

    Attributes:
        job_id: The job.
        expected: Seconds until the job is expected to finish; negative if it was expected to be finished by now.
        earliest: Seconds until it may be polled.
        due: Seconds until its poll is due.
    """

    job_id: Hashable
    expected: float
    earliest: float
    due: float


@attrs.frozen
class RequestEnded:
    """A request was answered, or met no answer.

    Attributes:
        method: The HTTP method.
        status: The HTTP status, or None if no answer came.
        error: The name of the exception's class if no answer came, or None.
    """

    method: str
    status: int | None
    error: str | None = None


@attrs.frozen
class RequestFailed:
    """A request failed in a way that may pass.

    Attributes:
        job_id: The job that it was about; None for a request that creates one.
        error: The name of the exception's class.
    """

    job_id: Hashable | None
    error: str


@attrs.frozen
class CreationCancelled:
    """A caller that creates a job was cancelled, and a job may exist.

    Attributes:
        job_id: The job if its id is known, or None.
    """

    job_id: Hashable | None


@attrs.frozen
class PauseStarted:
    """The requests of one operation are paused.

    Attributes:
        operation: The requests, in the plural.
        method: Their HTTP method.
        reason: Why.
        started: When, by the event loop's clock.
        pause: Seconds until the next request, as far as is known.
    """

    operation: str
    method: str
    reason: PauseReason
    started: float
    pause: float


@attrs.frozen
class PauseEnded:
    """The requests of one operation go again.

    Attributes:
        operation: The requests, in the plural.
        method: Their HTTP method.
        reason: Why they were paused.
        started: When the pause began, by the event loop's clock.
        ended: When it ended, by the same clock.
    """

    operation: str
    method: str
    reason: PauseReason
    started: float
    ended: float


@attrs.frozen
class UnknownStatus:
    """A job has a status that the contract does not list.

    Attributes:
        job_id: The job.
        status: The status, made fit to be shown.
    """

    job_id: Hashable
    status: str


@attrs.frozen
class DownloadInterrupted:
    """An attempt to download audio failed. The download is tried again, or given up.

    Attributes:
        job_id: The job.
        received: Bytes received so far.
    """

    job_id: Hashable
    received: int


@attrs.frozen
class ContentTypeMismatch:
    """The audio of a job has another format than the suffix of its file says.

    Attributes:
        job_id: The job.
        format: The format that the content type names.
        suffix: The format that the suffix names.
    """

    job_id: Hashable
    format: str
    suffix: str


@attrs.frozen
class SharedQuotaLost:
    """The shared quota cannot be reached.

    Attributes:
        error: The name of the exception's class.
    """

    error: str


@attrs.frozen
class SharedQuotaRegained:
    """The shared quota can be reached again."""


@attrs.frozen
class DurableHandlerUnknown:
    """A durable wait needs a handler that the worker does not have.

    Attributes:
        job_id: The job.
        handler: The name of the handler.
    """

    job_id: Hashable
    handler: str


@attrs.frozen
class DurableHandlerFailed:
    """The handler of a durable wait raised.

    Attributes:
        job_id: The job.
        handler: The name of the handler.
        error: What it raised.
        plan: What follows, in a few words; None if the handler is not called again.
    """

    job_id: Hashable
    handler: str
    error: BaseException
    plan: str | None


@attrs.frozen
class DurableWorkerMisconfigured:
    """A worker cannot poll a job, because of its settings.

    Attributes:
        job_id: The job.
        handler: The name of the handler.
        error: What says so.
    """

    job_id: Hashable
    handler: str
    error: Exception


@attrs.frozen
class DurableKeyRefused:
    """The service refuses a worker's key. Reported once, until it accepts the key again.

    Attributes:
        job_id: The job that was asked for.
        handler: The name of the handler.
        error: What the service said.
    """

    job_id: Hashable
    handler: str
    error: Exception


@attrs.frozen
class DurableDatabaseSilent:
    """PostgreSQL did not answer a statement in time. Reported once, until it answers.

    Attributes:
        timeout: The time, in seconds.
    """

    timeout: float


@attrs.frozen
class DurableRowRescued:
    """The row of a dead worker is rescheduled.

    Attributes:
        row: The id of the row.
    """

    row: int | None


@attrs.frozen
class DurableRowTaken:
    """This worker was slow, and another worker has its row by now.

    Attributes:
        row: The id of the row.
    """

    row: int | None


@attrs.frozen
class DurableRowUnknown:
    """This version does not understand a row, and leaves it to others.

    Attributes:
        row: The id of the row.
    """

    row: int | None


@attrs.frozen
class DurableRowUnwritten:
    """A row could not be written, and is rescheduled later.

    Attributes:
        row: The id of the row.
    """

    row: int | None


Event: TypeAlias = (
    WaitStarted
    | WaitEnded
    | JobChanged
    | RequestEnded
    | RequestFailed
    | CreationCancelled
    | PauseStarted
    | PauseEnded
    | PollPlanned
    | UnknownStatus
    | DownloadInterrupted
    | ContentTypeMismatch
    | SharedQuotaLost
    | SharedQuotaRegained
    | DurableHandlerUnknown
    | DurableHandlerFailed
    | DurableWorkerMisconfigured
    | DurableKeyRefused
    | DurableDatabaseSilent
    | DurableRowRescued
    | DurableRowTaken
    | DurableRowUnknown
    | DurableRowUnwritten
)
