"""Measure the processor time that `JobPoller` adds to the status requests of an SDK.

One process for each SDK makes the same requests in three ways, in turn, each with at most 32 in flight:

- *alone*: 32 tasks that send one request after the other;
- *a loop per job*: a task for each of 200 jobs that sleeps between two requests, as a hand-written wait does;
- *JobPoller*: one that waits for 200 jobs, and always has more polls due.

The jobs never finish, and there is no quota. The processor time of each part, user and system, is divided by its
requests. The parts that follow each other give one difference, so other load on the machine affects all alike; every
other round has the opposite order.

"no request" is a `fetch` that yields to the event loop once, so its difference is nearly all of what the poller costs.
With an SDK, part of the difference is that requests no longer follow each other in step: a loop per job has it, too.

    python -m bench.cost.job_poller [--rounds 20]

The table is also written to `bench/out/job_poller.md`. The exit status is 0 even if the goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from bench.cost.clients import CONNECTIONS
from bench.cost.service import job_ids
from bench.fleet.sdks import SDKS, Sdk, StatusClient
from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller
from tools.processes import Child, read_arguments, serve_commands
from tools.tables import table

OUT = Path(__file__).parents[1] / "out"

JOBS = 200

PART = 0.5
"""Seconds of each measurement."""

PAUSE = 0.01
"""Seconds between two polls of a job: so short that polls are always due."""

QUOTA = 10_000_000
"""Requests per minute: more than any of them can send, because the poller would spend an unknown quota with care."""

NO_REQUEST = "no request"

GOAL = 15.0
"""Microseconds that a poll may take beyond the SDK's own request."""

LIBRARIES = (
    "playai-async",
    "runwayml",
    "openai",
    "azure-core",
    "replicate",
    "fal-client",
    "httpx",
    "httpx2",
    "aiohttp",
)


@attrs.frozen
class Round:
    """Processor time per request in microseconds: of the SDK alone, of a loop per job, and under a `JobPoller`."""

    alone: float
    loops: float
    polled: float


@asynccontextmanager
async def no_request(_: str) -> AsyncIterator[StatusClient]:
    """No SDK: a `fetch` that only yields to the event loop."""

    async def create(job_id: UUID) -> UUID:
        return job_id

    async def fetch(job_id: UUID) -> UUID:
        await asyncio.sleep(0)
        return job_id

    yield StatusClient(create=create, fetch=fetch, is_done=lambda _: False)


SUBJECTS: dict[str, Sdk] = {NO_REQUEST: no_request, **SDKS}


class Meter:
    """Counts requests, and divides the processor time by them.

    Args:
        fetch: Makes one request.
    """

    def __init__(self, fetch: Callable[[Any], Awaitable[Any]]) -> None:
        self._fetch = fetch
        self.done = 0

    async def fetch(self, key: Any) -> Any:
        """Make one request and count it."""
        job = await self._fetch(key)
        self.done += 1
        return job

    async def measure(self) -> float:
        """Return the processor time per request in microseconds, from the moment when each job was polled once."""
        await self._await(self.done + JOBS)
        done, cpu = self.done, time.process_time()
        await asyncio.sleep(PART)
        await self._await(done + JOBS)  # the service may be slow
        return (time.process_time() - cpu) / (self.done - done) * 1e6

    async def _await(self, done: int) -> None:
        while self.done < done:
            await asyncio.sleep(0.01)


async def alone(meter: Meter, keys: Sequence[Any]) -> float:
    """Measure tasks that send one request after the other."""
    turns = count()

    async def send() -> None:
        while True:
            await meter.fetch(keys[next(turns) % len(keys)])

    return await during(meter, [asyncio.create_task(send()) for _ in range(CONNECTIONS)])


async def loops(meter: Meter, keys: Sequence[Any]) -> float:
    """Measure one task per job, which sleeps between its requests."""
    in_flight = asyncio.Semaphore(CONNECTIONS)

    async def wait(key: Any) -> None:
        while True:
            async with in_flight:
                await meter.fetch(key)
            await asyncio.sleep(PAUSE)

    return await during(meter, [asyncio.create_task(wait(key)) for key in keys])


async def polled(meter: Meter, status: StatusClient, keys: Sequence[Any]) -> float:
    """Measure a `JobPoller`."""
    polling = Polling(initial=PAUSE, maximum=PAUSE, timeout=None)
    pacing = Pacing(requests_per_window=QUOTA, max_in_flight=CONNECTIONS)
    async with JobPoller(meter.fetch, is_done=status.is_done, polling=polling, pacing=pacing) as jobs:
        return await during(meter, [asyncio.create_task(jobs.wait_for_completion(key)) for key in keys])


async def during(meter: Meter, tasks: Sequence[asyncio.Task[Any]]) -> float:
    """Measure while these tasks run, and cancel them."""
    try:
        measured = await meter.measure()
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
    if failed:
        raise RuntimeError(f"{len(failed)} tasks failed: {failed[0]!r}")
    return measured


async def run_client(sdk: Sdk, shaped_url: str) -> None:
    """Measure an SDK when the parent asks for it."""
    async with sdk(shaped_url) as status:
        keys = [await status.create(job_id) for job_id in job_ids(JOBS)]
        meter = Meter(status.fetch)

        async def measure_alone() -> float:
            return await alone(meter, keys)

        async def measure_loops() -> float:
            return await loops(meter, keys)

        async def measure_polled() -> float:
            return await polled(meter, status, keys)

        await serve_commands({"alone": measure_alone, "loops": measure_loops, "polled": measure_polled})


def measure(name: str, rounds: int) -> list[Round]:
    """Measure an SDK in all ways, in turn."""
    print(f"Measuring {name} ...", file=sys.stderr, flush=True)
    found = []
    with Child("bench.cost.service", JOBS) as service:
        _, shaped_url = service.ask("urls")
        with Child("bench.cost.job_poller", {"sdk": name, "shaped_url": shaped_url}) as client:
            ways = ["alone", "loops", "polled"]
            for way in ways:
                client.ask(way)  # the first requests connect
            for _ in range(rounds):
                ways.reverse()
                found.append(Round(**{way: client.ask(way) for way in ways}))
    return found


def report(found: dict[str, list[Round]], command: str) -> str:
    """Return the table, and everything that is needed to repeat the run."""
    lines = []
    for name, rounds in found.items():
        differences = [part.polled - part.alone for part in rounds]
        low, middle, high = statistics.quantiles(differences, n=4)
        lines.append(
            [
                name,
                f"{statistics.median(part.alone for part in rounds):,.0f}",
                f"{statistics.median(part.loops for part in rounds):,.0f}",
                f"{statistics.median(part.polled for part in rounds):,.0f}",
                f"{middle:+.1f}",
                f"{low:+.0f} to {high:+.0f}",
                "yes" if middle <= GOAL else "NO",
            ]
        )
    head = ["status request", "alone, µs", "a loop per job, µs", "JobPoller, µs", "JobPoller - alone, µs", "quartiles"]
    head.append(f"at most {GOAL:+.0f} µs")
    return f"""\
- Command: `{command}`, {datetime.now(UTC):%Y-%m-%d}
- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {sys.version.split()[0]}
- Libraries: {", ".join(f"{name} {version(name)}" for name in LIBRARIES)}

{table(head, lines)}
"""


def main() -> None:
    """Parse the command line, measure, and print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost.job_poller",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=20, help="measurements of each way, for each SDK")
    arguments = parser.parse_args()
    found = {name: measure(name, arguments.rounds) for name in SUBJECTS}
    text = report(found, " ".join(["python -m bench.cost.job_poller", *sys.argv[1:]]))
    OUT.mkdir(exist_ok=True)
    (OUT / "job_poller.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    # The parent passes the arguments of a child as JSON.
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        arguments = read_arguments()
        asyncio.run(run_client(SUBJECTS[arguments["sdk"]], arguments["shaped_url"]))
    else:
        main()
