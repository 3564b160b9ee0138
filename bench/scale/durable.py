"""Durable waits through the death of a worker and a restart of PostgreSQL: are any lost, and what do they cost?

Many jobs are waited for by two worker processes on one PostgreSQL, and a third process starts each anew when it ends.
A third of the way in, one worker is killed with SIGKILL; two thirds in, PostgreSQL is shut down, fast, and started
again. The handler writes its outcome's key to a table, and that it was called to another. The service is the emulator,
in this process, with a quota that the workers share evenly.

    python -m bench.scale.durable [--short]

It needs PostgreSQL's programs, on the path or where Debian puts them. The exit status is 1 where a wait was lost.
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

WORKERS = 2

PATIENCE = 200.0
"""Seconds after which what has not ended is lost."""

DATABASE = "postgres"

HELD = "procrastinate_jobs WHERE task_name = 'playai:wait' AND status = 'doing'"


@attrs.frozen(kw_only=True)
class Course:
    """How a run goes.

    Attributes:
        jobs: How many.
        shortest: Seconds that the first to be done takes.
        longest: Seconds that the last to be done takes.
        quota: Requests a minute that the service takes, over all workers.
    """

    jobs: int
    shortest: float
    longest: float
    quota: int


FULL = Course(jobs=1_000, shortest=5.0, longest=60.0, quota=3_000)
SHORT = Course(jobs=60, shortest=2.0, longest=15.0, quota=3_000)


class Run:
    """One course of events, and its account.

    Args:
        course: How it goes.
        cluster: The PostgreSQL.
    """

    def __init__(self, course: Course, cluster: Cluster) -> None:
        self._course = course
        self._cluster = cluster
        self._began = time.monotonic()
        self._held: list[int] = []
        self.seconds = 0.0

    async def perform(self) -> int:
        """Do it, print the account, and return the exit status."""
        course = self._course
        async with Emulator(quota=course.quota) as emulator:
            work = Work(dsn=self._cluster.dsn(DATABASE), url=emulator.base_url, quota=course.quota // WORKERS)
            await self._defer(work, emulator)
            workers = [Supervised(work) for _ in range(WORKERS)]
            async with AsyncExitStack() as stack:
                for worker in workers:
                    await stack.enter_async_context(worker.running())
                await self._until(course.jobs / 3)
                workers[0].kill()
                self._held.append(await self._count(HELD))
                self._say("a worker was killed")
                await self._until(course.jobs * 2 / 3)
                await asyncio.to_thread(self._cluster.stop)
                await asyncio.to_thread(self._cluster.start)
                self._held.append(await self._count(HELD))
                self._say("PostgreSQL was restarted")
                await self._until(course.jobs)
                self.seconds = time.monotonic() - self._began
            return await self._account(emulator, sum(worker.started for worker in workers))

    async def _defer(self, work: Work, emulator: Emulator) -> None:
        """Store all waits, as a web process would."""
        dice = random.Random(1)  # noqa: S311 - repeatable, not secret
        async with session_of(work) as playai:
            app, waits = app_of(work, playai)
            async with app.open_async():
                self._began = time.monotonic()
                for _ in range(self._course.jobs):
                    job_id = emulator.add_job(dice.uniform(self._course.shortest, self._course.longest))
                    await waits.defer(job_id, on_done="store")
                self._say(f"{self._course.jobs} waits were stored")

    async def _until(self, ended: float) -> None:
        """Wait until so many jobs have ended, or for as long as our patience lasts."""
        while await self._count("ended") < ended and time.monotonic() < self._began + PATIENCE:
            await asyncio.sleep(0.25)

    async def _account(self, emulator: Emulator, processes: int) -> int:
        jobs, polls = self._course.jobs, emulator.stats.requests
        keys, calls = await self._count("ended"), await self._count("calls")
        jobs_told = await self._count("(SELECT DISTINCT job_id FROM ended WHERE key LIKE '%COMPLETED') AS told")
        rows = await self._count("procrastinate_jobs WHERE task_name = 'playai:wait'")
        events = await self._count(
            "procrastinate_events e JOIN procrastinate_jobs j ON j.id = e.job_id WHERE j.task_name = 'playai:wait'"
        )
        print(
            f"jobs: {jobs}\n"
            f"completed, told to the handler: {jobs_told}\n"
            f"lost: {jobs - jobs_told}\n"
            f"handler calls: {calls}, distinct keys: {keys}\n"
            f"rows: {rows}\n"
            f"polls: {polls}, {polls / jobs:.1f} per job; 429s: {emulator.stats.throttled}\n"
            f"rows of procrastinate_events: {events}\n"
            f"worker processes: {processes}, for {WORKERS} at a time\n"
            f"rows that workers held: {self._held[0]} when one was killed, {self._held[1]} when PostgreSQL was back\n"
            f"seconds: {self.seconds:.0f}, where the longest job took {self._course.longest:.0f}"
        )
        return 0 if jobs_told == jobs and keys == jobs else 1

    async def _count(self, what: str) -> int:
        rows = await asyncio.to_thread(self._cluster.execute, f"SELECT count(*) FROM {what}", DATABASE)  # noqa: S608 - ours
        return int(rows[0][0])

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {words}", file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, and run. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT.jobs} jobs in place of {FULL.jobs:,}")
    arguments = parser.parse_args()
    program = find_initdb()
    if program is None:
        parser.error("there is no initdb here: install postgresql, say")
    with Cluster(program.resolve().parent, free_port()) as cluster:
        cluster.execute(SchemaManager.get_schema(), DATABASE)
        cluster.execute(TABLES, DATABASE)
        return asyncio.run(Run(SHORT if arguments.short else FULL, cluster).perform())


if __name__ == "__main__":
    sys.exit(main())
