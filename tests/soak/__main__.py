"""A soak test: thousands of waits through every public method, against a service with random faults, for minutes.

The service is the emulator in a separate process. The seed decides its faults, restarts and quota changes. The seed
also decides the callers: which method each calls, for which jobs, how long it waits, and how it leaves. At the end the
faults stop, and no new caller starts. Then every wait must have ended exactly once, with the right result or an
explained error, and nothing may be left over: no task, no file descriptor, no partial file, no warning, and no more
memory than after warming up.

    python -m tests.soak [--seconds 600] [--seed 1] [--waits 3000]

Prints its results. The exit status is 1 if a promise was broken; the output says which promise and which caller.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import shlex
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import attrs

from playai_async import PlayAISession
from tests.soak.account import Account
from tests.soak.callers import Callers
from tests.soak.oracle import History
from tests.soak.plan import Soak, caller_of
from tests.soak.report import format_account, format_verdict
from tests.soak.sessions import SLOTS, Sessions
from tests.soak.vitals import ErrorListener, Memory, RaisingFilter, Vitals
from tools.processes import Child, open_descriptors

OPENING_SECONDS = 6.5
"""Seconds in which all waits may be opened. This limits the number of callers, and so the number of requests."""

TICK = 0.02
"""Seconds between two rounds of opening waits."""

END_TIMEOUT = 10.0
"""Seconds to wait for a task that was cancelled, or whose session was closed. A task that takes longer never ends."""


class Run:
    """The client side of a soak.

    Args:
        account: Records and checks all waits.
        service: The URL of the service, the time at which the soak begins, and the length of the windows.
        directory: Where audio files are written.

    Attributes:
        vitals: Measurements of this process.
        sessions: The sessions.
        objects_left: How many more objects exist at the end than at the beginning.
        raising_filter: A log filter that raises at random.
    """

    def __init__(self, account: Account, service: dict[str, Any], directory: Path) -> None:
        self._account = account
        self._soak = account.soak
        account.begins = service["begins"]
        self.vitals = Vitals(lambda: account.now, lambda: len(account.open))
        account.slack = self.vitals.lateness
        self.sessions = Sessions(account, service["url"], service["window"])
        account.is_polled = self.sessions.is_polled
        self._callers = Callers(account, self.sessions.at, directory)
        self._tasks: set[asyncio.Task[None]] = set()
        self.objects_left = 0
        self.raising_filter = RaisingFilter(self._soak.seed)

    async def perform(self) -> None:
        """Run the soak until all waits have ended."""
        logger = logging.getLogger("playai_async")
        logger.setLevel(logging.DEBUG)
        logger.addFilter(self.raising_filter)
        ErrorListener(lambda words: self._account.violation(f"at {self._account.now:.3f} s: {words}")).listen()
        PlayAISession("no-key", "nobody")  # its imports stay loaded, and must not count as a leak
        descriptors, objects = open_descriptors(), sys.getallocatedblocks()
        vitals = asyncio.create_task(self.vitals.watch())
        await asyncio.sleep(-self._account.now)
        self.sessions.open()
        await self._open_waits()
        await self._wait_for_the_rest()
        await self._close_down()
        vitals.cancel()
        await asyncio.wait([vitals])
        gc.collect()  # abandoned objects warn when they are collected
        await asyncio.sleep(0.1)
        self.objects_left = sys.getallocatedblocks() - objects
        self._account.check_totals()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            self._account.violation(f"{len(left)} tasks are still running, such as {next(iter(left))!r}")
        if (found := open_descriptors()) > descriptors:
            self._account.violation(f"{found} file descriptors are open at the end, {descriptors} at the beginning")

    async def _open_waits(self) -> None:
        """Keep the requested number of waits open until the faults stop."""
        account, soak = self._account, self._soak
        number = 0
        while account.now < soak.fault_seconds:
            allowed = account.now * soak.waits / OPENING_SECONDS
            for _ in range(20):
                if len(account.open) >= soak.waits or account.opened.total() >= allowed:
                    break
                task = asyncio.create_task(
                    self._callers.perform(caller_of(soak, number, SLOTS)), name=f"caller {number}"
                )
                self._tasks.add(task)
                task.add_done_callback(self._ended)
                number += 1
                await asyncio.sleep(0)
            await asyncio.sleep(TICK)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and not self._account.ending:
            self._account.violation(f"{task.get_name()} was cancelled, but not by the soak")
        elif not task.cancelled() and (error := task.exception()) is not None:
            self._account.violation(f"{task.get_name()} failed: {error!r}")

    async def _wait_for_the_rest(self) -> None:
        """Wait until all waits that can end have ended, and report the others."""
        account = self._account
        await self.sessions.stop_replacing()
        calm_since = account.now
        while account.now < self._soak.seconds and account.open:
            await asyncio.sleep(0.2)
        lost = account.lost(calm_since, self.sessions.queue)
        if lost:
            account.violation(f"{len(lost)} waits were lost at {account.now:.3f} s; sessions: {self.sessions}")
        for wait, why in lost.items():
            account.violation(f"{wait}: lost; {why}")

    async def _close_down(self) -> None:
        """Cancel half of the remaining callers, close the sessions of the others, and wait for all of them."""
        self._account.ending = True
        leaving = list(self._tasks)[::2]
        for task in leaving:
            task.cancel()
        if leaving:
            _, staying = await asyncio.wait(leaving, timeout=END_TIMEOUT)
            for task in staying:
                self._account.violation(f"{task.get_name()} was cancelled but is still running: {task!r}")
        await self.sessions.close()
        if self._tasks:
            _, staying = await asyncio.wait(self._tasks, timeout=END_TIMEOUT)
            for task in staying:
                self._account.violation(f"{task.get_name()} is still running after its session was closed: {task!r}")


def soak(asked: Soak) -> int:
    """Run a soak, print the results, and return the exit status."""
    began = time.monotonic()
    with (
        Child("tests.soak.service", attrs.asdict(asked)) as service,
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryFile("w+", encoding="utf-8") as journal,
    ):
        account = Account(asked, journal)
        directory = Path(name)
        begin = service.ask("begin")

        async def perform() -> Run:
            run = Run(account, begin, directory)
            await run.perform()
            return run

        run = asyncio.run(perform())
        for path in directory.rglob("*"):
            account.violation(f"{path} was not deleted")
        report = service.ask("report")
        account.check_history(History.of(report), report["created"])
    memory = Memory.of(run.vitals.samples, asked.fault_seconds, run.objects_left)
    text = format_account(account, run.sessions, run.vitals, memory, report)
    if not run.raising_filter.raised:
        account.violation("the log filter never raised")
    print(f"{text}\nlog records whose filter raised: {run.raising_filter.raised:,}")
    print(f"duration: {time.monotonic() - began:.0f} s")
    print(f"\n{format_verdict(account, f'python -m tests.soak {shlex.join(sys.argv[1:])}')}")
    return 1 if account.violations else 0


def main() -> int:
    """Parse the command line, run the soak, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="duration, at least 20")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--waits", type=int, default=3000, help="open at once")
    arguments = parser.parse_args()
    if arguments.seconds < 20:
        parser.error("--seconds must be at least 20: a soak has to warm up")
    warnings.simplefilter("error")
    return soak(Soak(seed=arguments.seed, seconds=arguments.seconds, waits=arguments.waits))


if __name__ == "__main__":
    sys.exit(main())
