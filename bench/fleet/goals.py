"""The goals of this library in the fleet's runs, and whether the results meet them.

The limits were set before the runs. A missed goal is printed like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import attrs

from bench.fleet.clients import JOB_POLLERS
from bench.fleet.summary import Summary

KNOWN = "playai_async, quota known"
UNKNOWN = "playai_async, quota unknown"


@attrs.frozen
class Goal:
    """A measure of one client in one workload, and its upper limit.

    Attributes:
        workload: The workload.
        client: The client.
        measure: What is measured.
        value: Returns it.
        limit: The upper limit; or a factor, if there is another client.
        form: How both are formatted.
        other: The client whose measure times `limit` is the upper limit.
    """

    workload: str
    client: str
    measure: str
    value: Callable[[Summary], float]
    limit: float
    form: str
    other: str | None = None


MEAN_OF_OWN_WAIT = {"stream": 0.5, "burst": 1.0}
"""By workload: the mean lag of an SDK under a `JobPoller` is at most this fraction of that of the SDK's own wait."""


def job_poller_goals(workload: str, factor: float) -> Iterator[Goal]:
    """Yield the goals of each SDK under a `JobPoller`."""
    for sdk, client in JOB_POLLERS.items():
        yield Goal(workload, client, "waits lost, worst seed", lambda summary: summary.max_lost, 0, ".0f")
        yield Goal(workload, client, "429s, worst seed", lambda summary: summary.max_throttled, 0.03, ".1%")
        measure = f"mean lag, s; {factor:g} times the SDK's own"
        yield Goal(workload, client, measure, lambda summary: summary.mean, factor, ".2f", sdk)


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
    *(goal for workload, factor in MEAN_OF_OWN_WAIT.items() for goal in job_poller_goals(workload, factor)),
)


@attrs.frozen
class Verdict:
    """A goal, its upper limit, the measured value, and whether the value meets the goal."""

    goal: Goal
    limit: float
    measured: float
    met: bool


def verdicts(summaries: Mapping[tuple[str, str], Summary]) -> list[Verdict]:
    """Compare the summaries, by workload and client, with the goals of the workloads that were run."""
    found = []
    for goal in GOALS:
        summary = summaries.get((goal.workload, goal.client))
        other = None if goal.other is None else summaries.get((goal.workload, goal.other))
        if summary is not None and (goal.other is None or other is not None):
            limit = goal.limit if other is None else goal.limit * goal.value(other)
            measured = goal.value(summary)
            # NaN is the share of 429s among no requests at all.
            found.append(Verdict(goal, limit, measured, measured <= limit or math.isnan(measured)))
    return found
