"""A client of a run, in a process of its own: a task for each job, which starts to wait when the job starts.

It says `ready` when its library is imported; then it is told, in a line on standard input, where the service is and
when the run begins; and it answers with what became of each wait. Whoever still waits long after the last job was done
is cut off.

    python -m bench.fleet.client --client runwayml --workload stream --seed 1 --speed 10
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
from uuid import UUID

from bench.fleet.clients import CLIENTS, ClientFactory, Service, Wait
from bench.fleet.clock import Lateness, run
from bench.fleet.workloads import WINDOW, WORKLOADS, Job, Workload, workload

PATIENCE = 900.0
"""Service seconds after the last job is done, until those who still wait are cut off."""


AGAIN = 5.0
"""Service seconds after which a caller who lost a wait begins anew, in runs where callers do."""


class Outcomes:
    """What became of the waits of a run.

    Args:
        begins: The loop time at which the run begins.
        again: Whether a caller who lost a wait waits for the job again, until it is noticed.
    """

    def __init__(self, begins: float, *, again: bool) -> None:
        self.begins = begins
        self.again = again
        self.lags: list[float] = []
        self.makespan = 0.0
        self.lost: Counter[str] = Counter()

    async def follow(self, wait: Wait, job: Job) -> None:
        """Start a job's wait in time, and note what becomes of it."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.begins + job.starts - loop.time())
        while True:
            try:
                await wait(job.id)
                break
            except Exception as error:  # noqa: BLE001 - whatever a client raises, its wait is lost
                self.lost[type(error).__name__] += 1
            if not self.again:
                return
            await asyncio.sleep(AGAIN)
        noticed = loop.time() - self.begins
        assert noticed > job.finishes - 0.01, "no job is done before it is"
        self.lags.append(max(0.0, noticed - job.finishes))
        self.makespan = max(self.makespan, noticed)


async def wait_for_all(factory: ClientFactory, jobs: Workload, *, again: bool) -> dict[str, Any]:
    """Be the client, and return what became of its waits."""
    await imported(factory)
    print("ready", flush=True)
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    outcomes = Outcomes(told["begins"], again=again)
    service = Service(url=told["url"], shaped_url=told["shaped_url"], quota=jobs.quota, window=WINDOW)
    loop = asyncio.get_running_loop()
    cpu, real = time.process_time(), time.monotonic()
    async with factory(service) as wait, Lateness() as lateness:
        late = loop.time() - outcomes.begins
        assert late < 0, f"the client was made {late:.1f} s too late"
        tasks = [asyncio.create_task(outcomes.follow(wait, job)) for job in jobs.jobs]
        _, unfinished = await asyncio.wait(tasks, timeout=outcomes.begins + jobs.last_finish + PATIENCE - loop.time())
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        for task in tasks:
            if task not in unfinished:
                task.result()
    return {
        "lags": sorted(round(lag, 3) for lag in outcomes.lags),
        "makespan": outcomes.makespan,
        "lost": dict(outcomes.lost),
        "unfinished": len(unfinished),
        "cpu": (time.process_time() - cpu) / (time.monotonic() - real),
        "late": lateness.mean,
        "latest": lateness.worst,
    }


async def imported(factory: ClientFactory) -> None:
    """Import what a client imports, by making one that has nothing to do."""
    nowhere = "http://127.0.0.1:9"
    async with factory(Service(url=nowhere, shaped_url=nowhere, quota=1)) as wait:
        # Some libraries import a part of themselves with the first request, which fails at once: nobody listens.
        probe = asyncio.create_task(asyncio.wait_for(wait(UUID(int=0)), 0.1))
        await asyncio.wait([probe])
        if not probe.cancelled():
            probe.exception()


def main() -> None:
    """Read the command line, and wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", choices=CLIENTS, required=True)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--speed", type=float, required=True, help="service seconds a real second")
    parser.add_argument("--again", action="store_true", help="wait again for a job whose wait was lost")
    arguments = parser.parse_args()
    client, jobs = CLIENTS[arguments.client], workload(arguments.workload, arguments.seed)
    outcome = run(arguments.speed, functools.partial(wait_for_all, client, jobs, again=arguments.again))
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
