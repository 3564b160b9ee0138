"""What telemetry costs: a poll's processor time and a wait's memory, with and without OpenTelemetry.

    python -m bench.cost.telemetry            some five minutes
    python -m bench.cost.telemetry --short    a minute, and rougher

Compared within one run, as `bench.cost` does: where the package is not installed; where it is, and nobody listens; and
with the SDK set up for spans and metrics. Each figure is a median, and so is each ratio, which is to the first of the
three in the same round.
"""

from __future__ import annotations

import argparse
import statistics

from bench.cost.cpu import Entrant, Turns, take_turns
from bench.cost.memory import Weight, weigh

WITHOUT, UNHEARD, HEARD = "without opentelemetry", "playai_async", "with a listener"
WORDS = {WITHOUT: "not installed", UNHEARD: "installed, nobody listens", HEARD: "spans and metrics"}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="What telemetry costs a poll and a wait.")
    parser.add_argument("--short", action="store_true", help="a minute in place of five")
    short = parser.parse_args().short
    entrants = {client: Entrant(client=client, rounds=3 if short else 12) for client in WORDS}
    turns = take_turns(entrants, repeats=1 if short else 3)
    weights = weigh(list(WORDS), waits=2_000 if short else 10_000, repeats=1 if short else 3)
    print("| OpenTelemetry | a poll, µs | times | a wait, bytes | times |")
    print("| --- | --- | --- | --- | --- |")
    for client, words in WORDS.items():
        poll, polls = microseconds(turns[client], turns[WITHOUT])
        wait, waits = size(weights[client], weights[WITHOUT])
        print(f"| {words} | {poll:.0f} | {polls:.2f} | {wait:,.0f} | {waits:.2f} |")


def microseconds(turns: Turns, others: Turns) -> tuple[float, float]:
    """Return the processor time of a poll, and its ratio to that of others."""
    ratios = [turn.microseconds / others[place].microseconds for place, turn in turns.items()]
    return statistics.median(turn.microseconds for turn in turns.values()), statistics.median(ratios)


def size(weights: list[Weight], others: list[Weight]) -> tuple[float, float]:
    """Return the memory of a wait, and its ratio to that of others."""
    ratios = [weight.bytes / other.bytes for weight, other in zip(weights, others, strict=True)]
    return statistics.median(weight.bytes for weight in weights), statistics.median(ratios)


if __name__ == "__main__":
    main()
