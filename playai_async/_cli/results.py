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
from playai_async._cli.errors import Exit
from playai_async._cli.output import Drawing, Screen, one_line, progress
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, Failed, TtsJob
from playai_async._telemetry.stats import SessionStats

__all__ = ["Ends", "Outcome", "Results", "Tally", "id_of", "status_of"]

Outcome: TypeAlias = TtsJob | PlayAIError | OSError
"""A job as it ended; or what kept us from learning that, or from keeping its audio."""

_MEGABYTE = 1_000_000


def id_of(outcome: TtsJob | PlayAIError) -> UUID:
    """Return the id of the job whose wait ended this way."""
    if isinstance(outcome, TtsJob):
        return outcome.id
    assert outcome.job_id is not None, "whatever ends a wait names its job"  # noqa: S101 - for type checkers
    return outcome.job_id


def status_of(outcome: Outcome) -> Exit:
    """Return the exit status that one job's end calls for."""
    match outcome:
        case WaitTimeoutError():
            return Exit.TIMED_OUT
        case TtsJob(output=Failed()):
            return Exit.JOB_FAILED
        case TtsJob():
            return Exit.FINE
        case _:
            return Exit.ERROR


@attrs.frozen
class Results:
    """Tells how each job stands: jobs on standard output, errors on standard error.

    Args:
        screen: Where to.
        as_json: Whether a job is a JSON object, as the service has it, rather than a line to read.
    """

    screen: Screen
    as_json: bool = False
    _converter: JobConverter = attrs.field(factory=JobConverter, init=False)

    def tell(self, outcome: Outcome, job_id: UUID | None = None, *, file: Path | None = None) -> None:
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
            words = _described(outcome)
            self.screen.note(words if job_id is None or str(job_id) in words else f"{job_id}: {words}")
        elif self.as_json:
            # ASCII alone, so that no locale can garble it or stop it.
            self.screen.result(json.dumps(self._converter.unstructure(outcome)))
        else:
            place = "" if not isinstance(outcome.output, Completed) else f" {file or outcome.output.url}"
            self.screen.result(one_line(f"{outcome.id} {outcome.output.status}{place}"))


def _described(error: PlayAIError | OSError) -> str:
    if not isinstance(error, PlayAIError):
        return one_line(f"the audio cannot be saved: {error}")
    words = one_line(error)
    if isinstance(error, WaitTimeoutError) and error.last_error is not None:
        words += f" The last error: {one_line(error.last_error)}"
    return words


@attrs.define
class Tally:
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
        match status_of(outcome):
            case Exit.FINE:
                self.completed += 1
            case Exit.JOB_FAILED:
                self.failed += 1
            case _:
                self.errors += 1

    @property
    def done(self) -> int:
        """How many ended, in whatever way."""
        return self.completed + self.failed + self.errors

    def drawn(self, stats: SessionStats) -> Drawing:
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
        return progress(done=self.done, total=self.total, lines=lines)


@attrs.define
class Ends:
    """Takes note of each job's end: counts it, tells of it, and keeps what it does to the exit status; not the job.

    Args:
        results: Where to tell.
        tally: Where to count.
    """

    results: Results
    tally: Tally
    statuses: set[Exit] = attrs.field(factory=set[Exit], init=False)

    def add(self, job_id: UUID, outcome: Outcome, *, file: Path | None = None) -> None:
        """Take note of one.

        Args:
            job_id: The job.
            outcome: How it ended.
            file: Where its audio is, if that was downloaded.

        Raises:
            OSError: It can't be told.
        """
        self.tally.add(outcome)
        self.statuses.add(status_of(outcome))
        self.results.tell(outcome, job_id, file=file)
