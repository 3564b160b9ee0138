"""The commands that run the emulator: `emulate` serves until Ctrl-C, and `demo` waits for many jobs at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import NoReturn
from uuid import UUID

import attrs

from playai_async._cli.errors import ExitCode
from playai_async._cli.network import OpenSession, Proxies, session_opener
from playai_async._cli.output import Output, one_line
from playai_async._cli.results import JobCounts, Reporter, id_of
from playai_async._exceptions import PlayAIError
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
from playai_async.emulator import Emulator, EmulatorStats

__all__ = ["demo", "emulate"]

_SECONDS_BETWEEN_JOBS = 5.0
"""Seconds between the ends of the test jobs: enough to copy an id and to wait for its job."""

SPEED = 20
"""How many times faster the demo runs: 28 jobs of up to 4 minutes, the window and the polls fit into 12 s."""

QUOTA = 60
"""Requests per window, as the service publishes it for comparable requests."""

WINDOW = Pacing().window / SPEED
POLLING = Polling(initial=Polling().initial / SPEED, maximum=Polling().maximum / SPEED, timeout=None)


async def emulate(emulator: Emulator, output: Output, *, jobs: int) -> NoReturn:
    """Start the emulator and serve until cancelled.

    Args:
        emulator: The emulator, not started.
        output: Shows how to use the emulator, and logs each request if it is verbose.
        jobs: Number of test jobs. They finish one after another; if there are several, the last one fails.
    """
    if output.verbose:
        emulator._listen(partial(_log_request, output))  # noqa: SLF001 - same package # pyright: ignore[reportPrivateUsage]
    async with emulator:
        output.message(f"The emulator (not the real service) listens on {emulator.base_url}")
        output.message("Press Ctrl-C to stop.")
        output.message("To use the emulator, run this in another terminal:")
        output.result(f"export PLAYAI_BASE_URL={emulator.base_url}")
        output.result("export PLAYAI_API_KEY=anything")
        output.result("export PLAYAI_USER_ID=anything")
        output.message('To create audio: playai-async create --voice v --text "Hello." --download out/')
        if jobs:
            output.message("To wait for a test job: playai-async wait ID")
        for number in range(1, jobs + 1):
            fails = number == jobs > 1
            job_id = emulator.add_job(duration=number * _SECONDS_BETWEEN_JOBS, fails=fails)
            output.result(f"{job_id} {'fails' if fails else 'completes'} after {number * _SECONDS_BETWEEN_JOBS:.0f} s")
        while True:
            await asyncio.Event().wait()


def _log_request(output: Output, method: str, path: str, status: int | None, seconds: float) -> None:
    result = "no answer" if status is None else status
    output.log(one_line(f"{method} {path} {result} {seconds:.3f} s"))


@attrs.frozen
class _DemoResult:
    """The result of one wait. `state` and `lag` are None if the wait was lost: it failed while the job was running."""

    job_id: UUID
    state: str | None
    seconds: float
    polls: int
    lag: float | None

    @property
    def row(self) -> tuple[str, ...]:
        lag = "-" if self.lag is None else f"{self.lag:.2f}"
        return str(self.job_id), self.state or "lost", f"{self.seconds:.1f}", str(self.polls), lag


async def demo(output: Output, *, jobs: int, longest: float) -> ExitCode:
    """Wait for jobs on the emulator, all at once, and print a table of the waits.

    Args:
        output: Shows the table.
        jobs: Number of jobs, at least one. Their durations are spread evenly, and one job fails.
        longest: Seconds that the longest job takes.

    Returns:
        `ERROR` if a wait was lost, else `SUCCESS`.
    """
    started = asyncio.get_running_loop().time()
    async with Emulator(QUOTA, WINDOW) as emulator:
        output.result(f"{jobs} jobs on the emulator at {emulator.base_url} (not on the real service).")
        output.result(
            f"Known quota: {QUOTA} requests every {WINDOW:g} s. Everything runs {SPEED} times faster than usual."
        )
        output.result("")
        make = partial(
            PlayAISession,
            "demo-key",
            "demo-user",
            base_url=emulator.base_url,
            polling=POLLING,
            pacing=Pacing(requests_per_window=QUOTA, window=WINDOW),
        )
        results = await _wait_for_all(
            emulator, session_opener(make, Proxies(), output), output, jobs=jobs, longest=longest
        )
        elapsed = asyncio.get_running_loop().time() - started
        output.table(("Job", "State", "Seconds", "Polls", "Lag (s)"), [result.row for result in results])
        output.result("")
        for line in _summary(emulator.stats, results, elapsed=elapsed):
            output.result(line)
    return ExitCode.SUCCESS if all(result.state for result in results) else ExitCode.ERROR


async def _wait_for_all(
    emulator: Emulator, open_session: OpenSession, output: Output, *, jobs: int, longest: float
) -> list[_DemoResult]:
    clock = asyncio.get_running_loop().time
    durations: dict[UUID, float] = {}
    for number in range(jobs):
        seconds = longest * (number + 1) / jobs
        durations[emulator.add_job(duration=seconds, fails=number == jobs // 2)] = seconds
    counts = JobCounts(jobs)
    results: list[_DemoResult] = []
    async with (
        open_session() as playai,
        output.show_progress(lambda: counts.view(playai.stats)),
        contextlib.aclosing(playai.as_completed(durations, timeout=None, return_exceptions=True)) as outcomes,
    ):
        async for outcome in outcomes:
            job_id = id_of(outcome)
            lag: float | None = None
            state: str | None = None
            counts.add(outcome)
            if isinstance(outcome, PlayAIError):
                Reporter(output).report(outcome, job_id)
            else:
                # The lag may be negative: the emulator finishes a job up to a microsecond early.
                lag = max(0.0, clock() - emulator.finishes_at(job_id))
                state = outcome.output.status
            results.append(_DemoResult(job_id, state, durations[job_id], emulator.requests_of(job_id), lag))
    return results


def _summary(stats: EmulatorStats, results: Sequence[_DemoResult], *, elapsed: float) -> list[str]:
    lags = [result.lag for result in results if result.lag is not None] or [0.0]
    per_job = stats.requests / len(results)
    return [
        f"{stats.requests} requests, {per_job:.1f} per job; {stats.throttled} rate limited (429).",
        f"{sum(result.state is None for result in results)} waits lost.",
        f"Lag {sum(lags) / len(lags):.2f} s on average, {max(lags):.2f} s at most; {elapsed:.1f} s in total.",
    ]
