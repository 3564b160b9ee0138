"""Writes events to the logger `playai_async`.

Each record has extra fields (`extra`), which begin with `playai_`. They are documented in `docs/observability.md`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from playai_async._exceptions import about
from playai_async._models import Unknown, as_job
from playai_async._telemetry.events import (
    ContentTypeMismatch,
    CreationCancelled,
    DownloadInterrupted,
    DurableDatabaseSilent,
    DurableHandlerFailed,
    DurableHandlerUnknown,
    DurableKeyRefused,
    DurableRowRescued,
    DurableRowTaken,
    DurableRowUnknown,
    DurableRowUnwritten,
    DurableWorkerMisconfigured,
    Event,
    JobChanged,
    PauseEnded,
    PauseStarted,
    PollPlanned,
    RequestFailed,
    SharedQuotaLost,
    SharedQuotaRegained,
    UnknownStatus,
)

__all__ = ["Log"]

logger = logging.getLogger("playai_async")


def _log_change(event: JobChanged) -> None:
    if not logger.isEnabledFor(logging.DEBUG):
        return
    words, status = "Job %s changed.", None
    job, previous = as_job(event.job), as_job(event.previous)
    if job is not None:
        if previous is not None and previous.output == job.output:
            return
        # An unknown status is in the service's own words; `UnknownStatus` has it made fit to be shown.
        status = "UNKNOWN" if isinstance(job.output, Unknown) else job.output.status
        words = f"Job %s is {status}."
    fields = {"playai_event": "job_state", "playai_job_id": str(event.job_id), "playai_status": status}
    logger.debug(words, event.job_id, extra=fields)


def _log_failure(event: RequestFailed) -> None:
    job_id, error = event.job_id, event.error
    fields = {"playai_event": "request_failed", "playai_job_id": _text(job_id), "playai_error": error}
    logger.debug("A request %s failed (%s).", about(job_id), error, extra=fields)


def _log_unknown_status(event: UnknownStatus) -> None:
    fields = {"playai_event": "unknown_state", "playai_job_id": str(event.job_id), "playai_status": event.status}
    message = "Job %s has a status that the contract does not list: %r"
    logger.warning(message, event.job_id, event.status, extra=fields)


def _log_cancelled_creation(event: CreationCancelled) -> None:
    fields = {"playai_event": "creation_cancelled", "playai_job_id": _text(event.job_id)}
    if event.job_id is None:
        logger.warning("create_job was cancelled while its request was in flight: a job may exist.", extra=fields)
    else:
        logger.warning("create_job was cancelled, but job %s was created.", event.job_id, extra=fields)


def _log_pause(event: PauseStarted | PauseEnded) -> None:
    if isinstance(event, PauseEnded):
        pause = event.ended - event.started
        record = {"playai_event": "pause_ended", "playai_operation": event.operation, "playai_pause": pause}
        logger.info("Resumed %s after %.1f s.", event.operation, pause, extra=record)
        return
    fields = {
        "playai_event": "pause_began",
        "playai_operation": event.operation,
        "playai_reason": event.reason,
        "playai_pause": event.pause,
    }
    if event.reason == "throttled":
        logger.info("Rate limited: no %s for %.1f s.", event.operation, event.pause, extra=fields)
    else:
        logger.info("Several failures in a row: %s go one at a time.", event.operation, extra=fields)


def _log_shared_quota(event: SharedQuotaLost | SharedQuotaRegained) -> None:
    if isinstance(event, SharedQuotaLost):
        fields = {"playai_event": "shared_quota_away", "playai_error": event.error}
        logger.warning("Cannot reach the shared quota (%s): this process paces alone.", event.error, extra=fields)
    else:
        logger.info("Reached the shared quota again.", extra={"playai_event": "shared_quota_back"})


def _log_plan(event: PollPlanned) -> None:
    fields = {
        "playai_event": "poll_planned",
        "playai_job_id": str(event.job_id),
        "playai_expected": event.expected,
        "playai_earliest": event.earliest,
        "playai_due": event.due,
    }
    if event.expected > 0:
        logger.debug("Job %s is expected to finish in %.0f s.", event.job_id, event.expected, extra=fields)
    else:
        logger.debug("Job %s takes longer than expected.", event.job_id, extra=fields)


def _log_audio(event: DownloadInterrupted | ContentTypeMismatch) -> None:
    job_id = str(event.job_id)
    if isinstance(event, DownloadInterrupted):
        fields = {"playai_event": "download_broke_off", "playai_job_id": job_id, "playai_received": event.received}
        logger.debug("Job %s: download interrupted after %d bytes.", job_id, event.received, extra=fields)
    else:
        fields = {"playai_event": "content_type_mismatch", "playai_job_id": job_id, "playai_format": event.format}
        logger.warning("The audio of job %s is %s, in a .%s file.", job_id, event.format, event.suffix, extra=fields)


def _log_durable_wait(
    event: DurableHandlerUnknown | DurableHandlerFailed | DurableKeyRefused | DurableWorkerMisconfigured,
) -> None:
    fields = {"playai_job_id": str(event.job_id), "playai_handler": event.handler}
    if isinstance(event, DurableHandlerUnknown):
        message = "Job %s needs the handler %r, which this worker does not have."
        logger.error(message, event.job_id, event.handler, extra={"playai_event": "handler_unknown", **fields})
        return
    name = type(event.error).__name__
    fields["playai_error"] = name
    if isinstance(event, DurableWorkerMisconfigured):
        fields["playai_event"] = "worker_misconfigured"
        logger.error("This worker cannot wait for job %s: %s", event.job_id, event.error, extra=fields)
        return
    if isinstance(event, DurableKeyRefused):
        fields["playai_event"] = "key_refused"
        logger.warning("The service refuses this worker's key (%s). Its waits go on.", event.error, extra=fields)
        return
    fields["playai_event"] = "handler_failed"
    # Without the traceback if the handler is not called again: procrastinate logs it then.
    level, error = (logging.ERROR, None) if event.plan is None else (logging.WARNING, event.error)
    plan = event.plan or "it is not called again"
    message = "The handler %r failed (%s) for job %s; %s."
    logger.log(level, message, event.handler, name, event.job_id, plan, exc_info=error, extra=fields)


_ROWS: Mapping[type, tuple[str, int, str]] = {
    DurableRowRescued: ("row_rescued", logging.WARNING, "Row %s belongs to a dead worker and is rescheduled."),
    DurableRowTaken: ("row_taken", logging.WARNING, "Row %s was rescued meanwhile: this worker leaves it alone."),
    DurableRowUnknown: ("row_unknown", logging.ERROR, "Row %s is of another version: this worker leaves it alone."),
    DurableRowUnwritten: ("row_unwritten", logging.WARNING, "Row %s could not be written and is rescheduled later."),
}


def _log_row(event: DurableRowRescued | DurableRowTaken | DurableRowUnknown | DurableRowUnwritten) -> None:
    name, level, message = _ROWS[type(event)]
    logger.log(level, message, event.row, extra={"playai_event": name, "playai_row": event.row})


def _log_silent_database(event: DurableDatabaseSilent) -> None:
    fields = {"playai_event": "database_silent", "playai_timeout": event.timeout}
    logger.error("PostgreSQL has not answered for %.0f s.", event.timeout, extra=fields)


def _text(job_id: Hashable | None) -> str | None:
    return None if job_id is None else str(job_id)


_WRITERS: Mapping[type, Callable[[Any], None]] = {
    ContentTypeMismatch: _log_audio,
    CreationCancelled: _log_cancelled_creation,
    DownloadInterrupted: _log_audio,
    DurableDatabaseSilent: _log_silent_database,
    DurableHandlerFailed: _log_durable_wait,
    DurableHandlerUnknown: _log_durable_wait,
    DurableKeyRefused: _log_durable_wait,
    DurableRowRescued: _log_row,
    DurableRowTaken: _log_row,
    DurableRowUnknown: _log_row,
    DurableRowUnwritten: _log_row,
    DurableWorkerMisconfigured: _log_durable_wait,
    JobChanged: _log_change,
    PauseEnded: _log_pause,
    PauseStarted: _log_pause,
    PollPlanned: _log_plan,
    RequestFailed: _log_failure,
    SharedQuotaLost: _log_shared_quota,
    SharedQuotaRegained: _log_shared_quota,
    UnknownStatus: _log_unknown_status,
}


class Log:
    """The listener that logs."""

    kinds = frozenset[type](_WRITERS)

    def __call__(self, event: Event) -> None:
        """Log an event."""
        _WRITERS[type(event)](event)

    def __str__(self) -> str:
        return "Logging"
