"""A run: one task per job, which starts to wait when the job starts, and the service, in one process in virtual time.

Answers `run` with the outcome of all waits, and with what the service counted. A wait that is still open long after the
last job finished is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from bench.fleet.clients import CLIENTS, ClientFactory, Service, Wait
from bench.fleet.clock import run
from bench.fleet.service import FleetService, serve
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
        assert noticed > job.finishes - 1e-3, "a client cannot notice the end of a job before it finishes"
        self.lags.append(max(0.0, noticed - job.finishes))
        self.makespan = max(self.makespan, noticed)


async def wait_for_all(factory: ClientFactory, jobs: Workload, fleet: FleetService, *, again: bool) -> object:
    """Wait for all jobs, and return the outcomes."""
    outcomes = Outcomes(fleet.begins, again=again)
    service = Service(url=fleet.url, quota=jobs.quota, window=WINDOW)
    loop = asyncio.get_running_loop()
    async with factory(service) as wait:
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
    }


async def import_library(factory: ClientFactory) -> None:
    """Import everything that a client imports, with a wait that fails at once."""
    nowhere = "http://127.0.0.1:9"
    async with factory(Service(url=nowhere, quota=1)) as wait:
        # Some libraries import parts of themselves with their first request.
        probe = asyncio.create_task(asyncio.wait_for(wait(UUID(int=0)), 0.1))
        await asyncio.wait([probe])
        if not probe.cancelled():
            probe.exception()


async def run_client(factory: ClientFactory, jobs: Workload, *, again: bool) -> None:
    """Wait for jobs when the parent asks for it."""
    await import_library(factory)

    async def run_all() -> object:
        async with serve(jobs) as fleet:
            outcomes = await wait_for_all(factory, jobs, fleet, again=again)
            return {"client": outcomes, "service": fleet.report()}

    await serve_commands({"run": run_all})


if __name__ == "__main__":
    arguments = read_arguments()
    jobs = workload(arguments["workload"], arguments["seed"])
    run(lambda: run_client(CLIENTS[arguments["client"]], jobs, again=arguments["again"]))
