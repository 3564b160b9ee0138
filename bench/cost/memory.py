"""What an open wait costs in memory, for `bench.cost`.

Each client runs in a process of its own: it opens one wait, notes its resident memory, opens all the others, lets each
be polled once, and notes the memory again while all of them pause. What has grown is divided by the waits: so the
caller's own task is in it, and the share of the connections.
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
"""Seconds; longer than any run, so that every wait is between two polls when it is weighed."""

SETTLING = 2.0
"""Seconds, at most, for the last answers to come in. runwayml, whose pause cannot be set, never has them all."""


@attrs.frozen(kw_only=True)
class Weight:
    """What the waits of one process weigh.

    Attributes:
        bytes: Of resident memory, a wait.
        objects: That the garbage collector looks at, a wait.
        tasks: A wait, of which the caller's own is one.
        descriptors: How many more there are open than before the client was made.
    """

    bytes: float
    objects: float
    tasks: float
    descriptors: int


def weigh(clients: Sequence[str], *, waits: int, repeats: int) -> dict[str, list[Weight]]:
    """Weigh the waits of each client in turn, some times over."""
    weights: dict[str, list[Weight]] = {client: [] for client in clients}
    order = list(clients)
    with Child("bench.cost.service", waits + 1) as service:
        for _ in range(repeats):
            for client in order:
                weights[client].append(weigh_once(service, client, waits))
            order.append(order.pop(0))
    return weights


def weigh_once(service: Child, client: str, waits: int) -> Weight:
    """Weigh the waits of one process."""
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
        return Weight(**child.ask("weigh"))


def settle(service: Child) -> None:
    """Wait until nothing is under way, or for a while."""
    last = time.monotonic() + SETTLING
    time.sleep(0.2)
    while service.ask("in_flight") and time.monotonic() < last:
        time.sleep(0.05)


async def be_client(client: str, waits: int, setting: Setting) -> None:
    """Be a client that opens its waits and weighs them when told to."""
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

        async def weight() -> dict[str, object]:
            ended = [task for task in tasks if task.done()]
            if ended:
                raise RuntimeError(f"{client} lost {len(ended)} waits: {ended[0]!r}")
            gc.collect()
            weight = Weight(
                bytes=(resident_memory() - before) / waits,
                objects=(len(gc.get_objects()) - before_objects) / waits,
                tasks=(len(asyncio.all_tasks()) - before_tasks) / waits,
                descriptors=open_descriptors() - descriptors,
            )
            return attrs.asdict(weight)

        await serve_commands({"open one": open_one, "open all": open_all, "weigh": weight})


if __name__ == "__main__":
    arguments = read_arguments()
    asyncio.run(be_client(arguments["client"], arguments["waits"], Setting(**arguments["setting"])))
