"""The service of a run, in its own process: the emulator under a quota, and adapters for the SDKs of other services.

Answers `ready` when everything is imported. Answers `begin` with its addresses and with the time at which the run
begins, one real second later. Answers `report` with what it counted. All jobs exist from the start, and each finishes
at its exact time; no client asks for a job before the job starts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

from bench.fleet.clock import LoopLag, run
from bench.fleet.shapes import shapes
from bench.fleet.workloads import WINDOW, Workload, workload
from playai_async.emulator import Emulator
from tools.processes import read_arguments, serve_commands

LEAD = 1.0
"""Real seconds from `begin` to the beginning of the run, so that the client can create its tasks in time."""

HISTORY = 1_000_000
"""Arrivals that the emulator keeps: more than any run has, so that the report can count all of them by time."""


class FleetService:
    """The service of one run.

    Args:
        jobs: The workload.
        speed: Service seconds per real second.
        stack: Stops the service when it closes.
    """

    def __init__(self, jobs: Workload, speed: float, stack: AsyncExitStack) -> None:
        self._jobs = jobs
        self._speed = speed
        self._stack = stack

    async def ready(self) -> None:
        """Answer that everything is imported."""

    async def begin(self) -> dict[str, Any]:
        """Start the emulator, and return its addresses and the loop time at which the run begins."""
        loop = asyncio.get_running_loop()
        self._begins = loop.time() + LEAD * self._speed
        # The emulator counts its phase from its own start, which is a moment before the beginning of the run.
        phase = (self._jobs.phase - (self._begins - loop.time())) % WINDOW
        emulator = Emulator(quota=self._jobs.quota, window=WINDOW, phase=phase, history=HISTORY)
        self._emulator = await self._stack.enter_async_context(emulator)
        shaped_url = await self._stack.enter_async_context(shapes(emulator.base_url))
        self._lag = await self._stack.enter_async_context(LoopLag())
        for job in self._jobs.jobs:
            emulator.add_job(self._begins + job.finishes - loop.time(), job_id=job.id)
        self._cpu, self._real = time.process_time(), time.monotonic()
        return {"url": emulator.base_url, "shaped_url": shaped_url, "begins": self._begins}

    async def report(self) -> dict[str, Any]:
        """Return what the service counted and measured."""
        cpu = (time.process_time() - self._cpu) / (time.monotonic() - self._real)
        counted = count(self._emulator, self._begins, self._jobs.phase)
        return {**counted, "cpu": cpu, "late": self._lag.mean, "latest": self._lag.worst}


def count(emulator: Emulator, begins: float, phase: float) -> dict[str, Any]:
    """Count all requests, those with a 429, and those in the fullest window of the service."""
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


async def serve(jobs: Workload, speed: float) -> None:
    """Run the service until the parent closes standard input."""
    async with AsyncExitStack() as stack:
        service = FleetService(jobs, speed, stack)
        await serve_commands({"ready": service.ready, "begin": service.begin, "report": service.report})


if __name__ == "__main__":
    arguments = read_arguments()
    speed = arguments["speed"]
    run(speed, lambda: serve(workload(arguments["workload"], arguments["seed"]), speed))
