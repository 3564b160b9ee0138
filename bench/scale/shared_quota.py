"""How well do processes share a quota over Redis, and what does it cost them when Redis is killed?

Runs the emulator in this process, and the clients in processes of their own, all on loopback and in real time. Time is
scaled: with a window of 6 s in place of 60, jobs, pauses and all that hangs on the window are ten times as short.

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
"""Of what a job takes, in windows: 20 s of 60."""

LONGEST = 1.15
"""How much longer several processes may take than one."""

MOST_429S = 0.1
"""The share of requests that may be refused while Redis is away."""


@attrs.frozen
class Outcome:
    """What one run came to."""

    seconds: float
    lost: int
    requests: int
    throttled: int
    by_process: list[int]

    def line(self, name: str) -> str:
        """One line of the table."""
        share = self.throttled / self.requests
        return (
            f"{name:<34}{self.seconds:>8.1f}{self.requests:>10}{self.throttled:>6}{share:>8.1%}{self.lost:>6}"
            f"   {', '.join(map(str, self.by_process))}"
        )


async def client(told: dict[str, object]) -> asyncio.subprocess.Process:
    """Start one process, and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scale.client", json.dumps(told)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def run(
    processes: int, waits: int, window: float, redis: RedisServer | None, outage: tuple[float, float] | None = None
) -> Outcome:
    """Wait for so many jobs in each process, with Redis killed for a while, if so said: from when, and how long."""
    dice = random.Random(1)  # noqa: S311 - repeatable, not secret
    async with Emulator(QUOTA, window) as emulator:
        told = {
            "base_url": emulator.base_url,
            "quota": QUOTA,
            "window": window,
            "redis": None if redis is None else redis.url,
        }
        clients = await asyncio.gather(*(client(told) for _ in range(processes)))
        for process in clients:
            work = [dice.lognormvariate(math.log(MEDIAN * window), 0.7) for _ in range(waits)]
            ids = [str(emulator.add_job(duration=seconds)) for seconds in work]
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(ids)}\n".encode())
        if outage is not None and redis is not None:
            begins, lasts = outage
            await asyncio.sleep(begins)
            redis.kill()
            await asyncio.sleep(lasts)
            await asyncio.to_thread(redis.start)
        told_by = [await process.communicate() for process in clients]
        ends = [json.loads(words) for words, _ in told_by]
        return Outcome(
            seconds=max(end["seconds"] for end in ends),
            lost=sum(end["lost"] for end in ends),
            requests=emulator.stats.requests,
            throttled=emulator.stats.throttled,
            by_process=[end["requests"] for end in ends],
        )


def main() -> int:
    """Print the table; return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a fifth of the waits, in shorter windows: half a minute")
    short = parser.parse_args().short
    waits, window = (50, 3.0) if short else (250, 6.0)
    ideal = PROCESSES * waits / QUOTA * window
    print(
        f"{PROCESSES} x {waits} waits, {QUOTA} requests in {window:g} s; no client could be faster than {ideal:.0f} s"
    )
    print(f"{'':<34}{'seconds':>8}{'requests':>10}{'429s':>6}{'':>8}{'lost':>6}   requests of each")
    program = find_redis_server()
    if program is None:
        parser.error("there is no redis-server on the path: install Redis")
    with tempfile.TemporaryDirectory(prefix="redis") as directory, RedisServer(program, Path(directory)) as redis:
        alone = asyncio.run(run(1, PROCESSES * waits, window, None))
        print(alone.line("one process, the quota to itself"), flush=True)
        together = asyncio.run(run(PROCESSES, waits, window, redis))
        print(together.line(f"{PROCESSES} processes, one Redis"), flush=True)
        bereft = asyncio.run(run(PROCESSES, waits, window, redis, (ideal / 3, max(2 * window, ideal / 6))))
        print(bereft.line("the same, Redis killed for a while"), flush=True)
    ratio = together.seconds / alone.seconds
    print(f"{PROCESSES} processes took {ratio:.2f} times as long as one.")
    kept = [
        together.throttled == together.lost == bereft.lost == 0,
        ratio <= LONGEST,
        bereft.throttled < MOST_429S * bereft.requests,
    ]
    print("KEPT: all that is promised." if all(kept) else "BROKEN: see above.")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
