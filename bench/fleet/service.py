"""The service of a run, in a process of its own: the emulator under a quota, and its jobs in the shapes for the SDKs.

It is told what to do on standard input and answers on standard output, a line each. It says `ready` when all is
imported. `begin` starts the emulator, and is answered by where it is and when the run begins, a real second later.
`report` is answered by what it counted, and ends it. All jobs are there from the start, and each finishes at its time
of the run exactly; nobody asks for one before it is to start.

    python -m bench.fleet.service --workload stream --seed 1 --speed 10
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
import time
from collections import Counter
from typing import Any

from bench.fleet.clock import Lateness, run
from bench.fleet.shapes import shapes
from bench.fleet.workloads import WINDOW, WORKLOADS, Workload, workload
from playai_async.emulator import Emulator

LEAD = 1.0
"""Real seconds from `begin` to the beginning of the run, for the client to be told and to make its tasks."""

HISTORY = 1_000_000
"""Arrivals to keep: more than any run has, so that each can be told by its time."""


async def serve(jobs: Workload, speed: float) -> None:
    """Be the service, for a client in another process."""
    await heard("ready")
    loop = asyncio.get_running_loop()
    begins = loop.time() + LEAD * speed
    # The emulator counts its phase from its own start, which is a moment before that of the run.
    phase = (jobs.phase - (begins - loop.time())) % WINDOW
    emulator = Emulator(quota=jobs.quota, window=WINDOW, phase=phase, history=HISTORY)
    async with emulator, shapes(emulator.base_url) as shaped_url, Lateness() as lateness:
        for job in jobs.jobs:
            emulator.add_job(begins + job.finishes - loop.time(), job_id=job.id)
        cpu, real = time.process_time(), time.monotonic()
        await heard(json.dumps({"url": emulator.base_url, "shaped_url": shaped_url, "begins": begins}))
        busy = (time.process_time() - cpu) / (time.monotonic() - real)
        counted = count(emulator, begins, jobs.phase)
        print(json.dumps({**counted, "cpu": busy, "late": lateness.mean, "latest": lateness.worst}), flush=True)


async def heard(answer: str) -> str:
    """Say something, and return the next line heard. Another thread listens, since the loop has requests to answer."""
    print(answer, flush=True)
    return await asyncio.to_thread(sys.stdin.readline)


def count(emulator: Emulator, begins: float, phase: float) -> dict[str, Any]:
    """Return how many requests came, how many too many, and how many in the fullest of the service's windows."""
    arrivals = emulator.arrivals
    assert len(arrivals) == emulator.stats.requests, "every arrival is kept"
    windows = Counter((arrival.at - begins + phase) // WINDOW for arrival in arrivals)
    later = [arrival for arrival in arrivals if arrival.at >= begins + WINDOW]
    return {
        "requests": len(arrivals),
        "throttled": emulator.stats.throttled,
        "requests_later": len(later),
        "throttled_later": sum(arrival.status == 429 for arrival in later),
        "fullest_window": max(windows.values(), default=0),
    }


def main() -> None:
    """Read the command line, and serve until the report is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--speed", type=float, required=True, help="service seconds a real second")
    arguments = parser.parse_args()
    run(arguments.speed, functools.partial(serve, workload(arguments.workload, arguments.seed), arguments.speed))


if __name__ == "__main__":
    main()
