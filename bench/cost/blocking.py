"""How long ten thousand open waits block their event loop, for `bench.cost`.

A timer set for every millisecond notes by how much the loop is late for it: for so long nobody else had a turn. What
else the machine did meanwhile is in that. The processor time between two turns of the timer leaves it out; and without
Python's garbage collections, which look at every object of the process, it is what the code itself took. What is
measured, each by itself:

- *opening*: tasks are made a hundred at a time, with a turn of the loop in between, and their first polls go out.
- *polling*: all are open, and are polled as fast as the service answers.
- *cancelling*: the caller cancels all of its tasks at one moment.
- *expiring*: all have their deadline at one moment.
- *closing*: the session is closed while all are open.

Ten thousand tasks of the caller's that wake up at one moment take their time whatever woke them. So bare tasks do the
same: they sleep, are cancelled, or wait for a future each, all of which are done at one moment. What a library takes
beyond them is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import attrs

from bench.cost.clients import DEADLINE, KEY, USER, Setting, aiohttp_loop
from bench.cost.service import job_ids
from tools.loop_lag import Block, Ticker
from tools.processes import Child, read_arguments, serve_commands

WAITS = 10_000

CHUNK = 100
"""Tasks made without a turn of the loop."""

PAUSE = 3.0
"""Seconds between two polls of a job: what asks for more than the service can answer."""

SPELL = 4.0
"""Seconds that polling is watched, and from opening to the common deadline."""


class Crowd:
    """The caller's tasks, and how many of them have ended."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.ended = 0

    async def open(self, wait: Callable[[UUID], Awaitable[object]]) -> None:
        """Make all tasks, without holding up the loop."""
        self.tasks, self.ended = [], 0
        for first in range(0, WAITS, CHUNK):
            self.tasks += [asyncio.create_task(self._caller(wait, job)) for job in JOB_IDS[first : first + CHUNK]]
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until all have ended."""
        while self.ended < WAITS:
            await asyncio.sleep(0.01)

    def cancel(self) -> None:
        """Cancel all at one moment."""
        for task in self.tasks:
            task.cancel()

    async def _caller(self, wait: Callable[[UUID], Awaitable[object]], job: UUID) -> None:
        try:
            with contextlib.suppress(Exception):  # of the deadline, or of the session's end
                await wait(job)
        finally:
            self.ended += 1


JOB_IDS = job_ids(WAITS)

Blocks = dict[str, Block]


async def playai_async(setting: Setting) -> Blocks:
    """This library."""
    from playai_async import PlayAISession, Polling

    polling = Polling(initial=PAUSE, maximum=PAUSE, timeout=DEADLINE)
    blocks: Blocks = {}
    crowd = Crowd()
    playai = PlayAISession(KEY, USER, base_url=setting.url, polling=polling)
    async with playai:
        with Ticker() as ticker:
            await crowd.open(playai.wait_for_completion)
            while playai.stats.requests < WAITS:
                await asyncio.sleep(0.1)
        blocks["opening"] = ticker.block
        with Ticker() as ticker:
            await asyncio.sleep(SPELL)
        blocks["polling"] = ticker.block
        with Ticker() as ticker:
            crowd.cancel()
            await crowd.gone()
        blocks["cancelling"] = ticker.block

        loop = asyncio.get_running_loop()
        deadline = loop.time() + SPELL
        await crowd.open(lambda job: playai.wait_for_completion(job, timeout=deadline - loop.time()))
        assert crowd.ended == 0, "the deadline is after the last was opened"
        with Ticker() as ticker:
            await crowd.gone()
        blocks["expiring"] = ticker.block

        await crowd.open(playai.wait_for_completion)
        with Ticker() as ticker:
            await playai.aclose()
            await crowd.gone()
        blocks["closing"] = ticker.block
    return blocks


async def hand_written(setting: Setting) -> Blocks:
    """The hand-written loop, whose deadlines are `asyncio.timeout`; there is nothing to close."""
    blocks: Blocks = {}
    crowd = Crowd()
    async with aiohttp_loop(setting) as wait:
        with Ticker() as ticker:
            await crowd.open(wait)
            await asyncio.sleep(SPELL)
        blocks["opening"] = ticker.block
        with Ticker() as ticker:
            await asyncio.sleep(SPELL)
        blocks["polling"] = ticker.block
        with Ticker() as ticker:
            crowd.cancel()
            await crowd.gone()
        blocks["cancelling"] = ticker.block

        deadline = asyncio.get_running_loop().time() + SPELL

        async def wait_till_then(job: UUID) -> object:
            async with asyncio.timeout_at(deadline):
                return await wait(job)

        await crowd.open(wait_till_then)
        with Ticker() as ticker:
            await crowd.gone()
        blocks["expiring"] = ticker.block
    return blocks


async def bare_tasks(_: Setting) -> Blocks:
    """Tasks that only sleep, or wait for a future that is made to raise."""
    blocks: Blocks = {}
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    with Ticker() as ticker:
        await crowd.open(lambda _: asyncio.sleep(DEADLINE))
        await asyncio.sleep(SPELL)
    blocks["opening"] = ticker.block
    with Ticker() as ticker:
        await asyncio.sleep(SPELL)
    blocks["polling"] = ticker.block
    with Ticker() as ticker:
        crowd.cancel()
        await crowd.gone()
    blocks["cancelling"] = ticker.block
    futures: list[asyncio.Future[Any]] = []

    def future(_: UUID) -> asyncio.Future[Any]:
        futures.append(loop.create_future())
        return futures[-1]

    await crowd.open(future)
    await asyncio.sleep(0.1)
    with Ticker() as ticker:
        for waited_for in futures:
            waited_for.set_exception(TimeoutError())
        await crowd.gone()
    blocks["expiring"] = blocks["closing"] = ticker.block
    return blocks


SUBJECTS: dict[str, Callable[[Setting], Awaitable[Blocks]]] = {
    "playai_async": playai_async,
    "aiohttp loop": hand_written,
    "bare task": bare_tasks,
}

MOMENTS = ("opening", "polling", "cancelling", "expiring", "closing")


def block(subjects: Sequence[str], *, repeats: int) -> dict[str, list[dict[str, Block]]]:
    """Block the loop of each subject in turn, some times over, each in a process of its own."""
    blocks: dict[str, list[dict[str, Block]]] = {subject: [] for subject in subjects}
    order = list(subjects)
    with Child("bench.cost.service", WAITS) as service:
        url, shaped_url = service.ask("urls")
        setting = Setting(url=url, shaped_url=shaped_url, pause=PAUSE)
        for _ in range(repeats):
            for subject in order:
                with Child("bench.cost.blocking", {"subject": subject, "setting": attrs.asdict(setting)}) as child:
                    found = child.ask("run")
                blocks[subject].append({moment: Block(**measured) for moment, measured in found.items()})
            order.append(order.pop(0))
    return blocks


async def be_subject(subject: str, setting: Setting) -> None:
    """Measure one subject when told to."""

    async def run() -> dict[str, object]:
        return {moment: attrs.asdict(block) for moment, block in (await SUBJECTS[subject](setting)).items()}

    await serve_commands({"run": run})


if __name__ == "__main__":
    arguments = read_arguments()
    asyncio.run(be_subject(arguments["subject"], Setting(**arguments["setting"])))
