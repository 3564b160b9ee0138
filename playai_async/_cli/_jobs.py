"""`get` and `wait`: which jobs are meant, how they are waited for, and how each one's end is told.

Plain coroutines over a session and a screen; nothing here parses a command line or knows how progress is drawn.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._cli._exit import Exit, UsageError, gravest
from playai_async._cli._screen import Drawing, Screen, one_line, progress
from playai_async._converter import JobConverter
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import Completed, Failed, SessionStats, TtsJob
from playai_async._protocol import job_id_of
from playai_async._session import PlayAISession

__all__ = ["STANDARD_INPUT", "Outcome", "Results", "Tally", "get", "job_of", "read_ids", "status_of", "wait"]

STANDARD_INPUT = "-"
"""What stands for the ids on standard input."""

Outcome: TypeAlias = TtsJob | PlayAIError


def read_ids(texts: Iterable[str], stdin: Iterable[str] | None) -> list[UUID]:
    """Read the ids of jobs, each one once, in the order given.

    Args:
        texts: Ids, or `-` for those on standard input.
        stdin: Standard input, an id a line; blank lines do not count. None, as Python has it for a closed descriptor:
            nothing.

    Returns:
        The ids.

    Raises:
        UsageError: Some are malformed; it names every one of them.
    """
    ids: dict[UUID, None] = {}
    malformed: list[str] = []
    for text in texts:
        for candidate in _lines_of(stdin) if text == STANDARD_INPUT else [text]:
            try:
                ids[job_id_of(candidate)] = None
            except ValueError as error:
                malformed.append(str(error))
    if malformed:
        raise UsageError("\n".join(malformed))
    return list(ids)


def _lines_of(stdin: Iterable[str] | None) -> list[str]:
    try:
        # A byte order mark, which some editors put at the start of a file, is no part of an id.
        return [line for text in stdin or () if (line := text.strip().lstrip("\ufeff"))]
    except UnicodeDecodeError:
        raise UsageError("standard input is not text") from None


def job_of(outcome: Outcome) -> UUID:
    """Return the id of the job whose end this is."""
    if isinstance(outcome, TtsJob):
        return outcome.id
    assert outcome.job_id is not None, "whatever ends a wait names its job"  # noqa: S101 - for type checkers
    return outcome.job_id


def status_of(outcome: Outcome) -> Exit:
    """Return the exit status that one job's end calls for."""
    match outcome:
        case WaitTimeoutError():
            return Exit.TIMED_OUT
        case PlayAIError():
            return Exit.ERROR
        case TtsJob(output=Failed()):
            return Exit.JOB_FAILED
        case _:
            return Exit.FINE


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

    def tell(self, job_id: UUID, outcome: Outcome) -> None:
        """Write one line about one job.

        Raises:
            OSError: It can't be written.
        """
        if isinstance(outcome, PlayAIError):
            words = _described(outcome)
            self.screen.note(words if str(job_id) in words else f"{job_id}: {words}")
        elif self.as_json:
            # ASCII alone, so that no locale can garble it or stop it.
            self.screen.result(json.dumps(self._converter.unstructure(outcome)))
        else:
            url = f" {outcome.output.url}" if isinstance(outcome.output, Completed) else ""
            self.screen.result(one_line(f"{job_id} {outcome.output.status}{url}"))


def _described(error: PlayAIError) -> str:
    words = one_line(error)
    if isinstance(error, WaitTimeoutError) and error.last_error is not None:
        words += f" The last error: {one_line(error.last_error)}"
    return words


@attrs.define
class Tally:
    """How many of the jobs ended, and how."""

    total: int
    completed: int = 0
    failed: int = 0
    errors: int = 0

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
        jobs = f"{self.total - self.done} waiting, {self.completed} completed, {self.failed} failed"
        requests = f"{stats.requests} sent, {stats.throttled} answered with 429"
        if stats.transient_failures:
            requests += f", {stats.transient_failures} failed"
        pace = "quota not known" if stats.quota is None else f"quota {stats.quota} a window"
        pace += f"; {stats.queued} due"
        if stats.pause_reason is not None:
            pace = f"{stats.pause_reason} for {stats.paused_for:.1f} s; {pace}"
        lines = [("Jobs", f"{jobs}, {self.errors} errors"), ("Requests", requests), ("Pace", pace)]
        return progress(done=self.done, total=self.total, lines=lines)


async def get(playai: PlayAISession, job_id: UUID, results: Results) -> Exit:
    """Ask for one job once; whatever its state, an answer is fine.

    Args:
        playai: A session, which is closed in the end.
        job_id: The job.
        results: Where to tell.

    Returns:
        The exit status.
    """
    async with playai:
        try:
            job = await playai.get_job(job_id)
        except PlayAIError as error:
            results.tell(job_id, error)
            return status_of(error)
        results.tell(job_id, job)
        return Exit.FINE


async def wait(playai: PlayAISession, job_ids: Sequence[UUID], results: Results, *, timeout: float | None) -> Exit:
    """Wait for jobs, all at once, and tell of each as it ends.

    Args:
        playai: A session, which is closed in the end.
        job_ids: The jobs, each one once.
        results: Where to tell.
        timeout: Seconds for each wait, or None for no deadline.

    Returns:
        The exit status: of several ends, the gravest.
    """
    tally = Tally(len(job_ids))
    statuses = set[Exit]()
    async with (
        playai,
        results.screen.showing(lambda: tally.drawn(playai.stats)),
        contextlib.aclosing(playai.as_completed(job_ids, timeout=timeout, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            tally.add(outcome)
            statuses.add(status_of(outcome))
            results.tell(job_of(outcome), outcome)
    return gravest(statuses)
