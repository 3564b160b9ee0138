"""The results as Markdown tables, and the goals."""

from __future__ import annotations

from collections.abc import Sequence

from bench.limiters.clients import FIXED, KNOWN, LEARNED, LOOPS, TOLD_LOOPS
from bench.limiters.results import Case, Results
from tools.tables import table

RATIO = {("at once", KNOWN): 1.3, ("at once", LEARNED): 1.6, ("stream", KNOWN): 1.0, ("stream", LEARNED): 1.3}
"""Mean lag divided by that of the best loop that loses no wait: at most this."""

THROTTLED_LATER = {KNOWN: 0.05, LEARNED: 0.10}
"""The share of 429s after the first two windows: at most this."""

FIXED_WINDOWS = {
    ("at once", KNOWN): (95.0, 0.0),
    ("at once", LEARNED): (88.0, 0.03),
    ("stream", KNOWN): (7.2, 0.0),
    ("stream", LEARNED): (9.0, 0.03),
}
"""Behind fixed windows without hints: the mean lag in seconds, and the share of 429s after the first two windows."""

COLUMNS = ("limiter", "client", "mean lag, s", "largest, s", "lost", "requests per job", "429s", "after two windows")


def name(case: Case) -> str:
    """Return the name of a kind of limiter."""
    kind, hints, _ = case
    return f"{kind}+hint" if hints else kind


def lags_table(results: Results, cases: Sequence[Case], arms: Sequence[str]) -> str:
    """Return a table with one row for each case and client."""
    rows = []
    for case in cases:
        best = results.best(case, LOOPS)
        told = results.best(case, [*LOOPS, *TOLD_LOOPS])
        for arm in arms:
            summary = results.of(case, arm)
            rows.append(
                [
                    name(case),
                    arm,
                    f"{summary.mean:.1f}",
                    f"{summary.largest:.0f}",
                    f"{summary.lost}",
                    f"{summary.requests:.1f}",
                    f"{summary.throttled:.1%}",
                    f"{summary.throttled_later:.1%}",
                    "-" if best is None else f"{summary.mean / best[1]:.2f}",
                    "-" if told is None else f"{summary.mean / told[1]:.2f}",
                ]
            )
    return table([*COLUMNS, "x best loop", "x best told loop"], rows, texts=2)


def goals_table(results: Results, cases: Sequence[Case], arms: Sequence[str]) -> tuple[str, int]:
    """Return a table of the goals with one row for each case and client of ours, and the number of misses."""
    rows = []
    missed = 0
    for case in cases:
        kind, hints, load = case
        best = results.best(case, LOOPS)
        for arm in arms:
            if (arm == FIXED and kind != "fixed") or (arm == KNOWN and kind == "none"):
                continue  # told what is not so
            summary = results.of(case, arm)
            checks: list[tuple[str, float, float]] = [("lost", summary.lost, 0.0)]
            if best is not None and (load, arm) in RATIO:
                checks.append((f"x {best[0]} ({best[1]:.1f} s)", summary.mean / best[1], RATIO[load, arm]))
            if arm in THROTTLED_LATER:
                checks.append(("429s later", summary.throttled_later, THROTTLED_LATER[arm]))
            if kind == "fixed" and not hints and (load, arm) in FIXED_WINDOWS:
                lag, refused = FIXED_WINDOWS[load, arm]
                checks += [("mean lag", summary.mean, lag), ("429s later", summary.throttled_later, refused)]
            misses = [f"{what} {value:.2f} > {limit:.2f}" for what, value, limit in checks if value > limit]
            missed += len(misses)
            ratio = "-" if best is None else f"{summary.mean / best[1]:.2f}"
            rows.append(
                [
                    name(case),
                    arm,
                    "; ".join(misses) or "all met",
                    f"{summary.mean:.1f}",
                    ratio,
                    f"{summary.throttled_later:.1%}",
                    f"{summary.lost}",
                ]
            )
    head = ["limiter", "client", "missed goals", "mean lag, s", "x best loop", "429s later", "lost"]
    return table(head, rows, texts=3), missed
