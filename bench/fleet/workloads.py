"""What the service has to do in a run, decided by a seed: when jobs start, how long they take, and what is allowed.

Values alone; `bench.fleet.bound` tells how well a client could do at best.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from uuid import UUID

import attrs

MEDIAN = 20.0
"""Seconds: half of the jobs are shorter."""

SIGMA = 0.7
"""Of the logarithm of the lengths: one job in twenty takes more than three times the median."""

WINDOW = 60.0
"""Seconds: the service counts requests by the minute."""


@attrs.frozen(kw_only=True)
class Job:
    """A job as it will be; times are in service seconds from the beginning of the run."""

    id: UUID
    starts: float
    length: float

    @property
    def finishes(self) -> float:
        """When it is done."""
        return self.starts + self.length


@attrs.frozen(kw_only=True)
class Workload:
    """The jobs of a run and the quota they share.

    Attributes:
        jobs: In the order of their starts.
        quota: Requests that a fixed window allows.
        phase: Seconds of the first window that are over when the run begins.
    """

    jobs: Sequence[Job]
    quota: int
    phase: float

    @property
    def last_finish(self) -> float:
        """When the last job is done."""
        return max(job.finishes for job in self.jobs)


def stream(dice: random.Random) -> Workload:
    """120 jobs, one every two seconds: as many requests allowed in that time as two for each job."""
    return Workload(jobs=jobs(dice, [2.0 * number for number in range(120)]), quota=60, phase=dice.uniform(0, WINDOW))


def burst(dice: random.Random) -> Workload:
    """200 jobs at once: more than three windows of quota even for a single request a job."""
    return Workload(jobs=jobs(dice, [0.0] * 200), quota=60, phase=dice.uniform(0, WINDOW))


def crowd(dice: random.Random) -> Workload:
    """2,000 jobs at once, and a larger quota."""
    return Workload(jobs=jobs(dice, [0.0] * 2000), quota=600, phase=dice.uniform(0, WINDOW))


WORKLOADS: dict[str, Callable[[random.Random], Workload]] = {"stream": stream, "burst": burst, "crowd": crowd}


def workload(name: str, seed: int) -> Workload:
    """Return a workload; the same one for the same seed, in any process."""
    return WORKLOADS[name](random.Random(f"{name} {seed}"))  # noqa: S311 - repeatable, not secret


def jobs(dice: random.Random, starts: Sequence[float]) -> list[Job]:
    """Return jobs with these starts and lengths by the dice."""
    return [
        Job(id=UUID(int=(1 << 127) + number), starts=start, length=dice.lognormvariate(math.log(MEDIAN), SIGMA))
        for number, start in enumerate(starts)
    ]
