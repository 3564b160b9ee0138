"""What an open wait costs in memory, beside a hand-written aiohttp loop and a bare sleeping task.

Each client runs in a process of its own, against the emulator in another: it warms up, notes its resident memory, opens
its waits, lets each poll once, and notes the memory again while all of them pause. The runs take turns; the table shows
medians, and the exit status is 1 where a wait costs more than the limit.

    python bench/memory.py [--waits 10000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID

import aiohttp

from playai_async import PlayAISession, Polling
from playai_async.emulator import Emulator

PAUSE = 3_600.0
"""Seconds; longer than any run, so that every wait is between two polls when it is weighed."""

LIMIT = 6_000
"""Bytes a wait may cost, the caller's own task included."""

Opened = Callable[[list[UUID]], Awaitable[None]]


def job_ids(count: int) -> list[UUID]:
    """The jobs of a run, the same for server and client."""
    return [UUID(int=(1 << 127) + number) for number in range(count)]


async def serve(count: int) -> None:
    """Be the service, for a client in another process."""
    async with Emulator(history=1) as emulator:
        for job_id in job_ids(count):
            emulator.add_job(duration=2 * PAUSE, job_id=job_id)
        print(emulator.base_url, flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def cancelled_at_the_end() -> Iterator[list[asyncio.Task[object]]]:
    """Hold the tasks of a run's waits."""
    tasks: list[asyncio.Task[object]] = []
    yield tasks
    for task in tasks:
        task.cancel()


@contextlib.asynccontextmanager
async def playai_async_client(base_url: str) -> AsyncIterator[Opened]:
    """This library."""
    polling = Polling(initial=PAUSE, maximum=PAUSE, timeout=2 * PAUSE)
    async with PlayAISession("key", "user", base_url=base_url, polling=polling) as playai:
        await playai.get_job(job_ids(1)[0])

        async def opened(jobs: list[UUID]) -> None:
            tasks.extend(asyncio.create_task(playai.wait_for_completion(job)) for job in jobs)
            while playai.stats.requests < 1 + len(jobs) or playai.stats.in_flight:
                await asyncio.sleep(0.05)

        with cancelled_at_the_end() as tasks:
            yield opened


@contextlib.asynccontextmanager
async def loop_client(base_url: str) -> AsyncIterator[Opened]:
    """A task a job, which asks, sleeps, and asks again."""
    headers = {"Authorization": "Bearer key", "X-USER-ID": "user"}
    connector = aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
        polled = 0

        async def ask(job: UUID) -> dict[str, object]:
            nonlocal polled
            async with http.get(f"{base_url}/api/v1/tts/{job}") as response:
                answer: dict[str, object] = await response.json()
            polled += 1
            return answer

        async def wait(job: UUID) -> dict[str, object]:
            async with asyncio.timeout(2 * PAUSE):
                while True:
                    answer = await ask(job)
                    output = answer["output"]
                    if isinstance(output, dict) and output["status"] != "IN_PROGRESS":
                        return answer
                    await asyncio.sleep(PAUSE)

        async def opened(jobs: list[UUID]) -> None:
            tasks.extend(asyncio.create_task(wait(job)) for job in jobs)
            while polled < 1 + len(jobs):
                await asyncio.sleep(0.05)

        await ask(job_ids(1)[0])
        with cancelled_at_the_end() as tasks:
            yield opened


@contextlib.asynccontextmanager
async def sleeping_client(_: str) -> AsyncIterator[Opened]:
    """A task a job, which only sleeps."""

    async def opened(jobs: list[UUID]) -> None:
        tasks.extend(asyncio.create_task(asyncio.sleep(PAUSE)) for _ in jobs)
        await asyncio.sleep(0.05)

    with cancelled_at_the_end() as tasks:
        yield opened


CLIENTS = {
    "playai_async": playai_async_client,
    "hand-written aiohttp loop": loop_client,
    "bare sleeping task": sleeping_client,
}


def resident() -> int:
    """The resident memory of this process, in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def weigh(client: str, base_url: str, count: int) -> None:
    """Be a client, and print what its waits weigh and how many tasks and descriptors they hold."""
    async with CLIENTS[client](base_url) as opened:
        before, tasks = resident(), len(asyncio.all_tasks())
        await opened(job_ids(count))
        grown = resident() - before
        print(
            json.dumps(
                {
                    "bytes": grown / count,
                    "tasks": (len(asyncio.all_tasks()) - tasks) / count,
                    "descriptors": len(list(Path("/proc/self/fd").iterdir())),
                }
            )
        )


@contextlib.contextmanager
def server(count: int) -> Iterator[str]:
    """Run the service in a process of its own, and give its base URL."""
    command = [sys.executable, __file__, "--serve", "--waits", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this very script
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def compare(count: int, repeats: int) -> bool:
    """Weigh each client in turn, some times over, print the medians, and say whether the limit is kept."""
    print("Weighing open waits; with the defaults it takes about a minute.", file=sys.stderr, flush=True)
    runs: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
    with server(count) as base_url:
        for _ in range(repeats):
            for client, results in runs.items():
                command = [sys.executable, __file__, "--client", client, "--url", base_url, "--waits", str(count)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
                results.append(json.loads(output))
    bare = statistics.median(run["bytes"] for run in runs["bare sleeping task"])
    versions = f"Python {sys.version.split()[0]}, aiohttp {aiohttp.__version__}"
    print(f"{count} open waits, medians of {repeats} runs, {versions}\n")
    print(f"{'client':28}{'bytes a wait':>14}{'times bare':>12}{'tasks a wait':>14}{'descriptors':>13}")
    for client, results in runs.items():
        weight = statistics.median(run["bytes"] for run in results)
        tasks = statistics.median(run["tasks"] for run in results)
        descriptors = statistics.median(run["descriptors"] for run in results)
        print(f"{client:28}{weight:14,.0f}{weight / bare:12.2f}{tasks:14.2f}{descriptors:13.0f}")
    ours = statistics.median(run["bytes"] for run in runs["playai_async"])
    kept = ours <= LIMIT
    print('\n"times bare": how many times the bytes of a bare sleeping task.')
    print(f"The limit is {LIMIT:,} bytes a wait: {'kept' if kept else 'NOT kept'}.")
    return kept


def main() -> int:
    """Read the command line; without --serve or --client, run the comparison. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(arguments.waits))
    elif arguments.client:
        asyncio.run(weigh(arguments.client, arguments.url, arguments.waits))
    elif not compare(arguments.waits, arguments.repeats):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
