"""Compare how soon finished jobs are noticed behind every kind of rate limiter: this library, and hand-written loops.

The models of `tools.limiters` admit 60 requests per 60 s, in whatever way their kind counts. Two loads, with the jobs
of `bench.fleet.workloads`:

- *at once*: 200 jobs that start at the same time;
- *stream*: 120 jobs, one every 2 s.

A request takes 50 ms. A wait is lost when it has not returned after 600 s; its lag counts up to then. Kinds that end in
`+hint` send `Retry-After`. Everything runs in virtual time and prints the same each time. The loops' results are kept
in bench/out/, because the loops do not change with the library.

    python -m bench.limiters [--kind K] [--load L] [--arm A] [--seeds 3]

`--kind`, `--load` and `--arm` may be repeated; `--kind sliding` means with and without hints. The exit status is 1 if
this library misses a goal.

    python -m bench.limiters --real [--kind K] [--load L] [--arm A] [--seeds 1]

runs against real limiters on loopback, ten times faster than real time, about half a minute for each limiter and load.
nginx's are skipped where it is not installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from bench.limiters.clients import ARMS, FIXED, KNOWN, LEARNED, LOOPS, TOLD_LOOPS
from bench.limiters.real import REAL_KINDS, RealResults, addresses
from bench.limiters.report import goals_table, lags_table
from bench.limiters.results import Results, VirtualResults, arms_that_exist
from bench.limiters.runs import LOADS
from tools.limiters import KINDS

OURS = (KNOWN, LEARNED, FIXED)

REAL_LOOPS = ("loop 5 s", "semaphore")
"""Those of the best loops that a process can run in real time beside the others."""


def kinds(chosen: list[str] | None) -> list[tuple[str, bool]]:
    """Return the kinds to run, with and without hints."""
    both = [(kind, hints) for kind in KINDS for hints in (False, True) if not hints or KINDS[kind].hints]
    if chosen is None:
        return both
    return [(kind, hints) for kind, hints in both if kind in chosen or (f"{kind}+hint" in chosen and hints)]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench.limiters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--real", action="store_true", help="run against nginx and the `limits` library")
    names = ", ".join([*KINDS, *REAL_KINDS])
    made.add_argument("--kind", action="append", metavar="K", help=f"a kind of limiter: {names}")
    made.add_argument("--load", action="append", choices=LOADS, metavar="L", help=", ".join(LOADS))
    made.add_argument("--arm", action="append", choices=ARMS, metavar="A", help=", ".join(ARMS))
    made.add_argument("--seeds", type=int)
    return made


def show(results: Results, cases: Sequence[tuple[str, bool]], loads: Sequence[str], arms: Sequence[str]) -> int:
    """Print the tables, and return the number of missed goals."""
    missed = 0
    for load in loads:
        of_load = [(kind, hints, load) for kind, hints in cases]
        print(f"## {load}\n\n{lags_table(results, of_load, arms)}\n")
        table, misses = goals_table(results, of_load, [arm for arm in arms if arm in OURS])
        missed += misses
        print(f"{table}\n", flush=True)
    return missed


def main() -> int:
    """Parse the command line, run, print, and return the exit status."""
    arguments = parser().parse_args()
    loads = arguments.load or list(LOADS)
    began = time.process_time()
    if arguments.real:
        arms = arms_that_exist(arguments.arm or [*OURS, *REAL_LOOPS])
        with addresses() as urls:
            cases = [(kind, False) for kind in arguments.kind or REAL_KINDS if kind in urls]
            missed = show(RealResults(range(1, (arguments.seeds or 1) + 1), arms, urls), cases, loads, arms)
    else:
        arms = arms_that_exist(arguments.arm or [*OURS, *LOOPS, *TOLD_LOOPS])
        results = VirtualResults(range(1, (arguments.seeds or 3) + 1))
        missed = show(results, kinds(arguments.kind), loads, arms)
        results.save()
    print(f"missed: {missed}; CPU time: {time.process_time() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
