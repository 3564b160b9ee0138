"""How jobs end: how that is told, what exit status it calls for, and how many have.

Nothing here waits for anything, or knows how progress is drawn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._api.converter import JobConverter
from playai_async._cli.errors import ExitCode
from playai_async._cli.output import Output, Renderable, one_line, progress_view
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._telemetry.stats import SessionStats

__all__ = ["JobCounts", "Outcome", "OutcomeRecorder", "Reporter", "exit_code_of", "id_of"]

Outcome: TypeAlias = TtsJob | PlayAIError | OSError
"""A job as it ended; or what kept us from learning that, or from keeping its audio."""

_MEGABYTE = 1_000_000


def id_of(outcome: TtsJob | PlayAIError) -> UUID:
    """Return the id of the job whose wait ended this way."""
    if isinstance(outcome, TtsJob):
        return outcome.id
    assert outcome.job_id is not None, "whatever ends a wait names its job"  # noqa: S101 - for type checkers
    return outcome.job_id


def exit_code_of(outcome: Outcome) -> ExitCode:
    """Return the exit status that one job's end calls for."""
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
    """Tells how each job stands: jobs on standard output, errors on standard error.

    Args:
        screen: Where to.
        as_json: Whether a job is a JSON object, as the service has it, rather than a line to read.
    """

    output: Output
    as_json: bool = False
    _converter: JobConverter = attrs.field(factory=JobConverter, init=False)

    def report(self, outcome: Outcome, job_id: UUID | None = None, *, file: Path | None = None) -> None:
        """Write one line about one job.

        Args:
            outcome: The job, or what went wrong with it.
            job_id: The job that an error is about; None where there is none.
            file: Where its audio is now, for those who read: in place of the address. The service's own document
                gets nothing added.

        Raises:
            OSError: It can't be written.
        """
        if not isinstance(outcome, TtsJob):
            words = _describe(outcome)
            self.output.message(words if job_id is None or str(job_id) in words else f"{job_id}: {words}")
        elif self.as_json:
            # ASCII alone, so that no locale can garble it or stop it.
            self.output.result(json.dumps(self._converter.unstructure(outcome)))
        else:
            place = "" if not isinstance(outcome.output, Completed) else f" {file or outcome.output.url}"
            self.output.result(one_line(f"{outcome.id} {outcome.output.status}{place}"))


def _describe(error: PlayAIError | OSError) -> str:
    if not isinstance(error, PlayAIError):
        return one_line(f"the audio cannot be saved: {error}")
    words = one_line(error)
    if isinstance(error, WaitTimeoutError) and error.last_error is not None:
        words += f" The last error: {one_line(error.last_error)}"
    return words


@attrs.define
class JobCounts:
    """How many of the jobs ended, and how.

    Attributes:
        total: How many there are.
        completed: How many are completed, and in their files if they are to be.
        failed: How many failed.
        errors: Of how many no end is known, or no audio could be had.
        downloading: Of how many the audio is on its way, or None where none is wanted.
        received: Bytes of audio that came.
        job: What to call a single job, or None where there may be many.
    """

    total: int
    completed: int = 0
    failed: int = 0
    errors: int = 0
    downloading: int | None = None
    received: int = 0
    job: str | None = None

    def add(self, outcome: Outcome) -> None:
        """Count one job's end."""
        match exit_code_of(outcome):
            case ExitCode.SUCCESS:
                self.completed += 1
            case ExitCode.JOB_FAILED:
                self.failed += 1
            case _:
                self.errors += 1

    @property
    def done(self) -> int:
        """How many ended, in whatever way."""
        return self.completed + self.failed + self.errors

    def view(self, stats: SessionStats) -> Renderable:
        """Draw how the jobs stand and what that took."""
        waiting = self.total - self.done - (self.downloading or 0)
        lines = [] if self.job is None else [("Job", self.job)]
        lines += [
            ("Jobs", f"{waiting} waiting, {self.completed} completed, {self.failed} failed, {self.errors} errors")
        ]
        if self.downloading is not None:  # a line of its own: with thousands of jobs that one is full
            lines += [("Audio", f"{self.downloading} downloading, {self.received / _MEGABYTE:.1f} MB received")]
        requests = f"{stats.requests} sent, {stats.throttled} answered with 429"
        if stats.transient_failures:
            requests += f", {stats.transient_failures} failed"
        pace = "quota not known" if stats.quota is None else f"quota {stats.quota} a window"
        pace += f"; {stats.queued} due"
        if stats.pause_reason is not None:
            pace = f"{stats.pause_reason} for {stats.paused_for:.1f} s; {pace}"
        lines += [("Requests", requests), ("Pace", pace)]
        return progress_view(done=self.done, total=self.total, lines=lines)


@attrs.define
class OutcomeRecorder:
    """Takes note of each job's end: counts it, tells of it, and keeps what it does to the exit status; not the job.

    Args:
        reporter: Where to tell.
        tally: Where to count.
    """

    reporter: Reporter
    counts: JobCounts
    exit_codes: set[ExitCode] = attrs.field(factory=set[ExitCode], init=False)

    def record(self, job_id: UUID, outcome: Outcome, *, file: Path | None = None) -> None:
        """Take note of one.

        Args:
            job_id: The job.
            outcome: How it ended.
            file: Where its audio is, if that was downloaded.

        Raises:
            OSError: It can't be told.
        """
        self.counts.add(outcome)
        self.exit_codes.add(exit_code_of(outcome))
        self.reporter.report(outcome, job_id, file=file)
