"""Measure the cost of telemetry: processor time per poll and memory per wait, with and without OpenTelemetry.

    python -m bench.cost.telemetry            about five minutes
    python -m bench.cost.telemetry --short    about one minute, less exact

As in `bench.cost`, all clients are measured in one run: without the package; with the package but without a listener;
and with the SDK set up for spans and metrics. Each number is a median. Each ratio is the median of the ratios to the
first client in the same round.
"""

from __future__ import annotations

import argparse
import statistics

from bench.cost.cpu import Measurements, Participant, measure_cpu
from bench.cost.memory import MemoryUse, measure_memory

WITHOUT, INSTALLED, LISTENING = "without opentelemetry", "playai_async", "with a listener"
WORDS = {WITHOUT: "not installed", INSTALLED: "installed, no listener", LISTENING: "spans and metrics"}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost.telemetry",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="about one minute instead of five, less exact")
    short = parser.parse_args().short
    participants = {client: Participant(client=client, rounds=3 if short else 12) for client in WORDS}
    cpu = measure_cpu(participants, repeats=1 if short else 3)
    memory = measure_memory(list(WORDS), waits=2_000 if short else 10_000, repeats=1 if short else 3)
    print("| OpenTelemetry | µs per poll | times | bytes per wait | times |")
    print("| --- | --- | --- | --- | --- |")
    for client, words in WORDS.items():
        poll, polls = microseconds(cpu[client], cpu[WITHOUT])
        wait, waits = size(memory[client], memory[WITHOUT])
        print(f"| {words} | {poll:.0f} | {polls:.2f} | {wait:,.0f} | {waits:.2f} |")


def microseconds(cpu: Measurements, others: Measurements) -> tuple[float, float]:
    """Return the processor time per poll, and its ratio to that of other measurements."""
    ratios = [measurement.microseconds / others[place].microseconds for place, measurement in cpu.items()]
    return statistics.median(measurement.microseconds for measurement in cpu.values()), statistics.median(ratios)


def size(memory: list[MemoryUse], others: list[MemoryUse]) -> tuple[float, float]:
    """Return the memory per wait, and its ratio to that of other measurements."""
    ratios = [use.bytes / other.bytes for use, other in zip(memory, others, strict=True)]
    return statistics.median(use.bytes for use in memory), statistics.median(ratios)


if __name__ == "__main__":
    main()
