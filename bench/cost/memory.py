"""Measure the memory per open wait, for `bench.cost`.

Each client runs in a separate process. It opens one wait, measures its resident memory, opens all other waits, polls
each job once, and measures the memory again while all waits pause. The difference is divided by the number of waits. So
it includes the caller's own task and a share of the connections.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import ExitStack

import attrs

from bench.cost.clients import CLIENTS, POLLS_NOTHING, Setting
from bench.cost.service import await_requests, job_ids
from tools.processes import Child, open_descriptors, read_arguments, resident_memory, serve_commands

PAUSE = 3_600.0
"""Seconds; longer than any run, so that every wait is between two polls when the memory is measured."""

SETTLING = 2.0
"""Seconds to wait for the last responses. runwayml, whose pause is fixed, always has requests in flight."""


@attrs.frozen(kw_only=True)
class MemoryUse:
    """The memory of the waits of one process.

    Attributes:
        bytes: Resident memory per wait.
        objects: Objects tracked by the garbage collector per wait.
        tasks: Tasks per wait, including the caller's own.
        descriptors: File descriptors opened since the client was created.
    """

    bytes: float
    objects: float
    tasks: float
    descriptors: int


def measure_memory(clients: Sequence[str], *, waits: int, repeats: int) -> dict[str, list[MemoryUse]]:
    """Measure the waits of each client in turn, repeatedly."""
    memory: dict[str, list[MemoryUse]] = {client: [] for client in clients}
    order = list(clients)
    with Child("bench.cost.service", waits + 1) as service:
        for _ in range(repeats):
            for client in order:
                memory[client].append(measure_once(service, client, waits))
            order.append(order.pop(0))
    return memory


def measure_once(service: Child, client: str, waits: int) -> MemoryUse:
    """Measure the waits of one process."""
    url, shaped_url = service.ask("urls")
    setting = Setting(url=url, shaped_url=shaped_url, pause=PAUSE)
    polled = 0 if client == POLLS_NOTHING else 1
    with ExitStack() as stack:
        arguments = {"client": client, "waits": waits, "setting": attrs.asdict(setting)}
        child = stack.enter_context(Child("bench.cost.memory", arguments))
        for command, count in (("open one", 1), ("open all", waits)):
            at_first = service.ask("requests")
            child.ask(command)
            await_requests(service, at_first + polled * count)
            settle(service)
        return MemoryUse(**child.ask("measure"))


def settle(service: Child) -> None:
    """Wait until no request is in flight, up to a limit."""
    last = time.monotonic() + SETTLING
    time.sleep(0.2)
    while service.ask("in_flight") and time.monotonic() < last:
        time.sleep(0.05)


async def run_client(client: str, waits: int, setting: Setting) -> None:
    """Open the waits of a client and measure their memory when the parent asks for it."""
    tasks: list[asyncio.Future[object]] = []
    descriptors = open_descriptors()
    async with CLIENTS[client](setting) as wait:
        first, *others = job_ids(waits + 1)
        before = before_objects = before_tasks = 0

        async def open_one() -> None:
            tasks.append(asyncio.ensure_future(wait(first)))

        async def open_all() -> None:
            nonlocal before, before_objects, before_tasks
            before_tasks, before_objects = len(asyncio.all_tasks()), len(gc.get_objects())
            gc.collect()
            before = resident_memory()
            tasks.extend(asyncio.ensure_future(wait(job_id)) for job_id in others)

        async def measure() -> dict[str, object]:
            ended = [task for task in tasks if task.done()]
            if ended:
                raise RuntimeError(f"{client} lost {len(ended)} waits: {ended[0]!r}")
            gc.collect()
            memory = MemoryUse(
                bytes=(resident_memory() - before) / waits,
                objects=(len(gc.get_objects()) - before_objects) / waits,
                tasks=(len(asyncio.all_tasks()) - before_tasks) / waits,
                descriptors=open_descriptors() - descriptors,
            )
            return attrs.asdict(memory)

        await serve_commands({"open one": open_one, "open all": open_all, "measure": measure})


if __name__ == "__main__":
    arguments = read_arguments()
    asyncio.run(run_client(arguments["client"], arguments["waits"], Setting(**arguments["setting"])))
