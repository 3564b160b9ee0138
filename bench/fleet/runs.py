"""One run: a client in one process waits for the jobs of a service in another, and both say what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO, Any

import attrs

from bench.fleet.client import PATIENCE
from bench.fleet.workloads import workload

SPARE = 120.0
"""Real seconds that a run may take beyond its service seconds, for starting and ending."""


@attrs.frozen(kw_only=True)
class Run:
    """What to run.

    Attributes:
        client: A name in `bench.fleet.clients.CLIENTS`.
        workload: A name in `bench.fleet.workloads.WORKLOADS`.
        seed: What decides the jobs' lengths and the phase of the service's windows.
        speed: Service seconds a real second.
        again: Whether callers who lost a wait begin anew.
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
    """What came of a run, as service and client said it; lags in service seconds, sorted.

    Attributes:
        client: What the client said: see `bench.fleet.client`.
        service: What the service said: see `bench.fleet.service`.
    """

    run: Run
    jobs: int
    client: dict[str, Any]
    service: dict[str, Any]


def perform(run: Run) -> Result:
    """Start both processes, have them do a run, and return what they say.

    Raises:
        RuntimeError: A process failed, or took too long; its last words are in the message.
    """
    jobs = workload(run.workload, run.seed)
    what = ["--workload", run.workload, "--seed", str(run.seed), "--speed", str(run.speed)]
    whom = ["--client", run.client, *(["--again"] if run.again else [])]
    with start("bench.fleet.service", *what) as service, start("bench.fleet.client", *whom, *what) as client:
        try:
            hear(service)
            hear(client)
            tell(service, "begin")
            place = hear(service)
            bounded = (jobs.last_finish + PATIENCE) / run.speed + SPARE
            said = last_words(client, place, bounded)
            counted = last_words(service, "report\n", SPARE)
        finally:
            for process in (client, service):
                process.kill()
    return Result(run=run, jobs=len(jobs.jobs), client=json.loads(said), service=json.loads(counted))


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a module as a process that reads and writes lines."""
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 - our own module


def hear(speaker: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    line = opened(speaker.stdout).readline()
    if not line:
        raise RuntimeError(f"{speaker.args!r} failed:\n{speaker.communicate(timeout=SPARE)[1]}")
    return line


def tell(listener: subprocess.Popen[str], line: str) -> None:
    """Say a line to a process."""
    pipe = opened(listener.stdin)
    pipe.write(f"{line}\n")
    pipe.flush()


def last_words(speaker: subprocess.Popen[str], line: str, seconds: float) -> str:
    """Say a last line to a process, and return what it says until it ends, in so many real seconds."""
    try:
        said, errors = speaker.communicate(line, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{speaker.args!r} took more than {seconds:.0f} s") from None
    if speaker.returncode:
        raise RuntimeError(f"{speaker.args!r} failed:\n{errors}")
    return said


def opened(pipe: IO[str] | None) -> IO[str]:
    """Return a pipe that is there."""
    assert pipe is not None
    return pipe
