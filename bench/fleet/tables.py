"""The fleet's results as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from bench.fleet.clients import JOB_POLLERS
from bench.fleet.goals import Verdict
from bench.fleet.summary import Summary
from tools.tables import table

Column = tuple[str, Callable[[Summary], str]]


def seconds(value: float) -> str:
    """Format a lag; infinity means that a job was never noticed."""
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.1f}"


def percent(value: float) -> str:
    """Format a share."""
    if math.isnan(value):
        return "-"
    # "0" means none at all, so a small share must not be rounded to it.
    return "0" if value == 0 else f"{max(value, 0.001):.1%}"


def number(value: float) -> str:
    """Format a count."""
    return "-" if math.isnan(value) else f"{value:,.0f}"


LAGS: tuple[Column, ...] = (
    ("mean lag, s", lambda row: seconds(row.mean)),
    ("p50, s", lambda row: seconds(row.p50)),
    ("p95, s", lambda row: seconds(row.p95)),
    ("requests per job", lambda row: f"{row.requests:.2f}"),
    ("429s", lambda row: percent(row.throttled)),
    ("after 60 s", lambda row: percent(row.throttled_later)),
    ("waits lost", lambda row: number(row.lost)),
    ("fullest window", lambda row: number(row.fullest)),
)

ONCE: tuple[Column, ...] = (
    ("waits lost", lambda row: f"{row.lost:.0f} of {row.jobs}"),
    ("mean lag of the rest, s", lambda row: seconds(row.mean)),
    ("requests per job", lambda row: f"{row.requests:.2f}"),
    ("429s", lambda row: percent(row.throttled)),
)

CROWD: tuple[Column, ...] = (
    ("makespan, s", lambda row: seconds(row.makespan)),
    ("times the bound", lambda row: f"{row.makespan_ratio:.3f}"),
    *LAGS,
)


def summary_table(rows: Mapping[str, Summary], columns: Sequence[Column]) -> str:
    """Return a table with one row per client."""
    lines = [[client, *(show(summary) for _, show in columns)] for client, summary in rows.items()]
    return table(["client", *(name for name, _ in columns)], lines)


def pairs_table(rows: Mapping[str, Summary]) -> str:
    """Return a table with one row per SDK: its own wait, and the same SDK under a `JobPoller`."""
    pairs = [(sdk, rows[sdk], rows[client]) for sdk, client in JOB_POLLERS.items() if {sdk, client} <= set(rows)]
    lines = [
        [
            sdk,
            *(seconds(row.mean) for row in (own, polled)),
            *(f"{row.requests:.1f}" for row in (own, polled)),
            *(percent(row.throttled) for row in (own, polled)),
            *(number(row.lost) for row in (own, polled)),
        ]
        for sdk, own, polled in pairs
    ]
    measures = ("mean lag, s", "requests per job", "429s", "waits lost")
    return table(["SDK", *(name for measure in measures for name in (measure, "JobPoller"))], lines)


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Return a table with one row per goal."""
    lines = [
        [
            verdict.goal.workload,
            verdict.goal.client,
            verdict.goal.measure,
            format(verdict.limit, verdict.goal.form),
            format(verdict.measured, verdict.goal.form),
            "yes" if verdict.met else "NO",
        ]
        for verdict in verdicts
    ]
    return table(["workload", "client", "measure", "at most", "measured", "met"], lines, texts=3)
