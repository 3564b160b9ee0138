"""The results of waits: print each result, count it, and map it to an exit code.

This module does not wait for anything, and does not know how progress is drawn.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._cli.errors import ExitCode, redact
from playai_async._cli.output import Output, Renderable, format_seconds, one_line, progress_view
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._telemetry.stats import SessionStats

__all__ = ["JobCounts", "Outcome", "OutcomeRecorder", "Reporter", "Stopwatch", "exit_code_of", "id_of"]

Outcome: TypeAlias = TtsJob | PlayAIError | OSError
"""A finished job, or the error that ended its wait or its download."""

_MEGABYTE = 1_000_000

_CONNECTION_ERRORS = {
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
}
"""Errors of connections, of which the messages of aiohttp have no description. TLS and DNS have other numbers."""


def id_of(outcome: TtsJob | PlayAIError) -> UUID:
    """Return the id of the job."""
    if isinstance(outcome, TtsJob):
        return outcome.id
    assert outcome.job_id is not None, "each error that ends a wait has the job id"  # noqa: S101 - for type checkers
    return outcome.job_id


def exit_code_of(outcome: Outcome) -> ExitCode:
    """Return the exit code for the outcome of one job."""
    match outcome:
        case WaitTimeoutError():
            return ExitCode.TIMED_OUT
        case TtsJob(output=Failed()):
            return ExitCode.JOB_FAILED
        case TtsJob():
            return ExitCode.SUCCESS
        case _:
            return ExitCode.ERROR


@attrs.frozen
class Reporter:
    """Prints outcomes: jobs on standard output, errors on standard error.

    Args:
        output: The streams.
        as_json: Print a job as JSON, as the service sends it, and not as a line for people.
    """

    output: Output
    as_json: bool = False

    def report_created(self, job: TtsJob) -> None:
        """Print the id of a job that was created, and nothing else, so that a shell can assign it to a variable.

        Raises:
            OSError: The line cannot be written.
        """
        if self.as_json:
            self.report(job)
        else:
            self.output.result(str(job.id))

    def report(self, outcome: Outcome, job_id: UUID | None = None, *, file: Path | None = None) -> None:
        """Print one line for one job.

        Args:
            outcome: The job, or the error.
            job_id: The job of an error, or None if there is no job.
            file: The path of the audio, printed in place of the URL. JSON never has the path.

        Raises:
            OSError: The line cannot be written.
        """
        if not isinstance(outcome, TtsJob):
            text = _describe(outcome)
            self.output.message(text if job_id is None or str(job_id) in text else f"{job_id}: {text}")
        elif self.as_json:
            # json.dumps returns ASCII, which every locale can encode.
            self.output.result(json.dumps(outcome.to_dict()))
        else:
            text = one_line(f"{outcome.id} {outcome.output.status}")
            if isinstance(outcome.output, Completed):
                place = one_line(outcome.output.url if file is None else file)
                self.output.result_with_place(text, place, is_url=file is None)
            else:
                self.output.result(text)


def _describe(error: PlayAIError | OSError) -> str:
    if not isinstance(error, PlayAIError):
        return one_line(f"the audio cannot be saved: {error}")
    text = one_line(error)
    reason = _reason_of(error)
    if reason not in text:
        text += f" The reason: {reason}."
    if isinstance(error, WaitTimeoutError) and error.last_error is not None:
        text += f" The last error: {_describe(error.last_error)}"
    return text


def _reason_of(error: PlayAIError) -> str:
    """Return the message of the error below, such as the host and the port of a refused connection, or nothing."""
    cause = error.__cause__
    if cause is None or isinstance(getattr(cause, "status", None), int):
        return ""  # the message of the error names the status of an answer
    code = getattr(cause, "errno", None)
    try:
        reason = one_line(redact(str(cause), ()))
    except Exception:  # noqa: BLE001 - an error of any library
        return ""
    if code not in _CONNECTION_ERRORS:
        return reason.rstrip(".")
    return f"{reason} ({os.strerror(code)})"


@attrs.frozen
class Stopwatch:
    """The elapsed and the remaining time of a command, for the progress display.

    Args:
        clock: Returns the time in seconds.
        started: When the command started.
        timeout: Seconds until the command stops waiting, or None for no deadline.
        speed: How many seconds to show for each second that passes. The demo runs faster than the service.
    """

    clock: Callable[[], float]
    started: float
    timeout: float | None = None
    speed: float = 1.0

    def describe(self) -> str:
        """Return the elapsed time and the time until the timeout in words."""
        elapsed = self.clock() - self.started
        text = f"{format_seconds(math.floor(elapsed * self.speed))} elapsed"
        if self.timeout is None:
            return text
        # With downloads, which have no deadline, a command may run past its timeout.
        left = max(0.0, self.timeout - elapsed)
        return f"{text}, {format_seconds(math.ceil(left * self.speed))} until the timeout"


@attrs.define
class JobCounts:
    """Counts jobs for the progress display.

    Attributes:
        total: All jobs.
        completed: Completed jobs. With downloads, those whose audio is saved.
        failed: Failed jobs.
        errors: Jobs whose wait or download ended with an error.
        downloading: Running downloads, or None if nothing is downloaded.
        stopped: Downloads that were cancelled.
        received: Bytes of audio received.
        job: The text to show for a single job, or None if there may be several.
        stopwatch: The time to show, or None if it is of no interest.
    """

    total: int
    completed: int = 0
    failed: int = 0
    errors: int = 0
    downloading: int | None = None
    stopped: int = 0
    received: int = 0
    job: str | None = None
    stopwatch: Stopwatch | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one job."""
        match exit_code_of(outcome):
            case ExitCode.SUCCESS:
                self.completed += 1
            case ExitCode.JOB_FAILED:
                self.failed += 1
            case _:
                self.errors += 1

    @property
    def done(self) -> int:
        """Number of jobs with an outcome."""
        return self.completed + self.failed + self.errors

    @property
    def waiting(self) -> int:
        """Number of jobs that are not done, as far as is known."""
        return self.total - self.done - (self.downloading or 0) - self.stopped

    def describe_interruption(self) -> str:
        """Return what goes on and what was stopped, once the command was interrupted."""
        going_on = f"{self.waiting} job{' goes' if self.waiting == 1 else 's go'} on"
        if not self.stopped:
            return going_on
        return f"{going_on}, {self.stopped} download{' was' if self.stopped == 1 else 's were'} stopped"

    def view(self, stats: SessionStats) -> Renderable:
        """Draw the jobs, the time, the requests and the pacing of the session."""
        lines = [] if self.job is None else [("Job", self.job)]
        lines += [
            ("Jobs", f"{self.waiting} waiting, {self.completed} completed, {self.failed} failed, {self.errors} errors")
        ]
        if self.downloading is not None:  # a separate line: with thousands of jobs the line above is full
            lines += [("Audio", f"{self.downloading} downloading, {self.received / _MEGABYTE:.1f} MB received")]
        if self.stopwatch is not None:
            lines += [("Time", self.stopwatch.describe())]
        requests = f"{stats.requests} sent, {stats.throttled} rate limited (429)"
        if stats.transient_failures:
            requests += f", {stats.transient_failures} failed"
        speed = 1.0 if self.stopwatch is None else self.stopwatch.speed
        lines += [("Requests", requests), ("Pacing", _describe_pacing(stats, speed))]
        return progress_view(done=self.done, total=self.total, lines=lines)


def _describe_pacing(stats: SessionStats, speed: float) -> str:
    """Say which limit the session keeps to, or why and for how long it sends nothing, and how many requests are due."""
    if stats.pause_reason is None:
        state = "no limit known" if stats.quota is None else f"{stats.quota} requests per window"
    else:
        state = "rate limited" if stats.pause_reason == "throttled" else "service not available"
        pause = format_seconds(math.ceil(stats.paused_for * speed))
        state += f", next request in {pause}" if stats.paused_for else ", trying one request"
    return f"{state}; {stats.queued} due"


@attrs.define
class OutcomeRecorder:
    """Counts and prints each outcome, and keeps its exit code, but not the job."""

    reporter: Reporter
    counts: JobCounts
    exit_codes: set[ExitCode] = attrs.field(factory=set[ExitCode], init=False)
    _lost_ids: list[UUID] = attrs.field(factory=list[UUID], init=False)

    def record(self, job_id: UUID, outcome: Outcome, *, file: Path | None = None) -> None:
        """Record the outcome of one job; `file` is the path of its audio, if that was downloaded.

        Raises:
            OSError: The line cannot be written.
        """
        self.counts.add(outcome)
        self.exit_codes.add(exit_code_of(outcome))
        try:
            self.reporter.report(outcome, job_id, file=file)
        except OSError:
            self._lost_ids.append(job_id)
            raise

    @contextlib.contextmanager
    def printing_lost_ids(self) -> Generator[None, None, None]:
        """If the block fails, print on standard error the ids of the jobs whose line could not be written."""
        try:
            yield
        except OSError:
            for job_id in self._lost_ids:
                self.reporter.output.try_message(f"playai-async: the result of job {job_id} could not be written")
            raise
