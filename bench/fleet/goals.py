"""What this library is to reach in the fleet's runs, and whether it did.

The numbers were set before the runs, and a goal that is missed is printed like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs

from bench.fleet.summary import Summary

KNOWN = "playai_async, quota known"
UNKNOWN = "playai_async, quota unknown"


@attrs.frozen
class Goal:
    """A measure of one client in one workload, and the most that it may come to."""

    workload: str
    client: str
    measure: str
    value: Callable[[Summary], float]
    most: float
    form: str


GOALS = (
    Goal("stream", KNOWN, "waits lost, worst seed", lambda summary: summary.most_lost, 0, ".0f"),
    Goal("stream", UNKNOWN, "waits lost, worst seed", lambda summary: summary.most_lost, 0, ".0f"),
    Goal("stream", KNOWN, "mean lag, s", lambda summary: summary.mean, 7.5, ".2f"),
    Goal("stream", KNOWN, "p95 of the lag, s", lambda summary: summary.p95, 18, ".2f"),
    Goal("stream", KNOWN, "requests a job", lambda summary: summary.requests, 2.5, ".2f"),
    Goal("stream", KNOWN, "429s, worst seed", lambda summary: summary.most_throttled, 0, ".1%"),
    Goal("stream", UNKNOWN, "mean lag, s", lambda summary: summary.mean, 10, ".2f"),
    Goal("stream", UNKNOWN, "429s after 60 s", lambda summary: summary.throttled_later, 0.03, ".1%"),
    Goal("burst", KNOWN, "waits lost, worst seed", lambda summary: summary.most_lost, 0, ".0f"),
    Goal("burst", UNKNOWN, "waits lost, worst seed", lambda summary: summary.most_lost, 0, ".0f"),
    Goal("burst", KNOWN, "mean lag, s", lambda summary: summary.mean, 95, ".2f"),
    Goal("burst", KNOWN, "requests a job", lambda summary: summary.requests, 1.2, ".2f"),
    Goal("burst", KNOWN, "429s, worst seed", lambda summary: summary.most_throttled, 0, ".1%"),
    Goal("burst", UNKNOWN, "mean lag, s", lambda summary: summary.mean, 105, ".2f"),
    Goal("burst", UNKNOWN, "429s after 60 s", lambda summary: summary.throttled_later, 0.03, ".1%"),
    Goal("crowd", KNOWN, "waits lost, worst seed", lambda summary: summary.most_lost, 0, ".0f"),
    Goal("crowd", KNOWN, "makespan, times the least", lambda summary: summary.stretch, 1.1, ".3f"),
)


@attrs.frozen
class Verdict:
    """A goal, what was measured, and whether that keeps it."""

    goal: Goal
    measured: float
    kept: bool


def verdicts(summaries: Mapping[tuple[str, str], Summary]) -> list[Verdict]:
    """Judge the goals of what was run; the summaries are by workload and client."""
    found = []
    for goal in GOALS:
        summary = summaries.get((goal.workload, goal.client))
        if summary is not None:
            measured = goal.value(summary)
            # NaN is the share of nothing, and where there was no request there was no 429.
            found.append(Verdict(goal, measured, measured <= goal.most or math.isnan(measured)))
    return found
