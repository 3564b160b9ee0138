"""The goals of this library in the fleet's runs, and whether the results meet them.

The limits were set before the runs. A missed goal is printed like any other.
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
    """A measure of one client in one workload, and its upper limit."""

    workload: str
    client: str
    measure: str
    value: Callable[[Summary], float]
    limit: float
    form: str


GOALS = (
    Goal("stream", KNOWN, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f"),
    Goal("stream", UNKNOWN, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f"),
    Goal("stream", KNOWN, "mean lag, s", lambda summary: summary.mean, 7.5, ".2f"),
    Goal("stream", KNOWN, "p95 of the lag, s", lambda summary: summary.p95, 18, ".2f"),
    Goal("stream", KNOWN, "requests per job", lambda summary: summary.requests, 2.5, ".2f"),
    Goal("stream", KNOWN, "429s, worst seed", lambda summary: summary.max_throttled, 0, ".1%"),
    Goal("stream", UNKNOWN, "mean lag, s", lambda summary: summary.mean, 10, ".2f"),
    Goal("stream", UNKNOWN, "429s after 60 s", lambda summary: summary.throttled_later, 0.03, ".1%"),
    Goal("burst", KNOWN, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f"),
    Goal("burst", UNKNOWN, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f"),
    Goal("burst", KNOWN, "mean lag, s", lambda summary: summary.mean, 95, ".2f"),
    Goal("burst", KNOWN, "requests per job", lambda summary: summary.requests, 1.2, ".2f"),
    Goal("burst", KNOWN, "429s, worst seed", lambda summary: summary.max_throttled, 0, ".1%"),
    Goal("burst", UNKNOWN, "mean lag, s", lambda summary: summary.mean, 105, ".2f"),
    Goal("burst", UNKNOWN, "429s after 60 s", lambda summary: summary.throttled_later, 0.03, ".1%"),
    Goal("crowd", KNOWN, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f"),
    Goal("crowd", KNOWN, "makespan, times the bound", lambda summary: summary.makespan_ratio, 1.1, ".3f"),
)


@attrs.frozen
class Verdict:
    """A goal, the measured value, and whether the value meets the goal."""

    goal: Goal
    measured: float
    met: bool


def verdicts(summaries: Mapping[tuple[str, str], Summary]) -> list[Verdict]:
    """Compare the summaries, by workload and client, with the goals of the workloads that were run."""
    found = []
    for goal in GOALS:
        summary = summaries.get((goal.workload, goal.client))
        if summary is not None:
            measured = goal.value(summary)
            # NaN is the share of 429s among no requests at all.
            found.append(Verdict(goal, measured, measured <= goal.limit or math.isnan(measured)))
    return found
