"""Compare how soon finished jobs are noticed behind every kind of rate limiter: this library, and hand-written loops.

The models of `tools.limiters` admit 60 requests per 60 s, in whatever way their kind counts. Two loads, with the jobs
of `bench.fleet.workloads`:

- *at once*: 200 jobs that start at the same time;
- *stream*: 120 jobs, one every 2 s.

A request takes 50 ms. A wait is lost when it has not returned after 600 s; its lag counts up to then. Kinds that end in
`+hint` send `Retry-After`. Everything runs in virtual time and prints the same each time. The loops' results are kept
in bench/out/, because the loops do not change with the library.

    python -m bench.limiters [--kind K] [--load L] [--arm A] [--seeds 3]

`--kind` and `--arm` may be repeated; `--kind sliding` means with and without hints. The exit status is 1 if this
library misses a goal.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench.limiters.clients import ARMS, FIXED, KNOWN, LEARNED, LOOPS, TOLD_LOOPS
from bench.limiters.report import goals_table, lags_table
from bench.limiters.results import Results, arms_that_exist
from bench.limiters.runs import LOADS
from tools.limiters import KINDS

OURS = (KNOWN, LEARNED, FIXED)


def kinds(chosen: list[str] | None) -> list[tuple[str, bool]]:
    """Return the kinds to run, with and without hints."""
    both = [(kind, hints) for kind in KINDS for hints in (False, True) if not hints or KINDS[kind].hints]
    if chosen is None:
        return both
    return [(kind, hints) for kind, hints in both if kind in chosen or (f"{kind}+hint" in chosen and hints)]


def main() -> int:
    """Parse the command line, run, print, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.limiters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*KINDS, *(f"{kind}+hint" for kind in KINDS if KINDS[kind].hints)]
    parser.add_argument("--kind", action="append", choices=names, metavar="K", help=", ".join(KINDS))
    parser.add_argument("--load", action="append", choices=LOADS, metavar="L", help=", ".join(LOADS))
    parser.add_argument("--arm", action="append", choices=ARMS, metavar="A", help=", ".join(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    began = time.process_time()
    results = Results(range(1, arguments.seeds + 1))
    arms = arms_that_exist(arguments.arm or [*OURS, *LOOPS, *TOLD_LOOPS])
    missed = 0
    for load in arguments.load or LOADS:
        cases = [(kind, hints, load) for kind, hints in kinds(arguments.kind)]
        print(f"## {load}\n\n{lags_table(results, cases, arms)}\n")
        table, misses = goals_table(results, cases, [arm for arm in arms if arm in OURS])
        missed += misses
        print(f"{table}\n")
    results.save()
    print(f"missed: {missed}; CPU time: {time.process_time() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
