"""The service of a soak, in its own process: the emulator, its jobs, and the faults.

Answers `begin` with the URL and the time at which the soak begins, and `report`, after the soak, with all faults. Both
processes share one clock.
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
from tests.soak.storm import ClearFaults, Event, Injection, Outage, Quotas, name_of, storm
from tests.soak.vitals import ErrorListener
from tools.processes import read_arguments, serve_commands

LEAD = 0.5
"""Seconds from `begin` to the beginning."""

STALL = 0.25
"""Seconds that this process may be late before the client must know about it."""

LAST_FAULT, LAST_FAULTS = Status(503), 30
"""What the calm begins with: a poll that is forgotten after a failure then stays so, for all to see."""

PORTS = range(20_000, 30_000)
"""Below the ephemeral ports: a client could connect to itself on an ephemeral port that nothing listens on."""


class EventLog:
    """The faults of the service; times are in seconds since the beginning.

    Attributes:
        faults: Time, endpoint, job and name of each fault.
        spans: When the service was down, or this process was stalled: from, to.
        quotas: Quota changes: time, quota of status requests, quota of creations.
        restarts: The number of restarts.
        errors_logged: What was logged or written to standard error.
    """

    def __init__(self) -> None:
        self.begins = 0.0
        self.faults: list[tuple[float, str, str | None, str]] = []
        self.spans: list[tuple[float, float]] = []
        self.quotas: list[tuple[float, int | None, int | None]] = []
        self.restarts = 0
        self.errors_logged: list[str] = []

    def now(self) -> float:
        """Return the seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.begins


class LoggedFaultPlan(FaultPlan):
    """A fault plan that logs each fault that a request meets. The emulator does not report them."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def take(self, endpoint: Endpoint, job_id: UUID | None) -> Fault | None:
        """Return the fault that a request meets."""
        fault = super().take(endpoint, job_id)
        if fault is not None:
            self._log.faults.append(
                (self._log.now(), endpoint, None if job_id is None else str(job_id), name_of(fault))
            )
        return fault


class SoakService:
    """The emulator, and the tasks that inject faults."""

    def __init__(self, soak: Soak) -> None:
        rng = soak.rng("service")
        self._soak = soak
        self._ports = free_ports(rng.sample(PORTS, 50))
        self.window = rng.uniform(2.0, 5.0)
        self._log = EventLog()
        self._retry_after = rng.random() < 0.5
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> dict[str, Any]:
        """Start everything."""
        ErrorListener(lambda words: self._log.errors_logged.append(f"at {self._log.now():.3f} s: {words}")).listen()
        self._emulator = Emulator(
            window=self.window,
            retry_after=self._retry_after,
            port=next(self._ports),
            audio_port=next(self._ports),
            history=1,
        )
        self._emulator._faults = LoggedFaultPlan(self._log)
        await self._emulator.start()
        self._log.begins = asyncio.get_running_loop().time() + LEAD
        self._tasks = [asyncio.create_task(work()) for work in (self._jobs, self._storm, self._stalls)]
        return {"url": self._emulator.base_url, "begins": self._log.begins, "window": self.window}

    async def report(self) -> dict[str, Any]:
        """Stop everything, and return all faults."""
        counted = self._emulator.stats
        for task in self._tasks:
            if task.done():
                task.result()  # raises the exception of the task; tasks do not end in any other way
            task.cancel()
        report = {
            "requests": counted.requests,
            "throttled": counted.throttled,
            "faults": self._log.faults,
            "spans": self._log.spans,
            "quotas": self._log.quotas,
            "errors_logged": self._log.errors_logged,
            "restarts": self._log.restarts,
            "created": await self._created(),
        }
        await self._emulator.stop()
        return report

    async def _jobs(self) -> None:
        """Add each job some seconds before a caller asks for it."""
        loop = asyncio.get_running_loop()
        for number in itertools.count():
            job = job_of(self._soak, number)
            while job.starts > self._log.now() + AHEAD:
                await asyncio.sleep(AHEAD / 20)
            left = self._log.begins + job.finishes - loop.time()
            self._emulator.add_job(max(0.0, left), fails=job.fails, job_id=job.id, input=job.input)

    async def _storm(self) -> None:
        """Apply all planned events until the faults stop."""
        for pause, event in storm(self._soak):
            await asyncio.sleep(pause)
            if self._log.now() >= self._soak.fault_seconds:
                break
            await self._apply(event)
        self._emulator.clear_faults()
        self._set(Quotas(None, None))
        self._emulator.inject(LAST_FAULT, times=LAST_FAULTS)
        await asyncio.Event().wait()

    async def _apply(self, event: Event) -> None:
        match event:
            case Injection():
                job_id = None
                if event.age is not None:
                    latest = int(self._log.now() * self._soak.job_rate)
                    job_id = job_of(self._soak, max(0, latest - event.age)).id
                self._emulator.inject(event.fault, times=event.times, job_id=job_id, endpoint=event.endpoint)
            case Outage():
                began = self._log.now()
                await self._emulator.stop()
                await asyncio.sleep(event.seconds)
                await self._emulator.start()
                self._log.restarts += 1
                self._log.spans.append((began, self._log.now()))
            case Quotas():
                self._set(event)
            case ClearFaults():
                self._emulator.clear_faults()

    def _set(self, quotas: Quotas) -> None:
        self._emulator.quota, self._emulator.create_quota = quotas.reading, quotas.creating
        self._log.quotas.append((self._log.now(), quotas.reading, quotas.creating))

    async def _stalls(self) -> None:
        """Record when this process was stalled. For a client that is the same as a service that is down."""
        while True:
            before = self._log.now()
            await asyncio.sleep(0.05)
            if self._log.now() - before > STALL:
                self._log.spans.append((before, self._log.now()))

    async def _created(self) -> list[tuple[str, str]]:
        """Return the id and the text of each job that a client created."""
        created = [job_id for job_id in self._emulator.jobs if number_of(job_id) is None]
        headers = {"Authorization": "Bearer of-the-soak", "X-USER-ID": "soak"}
        found: list[tuple[str, str]] = []
        async with aiohttp.ClientSession(self._emulator.base_url, headers=headers) as http:
            for job_id in created:
                async with http.get(f"/api/v1/tts/{job_id}") as response:
                    document = await response.json()
                found.append((document["id"], document["input"]["text"]))
        return found


def free_ports(candidates: list[int]) -> Iterator[int]:
    """Yield the ports that nothing listens on."""
    for port in candidates:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


async def serve(soak: Soak) -> None:
    """Run the service."""
    service = SoakService(soak)
    await serve_commands({"begin": service.begin, "report": service.report})


if __name__ == "__main__":
    asyncio.run(serve(Soak(**read_arguments())))
