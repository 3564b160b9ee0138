"""Break everything at random, and count what got lost: a shared quota on Redis, and durable waits on PostgreSQL.

Three processes share a quota over a Redis, and three workers poll durable waits on a PostgreSQL. A seeded schedule
kills and stops both servers, steps the clock of Redis, kills workers, stops processes, sends bursts and hints, and lets
the service refuse and fail. The service is the emulator, in this process; everything is on loopback and in real time,
with windows of 6 s.

    python -m bench.scale.chaos [--seconds 300] [--seed 1] [--learn]

An account is printed at the end. The exit status is 1 if a wait was lost, if an outcome was not stored exactly once, if
the processes were silent for longer than a window (not counting the time for which a process was stopped), or if too
many requests were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import attrs
import redis
from procrastinate.exceptions import ProcrastinateException
from procrastinate.schema import SchemaManager

from bench.scale.client import CLOCK_KEY
from bench.scale.faults import Fault, plan
from bench.scale.shared_quota import QUOTA, client
from playai_async import Pacing, PlayAISession
from playai_async.contrib.redis import RedisQuota
from playai_async.emulator import Emulator, Reset, Status
from tools.durable_worker import TABLES, Supervised, Work, app_of, session_of
from tools.servers.machine import find_initdb, find_redis_server, free_port
from tools.servers.postgres import Cluster
from tools.servers.redis import RedisServer

WINDOW = 6.0
PROCESSES = 3
WORKERS = 3
DURABLE_QUOTA = 3_000
"""Requests per minute of all workers together."""

DURABLE_RATE = 4.0
"""Durable waits that are stored per second."""

LOAD = 0.25
"""Of the quota, one request for each wait of the first processes. Long jobs need more, and bursts come on top."""

MAX_THROTTLED = 0.1
"""The share of requests that may be refused, apart from those on purpose; short runs are the worst."""

MAX_THROTTLED_LEARNING = 0.15
"""The same if the processes do not know the quota."""

PATIENCE = 240.0
"""Seconds after the faults. A wait that has not ended by then counts as lost."""


@attrs.define
class Account:
    """What happened."""

    faults: collections.Counter[str] = attrs.field(factory=collections.Counter[str])
    waits: int = 0
    processes: int = 0
    stored: int = 0
    refused_on_purpose: int = 0
    stops: list[tuple[float, float]] = attrs.field(factory=list[tuple[float, float]])


class Chaos:
    """One run.

    Args:
        seconds: How long jobs arrive.
        seed: Decides the schedule and the jobs.
        quota: The quota that the processes know, or None if they learn it.
        store: The Redis.
        cluster: The PostgreSQL.
    """

    def __init__(self, seconds: float, seed: int, quota: int | None, store: RedisServer, cluster: Cluster) -> None:
        self._seconds = seconds
        self._seed = seed
        self._quota = quota
        self._redis = store
        self._cluster = cluster
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._service = Emulator(QUOTA, WINDOW, history=1_000_000)
        self._durable = Emulator(DURABLE_QUOTA)
        self._account = Account()
        self._began = time.monotonic()
        self._jobs: list[UUID] = []
        self._clients: list[asyncio.subprocess.Process] = []
        self._results: list[asyncio.Task[tuple[bytes, bytes]]] = []
        self._workers: list[Supervised] = []
        self._hinting: PlayAISession | None = None

    async def perform(self) -> int:
        """Perform the run, print the account, and return the exit status."""
        async with AsyncExitStack() as stack:
            stack.callback(self._kill_clients)
            for emulator in (self._service, self._durable):
                await stack.enter_async_context(emulator)
            work = Work(
                dsn=self._cluster.dsn(), url=self._durable.base_url, quota=DURABLE_QUOTA // WORKERS, concurrency=4
            )
            self._workers = [Supervised(work) for _ in range(WORKERS)]
            for worker in self._workers:
                await stack.enter_async_context(worker.running())
            pacing = Pacing(requests_per_window=self._quota, window=WINDOW, shared=RedisQuota(self._redis.url))
            self._hinting = await stack.enter_async_context(
                PlayAISession("a-key", "a-user", base_url=self._service.base_url, pacing=pacing)
            )
            each = round(LOAD * self._seconds * QUOTA / WINDOW / PROCESSES)
            await asyncio.gather(*(self._start_client(each, long=each // 4) for _ in range(PROCESSES)))
            self._began = time.monotonic()
            lanes = [self._cause(faults) for faults in plan(self._seed, self._seconds)]
            await asyncio.gather(self._store_waits(work), *lanes)
            self._say("the faults are over")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._drain()
            self._kill_clients()
            await asyncio.wait(self._results)
            return await self._report(sum(worker.started for worker in self._workers))

    async def _start_client(self, waits: int, *, long: int = 0) -> None:
        arguments: dict[str, object] = {
            "base_url": self._service.base_url,
            "quota": self._quota,
            "window": WINDOW,
            "redis": self._redis.url,
        }
        process = await client(arguments)
        lengths = [
            self._rng.uniform(0, 0.6 * self._seconds) if number < long else self._rng.lognormvariate(0.7, 0.7)
            for number in range(waits)
        ]
        if long:
            lengths[0] = 0.8 * self._seconds  # so that there is always something to send
        jobs = [self._service.add_job(duration=seconds) for seconds in lengths]
        self._jobs += jobs
        self._clients.append(process)
        self._results.append(
            asyncio.create_task(process.communicate(f"{json.dumps([str(job) for job in jobs])}\n".encode()))
        )
        self._account.waits += waits
        self._account.processes += 1

    async def _store_waits(self, work: Work) -> None:
        """Store durable waits one after another, like a web process whose clients try again."""
        async with session_of(work) as playai:
            app, waits = app_of(work, playai)
            async with app.open_async():
                while time.monotonic() < self._began + 0.8 * self._seconds:
                    job = self._durable.add_job(self._rng.uniform(1.0, 20.0))
                    while True:
                        try:
                            await waits.defer(job, on_done="store")
                            break
                        except ProcrastinateException:  # it may be stored all the same: the outcome has one key
                            await asyncio.sleep(0.5)
                    self._account.stored += 1
                    await asyncio.sleep(1 / DURABLE_RATE)

    async def _cause(self, faults: list[Fault]) -> None:
        """Cause the faults of one lane."""
        happens: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "Redis killed and restarted": self._restart_redis,
            "Redis stopped for a while": self._stop_redis,
            "Redis clock step": self._step_clock,
            "PostgreSQL restarted": self._restart_postgres,
            "PostgreSQL stopped for a while": self._stop_postgres,
            "worker killed": self._kill_worker,
            "429 with Retry-After": self._refuse,
            "503": self._fail,
            "connection reset": self._fail,
            "process stopped for a while": self._stop_client,
            "burst of a new process": self._burst,
            "hints": self._hint,
        }
        for fault in faults:
            await asyncio.sleep(max(0.0, self._began + fault.at - time.monotonic()))
            self._say(f"{fault.kind}, {fault.lasts:.1f} s")
            await happens[fault.kind](fault)
            self._account.faults[fault.kind] += 1

    async def _restart_redis(self, fault: Fault) -> None:
        self._redis.kill()
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self._redis.start)

    async def _stop_redis(self, fault: Fault) -> None:
        with self._redis.frozen():
            await asyncio.sleep(fault.lasts)

    async def _step_clock(self, fault: Fault) -> None:
        step = fault.size if fault.size % 2 else -fault.size

        def set_clock() -> None:
            with self._redis.client() as store, contextlib.suppress(redis.RedisError):
                store.set(CLOCK_KEY, step)

        await asyncio.to_thread(set_clock)

    async def _restart_postgres(self, fault: Fault) -> None:
        await asyncio.to_thread(self._cluster.stop)
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(self._cluster.start)

    async def _stop_postgres(self, fault: Fault) -> None:
        with self._cluster.frozen():
            await asyncio.sleep(fault.lasts)

    async def _kill_worker(self, fault: Fault) -> None:
        self._workers[fault.size % WORKERS].kill()

    async def _refuse(self, fault: Fault) -> None:
        self._account.refused_on_purpose += 1
        self._service.inject(Status(429, headers={"Retry-After": f"{fault.lasts:.0f}"}))

    async def _fail(self, fault: Fault) -> None:
        times = fault.size % 3 + 1
        self._service.inject(Status(503) if fault.kind == "503" else Reset(), times=times)
        self._durable.inject(Status(503) if fault.kind == "503" else Reset(), times=times)

    async def _stop_client(self, fault: Fault) -> None:
        running = [process for process in self._clients if process.returncode is None]
        if not running:
            return
        process = running[fault.size % len(running)]
        began = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(fault.lasts)
        self._account.stops.append((began, time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)

    async def _burst(self, fault: Fault) -> None:
        await self._start_client(fault.size)

    async def _hint(self, fault: Fault) -> None:
        assert self._hinting is not None
        for job in self._rng.sample(self._jobs, min(fault.size, len(self._jobs))):
            self._hinting.hint(job)

    async def _drain(self) -> None:
        """Wait for the ends of all processes, and of all durable waits."""
        await asyncio.wait(self._results)
        self._say("the processes have ended")
        while await self._count("ended") < self._account.stored:
            await asyncio.sleep(0.5)
        self._say("the durable waits have ended")

    def _kill_clients(self) -> None:
        for process in self._clients:
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)

    async def _count(self, what: str) -> int:
        rows = await asyncio.to_thread(self._cluster.execute, f"SELECT count(*) FROM {what}")  # noqa: S608 - ours
        return int(rows[0][0])

    def _silences(self) -> Iterator[tuple[float, float]]:
        """Yield the pauses between two requests, and when each began, apart from the time of a stopped process.

        It may have been the only process with something to send, or the one that probes.
        """
        arrivals = sorted(arrival.at for arrival in self._service.arrivals)
        for earlier, later in itertools.pairwise(arrivals):
            stopped = sum(max(0.0, min(later, end) - max(earlier, begin)) for begin, end in self._account.stops)
            yield later - earlier - stopped, earlier - self._began

    async def _report(self, workers: int) -> int:
        """Print the account; return 1 if a promise was broken."""
        account, service = self._account, self._service.stats
        outputs = [json.loads(task.result()[0]) for task in self._results if task.result()[0]]
        lost = account.waits - sum(output["waits"] - output["lost"] for output in outputs)
        silence, since = max(self._silences())
        refused = service.throttled - account.refused_on_purpose
        most = MAX_THROTTLED if self._quota else MAX_THROTTLED_LEARNING
        keys, calls = await self._count("ended"), await self._count("calls")
        handled = await self._count("(SELECT DISTINCT job_id FROM ended WHERE key LIKE '%COMPLETED') AS handled")
        faults = "\n".join(f"  {number:>4} {kind}" for kind, number in sorted(account.faults.items()))
        print(
            f"seed {self._seed}, {self._seconds:g} s of faults, {time.monotonic() - self._began:.0f} s in all\n"
            f"faults: {account.faults.total()}\n{faults}\n"
            f"shared quota: {account.processes} processes, {account.waits} waits, lost: {lost}\n"
            f"  requests: {service.requests}; 429s: {refused} ({refused / service.requests:.1%}), "
            f"and {account.refused_on_purpose} on purpose; longest silence: {silence:.1f} s, from {since:.1f} s on\n"
            f"durable waits: {account.stored}, lost: {account.stored - handled}\n"
            f"  handler calls: {calls}; outcomes by key: {keys}; polls: {self._durable.stats.requests}; "
            f"worker processes: {workers}"
        )
        promises = {
            "a wait was lost": lost == 0 and handled == account.stored,
            "an outcome was not stored exactly once": keys == account.stored,
            "too many requests were refused": refused <= most * service.requests,
            "the processes were silent for too long": silence <= WINDOW,
        }
        broken = [complaint for complaint, kept in promises.items() if not kept]
        print(f"FAILED: {'; '.join(broken)}." if broken else "PASSED: no promise was broken.")
        return 1 if broken else 0

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {words}", file=sys.stderr, flush=True)


def main() -> int:
    """Parse the command line, perform the run, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0, metavar="S", help="how long the faults last (300)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides the faults and the jobs (1)")
    parser.add_argument("--learn", action="store_true", help="the processes do not know the shared quota")
    arguments = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # PostgreSQL is stopped on purpose
    initdb, redis_server = find_initdb(), find_redis_server()
    if initdb is None or redis_server is None:
        parser.error("initdb or redis-server was not found: install PostgreSQL and Redis")
    with (
        tempfile.TemporaryDirectory(prefix="redis") as directory,
        RedisServer(redis_server, Path(directory)) as store,
        Cluster(initdb.resolve().parent, free_port()) as cluster,
    ):
        cluster.execute(SchemaManager.get_schema())
        cluster.execute(TABLES)
        quota = None if arguments.learn else QUOTA
        return asyncio.run(Chaos(arguments.seconds, arguments.seed, quota, store, cluster).perform())


if __name__ == "__main__":
    sys.exit(main())
