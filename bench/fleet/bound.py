"""The lower bound: the smallest mean lag of a client that knows in advance when each job finishes.

A client notices the end of a job by a request that it sends when the job is finished, or later. So each job needs at
least one request, and one is enough for a client that knows when to send it. The service admits `quota` requests in
each fixed window. The bound sends a request for a finished job as soon as the window allows one more: when the job
finishes, or at the beginning of the next window that has a request left. Responses take no time.

No client has a smaller mean lag or an earlier last notice. Let N(t) be the number of jobs noticed by time t. The sum of
the lags is the sum of the notice times minus the sum of the finish times, and the finish times are given. The sum of
the notice times is the integral over t of (jobs - N(t)). So it is enough to show that the N(t) of the bound is the
largest possible for every t. In a window that begins at w, every client has N(t) <= N(w-) + quota, because the window
admits no more, and N(t) <= F(t), the number of jobs finished by t. The bound reaches one of these two limits for every
t: it has noticed all finished jobs, or has used up its window. By induction over the windows its N(w-) is the largest
possible, and therefore its N(t) is too. At the last notice N reaches the number of jobs, so no other client has an
earlier last notice.

The order in which finished jobs are noticed does not change N, so it changes neither the mean nor the last notice. The
order does change the quantiles. The quantiles given here belong to the order of finishing; another order could have a
lower median and a higher p95.
"""

from __future__ import annotations

import math

import attrs

from bench.fleet.workloads import WINDOW, Workload


@attrs.frozen
class Bound:
    """The best result that is possible.

    Attributes:
        lags: Seconds from the finish of each job to its notice, in the order of finishing.
        makespan: Seconds from the beginning of the run to the last notice.
    """

    lags: list[float]
    makespan: float


def bound(workload: Workload) -> Bound:
    """Return the best result of a client that knows all finish times in advance."""
    finishes = sorted(job.finishes for job in workload.jobs)
    lags = []
    notice, window, spent = 0.0, 0, 0
    for finish in finishes:
        if (finish + workload.phase) // WINDOW > window:
            window, spent = math.floor((finish + workload.phase) / WINDOW), 0
        if spent == workload.quota:
            window, spent = window + 1, 0
        spent += 1
        # Jobs are noticed in the order of finishing, so the window never decreases.
        notice = max(finish, window * WINDOW - workload.phase)
        lags.append(notice - finish)
    return Bound(lags, notice)
