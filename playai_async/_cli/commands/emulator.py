"""The commands that run the emulator: `emulate` serves until Ctrl-C, and `demo` waits for many jobs at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import NoReturn
from uuid import UUID

import attrs

from playai_async._cli.errors import ExitCode
from playai_async._cli.network import OpenSession, Proxies, session_opener
from playai_async._cli.output import Output, format_seconds, one_line, program_name
from playai_async._cli.results import JobCounts, Reporter, Stopwatch, id_of
from playai_async._exceptions import PlayAIError
from playai_async._session import PlayAISession
from playai_async._settings import Pacing, Polling
from playai_async.emulator import Emulator, EmulatorStats

__all__ = ["demo", "emulate"]

_SECONDS_BETWEEN_JOBS = 5.0
"""Seconds between the ends of the test jobs: enough to copy an id and to wait for its job."""

SPEED = 20
"""How many times faster than the service the demo runs: 28 jobs of up to 4 minutes, the window and the polls fit into
12 s. Everything that the demo prints is in seconds of the service."""

QUOTA = 60
"""Requests per window, as the service publishes it for comparable requests."""

_MAX_ROWS = 8
"""Rows of the table: with them, the demo fits a terminal of 24 lines."""

WINDOW = Pacing().window / SPEED
POLLING = Polling(initial=Polling().initial / SPEED, maximum=Polling().maximum / SPEED, timeout=None)


async def emulate(emulator: Emulator, output: Output, *, port: int, jobs: int, speak: bool) -> NoReturn:
    """Start the emulator and serve until cancelled.

    Args:
        emulator: The emulator, not started.
        output: Shows how to use the emulator, and logs each request if it is verbose.
        port: The port of the emulator, for the message if it is in use.
        jobs: Number of test jobs. They finish one after another; if there are several, the last one fails.
        speak: Whether the user wants to hear speech.
    """
    if output.verbose:
        emulator._listen(partial(_log_request, output))  # noqa: SLF001 - same package # pyright: ignore[reportPrivateUsage]
    name = program_name()
    async with _started(emulator, port):
        output.message(f"The emulator (not the real service) listens on {emulator.base_url}")
        output.message("Press Ctrl-C to stop.")
        output.message(_describe_audio(emulator, speak=speak))
        output.message("To use the emulator, run this in another terminal:")
        output.result(f"export PLAYAI_BASE_URL={emulator.base_url}")
        output.result("export PLAYAI_API_KEY=anything")
        output.result("export PLAYAI_USER_ID=anything")
        output.message(f'To create audio: {name} create --voice v --text "Hello." --download out/')
        if jobs:
            output.message(f"To wait for a test job: {name} wait ID")
        for number in range(1, jobs + 1):
            fails = number == jobs > 1
            job_id = emulator.add_job(duration=number * _SECONDS_BETWEEN_JOBS, fails=fails)
            output.result(f"{job_id} {'fails' if fails else 'completes'} after {number * _SECONDS_BETWEEN_JOBS:.0f} s")
        while True:
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _started(emulator: Emulator, port: int) -> AsyncGenerator[None, None]:
    try:
        await emulator.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(f"port {port} is in use: pass another --port, or none for a free port") from error
    try:
        yield
    finally:
        await emulator.stop()


def _describe_audio(emulator: Emulator, *, speak: bool) -> str:
    if emulator.speaks:
        return "The audio of jobs that you create is their text, spoken by espeak-ng."
    if speak:
        return "espeak-ng is not installed, so the audio is a tune. Debian: apt install espeak-ng"
    return "The audio is a tune. To hear the text instead, add --speak."


def _log_request(output: Output, method: str, path: str, status: int | None, seconds: float) -> None:
    result = "no answer" if status is None else status
    output.try_message(one_line(f"{method} {path} {result} {seconds:.3f} s"))


@attrs.frozen
class _DemoResult:
    """The result of one wait. `state` and `lag` are None if the wait was lost: it failed while the job was running.

    Seconds are those of the service.
    """

    state: str | None
    seconds: float
    polls: int
    lag: float | None


async def demo(output: Output, *, jobs: int, longest: float) -> ExitCode:
    """Wait for jobs on the emulator, all at once, and print a summary in seconds of the service.

    Args:
        output: Shows the summary.
        jobs: Number of jobs, at least one. Their durations are spread evenly, and one job fails.
        longest: Seconds that the longest job takes in the demo, which is `SPEED` times faster than the service.

    Returns:
        `ERROR` if a wait was lost, else `SUCCESS`.
    """
    started = asyncio.get_running_loop().time()
    async with Emulator(QUOTA, WINDOW) as emulator:
        output.result(
            f"Waiting for {jobs} job{'' if jobs == 1 else 's'} at once, on an emulator (not the real service)."
        )
        output.result(
            f"The longest job takes {format_seconds(longest * SPEED)}. The emulator allows {QUOTA} requests per minute."
        )
        output.result(f"The demo runs {SPEED} times faster. All times below are those of the service.")
        output.result("Lag is the time from the end of a job to the end of its wait.")
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
        output.table(("Job ends in", "Jobs", "Polls per job", "Mean lag", "Longest lag"), _rows(results))
        output.result("")
        for line in _summary(emulator.stats, results, elapsed=elapsed):
            output.result(line)
    output.result("")
    output.result(f"Next, hear a text of yours: {program_name()} emulate --speak")
    return ExitCode.SUCCESS if all(result.state for result in results) else ExitCode.ERROR


async def _wait_for_all(
    emulator: Emulator, open_session: OpenSession, output: Output, *, jobs: int, longest: float
) -> list[_DemoResult]:
    clock = asyncio.get_running_loop().time
    durations: dict[UUID, float] = {}
    for number in range(jobs):
        seconds = longest * (number + 1) / jobs
        durations[emulator.add_job(duration=seconds, fails=number == jobs // 2)] = seconds
    counts = JobCounts(jobs, stopwatch=Stopwatch(clock, clock(), speed=SPEED))
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
                lag = SPEED * max(0.0, clock() - emulator.finishes_at(job_id))
                state = outcome.output.status
            results.append(_DemoResult(state, SPEED * durations[job_id], emulator.requests_of(job_id), lag))
    return results


def _rows(results: Sequence[_DemoResult]) -> list[tuple[str, ...]]:
    """Return a row for the jobs that end in the same minute, or minutes, if there would be too many rows."""
    last_minute = math.ceil(max(result.seconds for result in results) / 60)
    step = math.ceil(last_minute / _MAX_ROWS)
    rows: list[tuple[str, ...]] = []
    for first in range(0, last_minute, step):
        group = [result for result in results if first < result.seconds / 60 <= first + step]
        if group:
            minutes = f"minute {first + 1}" if step == 1 else f"minutes {first + 1} to {first + step}"
            polls = sum(result.polls for result in group) / len(group)
            mean, longest = _lags(group)
            rows.append((minutes, str(len(group)), f"{polls:.1f}", mean, longest))
    return rows


def _lags(results: Sequence[_DemoResult]) -> tuple[str, str]:
    """Return the mean and the longest lag."""
    lags = [result.lag for result in results if result.lag is not None]
    return (f"{sum(lags) / len(lags):.1f} s", f"{max(lags):.1f} s") if lags else ("-", "-")


def _summary(stats: EmulatorStats, results: Sequence[_DemoResult], *, elapsed: float) -> list[str]:
    states = Counter(result.state for result in results)
    mean, longest = _lags(results)
    per_job = stats.requests / len(results)
    return [
        f"{states['COMPLETED']} completed, {states['FAILED']} failed, {states[None]} waits lost.",
        f"{stats.requests} requests, {per_job:.1f} per job; {stats.throttled} rate limited (429).",
        f"Lag: {mean} on average, {longest} at most.",
        f"The demo took {elapsed:.1f} s of real time for {format_seconds(elapsed * SPEED)} of the service.",
    ]
