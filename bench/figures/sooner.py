"""Draw the mean lag with forecasts, hints and fixed windows, for the docs.

The numbers are those of `bench.sooner`: the real session against the emulator, in virtual time, under a known quota of
60 requests a minute. Each is the median over the seeds. Two runs draw the same.

    python -m bench.figures.sooner [--seeds 3] [--processes 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures.figure import FONT_SIZE, INK, LOOP, OURS, figure
from bench.sooner.__main__ import BOTH, COLD, FIXED, WARM, Row, measure
from bench.sooner.runs import DEFAULT
from tools.tables import table

PICTURE = Path(__file__).parents[2] / "docs" / "sooner.svg"

PANELS: Mapping[tuple[str, str], tuple[str, Sequence[str]]] = {
    ("stream", "text 0.3"): ("120 jobs, one every 2 s", [COLD, WARM]),
    ("stream", "no text"): ("the same, no text", ["hints for half", "hints for all"]),
    ("200 at once", "text 0.3"): ("200 jobs at once", [WARM, FIXED, BOTH]),
}
"""The title and the arms of each panel, by load and lengths; the default arm is in all of them."""

NAMES = {
    DEFAULT: "defaults",
    COLD: "forecast, cold",
    WARM: "forecast",
    FIXED: 'counting="fixed"',
    BOTH: "forecast and fixed",
    "hints for half": "hints for half of the jobs",
    "hints for all": "hints for all jobs",
}


def lags(seeds: int, processes: int) -> dict[str, dict[str, float]]:
    """Return the mean lag by panel and arm, in seconds."""
    rows = [Row(*load, arm, 0.0) for load, (_, arms) in PANELS.items() for arm in arms]
    results = measure(rows, seeds, processes)
    return {
        title: {arm: statistics.median(course.lag for course in results[*load, arm]) for arm in [DEFAULT, *arms]}
        for load, (title, arms) in PANELS.items()
    }


def draw(by_panel: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one panel below the other, with a bar for each arm."""
    with figure(PICTURE, panels=len(by_panel), height=1.8, rows=True) as all_axes:
        for axes, (title, by_arm) in zip(all_axes, by_panel.items(), strict=True):
            colors = [LOOP.color if arm == DEFAULT else OURS.color for arm in by_arm]
            bars = axes.barh(range(len(by_arm)), list(by_arm.values()), color=colors, height=0.6)
            axes.bar_label(bars, fmt="%.1f", padding=3, color=INK)
            axes.set_yticks(range(len(by_arm)), [NAMES[arm] for arm in by_arm])
            axes.set_xlim(right=1.2 * max(by_arm.values()))
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
            axes.set_title(title, loc="left", fontsize=FONT_SIZE, weight="bold")
            axes.set_xlabel("mean lag, s")


def main() -> int:
    """Run, print and draw, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.figures.sooner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    by_panel = lags(arguments.seeds, arguments.processes)
    for title, by_arm in by_panel.items():
        rows = [[NAMES[arm], f"{lag:.1f}"] for arm, lag in by_arm.items()]
        print(f"{title}\n\n{table(['session', 'mean lag, s'], rows)}\n")
    draw(by_panel)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
