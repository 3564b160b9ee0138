"""What a poll and an open wait cost: processor time, memory, and how long the event loop is blocked.

Three comparisons, each in one run whose clients take turns, with every client in a process of its own and the emulator
in another, all on loopback and without a quota; tables show medians, and for ratios their span. How each is measured
stands in `bench/cost/cpu.py`, `bench/cost/memory.py` and `bench/cost/blocking.py`, and what each client does in
`bench/cost/clients.py`. The tables are also written to `bench/out/cost.md`, and every number to `bench/out/cost.json`.

    python -m bench.cost [--short]

The exit status is 0 even where a goal is missed; it is another where something broke.
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

from bench.cost.blocking import MOMENTS, SUBJECTS, WAITS, block
from bench.cost.clients import CONNECTIONS, POLLS_NOTHING, SDKS
from bench.cost.cpu import JOBS, PAUSE, Entrant, Turn, Turns, take_turns
from bench.cost.memory import Weight, weigh
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
"""The share by which this library varies its pauses by default."""

OURS_VARIED, LOOP_VARIED = f"{OURS}, pauses varied", f"{LOOP}, pauses varied"


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        repeats: Processes of each client, one after the other.
        rounds: Turns of each of them, where processor time is measured; of this library's and the loop's.
        other_rounds: Turns of the other variants of these two.
        sdks: The SDKs that take part.
        sdk_rounds: Turns of each of their processes.
        sdk_waits: Open waits of theirs to be weighed.
        subjects: Whose loops are blocked.
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
    """All that was measured, each kind by client."""

    turns: dict[str, Turns]
    weights: dict[str, list[Weight]]
    blocks: dict[str, list[dict[str, Block]]]


@attrs.frozen(kw_only=True)
class Ratio:
    """How many times what the hand-written loop takes a client took: median and span over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def measure(size: Size) -> Findings:
    """Measure everything, one thing after the other."""
    say("processor time a poll")
    entrants = {
        OURS: Entrant(client=OURS, rounds=size.rounds),
        LOOP: Entrant(client=LOOP, rounds=size.rounds),
        TENACITY: Entrant(client=TENACITY, rounds=size.other_rounds),
        OURS_VARIED: Entrant(client=OURS, jitter=JITTER, rounds=size.other_rounds),
        LOOP_VARIED: Entrant(client=LOOP, jitter=JITTER, rounds=size.other_rounds),
        **{sdk: Entrant(client=sdk, rounds=size.sdk_rounds) for sdk in size.sdks},
    }
    turns = take_turns(entrants, repeats=size.repeats)
    say("memory an open wait")
    weights = weigh([OURS, LOOP, TENACITY, POLLS_NOTHING], waits=WAITS, repeats=size.repeats)
    weights |= weigh(size.sdks, waits=size.sdk_waits, repeats=size.repeats)
    say("the longest block of the loop")
    return Findings(turns=turns, weights=weights, blocks=block(size.subjects, repeats=size.repeats))


def say(what: str) -> None:
    """Tell whoever waits what is being measured."""
    print(f"Measuring {what} ...", file=sys.stderr, flush=True)


def ratio(turns: Mapping[str, Turns], client: str, loop: str) -> Ratio:
    """Compare a client's turns with those of a loop in the same rounds."""
    ratios = [turn.microseconds / turns[loop][key].microseconds for key, turn in turns[client].items()]
    return Ratio(median=statistics.median(ratios), least=min(ratios), most=max(ratios))


def cpu_table(turns: Mapping[str, Turns]) -> str:
    """Return what a poll costs each client."""

    def line(client: str, found: Sequence[Turn]) -> list[str]:
        costs = [turn.microseconds for turn in found]
        return [
            client,
            f"{statistics.median(costs):,.0f}",
            f"{min(costs):,.0f} to {max(costs):,.0f}",
            str(ratio(turns, client, LOOP_VARIED if client == OURS_VARIED else LOOP)),
            f"{sum(turn.polls for turn in found):,}",
            f"{statistics.median(turn.polls / turn.elapsed for turn in found):,.0f}",
        ]

    head = ["client", "µs a poll", "from, to", "times the loop", "polls", "polls a second"]
    return table(head, [line(client, list(found.values())) for client, found in turns.items()])


def memory_table(weights: Mapping[str, Sequence[Weight]]) -> str:
    """Return what an open wait weighs."""
    bare = middle(weights[POLLS_NOTHING], lambda weight: weight.bytes)
    lines = [
        [
            client,
            f"{middle(found, lambda weight: weight.bytes):,.0f}",
            f"{middle(found, lambda weight: weight.bytes) / bare:.1f}",
            f"{middle(found, lambda weight: weight.objects):.1f}",
            f"{middle(found, lambda weight: weight.tasks):.2f}",
            f"{max(weight.descriptors for weight in found)}",
        ]
        for client, found in weights.items()
    ]
    head = ["client", "bytes a wait", "times bare", "collector's objects a wait", "tasks a wait", "descriptors"]
    return table(head, lines)


def blocking_table(blocks: Mapping[str, Sequence[Mapping[str, Block]]]) -> str:
    """Return for how long the loop was blocked at each moment."""
    lines = []
    for moment in MOMENTS:
        for subject, runs in blocks.items():
            found = [run[moment] for run in runs if moment in run]
            if found:
                measures = [
                    middle(found, lambda block: block.seconds),
                    max(block.seconds for block in found),
                    middle(found, lambda block: block.busy),
                    middle(found, lambda block: block.own),
                ]
                lines.append([moment, subject, *(f"{seconds * 1_000:.0f}" for seconds in measures)])
    head = ["moment", "client", "block, ms", "worst, ms", "processor time, ms", "without collections, ms"]
    return table(head, lines, texts=2)


def goals_table(findings: Findings) -> str:
    """Return the goals, what was measured, and whether that keeps them."""
    in_step, varied = ratio(findings.turns, OURS, LOOP), ratio(findings.turns, OURS_VARIED, LOOP_VARIED)
    weights = findings.weights[OURS]
    weight, descriptors = middle(weights, lambda weight: weight.bytes), max(weight.descriptors for weight in weights)
    lines = [
        ["processor time a poll, times the loop", "1.00", str(in_step), in_step.median <= 1.0],
        ["the same, pauses varied", "1.00", str(varied), varied.median <= 1.0],
        ["memory an open wait, bytes", "4,000", f"{weight:,.0f}", weight <= 4_000],
        ["descriptors", f"{CONNECTIONS}", f"{descriptors}", descriptors <= CONNECTIONS],
    ]
    for moment in MOMENTS:
        taken, bare = (
            middle([run[moment] for run in findings.blocks[subject]], lambda block: block.own)
            for subject in (OURS, POLLS_NOTHING)
        )
        own = max(0.0, taken - bare) * 1_000
        lines.append([f"block, {moment}, beyond bare tasks, ms", "under 50", f"{own:.0f}", own < 50])
    rows = [[str(measure), str(most), str(found), "yes" if kept else "NO"] for measure, most, found, kept in lines]
    return table(["measure", "at most", "measured", "kept"], rows)


def middle(found: Sequence[T], measure: Callable[[T], float]) -> float:
    """Return the median of a measure."""
    return statistics.median(map(measure, found))


def report(findings: Findings, size: Size, command: str) -> str:
    """Return the tables, with all that one needs to know to run them again."""
    return f"""\
# Cost

- Command: `{command}`, {datetime.now(UTC):%Y-%m-%d}
- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}
- Libraries: {", ".join(f"{name} {version(name)}" for name in LIBRARIES)}

## Processor time a poll

{JOBS:,} jobs open at once, no quota, a pause of {PAUSE:g} s, {CONNECTIONS} connections; medians over the rounds.
"Times the loop" compares with the loop's turn of the same round: median, least and most.
"Pauses varied" is by {JITTER:.0%} up or down, this library's default; there the loop that it is compared with varies
them as well, so that neither has its polls come in bunches.

{cpu_table(findings.turns)}

## Memory an open wait

{WAITS:,} open waits, of the SDKs {size.sdk_waits:,}, all of them pausing; resident memory, medians of {size.repeats}.
"Collector's objects" are those that Python's garbage collector looks at; "descriptors" are those opened since the
client was made, at most.

{memory_table(findings.weights)}

## Longest block of the event loop

{WAITS:,} waits in one loop, medians of {size.repeats}.
"Processor time" leaves out what else the machine did, and the last column Python's garbage collections, too.

{blocking_table(findings.blocks)}

## Goals

A block is judged by the last column of its table, less what bare tasks take there.

{goals_table(findings)}
"""


def main() -> int:
    """Read the command line, measure, and show what came of it. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer clients and repeats, in under two minutes")
    size = SHORT if parser.parse_args().short else FULL
    findings = measure(size)
    OUT.mkdir(exist_ok=True)
    turns = {
        client: [{"repeat": repeat, "round": number, **attrs.asdict(turn)} for (repeat, number), turn in found.items()]
        for client, found in findings.turns.items()
    }
    everything = {
        "turns": turns,
        "weights": {client: [attrs.asdict(weight) for weight in found] for client, found in findings.weights.items()},
        "blocks": {
            subject: [{moment: attrs.asdict(block) for moment, block in run.items()} for run in runs]
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
