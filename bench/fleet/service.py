"""The service of a run: the emulator under a quota, and adapters for the SDKs of other services.

All jobs exist from the start, and each finishes at its exact time; no client asks for a job before the job starts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from bench.fleet.shapes import shapes
from bench.fleet.workloads import WINDOW, Workload
from playai_async.emulator import Emulator

LEAD = 1.0
"""Seconds from the start of the service to the beginning of the run."""

LATENCY = 0.05
"""Seconds that a status request takes."""

HISTORY = 1_000_000
"""Arrivals that the emulator keeps: more than any run has, so that the report can count all of them by time."""


@attrs.frozen
class FleetService:
    """A running service.

    Attributes:
        url: The base URL, for PlayAI's format and those of the SDKs.
        begins: The loop time at which the run begins.
        emulator: The emulator.
        phase: Seconds of the first window that have passed when the run begins.
    """

    url: str
    begins: float
    emulator: Emulator
    phase: float

    def report(self) -> dict[str, Any]:
        """Return what the service counted."""
        return count(self.emulator, self.begins, self.phase)


@asynccontextmanager
async def serve(jobs: Workload) -> AsyncIterator[FleetService]:
    """Serve the jobs of a workload."""
    loop = asyncio.get_running_loop()
    begins = loop.time() + LEAD
    # The emulator counts its phase from its own start, which is a moment before the beginning of the run.
    emulator = Emulator(quota=jobs.quota, window=WINDOW, phase=(jobs.phase - LEAD) % WINDOW, history=HISTORY)
    async with emulator, shapes(emulator.base_url, latency=LATENCY) as url:
        for job in jobs.jobs:
            emulator.add_job(begins + job.finishes - loop.time(), job_id=job.id)
        yield FleetService(url, begins, emulator, jobs.phase)


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
