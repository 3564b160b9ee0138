"""Measure for how long 10,000 open waits block their event loop, for `bench.cost`.

A timer callback is scheduled for every millisecond. While the loop is late for the callback, no other task can run. The
wall-clock time includes everything else that the machine does. The processor time between two callbacks does not.
Without Python's garbage collections, which look at every object of the process, it is the time of the code itself. The
phases, each measured separately:

- *opening*: tasks are created, 100 per iteration of the loop, and their first polls are sent.
- *polling*: all waits are open, and are polled as fast as the service responds.
- *cancelling*: the caller cancels all of its tasks at the same time.
- *expiring*: all waits reach their deadline at the same time.
- *closing*: the session is closed while all waits are open.

10,000 tasks of the caller that wake up at the same time block the loop whatever woke them. So bare tasks are measured
too: they sleep and are cancelled, or each waits for a future, and all futures are resolved at the same time. The
difference between a library and bare tasks is the cost of the library.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import attrs

from bench.cost.clients import DEADLINE, KEY, USER, Setting, aiohttp_loop
from bench.cost.service import job_ids
from tools.loop_lag import Block, Ticker
from tools.processes import Child, read_arguments, serve_commands

WAITS = 10_000

CHUNK = 100
"""Tasks created per iteration of the loop."""

PAUSE = 3.0
"""Seconds between two polls of a job. This asks for more polls than the service can answer."""

PHASE = 4.0
"""Seconds that polling is measured, and seconds from opening to the common deadline."""


class OpenWaits:
    """The tasks of the caller, one per job.

    Attributes:
        ended: How many tasks have ended.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, wait: Callable[[UUID], Awaitable[object]]) -> None:
        """Create a task per job, and run each until it waits."""
        self.ended = 0
        self._tasks = []
        for start in range(0, WAITS, CHUNK):
            self._tasks += [asyncio.create_task(self._run(wait, job)) for job in JOB_IDS[start : start + CHUNK]]
            await asyncio.sleep(0)

    async def join(self) -> None:
        """Wait until all tasks have ended."""
        while self.ended < WAITS:
            await asyncio.sleep(0.01)

    def cancel(self) -> None:
        """Cancel all tasks at the same time."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, wait: Callable[[UUID], Awaitable[object]], job: UUID) -> None:
        try:
            with contextlib.suppress(Exception):  # the deadline, or the end of the session
                await wait(job)
        finally:
            self.ended += 1


JOB_IDS = job_ids(WAITS)

Blocks = dict[str, Block]
"""The longest block in each phase."""


@contextlib.contextmanager
def measured(blocks: Blocks, phase: str) -> Iterator[None]:
    """Measure the longest block during a phase."""
    with Ticker() as ticker:
        yield
    blocks[phase] = ticker.block


async def until_cancelled(
    waits: OpenWaits, wait: Callable[[UUID], Awaitable[object]], opened: Callable[[], Awaitable[object]]
) -> Blocks:
    """Measure the first three phases, which all subjects share.

    Args:
        waits: The tasks.
        wait: Waits for one job.
        opened: Returns when the first polls have been sent.
    """
    blocks: Blocks = {}
    with measured(blocks, "opening"):
        await waits.open(wait)
        await opened()
    with measured(blocks, "polling"):
        await asyncio.sleep(PHASE)
    with measured(blocks, "cancelling"):
        waits.cancel()
        await waits.join()
    return blocks


async def playai_async(setting: Setting) -> Blocks:
    """Measure this library."""
    from playai_async import PlayAISession, Polling

    polling = Polling(initial=PAUSE, maximum=PAUSE, timeout=DEADLINE)
    waits = OpenWaits()
    playai = PlayAISession(KEY, USER, base_url=setting.url, polling=polling)

    async def opened() -> None:
        while playai.stats.requests < WAITS:
            await asyncio.sleep(0.1)

    async with playai:
        blocks = await until_cancelled(waits, playai.wait_for_completion, opened)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PHASE
        await waits.open(lambda job: playai.wait_for_completion(job, timeout=deadline - loop.time()))
        assert waits.ended == 0, "the deadline is after the last wait was opened"
        with measured(blocks, "expiring"):
            await waits.join()
        await waits.open(playai.wait_for_completion)
        with measured(blocks, "closing"):
            await playai.aclose()
            await waits.join()
    return blocks


async def hand_written(setting: Setting) -> Blocks:
    """Measure the hand-written loop, whose deadlines are `asyncio.timeout`. It has nothing to close."""
    waits = OpenWaits()
    async with aiohttp_loop(setting) as wait:
        blocks = await until_cancelled(waits, wait, lambda: asyncio.sleep(PHASE))
        deadline = asyncio.get_running_loop().time() + PHASE

        async def wait_with_deadline(job: UUID) -> object:
            async with asyncio.timeout_at(deadline):
                return await wait(job)

        await waits.open(wait_with_deadline)
        with measured(blocks, "expiring"):
            await waits.join()
    return blocks


async def bare_tasks(_: Setting) -> Blocks:
    """Measure tasks that only sleep, or that wait for a future which raises."""
    waits = OpenWaits()
    loop = asyncio.get_running_loop()
    blocks = await until_cancelled(waits, lambda _: asyncio.sleep(DEADLINE), lambda: asyncio.sleep(PHASE))
    futures: list[asyncio.Future[Any]] = []

    def future(_: UUID) -> asyncio.Future[Any]:
        futures.append(loop.create_future())
        return futures[-1]

    await waits.open(future)
    await asyncio.sleep(0.1)
    with measured(blocks, "expiring"):
        for waited_for in futures:
            waited_for.set_exception(TimeoutError())
        await waits.join()
    blocks["closing"] = blocks["expiring"]
    return blocks


SUBJECTS: dict[str, Callable[[Setting], Awaitable[Blocks]]] = {
    "playai_async": playai_async,
    "aiohttp loop": hand_written,
    "bare task": bare_tasks,
}

PHASES = ("opening", "polling", "cancelling", "expiring", "closing")


def measure_blocking(subjects: Sequence[str], *, repeats: int) -> dict[str, list[dict[str, Block]]]:
    """Measure each subject in turn, repeatedly, each time in a new process."""
    blocks: dict[str, list[dict[str, Block]]] = {subject: [] for subject in subjects}
    order = list(subjects)
    with Child("bench.cost.service", WAITS) as service:
        url, shaped_url = service.ask("urls")
        setting = Setting(url=url, shaped_url=shaped_url, pause=PAUSE)
        for _ in range(repeats):
            for subject in order:
                with Child("bench.cost.blocking", {"subject": subject, "setting": attrs.asdict(setting)}) as child:
                    found = child.ask("run")
                blocks[subject].append({phase: Block(**measured) for phase, measured in found.items()})
            order.append(order.pop(0))
    return blocks


async def run_subject(subject: str, setting: Setting) -> None:
    """Measure one subject when the parent asks for it."""

    async def run() -> dict[str, object]:
        return {phase: attrs.asdict(block) for phase, block in (await SUBJECTS[subject](setting)).items()}

    await serve_commands({"run": run})


if __name__ == "__main__":
    arguments = read_arguments()
    asyncio.run(run_subject(arguments["subject"], Setting(**arguments["setting"])))
