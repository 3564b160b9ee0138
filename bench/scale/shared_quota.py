"""Measure how well several processes share a quota over Redis, also in bad nights.

In bad nights, Redis is killed, or replaced by its replica, or its clock steps by a minute or two.

The emulator runs in this process and the clients in separate processes, all on loopback and in real time. Time is
scaled: with a window of 6 s instead of 60 s, jobs, pauses and everything that depends on the window are ten times
shorter.

    python -m bench.scale.shared_quota [--short]
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from bench.scale.client import CLOCK_KEY
from playai_async.emulator import Emulator
from tools.servers.machine import find_redis_server
from tools.servers.redis import RedisServer, SentinelServers

QUOTA = 60
PROCESSES = 4
MEDIAN = 20 / 60
"""The median length of a job, in windows: 20 s of 60 s."""

MAX_RATIO = 1.05
"""How many times longer several processes may take than one process."""

MAX_THROTTLED = 0.02
"""The share of requests that may receive a 429 in a bad night."""

MAX_THROTTLED_LEARNING = 0.1
"""The same if the processes do not know the quota."""

MAX_RATIO_LEARNING = 1.3
"""How many times longer such processes may take than one process that knows it."""

CLOCK_STEP = 60.0
"""Seconds."""


@attrs.frozen
class Outcome:
    """The result of one run."""

    seconds: float
    lost: int
    requests: int
    throttled: int
    by_process: list[int]
    silence: float
    most: int

    def line(self, name: str) -> str:
        """Return a row of the table."""
        share = self.throttled / self.requests
        return (
            f"{name:<34}{self.seconds:>8.1f}{self.requests:>10}{self.throttled:>6}{share:>8.1%}{self.lost:>6}{self.most:>6}"
            f"{self.silence:>8.2f}"
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
    processes: int,
    waits: int,
    window: float,
    url: str | None,
    night: tuple[float, Callable[[], None]] | None = None,
    *,
    quota: int | None = QUOTA,
) -> Outcome:
    """Wait for a number of jobs in each process.

    Args:
        processes: The number of processes.
        waits: The number of jobs of each process.
        window: Seconds of the service's windows.
        url: The URL of the Redis that they share; None: each process has the quota to itself.
        night: After how many seconds something happens to Redis, and what; None: nothing.
        quota: The quota that the processes know, or None if they learn it.
    """
    rng = random.Random(1)  # noqa: S311 - repeatable, not secret
    async with Emulator(QUOTA, window) as emulator:
        arguments: dict[str, object] = {
            "base_url": emulator.base_url,
            "quota": quota,
            "window": window,
            "redis": url,
        }
        clients = await asyncio.gather(*(client(arguments) for _ in range(processes)))
        for process in clients:
            work = [rng.lognormvariate(math.log(MEDIAN * window), 0.7) for _ in range(waits)]
            ids = [str(emulator.add_job(duration=seconds)) for seconds in work]
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(ids)}\n".encode())
        if night is not None:
            begins, happens = night
            await asyncio.sleep(begins)
            await asyncio.to_thread(happens)
        outputs = [await process.communicate() for process in clients]
        sent = sorted(arrival.at for arrival in emulator.arrivals)
        ends = [json.loads(output) for output, _ in outputs]
        return Outcome(
            seconds=max(end["seconds"] for end in ends),
            lost=sum(end["lost"] for end in ends),
            requests=emulator.stats.requests,
            throttled=emulator.stats.throttled,
            by_process=[end["requests"] for end in ends],
            silence=max(later - earlier for earlier, later in itertools.pairwise(sent)),
            most=max(bisect.bisect_left(sent, at + window) - index for index, at in enumerate(sent)),
        )


def within_limits(alone: Outcome, together: Outcome, learning: Outcome, nights: list[Outcome], window: float) -> bool:
    """Return whether no limit was exceeded, by processes that know the quota or learn it, and in bad nights."""
    shared = (together, learning, *nights)
    return (
        together.throttled == 0
        and together.most <= QUOTA
        and together.seconds <= MAX_RATIO * alone.seconds
        and learning.throttled <= MAX_THROTTLED_LEARNING * learning.requests
        and learning.seconds <= MAX_RATIO_LEARNING * alone.seconds
        and all(night.throttled <= MAX_THROTTLED * night.requests for night in nights)
        and all(each.lost == 0 and each.silence <= window for each in shared)
    )


def main() -> int:
    """Print the table; return 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.shared_quota",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="a fifth of the waits and shorter windows, about a minute")
    short = parser.parse_args().short
    waits, window = (50, 3.0) if short else (250, 6.0)
    ideal = PROCESSES * waits / QUOTA * window
    print(f"{PROCESSES} x {waits} waits, {QUOTA} requests per {window:g} s; the lower bound is {ideal:.0f} s")
    print(f"{'':<34}{'seconds':>8}{'requests':>10}{'429s':>6}{'':>8}{'lost':>6}{'most':>6}{'silence':>8}   per process")
    program = find_redis_server()
    if program is None:
        parser.error("redis-server was not found: install Redis")
    at = ideal / 3

    def kill(redis: RedisServer) -> None:
        redis.kill()
        time.sleep(max(2 * window, ideal / 6))
        redis.start()

    def fail_over(servers: SentinelServers) -> None:
        servers.primary.kill()
        servers.wait_for_failover()

    def step(redis: RedisServer, seconds: float) -> None:
        with redis.client() as store:
            store.set(CLOCK_KEY, seconds)

    def measure(
        name: str,
        processes: int,
        url: str | None,
        happens: Callable[[], None] | None = None,
        *,
        quota: int | None = QUOTA,
    ) -> Outcome:
        night = None if happens is None else (at, happens)
        outcome = asyncio.run(run(processes, PROCESSES * waits // processes, window, url, night, quota=quota))
        print(outcome.line(name), flush=True)
        return outcome

    with tempfile.TemporaryDirectory(prefix="redis") as directory, RedisServer(program, Path(directory)) as redis:
        alone = measure("one process, no shared quota", 1, None)
        together = measure(f"{PROCESSES} processes, one Redis", PROCESSES, redis.url)
        learning = measure(f"{PROCESSES} processes learn the quota", PROCESSES, redis.url, quota=None)
        nights = [
            measure("Redis is killed, and back later", PROCESSES, redis.url, partial(kill, redis)),
            measure("its clock steps back 60 s", PROCESSES, redis.url, partial(step, redis, -CLOCK_STEP)),
            measure("its clock steps forward 120 s", PROCESSES, redis.url, partial(step, redis, CLOCK_STEP)),
        ]
    with tempfile.TemporaryDirectory(prefix="redis") as directory, SentinelServers(program, Path(directory)) as servers:
        nights.append(measure("Sentinel fails over", PROCESSES, servers.url, partial(fail_over, servers)))
    print(f"{PROCESSES} processes took {together.seconds / alone.seconds:.2f} times as long as one process.")
    passed = within_limits(alone, together, learning, nights, window)
    print("PASSED: no limit was exceeded." if passed else "FAILED: a limit was exceeded; see above.")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
