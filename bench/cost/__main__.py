"""Measure the cost of a poll and of an open wait: processor time, memory, and how long the event loop is blocked.

Each of the three comparisons measures all clients in turn, in one run. Each client and the emulator run in separate
processes, on loopback and without a quota. Tables show medians, and for ratios the range as well. The modules
`bench.cost.cpu`, `bench.cost.memory` and `bench.cost.blocking` describe the methods, and `bench.cost.clients` describes
the clients. The tables are also written to `bench/out/cost.md`, and all numbers to `bench/out/cost.json`.

    python -m bench.cost [--short]

The exit status is 0 even if a goal is missed, and not 0 if a measurement failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import attrs

from bench.cost.blocking import PHASES, SUBJECTS, WAITS, measure_blocking
from bench.cost.clients import CONNECTIONS, POLLS_NOTHING, SDKS
from bench.cost.cpu import JOBS, PAUSE, Measurement, Measurements, Participant, measure_cpu
from bench.cost.memory import MemoryUse, measure_memory
from tools.loop_lag import Block
from tools.tables import table

T = TypeVar("T")

OUT = Path(__file__).parents[1] / "out"

LIBRARIES = (
    *("playai-async", "aiohttp", "attrs", "cattrs", "tenacity"),
    *("runwayml", "openai", "azure-core", "fal-client", "httpx", "httpx2"),
)

OURS, LOOP, TENACITY = "playai_async", "aiohttp loop", "aiohttp loop with tenacity"
JITTER = 0.2
"""The default of this library: the fraction by which pauses vary."""

OURS_JITTER, LOOP_JITTER = f"{OURS}, with jitter", f"{LOOP}, with jitter"


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        repeats: Processes of each client, one after the other.
        rounds: CPU measurements of each process of this library and of the loop.
        other_rounds: CPU measurements of each process of the variants of these two.
        sdks: The SDKs that are measured.
        sdk_rounds: CPU measurements of each process of an SDK.
        sdk_waits: Open waits of an SDK whose memory is measured.
        subjects: The clients whose event loops are measured.
    """

    repeats: int
    rounds: int
    other_rounds: int
    sdks: Sequence[str]
    sdk_rounds: int
    sdk_waits: int
    subjects: Sequence[str]


FULL = Size(repeats=3, rounds=5, other_rounds=5, sdks=SDKS, sdk_rounds=2, sdk_waits=WAITS, subjects=list(SUBJECTS))
SHORT = Size(
    repeats=1,
    rounds=2,
    other_rounds=1,
    sdks=("azure-core",),
    sdk_rounds=1,
    sdk_waits=1_000,
    subjects=[OURS, POLLS_NOTHING],
)


@attrs.frozen(kw_only=True)
class Findings:
    """All measurements by client."""

    cpu: dict[str, Measurements]
    memory: dict[str, list[MemoryUse]]
    blocks: dict[str, list[dict[str, Block]]]


@attrs.frozen(kw_only=True)
class Ratio:
    """The cost of a client divided by that of the hand-written loop: median and range over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def measure(size: Size) -> Findings:
    """Measure everything, one comparison after the other."""
    say("processor time per poll")
    participants = {
        OURS: Participant(client=OURS, rounds=size.rounds),
        LOOP: Participant(client=LOOP, rounds=size.rounds),
        TENACITY: Participant(client=TENACITY, rounds=size.other_rounds),
        OURS_JITTER: Participant(client=OURS, jitter=JITTER, rounds=size.other_rounds),
        LOOP_JITTER: Participant(client=LOOP, jitter=JITTER, rounds=size.other_rounds),
        **{sdk: Participant(client=sdk, rounds=size.sdk_rounds) for sdk in size.sdks},
    }
    cpu = measure_cpu(participants, repeats=size.repeats)
    say("memory per open wait")
    memory = measure_memory([OURS, LOOP, TENACITY, POLLS_NOTHING], waits=WAITS, repeats=size.repeats)
    memory |= measure_memory(size.sdks, waits=size.sdk_waits, repeats=size.repeats)
    say("the longest block of the event loop")
    return Findings(cpu=cpu, memory=memory, blocks=measure_blocking(size.subjects, repeats=size.repeats))


def say(what: str) -> None:
    """Print what is being measured."""
    print(f"Measuring {what} ...", file=sys.stderr, flush=True)


def ratio(cpu: Mapping[str, Measurements], client: str, loop: str) -> Ratio:
    """Compare a client with a loop in the same rounds."""
    ratios = [measurement.microseconds / cpu[loop][key].microseconds for key, measurement in cpu[client].items()]
    return Ratio(median=statistics.median(ratios), least=min(ratios), most=max(ratios))


def cpu_table(cpu: Mapping[str, Measurements]) -> str:
    """Return the table of processor time per poll."""

    def line(client: str, found: Sequence[Measurement]) -> list[str]:
        costs = [measurement.microseconds for measurement in found]
        return [
            client,
            f"{statistics.median(costs):,.0f}",
            f"{min(costs):,.0f} to {max(costs):,.0f}",
            str(ratio(cpu, client, LOOP_JITTER if client == OURS_JITTER else LOOP)),
            f"{sum(measurement.polls for measurement in found):,}",
            f"{statistics.median(measurement.polls / measurement.elapsed for measurement in found):,.0f}",
        ]

    head = ["client", "µs per poll", "range", "times the loop", "polls", "polls per second"]
    return table(head, [line(client, list(found.values())) for client, found in cpu.items()])


def memory_table(memory: Mapping[str, Sequence[MemoryUse]]) -> str:
    """Return the table of memory per open wait."""
    bare = middle(memory[POLLS_NOTHING], lambda use: use.bytes)
    lines = [
        [
            client,
            f"{middle(found, lambda use: use.bytes):,.0f}",
            f"{middle(found, lambda use: use.bytes) / bare:.1f}",
            f"{middle(found, lambda use: use.objects):.1f}",
            f"{middle(found, lambda use: use.tasks):.2f}",
            f"{max(use.descriptors for use in found)}",
        ]
        for client, found in memory.items()
    ]
    head = ["client", "bytes per wait", "times bare", "GC objects per wait", "tasks per wait", "descriptors"]
    return table(head, lines)


def blocking_table(blocks: Mapping[str, Sequence[Mapping[str, Block]]]) -> str:
    """Return the table of the longest blocks in each phase."""
    lines = []
    for phase in PHASES:
        for subject, runs in blocks.items():
            found = [run[phase] for run in runs if phase in run]
            if found:
                measures = [
                    middle(found, lambda block: block.seconds),
                    max(block.seconds for block in found),
                    middle(found, lambda block: block.busy),
                    middle(found, lambda block: block.own),
                ]
                lines.append([phase, subject, *(f"{seconds * 1_000:.0f}" for seconds in measures)])
    head = ["phase", "client", "block, ms", "worst, ms", "CPU, ms", "CPU without GC, ms"]
    return table(head, lines, texts=2)


def goals_table(findings: Findings) -> str:
    """Return the goals, the measured values, and whether each goal is met."""
    in_step, with_jitter = ratio(findings.cpu, OURS, LOOP), ratio(findings.cpu, OURS_JITTER, LOOP_JITTER)
    memory = findings.memory[OURS]
    use, descriptors = middle(memory, lambda use: use.bytes), max(use.descriptors for use in memory)
    lines = [
        ["processor time per poll, times the loop", "1.00", str(in_step), in_step.median <= 1.0],
        ["the same with jitter", "1.00", str(with_jitter), with_jitter.median <= 1.0],
        ["memory per open wait, bytes", "4,000", f"{use:,.0f}", use <= 4_000],
        ["descriptors", f"{CONNECTIONS}", f"{descriptors}", descriptors <= CONNECTIONS],
    ]
    for phase in PHASES:
        taken, bare = (
            middle([run[phase] for run in findings.blocks[subject]], lambda block: block.own)
            for subject in (OURS, POLLS_NOTHING)
        )
        own = max(0.0, taken - bare) * 1_000
        lines.append([f"block, {phase}, beyond bare tasks, ms", "50", f"{own:.0f}", own < 50])
    rows = [[str(measure), str(most), str(found), "yes" if met else "NO"] for measure, most, found, met in lines]
    return table(["measure", "at most", "measured", "met"], rows)


def middle(found: Sequence[T], measure: Callable[[T], float]) -> float:
    """Return the median of a measure."""
    return statistics.median(map(measure, found))


def report(findings: Findings, size: Size, command: str) -> str:
    """Return the tables, and everything that is needed to repeat the run."""
    return f"""\
# Cost

- Command: `{command}`, {datetime.now(UTC):%Y-%m-%d}
- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}
- Libraries: {", ".join(f"{name} {version(name)}" for name in LIBRARIES)}

## Processor time per poll

{JOBS:,} open jobs, no quota, a pause of {PAUSE:g} s, {CONNECTIONS} connections; medians over the rounds.
"Times the loop" compares with the loop in the same round: median and range.
"With jitter": pauses vary by {JITTER:.0%}, this library's default. The loop that it is compared with has the same
jitter, so that neither client sends its polls in bursts.

{cpu_table(findings.cpu)}

## Memory per open wait

{WAITS:,} open waits ({size.sdk_waits:,} for SDKs), all between two polls; resident memory, medians of {size.repeats}.
"GC objects" are the objects tracked by Python's garbage collector; "descriptors" is the maximum of the file descriptors
opened since the client was created.

{memory_table(findings.memory)}

## Longest block of the event loop

{WAITS:,} waits in one loop, medians of {size.repeats}.
"CPU" is processor time, without other load on the machine; the last column also excludes garbage collections.

{blocking_table(findings.blocks)}

## Goals

The block of a phase is the last column of its table, minus the value of bare tasks.

{goals_table(findings)}
"""


def main() -> int:
    """Parse the command line, measure, print the report, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="fewer clients and repeats, less than two minutes")
    size = SHORT if parser.parse_args().short else FULL
    findings = measure(size)
    OUT.mkdir(exist_ok=True)
    cpu = {
        client: [
            {"repeat": repeat, "round": number, **attrs.asdict(measurement)}
            for (repeat, number), measurement in found.items()
        ]
        for client, found in findings.cpu.items()
    }
    everything = {
        "cpu": cpu,
        "memory": {client: [attrs.asdict(use) for use in found] for client, found in findings.memory.items()},
        "blocks": {
            subject: [{phase: attrs.asdict(block) for phase, block in run.items()} for run in runs]
            for subject, runs in findings.blocks.items()
        },
    }
    (OUT / "cost.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    text = report(findings, size, " ".join(["python -m bench.cost", *sys.argv[1:]]))
    (OUT / "cost.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
