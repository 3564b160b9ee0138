"""A soak: thousands of waits in every public way, against a service that everything befalls, for minutes.

The service is the emulator, in a process of its own: it meets faults, restarts, and changes of its quotas, all drawn
from the seed. So are the callers: how each waits, for what, how long, and how it leaves. At the end the service is
calm, and nobody new comes. Then every wait must be accounted for exactly once, every result and every error be right,
and nothing be left: no task, no descriptor, no part of a file, no warning, and no more memory than after warming up.

    python -m tests.soak [--seconds 600] [--seed 1] [--waits 3000]

It prints its account. The exit status is 1 where a promise was broken; it says which, and whose.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
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
from tests.soak.report import account_of, verdict_of
from tests.soak.sessions import SEATS, Sessions
from tests.soak.vitals import Complaints, Memory, Vitals
from tools.processes import Child, open_descriptors

FILLING = 6.5
"""Seconds in which all waits may be opened; it bounds the callers, and by them the requests."""

TICK = 0.02
"""Seconds between two openings."""

FAREWELL = 10.0
"""Seconds after which a task that was cancelled, or whose session was closed, will never end."""


class Run:
    """The client's side of a soak.

    Args:
        account: What is accounted for.
        service: Where the service is, when the soak begins, and how long the service's windows are.
        directory: Where audio goes.

    Attributes:
        vitals: How the process is.
        sessions: The sessions.
        objects_left: How many more objects there are at the end than at the beginning.
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

    async def perform(self) -> None:
        """Soak, and see everybody off."""
        Complaints(lambda words: self._account.breach(f"at {self._account.now:.3f} s: {words}")).listen()
        PlayAISession("no-key", "nobody")  # what the first one imports stays for good, and is not what a wait leaves
        descriptors, objects = open_descriptors(), sys.getallocatedblocks()
        vitals = asyncio.create_task(self.vitals.watch())
        await asyncio.sleep(-self._account.now)
        self.sessions.open()
        await self._open_waits()
        await self._calm()
        await self._part()
        vitals.cancel()
        await asyncio.wait([vitals])
        gc.collect()  # what was forgotten complains when it is collected
        await asyncio.sleep(0.1)
        self.objects_left = sys.getallocatedblocks() - objects
        self._account.balance()
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            self._account.breach(f"{len(left)} tasks are left, such as {next(iter(left))!r}")
        if (found := open_descriptors()) > descriptors:
            self._account.breach(f"{found} descriptors are open, and were {descriptors} before")

    async def _open_waits(self) -> None:
        """Keep so many waits open, until the storm is over."""
        account, soak = self._account, self._soak
        number = 0
        while account.now < soak.stormy:
            allowed = account.now * soak.waits / FILLING
            for _ in range(20):
                if len(account.open) >= soak.waits or account.opened.total() >= allowed:
                    break
                task = asyncio.create_task(
                    self._callers.perform(caller_of(soak, number, SEATS)), name=f"caller {number}"
                )
                self._tasks.add(task)
                task.add_done_callback(self._ended)
                number += 1
                await asyncio.sleep(0)
            await asyncio.sleep(TICK)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and not self._account.ending:
            self._account.breach(f"{task.get_name()} was cancelled by nobody")
        elif not task.cancelled() and (error := task.exception()) is not None:
            self._account.breach(f"{task.get_name()} failed: {error!r}")

    async def _calm(self) -> None:
        """Let all waits end that can, and find those that do not."""
        account = self._account
        await self.sessions.stay()
        calm_since = account.now
        while account.now < self._soak.seconds and account.open:
            await asyncio.sleep(0.2)
        lost = account.lost(calm_since, self.sessions.queue)
        if lost:
            account.breach(f"{len(lost)} waits are lost at {account.now:.3f} s; sessions: {self.sessions}")
        for wait, why in lost.items():
            account.breach(f"{wait}: it is lost; {why}")

    async def _part(self) -> None:
        """Cancel half of those that are left, close the sessions under the others, and see all off."""
        self._account.ending = True
        leaving = list(self._tasks)[::2]
        for task in leaving:
            task.cancel()
        if leaving:
            _, staying = await asyncio.wait(leaving, timeout=FAREWELL)
            for task in staying:
                self._account.breach(f"{task.get_name()} was cancelled, and goes on: {task!r}")
        await self.sessions.close()
        if self._tasks:
            _, staying = await asyncio.wait(self._tasks, timeout=FAREWELL)
            for task in staying:
                self._account.breach(f"{task.get_name()} goes on without its session: {task!r}")


def soak(asked: Soak) -> int:
    """Do it, and print the account. Return the exit status."""
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
            account.breach(f"{path} is left")
        report = service.ask("report")
        account.explain(History.of(report), report["created"])
    memory = Memory.of(run.vitals.samples, asked.stormy, run.objects_left)
    text = account_of(account, run.sessions, run.vitals, memory, report)
    print(f"{text}\ntook: {time.monotonic() - began:.0f} s")
    print(f"\n{verdict_of(account, f'python -m tests.soak {shlex.join(sys.argv[1:])}')}")
    return 1 if account.breaches else 0


def main() -> int:
    """Read the command line, and soak. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, at least 20")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--waits", type=int, default=3000, help="open at once")
    arguments = parser.parse_args()
    if arguments.seconds < 20:
        parser.error("in less than 20 seconds nothing warms up")
    warnings.simplefilter("error")
    return soak(Soak(seed=arguments.seed, seconds=arguments.seconds, waits=arguments.waits))


if __name__ == "__main__":
    sys.exit(main())
