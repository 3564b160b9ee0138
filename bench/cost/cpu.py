"""Measure the processor time per poll, for `bench.cost`.

1,000 jobs are open at once, none finishes, and there is no quota. Each client runs in a separate process, and the
clients are measured in turn. A client opens its waits and polls each job twice. From then on its processor time, user
and system, is divided by the polls that the service counts. Then the client cancels its waits, and the next client is
measured. So imports, connections and first polls are not included, and other load on the machine affects all clients
alike. Each client is compared with the hand-written loop in the same round.
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
"""Seconds between two polls of a job: 1,000 polls per second, which the service can answer."""

SECONDS = 2.0
"""Seconds that each measurement takes."""


@attrs.frozen(kw_only=True)
class Participant:
    """A client that is measured.

    Attributes:
        client: A name in `CLIENTS`.
        jitter: The fraction by which its pauses vary.
        rounds: In how many rounds of each repeat it is measured.
    """

    client: str
    jitter: float = 0.0
    rounds: int


@attrs.frozen(kw_only=True)
class Measurement:
    """One measurement of a client.

    Attributes:
        polls: The polls that the service counted.
        cpu: Seconds of processor time.
        elapsed: Seconds of wall-clock time.
    """

    polls: int
    cpu: float
    elapsed: float

    @property
    def microseconds(self) -> float:
        """Processor time per poll, in microseconds."""
        return self.cpu / self.polls * 1e6


Measurements = dict[tuple[int, int], Measurement]
"""By repeat and round."""


def measure_cpu(participants: Mapping[str, Participant], *, repeats: int) -> dict[str, Measurements]:
    """Measure the clients in turn, and return the measurements of each.

    Args:
        participants: The clients, by label.
        repeats: How many processes of each client are measured, one after the other, for all rounds each.
    """
    turns: dict[str, Measurements] = {label: {} for label in participants}
    order = list(participants)
    for repeat in range(repeats):
        with ExitStack() as stack:
            service = stack.enter_context(Child("bench.cost.service", JOBS))
            url, shaped_url = service.ask("urls")
            children = {}
            for label, participant in participants.items():
                setting = Setting(url=url, shaped_url=shaped_url, pause=PAUSE, jitter=participant.jitter)
                arguments = {"client": participant.client, "setting": attrs.asdict(setting)}
                children[label] = stack.enter_context(Child("bench.cost.cpu", arguments))
            for number in range(max(participant.rounds for participant in participants.values())):
                for label in order:
                    if number < participants[label].rounds:
                        turns[label][repeat, number] = measure_once(service, children[label])
                order.append(order.pop(0))
    return turns


def measure_once(service: Child, client: Child) -> Measurement:
    """Measure one client."""
    at_first = service.ask("requests")
    client.ask("open")
    await_requests(service, at_first + 2 * JOBS)
    polls, cpu, began = service.ask("requests"), client.ask("cpu"), time.perf_counter()
    time.sleep(SECONDS)
    cpu, polls = client.ask("cpu") - cpu, service.ask("requests") - polls
    elapsed = time.perf_counter() - began
    client.ask("close")
    return Measurement(polls=polls, cpu=cpu, elapsed=elapsed)


async def run_client(client: str, setting: Setting) -> None:
    """Open and close the waits of a client when the parent asks for it."""
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
    asyncio.run(run_client(arguments["client"], Setting(**arguments["setting"])))
