"""The demo: texts for both web processes, a worker that is killed, and a report at the end."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import aiohttp
import psycopg

from playai_async.emulator import Emulator

from .processes import Supervised

TIMEOUT = 300.0
"""Seconds after which a result that is not stored counts as lost."""

POLL_INTERVAL = 0.1
"""Seconds between two queries of the database."""


class Demo:
    """One run and its report."""

    def __init__(self, jobs: int, urls: list[str], database: str, say: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._urls = urls
        self._database = database
        self._say = say
        self._asked: list[tuple[int, UUID]] = []
        self._seconds = 0.0

    async def run(self, workers: list[Supervised]) -> None:
        """Post the texts, kill a worker, and wait until all results are stored."""
        began = time.monotonic()
        async with aiohttp.ClientSession() as client, await connected(self._database) as connection:
            await asyncio.gather(*(self._post(client, number) for number in range(self._jobs)))
            self._say(f"{self._jobs} texts were posted, half of them to each web process")
            async with asyncio.timeout(TIMEOUT):
                await self._until(connection, self._jobs // 3)
                victim = workers[0]
                self._say(f"one third is stored; killing {victim.name} (process {victim.pid})")
                victim.kill()
                await self._until(connection, self._jobs)
            self._seconds = time.monotonic() - began
            self._say("all results are stored")

    async def _post(self, client: aiohttp.ClientSession, number: int) -> None:
        at = number % len(self._urls)
        text = f"This is text number {number}. " * (1 + number % 8 * 10)  # so that some take longer than others
        async with client.post(f"{self._urls[at]}/speech", json={"text": text}) as answer:
            answer.raise_for_status()
            self._asked.append((at, UUID((await answer.json())["id"])))

    async def _until(self, connection: "psycopg.AsyncConnection[tuple[int, int]]", wanted: int) -> None:
        while (await stored(connection))[1] < wanted:  # noqa: ASYNC110 - other processes store the results
            await asyncio.sleep(POLL_INTERVAL)

    async def report(self, workers: list[Supervised], emulator: Emulator | None) -> bool:
        """Print the report, and return whether each result was stored exactly once."""
        async with await connected(self._database) as connection:
            outcomes, completed = await stored(connection)
        completed_by = [await self._completed_at(at) for at in range(len(self._urls))]
        lines: dict[str, object] = {"jobs": self._jobs, "stored": f"{completed}, in {outcomes} rows"}
        for at, answered in enumerate(completed_by):
            posted = sum(each == at for each, _ in self._asked)
            others = len(self._asked) - posted
            lines[f"web {at + 1}"] = f"{posted} posted; reports {answered} of the other's {others} as completed"
        if emulator is not None:
            polls = [arrival for arrival in emulator.arrivals if arrival.method == "GET"]
            lines["status requests"] = f"{len(polls)}, {sum(each.status == 429 for each in polls)} of them rate limited"
        lines["worker processes"] = f"{sum(worker.started for worker in workers)}, {len(workers)} at a time"
        lines["seconds"] = f"{self._seconds:.1f}"
        print()
        for name, value in lines.items():
            print(f"{name:<18}{value}")
        return outcomes == completed == self._jobs

    async def _completed_at(self, at: int) -> int:
        """Count the jobs of the other web process that this one reports as completed."""
        others = [job_id for asked, job_id in self._asked if asked != at]
        states = []
        async with aiohttp.ClientSession(self._urls[at]) as client:
            for job_id in others:
                async with client.get(f"/speech/{job_id}") as answer:
                    states.append((await answer.json())["state"])
        return states.count("COMPLETED")


async def connected(database: str) -> "psycopg.AsyncConnection[tuple[int, int]]":
    return await psycopg.AsyncConnection.connect(database, autocommit=True)


async def stored(connection: "psycopg.AsyncConnection[tuple[int, int]]") -> tuple[int, int]:
    """Count the outcomes, and the distinct jobs among them."""
    cursor = await connection.execute("SELECT count(*), count(DISTINCT job_id) FROM outcomes")
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - this query always returns a row
    return row


def stopwatch() -> Callable[[str], None]:
    """Return a function that prints a message with the elapsed time."""
    began = time.monotonic()
    return lambda words: print(f"{time.monotonic() - began:6.1f} s  {words}", flush=True)
