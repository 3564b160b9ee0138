"""The results of runs, each performed when it is first asked for; those of the loops are kept on disk."""

from __future__ import annotations

import abc
import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.limiters.clients import FIXED, LOOPS, TOLD_LOOPS, pacing_of
from bench.limiters.runs import Result, in_virtual_time
from tools.limited_service import Counts

ROOT = Path(__file__).parents[2]

CACHE = ROOT / "bench" / "out" / "limiters-loops.json"

SOURCES = (
    "bench/fleet/workloads.py",
    "bench/limiters/clients.py",
    "bench/limiters/runs.py",
    "tools/limited_service.py",
    "playai_async/emulator/_service/limiters.py",
    "tools/limiters.py",
)
"""The results of the loops depend on these files."""

Case = tuple[str, bool, str]
"""The kind of the limiter, whether it sends hints, and the load."""


@attrs.frozen
class Summary:
    """A client in one case: medians over the seeds; the largest lag and the lost waits of all of them.

    Attributes:
        mean: Mean lag in seconds.
        largest: The largest lag in seconds.
        lost: Lost waits.
        requests: Requests per job.
        throttled: The share of requests that received a 429.
        throttled_later: The same, after the first two windows.
    """

    mean: float
    largest: float
    lost: int
    requests: float
    throttled: float
    throttled_later: float


class Results(abc.ABC):
    """The summaries of clients in cases."""

    @abc.abstractmethod
    def of(self, case: Case, arm: str) -> Summary:
        """Return the summary of a client in a case."""

    @abc.abstractmethod
    def has(self, arm: str) -> bool:
        """Return whether a client takes part."""

    def best(self, case: Case, arms: Iterable[str]) -> tuple[str, float] | None:
        """Return the name and the mean lag of the best client that loses no wait; None if all lose some."""
        found = [(self.of(case, arm).mean, arm) for arm in arms if self.has(arm) and not self.of(case, arm).lost]
        return (min(found)[1], min(found)[0]) if found else None


class VirtualResults(Results):
    """Performs runs in virtual time.

    Args:
        seeds: The seeds of each case.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = seeds
        digest = hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in SOURCES)).hexdigest()
        self._digest = digest
        self._loops: dict[str, Any] = {}
        self._summaries: dict[tuple[Case, str], Summary] = {}
        if CACHE.exists():
            kept = json.loads(CACHE.read_text(encoding="utf-8"))
            if kept["sources"] == digest:
                self._loops = kept["runs"]

    def save(self) -> None:
        """Keep the results of the loops."""
        CACHE.parent.mkdir(exist_ok=True)
        CACHE.write_text(json.dumps({"sources": self._digest, "runs": self._loops}), encoding="utf-8")

    def of(self, case: Case, arm: str) -> Summary:
        """Return the summary of a client in a case."""
        key = case, arm
        if key not in self._summaries:
            self._summaries[key] = summarize([self._run(case, arm, seed) for seed in self._seeds])
        return self._summaries[key]

    def has(self, arm: str) -> bool:  # noqa: ARG002 - the loops cost little, and are compared with in any case
        """Return True."""
        return True

    def _run(self, case: Case, arm: str, seed: int) -> Result:
        kind, hints, load = case
        if arm not in (*LOOPS, *TOLD_LOOPS):
            return in_virtual_time(kind, hints=hints, load=load, arm=arm, seed=seed)
        key = f"{kind} {hints} {load} {arm} {seed}"
        if key not in self._loops:
            result = in_virtual_time(kind, hints=hints, load=load, arm=arm, seed=seed)
            self._loops[key] = attrs.asdict(result)
        kept = self._loops[key]
        return Result(kept["lags"], kept["lost"], Counts(**kept["counts"]))


def summarize(results: Sequence[Result]) -> Summary:
    """Summarize the runs of one client in one case."""

    def median(measure: Callable[[Result], float]) -> float:
        return statistics.median(measure(result) for result in results)

    return Summary(
        mean=median(lambda result: result.mean),
        largest=max(max(result.lags) for result in results),
        lost=sum(result.lost for result in results),
        requests=median(lambda result: result.counts.requests / len(result.lags)),
        throttled=median(lambda result: share(result.counts.throttled, result.counts.requests)),
        throttled_later=median(lambda result: share(result.counts.throttled_later, result.counts.requests_later)),
    )


def share(part: int, whole: int) -> float:
    """Return part / whole, or 0 if the whole is 0."""
    return part / whole if whole else 0.0


def arms_that_exist(arms: Sequence[str]) -> list[str]:
    """Leave out the arm whose setting this library does not have yet."""

    def exists(arm: str) -> bool:
        try:
            pacing_of(arm, 1, 1.0)
        except TypeError:
            return False
        return True

    return [arm for arm in arms if arm != FIXED or exists(arm)]
