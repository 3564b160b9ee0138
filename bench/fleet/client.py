"""The client of a run, in its own process: one task per job, which starts to wait when the job starts.

Answers `ready` when its library is imported. The command `wait` passes the addresses of the service and the time at
which the run begins; its answer is the outcome of all waits. A wait that is still open long after the last job finished
is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any
from uuid import UUID

from bench.fleet.clients import CLIENTS, ClientFactory, Service, Wait
from bench.fleet.clock import LoopLag, run
from bench.fleet.workloads import WINDOW, Job, Workload, workload
from tools.processes import read_arguments, serve_commands

CUTOFF = 900.0
"""Service seconds after the last job finished, at which waits that are still open are cancelled."""

AGAIN = 5.0
"""Service seconds after which a caller whose wait was lost waits again, in runs with `again`."""


class Outcomes:
    """The outcomes of all waits of a run.

    Args:
        begins: The loop time at which the run begins.
        again: Whether a caller whose wait was lost waits again, until it notices the end of the job.
    """

    def __init__(self, begins: float, *, again: bool) -> None:
        self.begins = begins
        self.again = again
        self.lags: list[float] = []
        self.makespan = 0.0
        self.lost: Counter[str] = Counter()

    async def follow(self, wait: Wait, job: Job) -> None:
        """Wait for one job from its start on, and record the outcome."""
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
        assert noticed > job.finishes - 0.01, "a client cannot notice the end of a job before it finishes"
        self.lags.append(max(0.0, noticed - job.finishes))
        self.makespan = max(self.makespan, noticed)


async def wait_for_all(factory: ClientFactory, jobs: Workload, address: dict[str, Any], *, again: bool) -> object:
    """Wait for all jobs, and return the outcomes."""
    outcomes = Outcomes(address["begins"], again=again)
    service = Service(url=address["url"], shaped_url=address["shaped_url"], quota=jobs.quota, window=WINDOW)
    loop = asyncio.get_running_loop()
    cpu, real = time.process_time(), time.monotonic()
    async with factory(service) as wait, LoopLag() as lag:
        late = loop.time() - outcomes.begins
        assert late < 0, f"the client was created {late:.1f} s too late"
        tasks = [asyncio.create_task(outcomes.follow(wait, job)) for job in jobs.jobs]
        _, unfinished = await asyncio.wait(tasks, timeout=outcomes.begins + jobs.last_finish + CUTOFF - loop.time())
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
        "late": lag.mean,
        "latest": lag.worst,
    }


async def import_library(factory: ClientFactory) -> None:
    """Import everything that a client imports, with a wait that fails at once."""
    nowhere = "http://127.0.0.1:9"
    async with factory(Service(url=nowhere, shaped_url=nowhere, quota=1)) as wait:
        # Some libraries import parts of themselves with their first request.
        probe = asyncio.create_task(asyncio.wait_for(wait(UUID(int=0)), 0.1))
        await asyncio.wait([probe])
        if not probe.cancelled():
            probe.exception()


async def run_client(factory: ClientFactory, jobs: Workload, *, again: bool) -> None:
    """Wait for jobs when the parent asks for it."""
    await import_library(factory)

    async def ready() -> None:
        pass

    async def wait(address: dict[str, Any]) -> object:
        return await wait_for_all(factory, jobs, address, again=again)

    await serve_commands({"ready": ready, "wait": wait})


if __name__ == "__main__":
    arguments = read_arguments()
    jobs = workload(arguments["workload"], arguments["seed"])
    run(arguments["speed"], lambda: run_client(CLIENTS[arguments["client"]], jobs, again=arguments["again"]))
