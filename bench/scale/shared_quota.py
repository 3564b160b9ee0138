"""Measure how well several processes share a quota over Redis, and what happens when Redis is killed.

The emulator runs in this process and the clients in separate processes, all on loopback and in real time. Time is
scaled: with a window of 6 s instead of 60 s, jobs, pauses and everything that depends on the window are ten times
shorter.

    python -m bench.scale.shared_quota [--short]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
from pathlib import Path

import attrs

from playai_async.emulator import Emulator
from tools.servers.machine import find_redis_server
from tools.servers.redis import RedisServer

QUOTA = 60
PROCESSES = 4
MEDIAN = 20 / 60
"""The median length of a job, in windows: 20 s of 60 s."""

MAX_RATIO = 1.15
"""How many times longer several processes may take than one process."""

MAX_THROTTLED = 0.1
"""The share of requests that may receive a 429 while Redis is down."""


@attrs.frozen
class Outcome:
    """The result of one run."""

    seconds: float
    lost: int
    requests: int
    throttled: int
    by_process: list[int]

    def line(self, name: str) -> str:
        """Return a row of the table."""
        share = self.throttled / self.requests
        return (
            f"{name:<34}{self.seconds:>8.1f}{self.requests:>10}{self.throttled:>6}{share:>8.1%}{self.lost:>6}"
            f"   {', '.join(map(str, self.by_process))}"
        )


async def client(arguments: dict[str, object]) -> asyncio.subprocess.Process:
    """Start one process, and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scale.client", json.dumps(arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def run(
    processes: int, waits: int, window: float, redis: RedisServer | None, outage: tuple[float, float] | None = None
) -> Outcome:
    """Wait for a number of jobs in each process.

    Args:
        processes: The number of processes.
        waits: The number of jobs of each process.
        window: Seconds of the service's windows.
        redis: The shared quota; None: each process has the quota to itself.
        outage: After how many seconds Redis is killed, and for how many seconds it stays down; None: never.
    """
    rng = random.Random(1)  # noqa: S311 - repeatable, not secret
    async with Emulator(QUOTA, window) as emulator:
        arguments = {
            "base_url": emulator.base_url,
            "quota": QUOTA,
            "window": window,
            "redis": None if redis is None else redis.url,
        }
        clients = await asyncio.gather(*(client(arguments) for _ in range(processes)))
        for process in clients:
            work = [rng.lognormvariate(math.log(MEDIAN * window), 0.7) for _ in range(waits)]
            ids = [str(emulator.add_job(duration=seconds)) for seconds in work]
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(ids)}\n".encode())
        if outage is not None and redis is not None:
            begins, lasts = outage
            await asyncio.sleep(begins)
            redis.kill()
            await asyncio.sleep(lasts)
            await asyncio.to_thread(redis.start)
        outputs = [await process.communicate() for process in clients]
        ends = [json.loads(output) for output, _ in outputs]
        return Outcome(
            seconds=max(end["seconds"] for end in ends),
            lost=sum(end["lost"] for end in ends),
            requests=emulator.stats.requests,
            throttled=emulator.stats.throttled,
            by_process=[end["requests"] for end in ends],
        )


def main() -> int:
    """Print the table; return 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.shared_quota",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--short", action="store_true", help="a fifth of the waits and shorter windows, about half a minute"
    )
    short = parser.parse_args().short
    waits, window = (50, 3.0) if short else (250, 6.0)
    ideal = PROCESSES * waits / QUOTA * window
    print(f"{PROCESSES} x {waits} waits, {QUOTA} requests per {window:g} s; the lower bound is {ideal:.0f} s")
    print(f"{'':<34}{'seconds':>8}{'requests':>10}{'429s':>6}{'':>8}{'lost':>6}   requests per process")
    program = find_redis_server()
    if program is None:
        parser.error("redis-server was not found: install Redis")
    with tempfile.TemporaryDirectory(prefix="redis") as directory, RedisServer(program, Path(directory)) as redis:
        alone = asyncio.run(run(1, PROCESSES * waits, window, None))
        print(alone.line("one process, no shared quota"), flush=True)
        together = asyncio.run(run(PROCESSES, waits, window, redis))
        print(together.line(f"{PROCESSES} processes, one Redis"), flush=True)
        outage = asyncio.run(run(PROCESSES, waits, window, redis, (ideal / 3, max(2 * window, ideal / 6))))
        print(outage.line("the same, Redis down for a while"), flush=True)
    ratio = together.seconds / alone.seconds
    print(f"{PROCESSES} processes took {ratio:.2f} times as long as one process.")
    passed = [
        together.throttled == together.lost == outage.lost == 0,
        ratio <= MAX_RATIO,
        outage.throttled < MAX_THROTTLED * outage.requests,
    ]
    print("PASSED: no limit was exceeded." if all(passed) else "FAILED: a limit was exceeded; see above.")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
