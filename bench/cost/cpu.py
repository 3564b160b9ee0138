"""What a poll costs in processor time, for `bench.cost`.

A thousand jobs are open at once, none is done, and no quota holds anybody back. The clients, each in a process of its
own, take turns: one opens its waits, lets each job be polled twice, and from then on its processor time, user and
system, is divided by the polls that the service counts; then it cancels its waits, and the next has its turn. So
imports, connections and first polls are left out, and what else the machine does falls on all alike. A client is
compared with the hand-written loop's turn of the same round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack

import attrs

from bench.cost.clients import CLIENTS, Setting
from bench.cost.service import await_requests, job_ids
from tools.processes import Child, read_arguments, serve_commands

JOBS = 1_000

PAUSE = 1.0
"""Seconds between two polls of a job: what makes a thousand polls a second, which the service can answer."""

SECONDS = 2.0
"""How long a turn is measured."""


@attrs.frozen(kw_only=True)
class Entrant:
    """Who takes part.

    Attributes:
        client: A name in `CLIENTS`.
        jitter: The share by which it varies its pauses.
        rounds: In how many rounds of each repeat it takes part.
    """

    client: str
    jitter: float = 0.0
    rounds: int


@attrs.frozen(kw_only=True)
class Turn:
    """What one turn of a client showed.

    Attributes:
        polls: What the service counted.
        cpu: Seconds of processor time.
        elapsed: Seconds.
    """

    polls: int
    cpu: float
    elapsed: float

    @property
    def microseconds(self) -> float:
        """Processor time a poll."""
        return self.cpu / self.polls * 1e6


Turns = dict[tuple[int, int], Turn]
"""By repeat and round."""


def take_turns(entrants: Mapping[str, Entrant], *, repeats: int) -> dict[str, Turns]:
    """Let the clients poll in turn, and return the turns of each.

    Args:
        entrants: Who takes part, under any labels.
        repeats: How many processes each has, one after the other; in each of them it has all its rounds.
    """
    turns: dict[str, Turns] = {label: {} for label in entrants}
    order = list(entrants)
    for repeat in range(repeats):
        with ExitStack() as stack:
            service = stack.enter_context(Child("bench.cost.service", JOBS))
            url, shaped_url = service.ask("urls")
            children = {}
            for label, entrant in entrants.items():
                setting = Setting(url=url, shaped_url=shaped_url, pause=PAUSE, jitter=entrant.jitter)
                arguments = {"client": entrant.client, "setting": attrs.asdict(setting)}
                children[label] = stack.enter_context(Child("bench.cost.cpu", arguments))
            for number in range(max(entrant.rounds for entrant in entrants.values())):
                for label in order:
                    if number < entrants[label].rounds:
                        turns[label][repeat, number] = take_turn(service, children[label])
                order.append(order.pop(0))
    return turns


def take_turn(service: Child, client: Child) -> Turn:
    """Measure one client for a while."""
    at_first = service.ask("requests")
    client.ask("open")
    await_requests(service, at_first + 2 * JOBS)
    polls, cpu, began = service.ask("requests"), client.ask("cpu"), time.perf_counter()
    time.sleep(SECONDS)
    cpu, polls = client.ask("cpu") - cpu, service.ask("requests") - polls
    elapsed = time.perf_counter() - began
    client.ask("close")
    return Turn(polls=polls, cpu=cpu, elapsed=elapsed)


async def be_client(client: str, setting: Setting) -> None:
    """Be a client that opens and closes its waits when told to."""
    tasks: list[asyncio.Future[object]] = []
    async with CLIENTS[client](setting) as wait:

        async def open_waits() -> None:
            tasks.extend(asyncio.ensure_future(wait(job_id)) for job_id in job_ids(JOBS))

        async def cpu() -> float:
            return time.process_time()

        async def close_waits() -> None:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            tasks.clear()
            lost = [error for error in ended if not isinstance(error, asyncio.CancelledError)]
            if lost:
                raise RuntimeError(f"{client} lost {len(lost)} waits: {lost[0]!r}")

        await serve_commands({"open": open_waits, "cpu": cpu, "close": close_waits})


if __name__ == "__main__":
    arguments = read_arguments()
    asyncio.run(be_client(arguments["client"], Setting(**arguments["setting"])))
