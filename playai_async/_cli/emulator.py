"""`demo`: many jobs at once under one quota, on the emulator, ending with a table of what each one took."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID

import attrs

from playai_async._cli.errors import ExitCode
from playai_async._cli.output import Output
from playai_async._cli.results import JobCounts, Reporter, id_of
from playai_async._exceptions import PlayAIError
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
from playai_async.emulator import Emulator, EmulatorStats

__all__ = ["demo", "emulate"]

SPEED = 20
"""How much faster than life it goes: 28 jobs of up to four minutes in 12 s, with windows and pauses to match."""

QUOTA = 60
"""Requests a window: what the service publishes for comparable requests."""

WINDOW = Pacing().window / SPEED
POLLING = Polling(initial=Polling().initial / SPEED, maximum=Polling().maximum / SPEED, timeout=None)


@attrs.frozen
class _DemoResult:
    """How one wait ended, and what it took; without state and lateness, where it was lost: the job went on."""

    job_id: UUID
    state: str | None
    seconds: float
    polls: int
    lag: float | None

    @property
    def row(self) -> tuple[str, ...]:
        """What the table shows of it."""
        lag = "-" if self.lag is None else f"{self.lag:.2f}"
        return str(self.job_id), self.state or "lost", f"{self.seconds:.1f}", str(self.polls), lag


async def demo(output: Output, *, jobs: int, longest: float) -> ExitCode:
    """Wait for jobs on the emulator, all at once, and show what it took.

    Args:
        output: Where to show it.
        jobs: How many, at least one; their lengths are spread evenly, and one of them fails.
        longest: Seconds that the longest takes.

    Returns:
        The exit status: an error if any wait was lost.
    """
    began = asyncio.get_running_loop().time()
    async with Emulator(QUOTA, WINDOW) as emulator:
        output.result(f"{jobs} jobs on the emulator at {emulator.base_url}, not on the service.")
        output.result(
            f"Known quota: {QUOTA} requests every {WINDOW:g} s. All of it goes {SPEED} times as fast as usual."
        )
        output.result("")
        playai = PlayAISession(
            "demo-key",
            "demo-user",
            base_url=emulator.base_url,
            polling=POLLING,
            pacing=Pacing(requests_per_window=QUOTA, window=WINDOW),
        )
        results = await _wait_for_all(emulator, playai, output, jobs=jobs, longest=longest)
        took = asyncio.get_running_loop().time() - began
        output.table(("Job", "State", "Seconds", "Polls", "Late (s)"), [result.row for result in results])
        output.result("")
        for line in _summary(emulator.stats, results, took=took):
            output.result(line)
    return ExitCode.SUCCESS if all(result.state for result in results) else ExitCode.ERROR


async def _wait_for_all(
    emulator: Emulator, playai: PlayAISession, output: Output, *, jobs: int, longest: float
) -> list[_DemoResult]:
    clock = asyncio.get_running_loop().time
    lengths: dict[UUID, float] = {}
    for number in range(jobs):
        seconds = longest * (number + 1) / jobs
        lengths[emulator.add_job(duration=seconds, fails=number == jobs // 2)] = seconds
    counts = JobCounts(jobs)
    results: list[_DemoResult] = []
    async with (
        playai,
        output.show_progress(lambda: counts.view(playai.stats)),
        contextlib.aclosing(playai.as_completed(lengths, timeout=None, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            job_id = id_of(outcome)
            lag: float | None = None
            state: str | None = None
            counts.add(outcome)
            if isinstance(outcome, PlayAIError):
                Reporter(output).report(outcome, job_id)
            else:
                # The emulator counts what is due within a microsecond as due.
                lag = max(0.0, clock() - emulator.finishes_at(job_id))
                state = outcome.output.status
            results.append(_DemoResult(job_id, state, lengths[job_id], emulator.requests_of(job_id), lag))
    return results


def _summary(stats: EmulatorStats, results: Sequence[_DemoResult], *, took: float) -> list[str]:
    lag = [result.lag for result in results if result.lag is not None] or [0.0]
    each = stats.requests / len(results)
    return [
        f"{stats.requests} requests to the emulator, {each:.1f} a job; {stats.throttled} answered with 429.",
        f"{sum(result.state is None for result in results)} waits lost.",
        f"Noticed {sum(lag) / len(lag):.2f} s late on average, {max(lag):.2f} s at most; {took:.1f} s in all.",
    ]


_SECONDS_BETWEEN_JOBS = 5.0
"""Seconds between the ends of the jobs to try: time to copy an id and see one end."""


async def emulate(emulator: Emulator, output: Output, *, jobs: int) -> NoReturn:
    """Serve until cancelled.

    Args:
        emulator: The emulator, not started.
        output: Where to say how to reach it.
        jobs: How many jobs to make; they end one after another, the last of several by failing.
    """
    async with emulator:
        output.message(f"The emulator, not the service, is at {emulator.base_url}")
        output.message("Ctrl-C ends it.")
        output.message("To use it from another terminal:")
        output.result(f"export PLAYAI_BASE_URL={emulator.base_url}")
        output.result("export PLAYAI_API_KEY=anything")
        output.result("export PLAYAI_USER_ID=anything")
        output.message('To make audio: playai-async create --voice v --text "Hello." --download out/')
        if jobs:
            output.message("Jobs to wait for: playai-async wait ID")
        for number in range(1, jobs + 1):
            fails = number == jobs > 1
            job_id = emulator.add_job(duration=number * _SECONDS_BETWEEN_JOBS, fails=fails)
            output.result(f"{job_id} {'fails' if fails else 'completes'} after {number * _SECONDS_BETWEEN_JOBS:.0f} s")
        while True:
            await asyncio.Event().wait()
