"""What the runs of a client come to: medians over seeds, and the same of the bound."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import attrs

from bench.fleet.bound import bound
from bench.fleet.runs import Result
from bench.fleet.workloads import workload


@attrs.frozen(kw_only=True)
class Summary:
    """A client in one workload; medians over the seeds unless it says otherwise.

    A job that nobody noticed counts in the quantiles, as one noticed after all others: they may be infinite. The mean
    is that of the noticed jobs, and says little where some were not.

    Attributes:
        mean: Lag from finished to noticed, in service seconds; NaN if no job was noticed.
        p50: Half of the jobs were noticed within this.
        p95: All but one in twenty were noticed within this.
        requests: Requests a job.
        throttled: The share of all requests that brought a 429.
        most_throttled: The same, of the worst seed.
        throttled_later: The share of those sent after the first 60 s; NaN if there were none.
        lost: Waits that raised, or were cut off, though their job was fine.
        most_lost: The same, of the worst seed.
        jobs: Jobs of a run.
        fullest: Requests that the service counted in the fullest of its windows, those with a 429 included.
        makespan: Service seconds from the beginning to the last notice.
        stretch: How many times the least possible that is.
        late: Service seconds by which the machine called a process too late on average; the worse of the two.
    """

    mean: float
    p50: float
    p95: float
    requests: float
    throttled: float
    most_throttled: float
    throttled_later: float
    lost: float
    most_lost: int
    jobs: int
    fullest: float
    makespan: float
    stretch: float
    late: float


def summarized(results: Sequence[Result]) -> Summary:
    """Return the summary of a client's runs of one workload."""

    def median(measure: Callable[[Result], float]) -> float:
        measured = [measure(result) for result in results]
        # NaN is what a run has nothing of, such as the lag of a run in which no job was noticed.
        return statistics.median([value for value in measured if not math.isnan(value)] or [math.nan])

    return Summary(
        mean=median(lambda result: mean(result.client["lags"])),
        p50=median(lambda result: quantile(all_lags(result), 0.50)),
        p95=median(lambda result: quantile(all_lags(result), 0.95)),
        requests=median(lambda result: result.service["requests"] / result.jobs),
        throttled=median(throttled),
        most_throttled=max(throttled(result) for result in results),
        throttled_later=median(
            lambda result: share(result.service["throttled_later"], result.service["requests_later"])
        ),
        lost=median(lost),
        most_lost=max(lost(result) for result in results),
        jobs=results[0].jobs,
        fullest=median(lambda result: result.service["fullest_window"]),
        makespan=median(lambda result: result.client["makespan"]),
        stretch=median(lambda result: result.client["makespan"] / least_makespan(result)),
        late=median(lambda result: max(result.client["late"], result.service["late"])),
    )


def bound_of(name: str, seeds: Sequence[int]) -> Summary:
    """Return the same of the client that knows the finishing times, for which nothing needs to run."""
    best = [bound(workload(name, seed)) for seed in seeds]
    return Summary(
        mean=statistics.median(mean(one.lags) for one in best),
        p50=statistics.median(quantile(sorted(one.lags), 0.50) for one in best),
        p95=statistics.median(quantile(sorted(one.lags), 0.95) for one in best),
        requests=1.0,
        throttled=0.0,
        most_throttled=0.0,
        throttled_later=0.0,
        lost=0,
        most_lost=0,
        jobs=len(best[0].lags),
        fullest=math.nan,
        makespan=statistics.median(one.makespan for one in best),
        stretch=1.0,
        late=math.nan,
    )


def all_lags(result: Result) -> list[float]:
    """Return the lags of all jobs, sorted; infinite for those never noticed."""
    lags = result.client["lags"]
    return [*lags, *[math.inf] * (result.jobs - len(lags))]


def lost(result: Result) -> int:
    """Return how many waits were lost."""
    raised: dict[str, int] = result.client["lost"]
    unfinished: int = result.client["unfinished"]
    return sum(raised.values()) + unfinished


def throttled(result: Result) -> float:
    """Return the share of the requests that brought a 429."""
    return share(result.service["throttled"], result.service["requests"])


def least_makespan(result: Result) -> float:
    """Return the makespan of the bound in the same run."""
    return bound(workload(result.run.workload, result.run.seed)).makespan


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return statistics.fmean(values) if values else math.nan


def quantile(values: Sequence[float], part: float) -> float:
    """Return the least of sorted values that this part of them does not exceed."""
    return values[math.ceil(part * len(values)) - 1]


def share(part: int, whole: int) -> float:
    """Return a part of a whole; NaN of nothing."""
    return part / whole if whole else math.nan
