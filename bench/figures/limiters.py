"""Draw the mean lag behind each kind of rate limiter, for the docs: this library, and the best hand-written loop.

The numbers are those of `bench.limiters`, in virtual time and without `Retry-After`. The best loop is the one with the
smallest mean lag that loses no wait; behind some limiters every loop loses some. Two runs draw the same.

    python -m bench.figures.limiters [--seeds 3]

The exit status is 1 if this library lost a wait.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures.figure import FONT_SIZE, INK, LOOP, OURS, figure
from bench.limiters.clients import KNOWN, LEARNED, LOOPS
from bench.limiters.results import VirtualResults
from bench.limiters.runs import LOADS
from tools.tables import table

PICTURE = Path(__file__).parents[2] / "docs" / "limiters.svg"

NAMES = {
    "fixed": "fixed windows",
    "first": "windows from first request",
    "sliding": "sliding log",
    "counter": "sliding counter",
    "leaky": "leaky bucket, no burst",
    "leaky-20": "leaky bucket, burst 20",
    "gcra-10": "token bucket, burst 10",
    "tiers": "per second and minute",
    "concurrency": "4 requests at a time",
    "sliding-refused": "sliding log with 429s",
    "counter-refused": "sliding counter with 429s",
    "shared": "fixed windows, shared",
    "none": "no limit",
}

TITLES = {"at once": "200 jobs at once", "stream": "120 jobs, one every 2 s"}

BEST = "best hand-written loop"
MARKS: Mapping[str, Mapping[str, Any]] = {
    "quota known": {"color": OURS.color, "marker": "o"},
    "quota unknown": {"color": OURS.color, "marker": "o", "markerfacecolor": "none", "markeredgewidth": 1.6},
    BEST: {"color": LOOP.color, "marker": "D", "markersize": 5},
}

Found = dict[str, dict[str, dict[str, float]]]


def found(results: VirtualResults) -> tuple[Found, int]:
    """Return the mean lags by load, kind and client, and how many waits this library lost."""
    lags: Found = {}
    lost = 0
    for load in LOADS:
        for kind in NAMES:
            case = kind, False, load
            ours = {"quota known": results.of(case, KNOWN), "quota unknown": results.of(case, LEARNED)}
            if kind == "none":
                del ours["quota known"]
            lost += sum(summary.lost for summary in ours.values())
            by_client = {name: summary.mean for name, summary in ours.items()}
            if best := results.best(case, LOOPS):
                by_client[BEST] = best[1]
            lags.setdefault(load, {})[kind] = by_client
    return lags, lost


def draw(lags: Found) -> None:
    """Draw one panel for each load, with a row for each kind."""
    with figure(PICTURE, panels=len(LOADS), height=4.3, rows=True) as all_axes:
        for axes, (load, by_kind) in zip(all_axes, lags.items(), strict=True):
            for client, mark in MARKS.items():
                rows = [
                    (by_client[client], row) for row, by_client in enumerate(by_kind.values()) if client in by_client
                ]
                axes.plot(*zip(*rows, strict=True), linestyle="none", **{"markersize": 6, **mark}, label=client)
            axes.set_xlim(left=0)
            axes.set_yticks(range(len(by_kind)), [NAMES[kind] for kind in by_kind])
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
            axes.set_title(TITLES[load], loc="left", fontsize=FONT_SIZE, weight="bold")
            axes.set_xlabel("mean lag, s")
        drawn = all_axes[0].get_figure()
        handles, labels = all_axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)


def main() -> int:
    """Run, print and draw, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.figures.limiters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3)
    results = VirtualResults(range(1, parser.parse_args().seeds + 1))
    lags, lost = found(results)
    results.save()
    for load, by_kind in lags.items():
        rows = [
            [NAMES[kind], *(f"{by_client[client]:.1f}" if client in by_client else "-" for client in MARKS)]
            for kind, by_client in by_kind.items()
        ]
        print(f"{TITLES[load]}\n\n{table(['limiter', *(f'{client}, s' for client in MARKS)], rows)}\n")
    draw(lags)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB; waits lost: {lost}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
