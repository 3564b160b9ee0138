"""How soon many waits under one quota notice that their jobs are done: this library, loops written by hand, and SDKs.

A run is one client that waits for all jobs of one workload; service and client are processes of their own, and their
clocks run several times faster than real, so that every client keeps its own defaults. The service is the emulator, the
quota 60 requests in a fixed window of 60 s. For each seed each client has its turn; tables show medians.

Where a client gives a wait up although its job is fine, that wait is lost. In the main runs the caller waits again 5 s
later, so that every job has a lag; of the SDKs, which do lose waits, further runs show what becomes of callers who do
not.

    python -m bench.fleet [--short] [--seeds 3] [--speed 10] [--at-once 2]

Tables, results and a plot go to bench/out/. The exit status is 1 where a run broke; a goal that is missed is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

from bench.fleet.bound import bound
from bench.fleet.client import AGAIN
from bench.fleet.clients import CLIENTS, DEADLINE
from bench.fleet.goals import KNOWN, UNKNOWN, verdicts
from bench.fleet.plot import Strip, draw
from bench.fleet.runs import Result, Run, perform
from bench.fleet.summary import Summary, bound_of, summarized
from bench.fleet.tables import CROWD, LAGS, ONCE, goals_table, summary_table
from bench.fleet.workloads import workload as jobs_of

OUT = Path(__file__).parents[1] / "out"

SDKS = ("runwayml", "openai", "azure-core", "replicate", "fal-client")

SHORT_SDKS = SDKS[:3]
"""Those of the short form, which is to leave time for the other script."""

LIBRARIES = ("playai-async", "aiohttp", "tenacity", *SDKS, "httpx", "matplotlib")

BOUND = "the bound: best possible"

TITLES = {
    "stream": "stream: 120 jobs over 240 s, 60 requests a minute",
    "burst": "burst: 200 jobs at once, 60 requests a minute",
    "crowd": "crowd: 2,000 jobs at once, 600 requests a minute",
}

NOTES = f"""\
- Lag: from finished to noticed, in service seconds; medians over the seeds of each run's mean, p50 and p95.
- 429s: their share of all requests, and of those sent later than 60 s after the beginning.
- Waits lost: those that raised though their job was fine, or took more than {DEADLINE:.0f} s; \
a caller who lost one waits again after {AGAIN:.0f} s.
- Fullest window: the requests that the service counted in the fullest of its windows, 429s included.
- Late: by how much the machine called the client or the service too late, on average.
- The bound: computed, not run; the least mean lag for a client that knows beforehand when each job finishes."""

SEEDS_TO_JUDGE = 3
"""The goals are for medians of at least so many."""


def short_runs(_: argparse.Namespace) -> Iterator[Run]:
    """What fits in a minute and a half: one seed; clients that take little CPU run at a higher speed.

    They come first, lest an SDK beside them keeps the machine from calling them in time.
    """
    for workload in ("stream", "burst"):
        for client in CLIENTS:
            if client not in SDKS:
                yield Run(client=client, workload=workload, seed=1, speed=25, again=True)
    for client in SHORT_SDKS:
        yield Run(client=client, workload="stream", seed=1, speed=15, again=True)


def full_runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """Everything, seed by seed."""
    for seed in range(1, arguments.seeds + 1):
        for workload in ("stream", "burst"):
            for client in CLIENTS:
                # Two hundred waits that begin in one moment keep an SDK's process busy for a second of real time,
                # and where the waits are lost in that second it is the whole run.
                slower = 2 if client in SDKS and workload == "burst" else 1
                speed = arguments.speed / slower
                yield Run(client=client, workload=workload, seed=seed, speed=speed, again=True)
                if client in SDKS:
                    yield Run(client=client, workload=workload, seed=seed, speed=speed / slower)
        yield Run(client=KNOWN, workload="crowd", seed=seed, speed=arguments.speed, again=True)


def performed(runs: Sequence[Run], at_once: int) -> tuple[list[Result], list[str]]:
    """Do the runs, some side by side; return what came of them, and what went wrong."""
    results: list[Result] = []
    broken: list[str] = []
    begun = time.monotonic()

    def one(run: Run) -> None:
        try:
            results.append(perform(run))
        except Exception as error:  # noqa: BLE001 - one broken run must not take the others along
            broken.append(f"{run}: {error!r}")
        done = len(results) + len(broken)
        print(f"{time.monotonic() - begun:6.0f} s  {done:3}/{len(runs)}  {run}", file=sys.stderr, flush=True)

    pool = ThreadPoolExecutor(at_once)
    try:
        list(pool.map(one, runs))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt must not begin the runs that are left
    return results, broken


@attrs.frozen
class Findings:
    """Results by workload and client; those of callers who wait again, and those of callers who do not."""

    again: Mapping[tuple[str, str], list[Result]]
    once: Mapping[tuple[str, str], list[Result]]

    @classmethod
    def of(cls, results: Sequence[Result]) -> Findings:
        """Sort results, in the order of the clients."""
        found: tuple[dict[tuple[str, str], list[Result]], ...] = ({}, {})
        for workload in TITLES:
            for client in CLIENTS:
                for result in results:
                    run = result.run
                    if (run.workload, run.client) == (workload, client):
                        found[run.again].setdefault((workload, client), []).append(result)
        return cls(again=found[True], once=found[False])


def of_workload(results: Mapping[tuple[str, str], list[Result]], workload: str) -> dict[str, list[Result]]:
    """Return the results of one workload by client."""
    return {client: found for (name, client), found in results.items() if name == workload}


def report(findings: Findings, command: str) -> str:
    """Return the tables, with all that one needs to know to run them again."""
    parts = [header(findings, command)]
    summaries: dict[tuple[str, str], Summary] = {key: summarized(found) for key, found in findings.again.items()}
    for workload, title in TITLES.items():
        again, once = of_workload(findings.again, workload), of_workload(findings.once, workload)
        if not again:
            continue
        seeds = sorted({result.run.seed for found in again.values() for result in found})
        rows = {client: summaries[workload, client] for client in again} | {BOUND: bound_of(workload, seeds)}
        parts.append(f"## {title}\n\n{summary_table(rows, CROWD if workload == 'crowd' else LAGS)}")
        if once:
            rows = {client: summarized(found) for client, found in once.items()}
            parts.append(
                f"The same, where a caller who lost a wait does not wait again:\n\n{summary_table(rows, ONCE)}"
            )
    if len({result.run.seed for found in findings.again.values() for result in found}) >= SEEDS_TO_JUDGE:
        parts.append(f"## Goals\n\n{goals_table(verdicts(summaries))}")
    else:
        parts.append(f"Fewer than {SEEDS_TO_JUDGE} seeds: the goals are not judged.")
    return "\n\n".join(parts) + "\n"


def header(findings: Findings, command: str) -> str:
    """Return where, when and with what the runs were made."""
    runs = [result.run for found in (*findings.again.values(), *findings.once.values()) for result in found]
    seeds, speeds = sorted({run.seed for run in runs}), [f"{speed:g}" for speed in sorted({run.speed for run in runs})]
    return f"""\
# Fleet

- Command: `{command}`, {datetime.now(UTC):%Y-%m-%d}
- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {sys.version.split()[0]}
- Libraries: {versions()}
- Runs: {len(runs)}, seeds {", ".join(map(str, seeds))}, clocks {", ".join(speeds)} times faster than real

{NOTES}"""


def versions() -> str:
    """Return which versions of the libraries are installed."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def picture(findings: Findings, path: Path) -> None:
    """Draw the lags of the workloads that several clients had."""
    panels = {}
    for workload in ("stream", "burst"):
        rows = of_workload(findings.again, workload)
        strips = {client: strip(found, ours=client in (KNOWN, UNKNOWN)) for client, found in rows.items()}
        seeds = sorted({result.run.seed for found in rows.values() for result in found})
        best = [lag for seed in seeds for lag in bound(jobs_of(workload, seed)).lags]
        panels[TITLES[workload]] = strips | {BOUND: Strip(best, bound_of(workload, seeds).mean, 0)}
    draw(path, panels)


def strip(results: Sequence[Result], *, ours: bool) -> Strip:
    """Return what the picture shows of a client."""
    summary = summarized(results)
    return Strip([lag for result in results for lag in result.client["lags"]], summary.mean, summary.lost, ours)


def main() -> int:
    """Read the command line, do the runs, and show what came of them. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one seed, and only a part, in a minute and a half")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speed", type=float, default=10.0, help="service seconds a real second")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side")
    arguments = parser.parse_args()
    try:
        versions()
    except PackageNotFoundError as error:
        parser.error(f"{error}: `make bench` installs it, or `pip install --group bench`")
    runs = list((short_runs if arguments.short else full_runs)(arguments))
    results, broken = performed(runs, arguments.at_once)
    OUT.mkdir(exist_ok=True)
    everything = [attrs.asdict(result) for result in results]
    (OUT / "fleet.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    findings = Findings.of(results)
    text = report(findings, " ".join(["python -m bench.fleet", *sys.argv[1:]]))
    (OUT / "fleet.md").write_text(text, encoding="utf-8")
    picture(findings, OUT / "fleet.png")
    print(text)
    for what in broken:
        print(f"BROKEN: {what}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
