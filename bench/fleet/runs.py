"""One run: a client in one process waits for the jobs of a service in another process."""

from __future__ import annotations

from typing import Any

import attrs

from bench.fleet.client import CUTOFF
from bench.fleet.workloads import workload
from tools.processes import Child

SPARE = 120.0
"""Real seconds that a run may take beyond its service seconds, for starting and stopping."""


@attrs.frozen(kw_only=True)
class Run:
    """What to run.

    Attributes:
        client: A name in `bench.fleet.clients.CLIENTS`.
        workload: A name in `bench.fleet.workloads.WORKLOADS`.
        seed: Decides the lengths of the jobs and the phase of the service's windows.
        speed: Service seconds per real second.
        again: Whether a caller whose wait was lost waits again.
    """

    client: str
    workload: str
    seed: int
    speed: float
    again: bool = False

    def __str__(self) -> str:
        return f"{self.workload} {self.seed}, {self.client}{'' if self.again else ', once'}"


@attrs.frozen(kw_only=True)
class Result:
    """What service and client measured in a run.

    Attributes:
        run: The run.
        jobs: How many jobs it had.
        client: What `bench.fleet.client` reported.
        service: What `bench.fleet.service` reported.
    """

    run: Run
    jobs: int
    client: dict[str, Any]
    service: dict[str, Any]


def perform(run: Run) -> Result:
    """Start both processes, perform the run, and return what they report.

    Raises:
        RuntimeError: A process failed or did not answer in time. Its traceback is on standard error.
    """
    jobs = workload(run.workload, run.seed)
    shared = {"workload": run.workload, "seed": run.seed, "speed": run.speed}
    with (
        Child("bench.fleet.service", shared) as service,
        Child("bench.fleet.client", {**shared, "client": run.client, "again": run.again}) as client,
    ):
        # Importing the libraries must not take time of the run.
        service.ask("ready", timeout=SPARE)
        client.ask("ready", timeout=SPARE)
        address = service.ask("begin", timeout=SPARE)
        waited = client.ask("wait", address, timeout=(jobs.last_finish + CUTOFF) / run.speed + SPARE)
        counted = service.ask("report", timeout=SPARE)
    return Result(run=run, jobs=len(jobs.jobs), client=waited, service=counted)
