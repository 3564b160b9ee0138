"""The demonstration: texts for both web processes, the death of a worker in the middle, and an account at the end."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import aiohttp
import psycopg

from playai_async.emulator import Emulator

from .processes import Kept

PATIENCE = 300.0
"""Seconds after which what is not stored is lost."""

GLANCE = 0.1
"""Seconds between two looks at the database."""


class Demo:
    """One run, and its account."""

    def __init__(self, jobs: int, urls: list[str], database: str, say: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._urls = urls
        self._database = database
        self._say = say
        self._asked: list[tuple[int, UUID]] = []
        self._seconds = 0.0

    async def run(self, workers: list[Kept]) -> None:
        """Have it happen."""
        began = time.monotonic()
        async with aiohttp.ClientSession() as client, await connected(self._database) as connection:
            await asyncio.gather(*(self._post(client, number) for number in range(self._jobs)))
            self._say(f"{self._jobs} texts were posted, by turns to each web process")
            async with asyncio.timeout(PATIENCE):
                await self._until(connection, self._jobs // 3)
                victim = workers[0]
                self._say(f"a third is stored; {victim.name} (process {victim.pid}) is killed")
                victim.kill()
                await self._until(connection, self._jobs)
            self._seconds = time.monotonic() - began
            self._say("all are stored")

    async def _post(self, client: aiohttp.ClientSession, number: int) -> None:
        at = number % len(self._urls)
        text = f"This is text number {number}. " * (1 + number % 8 * 10)  # so that some take longer than others
        async with client.post(f"{self._urls[at]}/speech", json={"text": text}) as answer:
            answer.raise_for_status()
            self._asked.append((at, UUID((await answer.json())["id"])))

    async def _until(self, connection: "psycopg.AsyncConnection[tuple[int, int]]", wanted: int) -> None:
        while (await stored(connection))[1] < wanted:  # noqa: ASYNC110 - it is other processes that store
            await asyncio.sleep(GLANCE)

    async def account(self, workers: list[Kept], emulator: Emulator | None) -> bool:
        """Print what came of it, and say whether each text was stored once."""
        async with await connected(self._database) as connection:
            outcomes, completed = await stored(connection)
        told = [await self._told_by(at) for at in range(len(self._urls))]
        lines: dict[str, object] = {"jobs": self._jobs, "stored": f"{completed}, in {outcomes} rows"}
        for at, answered in enumerate(told):
            posted = sum(each == at for each, _ in self._asked)
            others = len(self._asked) - posted
            lines[f"web {at + 1}"] = f"{posted} posted; of the other's {others} it tells {answered} as completed"
        if emulator is not None:
            polls = [arrival for arrival in emulator.arrivals if arrival.method == "GET"]
            lines["status requests"] = f"{len(polls)}, {sum(each.status == 429 for each in polls)} of them refused"
        lines["worker processes"] = f"{sum(worker.started for worker in workers)}, {len(workers)} at a time"
        lines["seconds"] = f"{self._seconds:.1f}"
        print()
        for name, value in lines.items():
            print(f"{name:<18}{value}")
        return outcomes == completed == self._jobs

    async def _told_by(self, at: int) -> int:
        """Count the speeches that a web process tells of as completed, of those that the others were asked for."""
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
    """Count the outcomes, and the jobs that they are of."""
    cursor = await connection.execute("SELECT count(*), count(DISTINCT job_id) FROM outcomes")
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - it always has one
    return row


def clock() -> Callable[[str], None]:
    """Return what tells of events, with the seconds since now."""
    began = time.monotonic()
    return lambda words: print(f"{time.monotonic() - began:6.1f} s  {words}", flush=True)
