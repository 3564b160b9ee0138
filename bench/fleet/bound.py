"""The best that any client could do: one that knows beforehand when each job finishes.

A job is noticed by a request that is sent when it is done, or later; so each takes one request at least, and one is
enough for a client that knows when. The service admits `quota` requests in each of its fixed windows. The bound sends a
request for a finished job as soon as a window has one left: at the job's finish, or else at the beginning of the next
window that has. Answers take no time.

No client has a smaller mean lag, nor an earlier last notice. Let N(t) be the number of jobs noticed by time t. The sum
of the lags is that of the noticing times less that of the finishing times, which are given; and the sum of the noticing
times is the integral over t of (jobs - N(t)). So it is enough to see that the bound's N(t) is the largest possible at
every t. In a window that begins at w, any client has N(t) <= N(w-) + quota, as that is all that the window admits, and
N(t) <= F(t), the number of jobs finished by t. At every t the bound meets one of the two: it either has noticed all
that are finished, or has spent its window. By induction over the windows its N(w-) is the largest possible, hence so is
its N(t). At the last notice N reaches all jobs, so this comes no later than for any other.

In which order waiting jobs are noticed does not change N, and so neither the mean nor the last notice. It does change
the quantiles: those given are of the order of finishing, and another order could have a lower median for a higher p95.
"""

from __future__ import annotations

import math

import attrs

from bench.fleet.workloads import WINDOW, Workload


@attrs.frozen
class Bound:
    """What the best client achieves.

    Attributes:
        lags: Seconds from finished to noticed, by the order of finishing.
        makespan: Seconds from the beginning of the run to the last notice.
    """

    lags: list[float]
    makespan: float


def bound(workload: Workload) -> Bound:
    """Return the best that a client can do which knows the finishing times in advance."""
    finishes = sorted(job.finishes for job in workload.jobs)
    lags = []
    notice, window, spent = 0.0, 0, 0
    for finish in finishes:
        if (finish + workload.phase) // WINDOW > window:
            window, spent = math.floor((finish + workload.phase) / WINDOW), 0
        if spent == workload.quota:
            window, spent = window + 1, 0
        spent += 1
        # In the order of finishing no job is noticed before the one ahead of it, so windows never go back.
        notice = max(finish, window * WINDOW - workload.phase)
        lags.append(notice - finish)
    return Bound(lags, notice)
