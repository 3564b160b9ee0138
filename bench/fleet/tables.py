"""The fleet's results as Markdown: aligned, so that they read well as plain text, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from bench.fleet.goals import Verdict
from bench.fleet.summary import Summary
from tools.tables import table

Column = tuple[str, Callable[[Summary], str]]


def seconds(value: float) -> str:
    """Return a lag; an infinite one is that of a job never noticed."""
    if math.isnan(value):
        return "-"
    return "never" if math.isinf(value) else f"{value:.1f}"


def percent(value: float) -> str:
    """Return a share."""
    if math.isnan(value):
        return "-"
    # 0 is for none at all: a share that would be rounded to it shows that there were some.
    return "0" if value == 0 else f"{max(value, 0.001):.1%}"


def number(value: float) -> str:
    """Return a count."""
    return "-" if math.isnan(value) else f"{value:,.0f}"


LAGS: tuple[Column, ...] = (
    ("mean lag, s", lambda row: seconds(row.mean)),
    ("p50, s", lambda row: seconds(row.p50)),
    ("p95, s", lambda row: seconds(row.p95)),
    ("requests a job", lambda row: f"{row.requests:.2f}"),
    ("429s", lambda row: percent(row.throttled)),
    ("after 60 s", lambda row: percent(row.throttled_later)),
    ("waits lost", lambda row: number(row.lost)),
    ("fullest window", lambda row: number(row.fullest)),
    ("late, s", lambda row: "-" if math.isnan(row.late) else f"{row.late:.2f}"),
)

ONCE: tuple[Column, ...] = (
    ("waits lost", lambda row: f"{row.lost:.0f} of {row.jobs}"),
    ("mean lag of the others, s", lambda row: seconds(row.mean)),
    ("requests a job", lambda row: f"{row.requests:.2f}"),
    ("429s", lambda row: percent(row.throttled)),
    ("late, s", lambda row: f"{row.late:.2f}"),
)

CROWD: tuple[Column, ...] = (
    ("makespan, s", lambda row: seconds(row.makespan)),
    ("times the least", lambda row: f"{row.stretch:.3f}"),
    *LAGS,
)


def summary_table(rows: Mapping[str, Summary], columns: Sequence[Column]) -> str:
    """Return a table with a line for each client."""
    lines = [[client, *(show(summary) for _, show in columns)] for client, summary in rows.items()]
    return table(["client", *(name for name, _ in columns)], lines)


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Return a table of the goals."""
    lines = [
        [
            verdict.goal.workload,
            verdict.goal.client,
            verdict.goal.measure,
            format(verdict.goal.most, verdict.goal.form),
            format(verdict.measured, verdict.goal.form),
            "yes" if verdict.kept else "NO",
        ]
        for verdict in verdicts
    ]
    return table(["workload", "client", "measure", "at most", "measured", "kept"], lines, texts=3)
