"""The service of a soak, in a process of its own: the emulator, its jobs, and what befalls it.

Answers `begin` with where it is and when the soak begins, and `report`, once it is over, with all that befell it. The
clocks of both processes are one.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import aiohttp

from playai_async.emulator import Emulator, Fault, Status
from playai_async.emulator._faults import FaultPlan
from playai_async.emulator._service.messages import Endpoint
from tests.soak.plan import AHEAD, Soak, job_of, number_of
from tests.soak.storm import Event, Injection, Outage, Quotas, Relief, name_of, storm
from tests.soak.vitals import Complaints
from tools.processes import read_arguments, serve_commands

LEAD = 0.5
"""Seconds from `begin` to the beginning."""

STALL = 0.25
"""Seconds that this process may be late without the client having to know."""

LAST_GUST, GUSTS = Status(503), 30
"""What the calm begins with: a poll that is forgotten after a failure then stays so, for all to see."""

PORTS = range(20_000, 30_000)
"""Below those that the system gives to clients: while nobody listens on one of those, a client may meet itself."""


class Notes:
    """What befell the service; times are in seconds from the beginning.

    Attributes:
        faults: When, at which endpoint, which job, and what.
        spans: From when to when nobody listened, or this process had no turn.
        quotas: From when on, the quota of status requests and that of creations.
        restarts: How often it was restarted.
        complaints: What it would have said on standard error.
    """

    def __init__(self) -> None:
        self.begins = 0.0
        self.faults: list[tuple[float, str, str | None, str]] = []
        self.spans: list[tuple[float, float]] = []
        self.quotas: list[tuple[float, int | None, int | None]] = []
        self.restarts = 0
        self.complaints: list[str] = []

    def now(self) -> float:
        """Seconds from the beginning."""
        return asyncio.get_running_loop().time() - self.begins


class NotedPlan(FaultPlan):
    """A plan of faults that notes which of them are met; the emulator itself does not tell."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def take(self, endpoint: Endpoint, job_id: UUID | None) -> Fault | None:
        """Return the fault that a request meets."""
        fault = super().take(endpoint, job_id)
        if fault is not None:
            self._notes.faults.append(
                (self._notes.now(), endpoint, None if job_id is None else str(job_id), name_of(fault))
            )
        return fault


class SoakService:
    """The emulator, and the tasks that keep it busy."""

    def __init__(self, soak: Soak) -> None:
        dice = soak.dice("service")
        self._soak = soak
        self._ports = free_ports(dice.sample(PORTS, 50))
        self.window = dice.uniform(2.0, 5.0)
        self._notes = Notes()
        self._retry_after = dice.random() < 0.5
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> dict[str, Any]:
        """Start everything."""
        Complaints(lambda words: self._notes.complaints.append(f"at {self._notes.now():.3f} s: {words}")).listen()
        self._emulator = Emulator(
            window=self.window,
            retry_after=self._retry_after,
            port=next(self._ports),
            audio_port=next(self._ports),
            history=1,
        )
        self._emulator._faults = NotedPlan(self._notes)
        await self._emulator.start()
        self._notes.begins = asyncio.get_running_loop().time() + LEAD
        self._tasks = [asyncio.create_task(work()) for work in (self._jobs, self._storm, self._stalls)]
        return {"url": self._emulator.base_url, "begins": self._notes.begins, "window": self.window}

    async def report(self) -> dict[str, Any]:
        """Stop everything, and say what it was."""
        counted = self._emulator.stats
        for task in self._tasks:
            if task.done():
                task.result()  # which raises what it failed with: there is no other end to it in the storm
            task.cancel()
        report = {
            "requests": counted.requests,
            "throttled": counted.throttled,
            "faults": self._notes.faults,
            "spans": self._notes.spans,
            "quotas": self._notes.quotas,
            "complaints": self._notes.complaints,
            "restarts": self._notes.restarts,
            "created": await self._created(),
        }
        await self._emulator.stop()
        return report

    async def _jobs(self) -> None:
        """Add each job somewhat before it is asked for."""
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            job = job_of(self._soak, number)
            while job.starts > self._notes.now() + AHEAD:
                await asyncio.sleep(AHEAD / 20)
            left = self._notes.begins + job.finishes - loop.time()
            self._emulator.add_job(max(0.0, left), fails=job.fails, job_id=job.id, input=job.input)

    async def _storm(self) -> None:
        """Let everything happen to the service, until it is calm."""
        for pause, event in storm(self._soak):
            await asyncio.sleep(pause)
            if self._notes.now() >= self._soak.stormy:
                break
            await self._befall(event)
        self._emulator.clear_faults()
        self._set(Quotas(None, None))
        self._emulator.inject(LAST_GUST, times=GUSTS)
        await asyncio.Event().wait()

    async def _befall(self, event: Event) -> None:
        match event:
            case Injection():
                job_id = None
                if event.age is not None:
                    latest = int(self._notes.now() * self._soak.job_rate)
                    job_id = job_of(self._soak, max(0, latest - event.age)).id
                self._emulator.inject(event.fault, times=event.times, job_id=job_id, endpoint=event.endpoint)
            case Outage():
                began = self._notes.now()
                await self._emulator.stop()
                await asyncio.sleep(event.seconds)
                await self._emulator.start()
                self._notes.restarts += 1
                self._notes.spans.append((began, self._notes.now()))
            case Quotas():
                self._set(event)
            case Relief():
                self._emulator.clear_faults()

    def _set(self, quotas: Quotas) -> None:
        self._emulator.quota, self._emulator.create_quota = quotas.reading, quotas.creating
        self._notes.quotas.append((self._notes.now(), quotas.reading, quotas.creating))

    async def _stalls(self) -> None:
        """Note when this process had no turn: to a client that is as if nobody listened."""
        while True:
            before = self._notes.now()
            await asyncio.sleep(0.05)
            if self._notes.now() - before > STALL:
                self._notes.spans.append((before, self._notes.now()))

    async def _created(self) -> list[tuple[str, str]]:
        """Return each job that a client created: its id, and the text it was created from."""
        created = [job_id for job_id in self._emulator.jobs if number_of(job_id) is None]
        headers = {"Authorization": "Bearer of-the-bench", "X-USER-ID": "bench"}
        found: list[tuple[str, str]] = []
        async with aiohttp.ClientSession(self._emulator.base_url, headers=headers) as http:
            for job_id in created:
                async with http.get(f"/api/v1/tts/{job_id}") as response:
                    document = await response.json()
                found.append((document["id"], document["input"]["text"]))
        return found


def free_ports(candidates: list[int]) -> Iterator[int]:
    """Yield those of some ports that nobody listens on."""
    for port in candidates:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


async def serve(soak: Soak) -> None:
    """Be the service."""
    service = SoakService(soak)
    await serve_commands({"begin": service.begin, "report": service.report})


if __name__ == "__main__":
    asyncio.run(serve(Soak(**read_arguments())))
