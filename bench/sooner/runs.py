"""Runs a load with one of the arms: a session and the emulator, on loopback and in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import looptime

from bench.sooner.loads import SEEN_BEFORE, STARTS, Job, jobs
from playai_async import InProgress, Pacing, PlayAISession, Polling, TtsJob
from playai_async.emulator import Emulator
from tools.loopback import network

QUOTA, WINDOW = 60, 60.0

IDLE = 2 * WINDOW
"""Seconds between the jobs that a warm session has seen and the load."""


@attrs.frozen
class Arm:
    """How a session waits.

    Attributes:
        forecast: Whether it uses forecasts.
        warm: Whether it has seen jobs before.
        fixed: Whether it spends its quota once per window of the service.
        hinted: The fraction of the jobs whose end is hinted.
        false_hints: Hints a job that come while it runs.
    """

    forecast: bool = False
    warm: bool = False
    fixed: bool = False
    hinted: float = 0.0
    false_hints: int = 0

    @property
    def possible(self) -> bool:
        """Whether this version has what the arm needs."""
        counts = any(field.name == "counting" for field in attrs.fields(Pacing))
        return (counts or not self.fixed) and (hasattr(PlayAISession, "hint") or not (self.hinted or self.false_hints))


HINT_DELAY = 2.0
"""Seconds from the end of a job to its hint."""

DEFAULT = "default"
ARMS: Mapping[str, Arm] = {
    DEFAULT: Arm(),
    "forecast, cold": Arm(forecast=True),
    "forecast, warm": Arm(forecast=True, warm=True),
    "fixed": Arm(fixed=True),
    "forecast, warm; fixed": Arm(forecast=True, warm=True, fixed=True),
    "hints for all": Arm(hinted=1.0),
    "hints for half": Arm(hinted=0.5),
    "two false hints": Arm(false_hints=2),
    "two false hints, and true ones": Arm(hinted=1.0, false_hints=2),
}


@attrs.frozen
class Course:
    """The result of a run.

    Attributes:
        lag: Seconds from finished to noticed, on average.
        largest: The largest of these lags.
        requests: Answered requests per job, without 429s.
        refused: The fraction of requests that received a 429.
    """

    lag: float
    largest: float
    requests: float
    refused: float


def run(load: str, lengths: str, arm: str, seed: int) -> Course:
    """Perform a run in a new event loop; two runs with the same arguments return the same."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(_run(load, lengths, ARMS[arm], seed))


async def _run(load: str, lengths: str, arm: Arm, seed: int) -> Course:
    random.seed(seed)  # the library's own random numbers
    phase = random.Random(f"{load} {seed}").uniform(0, WINDOW)  # noqa: S311 - repeatable, not secret
    other: dict[str, Any] = {"counting": "fixed"} if arm.fixed else {}
    async with (
        Emulator(QUOTA, WINDOW, phase=phase, history=1) as service,
        network(seed) as http,
        PlayAISession(
            "key",
            "user",
            base_url=service.base_url,
            http_session=http,
            polling=Polling(forecast=arm.forecast, timeout=None),
            pacing=Pacing(QUOTA, WINDOW, **other),
        ) as playai,
    ):
        waits = _Waits(playai, service, arm, seed)
        if arm.warm:
            await waits.lags(jobs(SEEN_BEFORE, lengths, f"before {seed}"))
            await asyncio.sleep(IDLE)
        before = service.stats
        lags = await waits.lags(jobs(STARTS[load], lengths, f"{load} {seed}"))
        requests = service.stats.requests - before.requests
        throttled = service.stats.throttled - before.throttled
    return Course(statistics.fmean(lags), max(lags), (requests - throttled) / len(lags), throttled / requests)


class _Waits:
    """Waits of a session for jobs of the emulator, with hints.

    The caller has each job as the service described it when it was created. No creation is sent: with 200 jobs at once,
    it would be the creations that take time.
    """

    def __init__(self, playai: PlayAISession, service: Emulator, arm: Arm, seed: int) -> None:
        self._playai = playai
        self._service = service
        self._arm = arm
        self._rng = random.Random(f"hints {seed}")  # noqa: S311 - repeatable, not secret
        self._loop = asyncio.get_running_loop()

    async def lags(self, work: Sequence[Job]) -> list[float]:
        """Wait for jobs, and return the lag of each."""
        hints = [list(self._hints(job)) for job in work]
        return await asyncio.gather(*itertools.starmap(self._lag, zip(work, hints, strict=True)))

    def _hints(self, job: Job) -> Iterator[float]:
        """Return when the hints of a job come, in seconds from its start."""
        for _ in range(self._arm.false_hints):
            yield self._rng.uniform(0, job.length)
        if self._rng.random() < self._arm.hinted:
            yield job.length + HINT_DELAY

    async def _lag(self, job: Job, hints: Sequence[float]) -> float:
        await asyncio.sleep(job.starts)
        job_id = self._service.add_job(duration=job.length, input=job.input)
        timers = [self._loop.call_later(delay, self._hint, job_id) for delay in hints]
        await self._playai.wait_for_completion(TtsJob(job_id, datetime.now(UTC), job.input, None, InProgress()))
        for timer in timers:
            timer.cancel()
        return self._loop.time() - self._service.finishes_at(job_id)

    def _hint(self, job_id: UUID) -> None:
        playai: Any = self._playai  # not every version has hints
        playai.hint(job_id)
