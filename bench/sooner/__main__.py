"""Measure how much sooner forecasts, hints and fixed windows let a session notice that a job is finished.

A session that knows its quota of 60 requests a minute waits for the jobs of the emulator, on loopback and in virtual
time. Each request, and each response, takes 10 to 100 ms. For each seed the jobs, the phase of the service's windows
and the session's random numbers are the same in all arms. A row gives the median, over the seeds, of the ratio of the
mean lag to that of the default arm. Beside it are the requests of both arms, and the largest lag with any seed. Two
runs print the same.

    python -m bench.sooner [--short] [--seeds 20] [--processes 2]

Rows whose arm this version does not have are left out. The exit status is 1 if a number is beyond its limit.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata

import attrs

from bench.sooner.loads import LENGTHS, STARTS
from bench.sooner.runs import ARMS, DEFAULT, WINDOW, Course, run
from playai_async import __version__
from tools.tables import table

MAX_REQUESTS = 1.05
"""Answered requests a job, as a ratio to the default arm."""

MAX_REFUSED = 0.08
"""Of the requests, those that may receive a 429 under fixed windows."""

MAX_LAG = 2 * WINDOW
"""Seconds: the largest lag under a steady load."""

COLD, WARM, FIXED, BOTH = "forecast, cold", "forecast, warm", "fixed", "forecast, warm; fixed"
NEUTRAL = 1.04
"""The ratio where the forecast has nothing to go by."""


@attrs.frozen
class Row:
    """A row of the table: a load, the lengths of its jobs, an arm, and the largest ratio that is wanted."""

    load: str
    lengths: str
    arm: str
    limit: float


ROWS: Sequence[Row] = [
    Row("stream", "text 0.3", WARM, 0.55),
    Row("stream", "text 0.3", COLD, 0.70),
    Row("10 a minute", "text 0.3", WARM, 0.55),
    Row("25 a minute", "text 0.3", WARM, 0.55),
    Row("200 at once", "text 0.3", WARM, 0.72),
    Row("200 at once", "text 0.3", BOTH, 0.48),
    Row("200 at once", "no text", FIXED, 0.82),
    *(Row(load, lengths, arm, NEUTRAL) for load in STARTS for lengths in list(LENGTHS)[1:] for arm in (COLD, WARM)),
    Row("stream", "no text", "hints for all", 0.42),
    Row("stream", "no text", "hints for half", 0.75),
    Row("stream", "no text", "two false hints", 1.15),
    Row("stream", "no text", "two false hints, and true ones", 1.15),
]

SHORT = [row for row in ROWS if row.limit != NEUTRAL or (row.load, row.arm) == ("stream", WARM)]

Results = Mapping[tuple[str, str, str], Sequence[Course]]
"""The courses of each load, lengths and arm, one for each seed."""


def measure(rows: Sequence[Row], seeds: int, processes: int) -> Results:
    """Run the arms of some rows, and the default arm of the same loads, with each seed."""
    keys = dict.fromkeys(key for row in rows for key in _keys(row))
    with ProcessPoolExecutor(processes) as pool:
        pending = {key: [pool.submit(run, *key, seed) for seed in range(1, seeds + 1)] for key in keys}
        return {key: [future.result() for future in futures] for key, futures in pending.items()}


def _keys(row: Row) -> tuple[tuple[str, str, str], ...]:
    return (row.load, row.lengths, DEFAULT), (row.load, row.lengths, row.arm)


@attrs.frozen
class Figures:
    """What a row shows; ratios are to the default arm."""

    default_lag: float
    lag: float
    ratio: float
    requests: float
    requests_ratio: float
    refused: float
    largest: float

    def faults(self, row: Row) -> list[str]:
        """Return what is beyond its limit."""
        limits = {
            "lag": self.ratio <= row.limit,
            "requests": self.requests_ratio <= MAX_REQUESTS,
            "429s": self.refused <= (MAX_REFUSED if ARMS[row.arm].fixed else 0.0),
            "largest lag": self.largest <= MAX_LAG or row.load == "200 at once",
        }
        return [name for name, kept in limits.items() if not kept]


def figures(row: Row, results: Results) -> Figures:
    """Compare an arm with the default arm, seed by seed."""
    default, courses = (results[key] for key in _keys(row))

    def ratio(name: str) -> float:
        pairs = zip(courses, default, strict=True)
        return float(statistics.median(getattr(course, name) / getattr(other, name) for course, other in pairs))

    def median(of: Sequence[Course], name: str) -> float:
        return float(statistics.median(getattr(course, name) for course in of))

    return Figures(
        default_lag=median(default, "lag"),
        lag=median(courses, "lag"),
        ratio=ratio("lag"),
        requests=median(courses, "requests"),
        requests_ratio=ratio("requests"),
        refused=median(courses, "refused"),
        largest=max(course.largest for course in courses),
    )


def results_table(shown: Mapping[Row, Figures]) -> str:
    """Return the figures as a Markdown table."""
    head = ["load", "lengths", "arm", "default, s", "lag, s", "ratio", "at most", "requests a job"]
    head += ["ratio", "429s", "largest lag, s", "verdict"]
    lines = [
        [
            row.load,
            row.lengths,
            row.arm,
            f"{found.default_lag:.1f}",
            f"{found.lag:.1f}",
            f"{found.ratio:.2f}",
            f"{row.limit:.2f}",
            f"{found.requests:.2f}",
            f"{found.requests_ratio:.2f}",
            f"{found.refused:.1%}",
            f"{found.largest:.0f}",
            ", ".join(found.faults(row)) or "kept",
        ]
        for row, found in shown.items()
    ]
    return table(head, lines, texts=3)


def main() -> int:
    """Parse the command line, run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sooner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="leave out most loads that forecasts do not change")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began = time.monotonic()
    wanted = SHORT if arguments.short else ROWS
    rows = [row for row in wanted if ARMS[row.arm].possible]
    results = measure(rows, arguments.seeds, arguments.processes)
    shown = {row: figures(row, results) for row in rows}
    print(results_table(shown))
    for arm in dict.fromkeys(row.arm for row in wanted if row not in rows):
        print(f"left out: {arm}")
    command = " ".join(["python -m bench.sooner", *sys.argv[1:]])
    versions = (
        f"playai_async {__version__}, aiohttp {metadata.version('aiohttp')}, tenacity {metadata.version('tenacity')}"
    )
    print(f"\n{command}; Python {platform.python_version()}, {versions}; {time.monotonic() - began:.0f} s")
    return int(any(found.faults(row) for row, found in shown.items()))


if __name__ == "__main__":
    sys.exit(main())
