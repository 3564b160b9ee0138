"""The workload of a run, decided by a seed: when jobs start, how long they take, and the quota.

Values only. `bench.fleet.bound` computes the best result that a client can reach.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from uuid import UUID

import attrs

MEDIAN = 20.0
"""Seconds: the median length of a job."""

SIGMA = 0.7
"""Of the logarithm of the lengths: 5 % of the jobs take more than three times the median."""

WINDOW = 60.0
"""Seconds: the service counts requests per minute."""


@attrs.frozen(kw_only=True)
class Job:
    """A job; times are in service seconds from the beginning of the run."""

    id: UUID
    starts: float
    length: float

    @property
    def finishes(self) -> float:
        """When the job finishes."""
        return self.starts + self.length


@attrs.frozen(kw_only=True)
class Workload:
    """The jobs of a run and their shared quota.

    Attributes:
        jobs: In the order of their starts.
        quota: Requests that each fixed window admits.
        phase: Seconds of the first window that have passed when the run begins.
    """

    jobs: Sequence[Job]
    quota: int
    phase: float

    @property
    def last_finish(self) -> float:
        """When the last job finishes."""
        return max(job.finishes for job in self.jobs)


def stream(rng: random.Random) -> Workload:
    """120 jobs, one every two seconds; the quota allows two requests per job in that time."""
    return Workload(jobs=jobs(rng, [2.0 * number for number in range(120)]), quota=60, phase=rng.uniform(0, WINDOW))


def burst(rng: random.Random) -> Workload:
    """200 jobs at once: one request per job already fills more than three windows."""
    return Workload(jobs=jobs(rng, [0.0] * 200), quota=60, phase=rng.uniform(0, WINDOW))


def crowd(rng: random.Random) -> Workload:
    """2,000 jobs at once, with a larger quota."""
    return Workload(jobs=jobs(rng, [0.0] * 2000), quota=600, phase=rng.uniform(0, WINDOW))


WORKLOADS: dict[str, Callable[[random.Random], Workload]] = {"stream": stream, "burst": burst, "crowd": crowd}


def workload(name: str, seed: int) -> Workload:
    """Return a workload; it is the same for the same seed, in any process."""
    return WORKLOADS[name](random.Random(f"{name} {seed}"))  # noqa: S311 - repeatable, not secret


def jobs(rng: random.Random, starts: Sequence[float]) -> list[Job]:
    """Return jobs with these starts and random lengths."""
    return [
        Job(id=UUID(int=(1 << 127) + number), starts=start, length=rng.lognormvariate(math.log(MEDIAN), SIGMA))
        for number, start in enumerate(starts)
    ]
