"""Summarize the runs of a client: medians over the seeds, and the same for the lower bound."""

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
    """A client in one workload; medians over the seeds unless stated otherwise.

    A job that no wait noticed counts in the quantiles as noticed last, so a quantile may be infinite. The mean is of
    the noticed jobs only, so it says little if some were not noticed.

    Attributes:
        mean: Lag from finished to noticed, in service seconds; NaN if no job was noticed.
        p50: 50 % of the jobs were noticed within this lag.
        p95: 95 % of the jobs were noticed within this lag.
        requests: Requests per job.
        throttled: The share of all requests that received a 429.
        max_throttled: The same, for the worst seed.
        throttled_later: The share among the requests after the first 60 s; NaN if there were none.
        lost: Waits that raised, or were cancelled at the end, although their job completed.
        max_lost: The same, for the worst seed.
        jobs: Jobs per run.
        fullest: Requests in the fullest window of the service, including those with a 429.
        makespan: Service seconds from the beginning to the last notice.
        makespan_ratio: The makespan divided by that of the bound.
    """

    mean: float
    p50: float
    p95: float
    requests: float
    throttled: float
    max_throttled: float
    throttled_later: float
    lost: float
    max_lost: int
    jobs: int
    fullest: float
    makespan: float
    makespan_ratio: float


def summarize(results: Sequence[Result]) -> Summary:
    """Summarize a client's runs of one workload."""

    def median(measure: Callable[[Result], float]) -> float:
        measured = [measure(result) for result in results]
        # A run may have no value, such as the lag of a run in which no job was noticed.
        return statistics.median([value for value in measured if not math.isnan(value)] or [math.nan])

    return Summary(
        mean=median(lambda result: mean(result.client["lags"])),
        p50=median(lambda result: quantile(all_lags(result), 0.50)),
        p95=median(lambda result: quantile(all_lags(result), 0.95)),
        requests=median(lambda result: result.service["requests"] / result.jobs),
        throttled=median(throttled),
        max_throttled=max(throttled(result) for result in results),
        throttled_later=median(
            lambda result: share(result.service["throttled_later"], result.service["requests_later"])
        ),
        lost=median(lost),
        max_lost=max(lost(result) for result in results),
        jobs=results[0].jobs,
        fullest=median(lambda result: result.service["fullest_window"]),
        makespan=median(lambda result: result.client["makespan"]),
        makespan_ratio=median(lambda result: result.client["makespan"] / least_makespan(result)),
    )


def summarize_bound(name: str, seeds: Sequence[int]) -> Summary:
    """Summarize the lower bound, which is computed and not run."""
    best = [bound(workload(name, seed)) for seed in seeds]
    return Summary(
        mean=statistics.median(mean(one.lags) for one in best),
        p50=statistics.median(quantile(sorted(one.lags), 0.50) for one in best),
        p95=statistics.median(quantile(sorted(one.lags), 0.95) for one in best),
        requests=1.0,
        throttled=0.0,
        max_throttled=0.0,
        throttled_later=0.0,
        lost=0,
        max_lost=0,
        jobs=len(best[0].lags),
        fullest=math.nan,
        makespan=statistics.median(one.makespan for one in best),
        makespan_ratio=1.0,
    )


def all_lags(result: Result) -> list[float]:
    """Return the sorted lags of all jobs; infinity for jobs that were not noticed."""
    lags = result.client["lags"]
    return [*lags, *[math.inf] * (result.jobs - len(lags))]


def lost(result: Result) -> int:
    """Return how many waits were lost."""
    raised: dict[str, int] = result.client["lost"]
    unfinished: int = result.client["unfinished"]
    return sum(raised.values()) + unfinished


def throttled(result: Result) -> float:
    """Return the share of the requests that received a 429."""
    return share(result.service["throttled"], result.service["requests"])


def least_makespan(result: Result) -> float:
    """Return the makespan of the bound for the same run."""
    return bound(workload(result.run.workload, result.run.seed)).makespan


def mean(values: Sequence[float]) -> float:
    """Return the mean, or NaN for no values."""
    return statistics.fmean(values) if values else math.nan


def quantile(values: Sequence[float], part: float) -> float:
    """Return the smallest of the sorted values that at least this part of the values does not exceed."""
    return values[math.ceil(part * len(values)) - 1]


def share(part: int, whole: int) -> float:
    """Return part / whole, or NaN if the whole is 0."""
    return part / whole if whole else math.nan
