"""Count lost durable waits and their cost when workers are killed, and PostgreSQL restarts and hangs.

Four worker processes on one PostgreSQL wait for many jobs, and each worker is restarted when it exits. After a fifth of
the jobs, one worker is killed with SIGKILL; after two fifths, PostgreSQL is shut down in fast mode and started again;
after three fifths, another worker is killed; after four fifths, PostgreSQL is frozen with SIGSTOP for 20 s. The handler
stores the key of its outcome in one table, and each of its calls in another. The service is the emulator, in this
process; the workers share its quota evenly.

    python -m bench.scale.durable [--short]

PostgreSQL's programs must be on the PATH or where Debian installs them. The exit status is 1 if a wait was lost, or if
an outcome was stored more than once.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from contextlib import AsyncExitStack

import attrs
from procrastinate.schema import SchemaManager

from playai_async.emulator import Emulator
from tools.durable_worker import TABLES, Supervised, Work, app_of, session_of
from tools.servers.machine import find_initdb, free_port
from tools.servers.postgres import Cluster

WORKERS = 4

TIMEOUT = 900.0
"""Seconds after which a wait that has not ended counts as lost."""

FROZEN = 20.0
"""Seconds for which PostgreSQL answers nothing."""

DATABASE = "postgres"

HELD = "procrastinate_jobs WHERE task_name = 'playai:wait' AND status = 'doing'"


@attrs.frozen(kw_only=True)
class Parameters:
    """The parameters of a run.

    Attributes:
        jobs: The number of jobs.
        shortest: Seconds that the shortest job takes.
        longest: Seconds that the longest job takes.
        quota: Requests per minute that the service accepts from all workers together.
    """

    jobs: int
    shortest: float
    longest: float
    quota: int


FULL = Parameters(jobs=10_000, shortest=5.0, longest=120.0, quota=12_000)
SHORT = Parameters(jobs=100, shortest=2.0, longest=15.0, quota=3_000)


class Run:
    """One run and its results.

    Args:
        parameters: The parameters.
        cluster: The PostgreSQL server.
    """

    def __init__(self, parameters: Parameters, cluster: Cluster) -> None:
        self._parameters = parameters
        self._cluster = cluster
        self._began = time.monotonic()
        self._held: list[int] = []
        self.seconds = 0.0

    async def perform(self) -> int:
        """Perform the run, print the results, and return the exit status."""
        parameters = self._parameters
        async with Emulator(quota=parameters.quota) as emulator:
            work = Work(dsn=self._cluster.dsn(DATABASE), url=emulator.base_url, quota=parameters.quota // WORKERS)
            await self._defer(work, emulator)
            workers = [Supervised(work) for _ in range(WORKERS)]
            async with AsyncExitStack() as stack:
                for worker in workers:
                    await stack.enter_async_context(worker.running())
                await self._until(parameters.jobs * 1 / 5)
                workers[0].kill()
                await self._note("a worker was killed")
                await self._until(parameters.jobs * 2 / 5)
                await asyncio.to_thread(self._cluster.stop)
                await asyncio.to_thread(self._cluster.start)
                await self._note("PostgreSQL was restarted")
                await self._until(parameters.jobs * 3 / 5)
                workers[1].kill()
                await self._note("another worker was killed")
                await self._until(parameters.jobs * 4 / 5)
                with self._cluster.frozen():
                    await asyncio.sleep(FROZEN)
                await self._note("PostgreSQL was frozen")
                await self._until(parameters.jobs)
                self.seconds = time.monotonic() - self._began
            return await self._account(emulator, sum(worker.started for worker in workers))

    async def _defer(self, work: Work, emulator: Emulator) -> None:
        """Store all waits, like a web process."""
        rng = random.Random(1)  # noqa: S311 - repeatable, not secret
        async with session_of(work) as playai:
            app, waits = app_of(work, playai)
            async with app.open_async():
                self._began = time.monotonic()
                for _ in range(self._parameters.jobs):
                    job_id = emulator.add_job(rng.uniform(self._parameters.shortest, self._parameters.longest))
                    await waits.defer(job_id, on_done="store")
                self._say(f"{self._parameters.jobs} waits were stored")

    async def _note(self, event: str) -> None:
        self._held.append(await self._count(HELD))
        self._say(event)

    async def _until(self, ended: float) -> None:
        """Wait until a number of jobs has ended, or until the timeout."""
        while await self._count("ended") < ended and time.monotonic() < self._began + TIMEOUT:
            await asyncio.sleep(0.5)

    async def _account(self, emulator: Emulator, processes: int) -> int:
        jobs, polls = self._parameters.jobs, emulator.stats.requests
        keys, calls = await self._count("ended"), await self._count("calls")
        handled = await self._count("(SELECT DISTINCT job_id FROM ended WHERE key LIKE '%COMPLETED') AS handled")
        rows = await self._count("procrastinate_jobs WHERE task_name = 'playai:wait'")
        events = await self._count(
            "procrastinate_events e JOIN procrastinate_jobs j ON j.id = e.job_id WHERE j.task_name = 'playai:wait'"
        )
        print(
            f"jobs: {jobs}\n"
            f"completed, passed to the handler: {handled}\n"
            f"lost: {jobs - handled}\n"
            f"handler calls: {calls}, distinct keys: {keys}\n"
            f"rows: {rows}\n"
            f"polls: {polls}, {polls / jobs:.1f} per job; 429s: {emulator.stats.throttled}\n"
            f"rows of procrastinate_events: {events}\n"
            f"worker processes: {processes}, {WORKERS} at a time\n"
            f"rows in status doing, after each event: {', '.join(map(str, self._held))}\n"
            f"seconds: {self.seconds:.0f}; the longest job took {self._parameters.longest:.0f}"
        )
        return 0 if handled == jobs and keys == jobs else 1

    async def _count(self, what: str) -> int:
        rows = await asyncio.to_thread(self._cluster.execute, f"SELECT count(*) FROM {what}", DATABASE)  # noqa: S608 - ours
        return int(rows[0][0])

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {words}", file=sys.stderr, flush=True)


def main() -> int:
    """Parse the command line, perform the run, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.durable", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help=f"{SHORT.jobs} jobs instead of {FULL.jobs:,}")
    arguments = parser.parse_args()
    program = find_initdb()
    if program is None:
        parser.error("initdb was not found: install PostgreSQL")
    with Cluster(program.resolve().parent, free_port()) as cluster:
        cluster.execute(SchemaManager.get_schema(), DATABASE)
        cluster.execute(TABLES, DATABASE)
        return asyncio.run(Run(SHORT if arguments.short else FULL, cluster).perform())


if __name__ == "__main__":
    sys.exit(main())
