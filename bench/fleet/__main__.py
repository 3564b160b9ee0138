"""Compare how fast clients notice finished jobs under one quota: this library, hand-written loops, and SDKs.

In each run, one client waits for all jobs of one workload. Service and client run in virtual time, so that every client
keeps its own defaults and the load of the machine changes nothing. The service is the emulator with a quota of 60
requests in a fixed window of 60 s. Each client runs once for each seed; tables show medians.

A wait is lost when a client gives it up although its job completes. In the main runs the caller then waits again 5 s
later, so that every job has a lag. Some SDKs lose waits; further runs show what happens to callers who do not wait
again.

    python -m bench.fleet [--short | --again] [--seeds 3] [--at-once 2]

Tables, results and a plot are written to bench/out/. The exit status is 1 if a run failed; a missed goal is only shown.
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
from bench.fleet.clients import CLIENTS, DEADLINE, JOB_POLLERS
from bench.fleet.goals import KNOWN, UNKNOWN, verdicts
from bench.fleet.plot import Strip, draw
from bench.fleet.runs import Result, Run, perform
from bench.fleet.service import LATENCY
from bench.fleet.summary import Summary, summarize, summarize_bound
from bench.fleet.tables import CROWD, LAGS, ONCE, goals_table, pairs_table, summary_table
from bench.fleet.workloads import workload as jobs_of

OUT = Path(__file__).parents[1] / "out"

SDKS = tuple(JOB_POLLERS)

LONG_ONLY = {client for sdk in SDKS[3:] for client in (sdk, JOB_POLLERS[sdk])}
"""The clients that the short form leaves out."""

OURS = {KNOWN, UNKNOWN, *JOB_POLLERS.values()}

LIBRARIES = ("playai-async", "aiohttp", "tenacity", *SDKS, "httpx", "matplotlib")

BOUND = "lower bound"

TITLES = {
    "stream": "stream: 120 jobs over 240 s, 60 requests a minute",
    "burst": "burst: 200 jobs at once, 60 requests a minute",
    "crowd": "crowd: 2,000 jobs at once, 600 requests a minute",
}

NOTES = f"""\
- Lag: from finished to noticed, in seconds; medians over the seeds of each run's mean, p50 and p95.
- 429s: their share of all requests, and of the requests sent later than 60 s after the beginning.
- Waits lost: waits that raised although their job completed, or took more than {DEADLINE:.0f} s; \
the caller waits again after {AGAIN:.0f} s.
- Fullest window: the requests in the fullest window of the service, including those that received a 429.
- Lower bound: computed, not run; the smallest mean lag of a client that knows in advance when each job finishes."""

SEEDS_TO_JUDGE = 3
"""The goals are meant for medians of at least this many seeds."""


def short_runs(_: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of the short form: one seed and fewer SDKs."""
    for workload in ("stream", "burst"):
        for client in CLIENTS:
            if client not in LONG_ONLY:
                yield Run(client=client, workload=workload, seed=1, again=True)


def full_runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs, seed by seed."""
    for seed in range(1, arguments.seeds + 1):
        for workload in ("stream", "burst"):
            for client in CLIENTS:
                yield Run(client=client, workload=workload, seed=seed, again=True)
                if client in SDKS and not arguments.again:
                    yield Run(client=client, workload=workload, seed=seed)
        if not arguments.again:
            yield Run(client=KNOWN, workload="crowd", seed=seed, again=True)


def save(results: Sequence[Result]) -> None:
    """Write the results; after each run, so that an interrupt loses none."""
    OUT.mkdir(exist_ok=True)
    everything = [attrs.asdict(result) for result in list(results)]
    (OUT / "fleet.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")


def perform_all(runs: Sequence[Run], at_once: int) -> tuple[list[Result], list[str]]:
    """Perform the runs, several at the same time; return the results, and a message for each failed run."""
    results: list[Result] = []
    failed: list[str] = []
    began = time.monotonic()

    def one(run: Run) -> None:
        try:
            results.append(perform(run))
            save(results)
        except Exception as error:  # noqa: BLE001 - one failed run must not stop the others
            failed.append(f"{run}: {error!r}")
        done = len(results) + len(failed)
        print(f"{time.monotonic() - began:6.0f} s  {done:3}/{len(runs)}  {run}", file=sys.stderr, flush=True)

    pool = ThreadPoolExecutor(at_once)
    try:
        list(pool.map(one, runs))
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt, start no more runs
    return results, failed


@attrs.frozen
class Findings:
    """Results by workload and client, with and without callers who wait again."""

    again: Mapping[tuple[str, str], list[Result]]
    once: Mapping[tuple[str, str], list[Result]]

    @classmethod
    def of(cls, results: Sequence[Result]) -> Findings:
        """Sort results by workload and client."""
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
    """Return the tables, and everything that is needed to repeat the runs."""
    parts = [header(findings, command)]
    summaries: dict[tuple[str, str], Summary] = {key: summarize(found) for key, found in findings.again.items()}
    for workload, title in TITLES.items():
        again, once = of_workload(findings.again, workload), of_workload(findings.once, workload)
        if not again:
            continue
        seeds = sorted({result.run.seed for found in again.values() for result in found})
        rows = {client: summaries[workload, client] for client in again} | {BOUND: summarize_bound(workload, seeds)}
        parts.append(f"## {title}\n\n{summary_table(rows, CROWD if workload == 'crowd' else LAGS)}")
        if not JOB_POLLERS.keys().isdisjoint(again):
            parts.append(f"The SDKs with their own waits, and under `JobPoller`:\n\n{pairs_table(rows)}")
        if once:
            rows = {client: summarize(found) for client, found in once.items()}
            parts.append(f"The same, without waiting again after a lost wait:\n\n{summary_table(rows, ONCE)}")
    parts.append(f"## Goals\n\n{goals_table(verdicts(summaries))}")
    if len({result.run.seed for found in findings.again.values() for result in found}) < SEEDS_TO_JUDGE:
        parts.append(f"Fewer than {SEEDS_TO_JUDGE} seeds: a mean varies by some seconds from seed to seed.")
    return "\n\n".join(parts) + "\n"


def header(findings: Findings, command: str) -> str:
    """Describe when, where and with which versions the runs were made."""
    runs = [result.run for found in (*findings.again.values(), *findings.once.values()) for result in found]
    seeds = sorted({run.seed for run in runs})
    return f"""\
# Fleet

- Command: `{command}`, {datetime.now(UTC):%Y-%m-%d}
- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {sys.version.split()[0]}
- Libraries: {versions()}
- Runs: {len(runs)}, seeds {", ".join(map(str, seeds))}, in virtual time; a status request takes {LATENCY:g} s

{NOTES}"""


def versions() -> str:
    """Return the versions of the installed libraries."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def draw_lags(findings: Findings, path: Path) -> None:
    """Draw the lags of the workloads that several clients ran."""
    panels = {}
    for workload in ("stream", "burst"):
        rows = of_workload(findings.again, workload)
        strips = {client: strip(found, ours=client in OURS) for client, found in rows.items()}
        seeds = sorted({result.run.seed for found in rows.values() for result in found})
        best = [lag for seed in seeds for lag in bound(jobs_of(workload, seed)).lags]
        panels[TITLES[workload]] = strips | {BOUND: Strip(best, summarize_bound(workload, seeds).mean, 0)}
    draw(path, panels)


def strip(results: Sequence[Result], *, ours: bool) -> Strip:
    """Return the strip of a client in the plot."""
    summary = summarize(results)
    return Strip([lag for result in results for lag in result.client["lags"]], summary.mean, summary.lost, ours)


def main() -> int:
    """Parse the command line, perform the runs, print the report, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="one seed and fewer clients")
    form.add_argument("--again", action="store_true", help="only stream and burst, with callers who wait again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2, help="runs at the same time")
    arguments = parser.parse_args()
    try:
        versions()
    except PackageNotFoundError as error:
        parser.error(f"{error}: install it with `make bench`")
    runs = list((short_runs if arguments.short else full_runs)(arguments))
    results, failed = perform_all(runs, arguments.at_once)
    save(results)
    findings = Findings.of(results)
    text = report(findings, " ".join(["python -m bench.fleet", *sys.argv[1:]]))
    (OUT / "fleet.md").write_text(text, encoding="utf-8")
    draw_lags(findings, OUT / "fleet.png")
    print(text)
    for what in failed:
        print(f"FAILED: {what}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
