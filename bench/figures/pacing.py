"""Measure and draw the effect of pacing: the mean lag of waits under 60 requests a minute, for the docs.

Two workloads, with lognormal job lengths and a median of 20 s, as in `bench.fleet.workloads`:

- *at once*: a number of jobs that start at the same time;
- *one after another*: 120 jobs, started at a number per minute.

This library runs as sessions against the emulator on loopback, in one process and in virtual time. The hand-written
loop is simulated event by event, because its 250,000 requests for 1,000 jobs would take minutes. `--check` also runs
the loop of `bench.fleet.clients` on the emulator, and prints both. The bound is that of `bench.fleet.bound`. Each
request, and each response, takes 10 to 100 ms. No wait has a deadline. Each seed has its own job lengths and phase of
the service's windows; the results are means over the seeds. Two runs print the same.

    python -m bench.figures.pacing [--seeds 5] [--check]

The exit status is 1 if this library lost a wait.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import attrs
import looptime

from bench.figures.figure import BOUND, LOOP, OURS, OURS_UNKNOWN, Line, Panel, draw
from bench.fleet.bound import bound
from bench.fleet.clients import INTERVAL, is_done
from bench.fleet.workloads import WINDOW, Workload, jobs
from playai_async import Pacing, PlayAISession
from playai_async.emulator import Emulator
from tools.loopback import ONE_WAY, network
from tools.tables import table

PICTURE = Path(__file__).parents[2] / "docs" / "pacing.svg"

QUOTA = 60
"""Requests per window: the quota that PlayAI documents for comparable requests."""

AT_ONCE = (10, 20, 50, 100, 200, 500, 1000)
"""Jobs that start at the same time."""

RATES = (5, 10, 20, 30, 40, 50, 60)
"""Jobs started per minute. No client keeps up with more jobs than requests per minute."""

STREAM = 120
"""Jobs per run if they start one after another."""

KNOWN, UNKNOWN, HAND_WRITTEN, BEST = "quota known", "quota unknown", "loop", "bound"
NAMES = {
    KNOWN: "playai_async, quota known",
    UNKNOWN: "playai_async, quota unknown",
    HAND_WRITTEN: "hand-written loop, 2 s",
    BEST: "lower bound",
}


@attrs.frozen
class Course:
    """The result of a run.

    Attributes:
        lag: Seconds from finished to noticed, on average.
        requests: Requests per job.
        refused: The share of requests that received a 429.
    """

    lag: float
    requests: float
    refused: float


def workload(starts: Sequence[float], seed: int) -> Workload:
    """Return jobs with these starts; they are the same for the same seed."""
    rng = random.Random(f"{len(starts)} {starts[-1]} {seed}")  # noqa: S311 - repeatable, not secret
    return Workload(jobs=jobs(rng, starts), quota=QUOTA, phase=rng.uniform(0, WINDOW))


# This library on the emulator

Wait = Callable[[UUID], Awaitable[object]]


@asynccontextmanager
async def session(service: Emulator, seed: int, pacing: Pacing) -> AsyncIterator[Wait]:
    """Wait with this library."""
    async with (
        network(seed) as http,
        PlayAISession("key", "user", base_url=service.base_url, http_session=http, pacing=pacing) as playai,
    ):
        yield lambda job_id: playai.wait_for_completion(job_id, timeout=None)


@asynccontextmanager
async def loop_on_emulator(service: Emulator, seed: int) -> AsyncIterator[Wait]:
    """Wait like `bench.fleet.clients.aiohttp_loop`, but without its deadline."""
    async with network(seed) as http:

        async def wait(job_id: UUID) -> None:
            url = f"{service.base_url}/api/v1/tts/{job_id}"
            while True:
                async with http.get(url, headers={"Authorization": "Bearer key", "X-USER-ID": "user"}) as response:
                    if response.status != 429 and is_done(await response.json()):
                        return
                await asyncio.sleep(INTERVAL)

        yield wait


async def on_emulator(jobs: Workload, seed: int, client: str) -> Course:
    """Wait for all jobs with one of the clients."""
    loop = asyncio.get_running_loop()
    random.seed(seed)  # the library's own rng

    async def follow(service: Emulator, wait: Wait, starts: float, length: float) -> float:
        await asyncio.sleep(starts)
        job_id = service.add_job(duration=length)
        await wait(job_id)
        return loop.time() - service.finishes_at(job_id)

    async with Emulator(QUOTA, WINDOW, phase=jobs.phase, history=1) as service:
        pacing = Pacing(requests_per_window=QUOTA if client == KNOWN else None)
        waiting = loop_on_emulator(service, seed) if client == HAND_WRITTEN else session(service, seed, pacing)
        async with waiting as wait:
            lags = await asyncio.gather(*(follow(service, wait, job.starts, job.length) for job in jobs.jobs))
        stats = service.stats
        return Course(statistics.mean(lags), stats.requests / len(lags), stats.throttled / stats.requests)


def in_virtual_time(jobs: Workload, seed: int, client: str) -> Course:
    """Perform a run in a new event loop with a virtual clock."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(on_emulator(jobs, seed, client))


# The hand-written loop, simulated


def simulated_loop(jobs: Workload, seed: int) -> Course:
    """Simulate polls at the start of each job and `INTERVAL` after each response, until the job is finished."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    number = itertools.count()
    arrivals = [(job.starts + rng.uniform(*ONE_WAY), next(number), job) for job in jobs.jobs]
    heapq.heapify(arrivals)
    counts: Counter[int] = Counter()
    requests, lags = 0, []
    while arrivals:
        at, _, job = heapq.heappop(arrivals)
        window = math.floor((at + jobs.phase) / WINDOW)
        counts[window] += 1
        requests += 1
        answered = at + rng.uniform(*ONE_WAY)
        if counts[window] <= jobs.quota and at >= job.finishes:
            lags.append(answered - job.finishes)
        else:
            heapq.heappush(arrivals, (answered + INTERVAL + rng.uniform(*ONE_WAY), next(number), job))
    refused = sum(max(0, count - jobs.quota) for count in counts.values())
    return Course(statistics.mean(lags), requests / len(lags), refused / requests)


def best(jobs: Workload, _: int) -> Course:
    """Compute the lower bound: a client that knows when each job finishes."""
    return Course(statistics.mean(bound(jobs).lags), 1.0, 0.0)


CLIENTS: dict[str, Callable[[Workload, int], Course]] = {
    KNOWN: lambda jobs, seed: in_virtual_time(jobs, seed, KNOWN),
    UNKNOWN: lambda jobs, seed: in_virtual_time(jobs, seed, UNKNOWN),
    HAND_WRITTEN: simulated_loop,
    BEST: best,
}

Found = dict[int, dict[str, Course]]


def found(starts: Mapping[int, Sequence[float]], clients: Sequence[str], seeds: int) -> Found:
    """Run clients in each workload with each seed; return the means over the seeds."""
    return {
        key: {client: mean_of(CLIENTS[client], times, seeds) for client in clients} for key, times in starts.items()
    }


def mean_of(client: Callable[[Workload, int], Course], starts: Sequence[float], seeds: int) -> Course:
    """Run a client with each seed, and return the mean."""
    courses = [client(workload(starts, seed), seed) for seed in range(1, seeds + 1)]
    return Course(
        *(statistics.mean(values) for values in zip(*(attrs.astuple(course) for course in courses), strict=True))
    )


# What is shown


def results_table(heading: str, found: Found) -> str:
    """Return the mean lags and the costs as a Markdown table."""
    columns = [heading, *(f"{client}, s" for client in NAMES)]
    columns += ["requests per job", "429s"]
    rows = []
    for key, courses in found.items():
        spent = [courses[client] for client in (KNOWN, UNKNOWN, HAND_WRITTEN)]
        rows.append(
            [
                f"{key:,}",
                *(f"{course.lag:.1f}" for course in courses.values()),
                "/".join(f"{course.requests:.1f}" for course in spent),
                "/".join(f"{course.refused:.0%}" for course in spent),
            ]
        )
    return table(columns, rows, texts=0)


def lines_of(found: Found) -> list[Line]:
    """Return the lines of the figure."""
    looks = {KNOWN: OURS, UNKNOWN: OURS_UNKNOWN, HAND_WRITTEN: LOOP, BEST: BOUND}
    return [
        Line(NAMES[client], list(found), [courses[client].lag for courses in found.values()], look)
        for client, look in looks.items()
    ]


def check() -> None:
    """Print the results of the simulated loop and of the loop on the emulator for the same jobs."""
    for count in (20, 50, 100):
        for kind, client in (("simulated", simulated_loop), ("on the emulator", on_the_emulator)):
            course = mean_of(client, [0.0] * count, 5)
            print(f"{count:4} jobs at once, {kind:15}  {course.lag:5.1f} s  {course.requests:5.1f} requests a job")


def on_the_emulator(jobs: Workload, seed: int) -> Course:
    """Run the real loop."""
    return in_virtual_time(jobs, seed, HAND_WRITTEN)


def main() -> None:
    """Parse the command line, run, print and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.figures.pacing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="only compare the simulated loop with a real one")
    arguments = parser.parse_args()
    if arguments.check:
        check()
        return
    began = time.monotonic()
    at_once = found({count: [0.0] * count for count in AT_ONCE}, list(CLIENTS), arguments.seeds)
    streams = {rate: [WINDOW / rate * number for number in range(STREAM)] for rate in RATES}
    stream = found(streams, list(CLIENTS), arguments.seeds)
    print(results_table("jobs at once", at_once))
    print()
    print(results_table("jobs per minute", stream))
    panels = [
        Panel("jobs started at the same time", "jobs", lines_of(at_once), least=1.0),
        Panel(f"{STREAM} jobs, one after another", "jobs started per minute", lines_of(stream)),
    ]
    draw(PICTURE, panels)
    print(f"\n{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
