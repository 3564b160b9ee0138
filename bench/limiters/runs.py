"""One run: the jobs of one workload, one client, one limiter, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import attrs

from bench.fleet.workloads import WINDOW, Job, Workload, workload
from bench.limiters.clients import ARMS, Client
from tools.limited_service import Counts, ModelService
from tools.limiters import CONCURRENT, KINDS, SERVICE_FRACTION, Setting
from tools.virtual_time import run

LOADS = {"at once": "burst", "stream": "stream"}
"""The workloads of `bench.fleet` that are run, by what they are called here."""

QUOTA = 60

CONCURRENT_QUOTA = int(CONCURRENT / SERVICE_FRACTION)
"""Requests per window that fit where concurrency is limited: the quota that clients with a known quota get there."""

DEADLINE = 600.0
"""Seconds that a wait may take, as `Polling` has it. Later it is lost, and its lag counts up to here."""


@attrs.frozen
class Result:
    """What came of a run.

    Attributes:
        lags: Seconds from the end of each job until its wait returned; for a lost wait, until its deadline.
        lost: Waits that had not returned at their deadline.
        counts: The requests.
        jobs: Jobs.
    """

    lags: list[float]
    lost: int
    counts: Counts

    @property
    def mean(self) -> float:
        """The mean lag."""
        return sum(self.lags) / len(self.lags)


@attrs.define
class Outcomes:
    """The outcomes of all waits of a run.

    Args:
        begins: The loop time at which the run begins.
        scale: Seconds of a window divided by 60.
    """

    begins: float
    scale: float
    lags: list[float] = attrs.field(factory=list[float])
    lost: int = 0

    async def follow(self, wait: Callable[[object], Awaitable[object]], job: Job) -> None:
        """Wait for one job from its start on, and record the outcome in seconds of a 60-second window."""
        loop = asyncio.get_running_loop()
        starts = self.begins + job.starts * self.scale
        await asyncio.sleep(starts - loop.time())
        try:
            async with asyncio.timeout_at(starts + DEADLINE * self.scale):
                await wait(job.id)
        except TimeoutError:
            self.lost += 1
        self.lags.append(max(0.0, (loop.time() - self.begins) / self.scale - job.finishes))


async def wait_for_all(jobs: Workload, arm: str, client: Client) -> Outcomes:
    """Wait for all jobs with one of the clients."""
    outcomes = Outcomes(asyncio.get_running_loop().time(), client.scale)
    async with ARMS[arm](client) as wait:
        await asyncio.gather(*(outcomes.follow(wait, job) for job in jobs.jobs))
    return outcomes


def in_virtual_time(kind: str, *, hints: bool, load: str, arm: str, seed: int) -> Result:
    """Perform a run; it gives the same result each time."""
    limited = KINDS[kind]

    async def main() -> Result:
        random.seed(f"{load} {arm} {seed}")  # the clients' own
        rng = random.Random(f"{kind} {load} {seed}")  # noqa: S311 - repeatable, not secret
        jobs = workload(LOADS[load], seed)
        limiter = limited.make(Setting(QUOTA, WINDOW, jobs.phase, rng))
        service = ModelService(limiter, WINDOW, hints=hints, takes=limited.takes * WINDOW, seed=seed)
        service.finishes = {job.id: job.finishes for job in jobs.jobs}
        quota = QUOTA if limited.has_quota else CONCURRENT_QUOTA
        outcomes = await wait_for_all(jobs, arm, Client(service, 1.0, quota))
        return Result(outcomes.lags, outcomes.lost, service.counts)

    return run(main)
