"""One run: a process in which a client waits for the jobs of a service."""

from __future__ import annotations

from typing import Any

import attrs

from bench.fleet.workloads import workload
from tools.processes import Child

LONGEST = 1_800.0
"""Real seconds that a run may take: the processor time of two minutes, on a busy machine."""


@attrs.frozen(kw_only=True)
class Run:
    """What to run.

    Attributes:
        client: A name in `bench.fleet.clients.CLIENTS`.
        workload: A name in `bench.fleet.workloads.WORKLOADS`.
        seed: Decides the lengths of the jobs and the phase of the service's windows.
        again: Whether a caller whose wait was lost waits again.
    """

    client: str
    workload: str
    seed: int
    again: bool = False

    def __str__(self) -> str:
        return f"{self.workload} {self.seed}, {self.client}{'' if self.again else ', once'}"


@attrs.frozen(kw_only=True)
class Result:
    """What was measured in a run.

    Attributes:
        run: The run.
        jobs: How many jobs it had.
        client: What `bench.fleet.client` reported.
        service: What the service counted.
    """

    run: Run
    jobs: int
    client: dict[str, Any]
    service: dict[str, Any]


def perform(run: Run) -> Result:
    """Start the process, perform the run, and return what it reports.

    Raises:
        RuntimeError: The process failed or did not answer in time. Its traceback is on standard error.
    """
    with Child("bench.fleet.client", attrs.asdict(run)) as client:
        found = client.ask("run", timeout=LONGEST)
    jobs = len(workload(run.workload, run.seed).jobs)
    return Result(run=run, jobs=jobs, client=found["client"], service=found["service"])
