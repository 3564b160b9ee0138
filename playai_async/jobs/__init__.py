"""Wait for the jobs of any service: polls, 429s and deadlines.

    async with JobPoller(fetch, is_done=is_done) as jobs:
        job = await jobs.wait_for_completion(job_id)

The engine polls many jobs under one rate limit. It knows nothing of PlayAI, HTTP or JSON: `fetch` makes one status
request with any client and returns the job or raises, `is_done` says whether the job is finished, and `classify` says
what an exception means. Its default, `classify_error`, knows HTTP and gRPC clients by the names and attributes of their
exceptions. `PlayAISession` holds a `JobPoller` for PlayAI's jobs.

The engine has three parts, and each imports only the ones below it:

- `_polling`: who waits for which job, until when.
- `_scheduling`: which request goes next, and which task sends it.
- `_pacing`: when the next request may go, without tasks, I/O or a clock.

The way of one poll: `Poller` queues the `Watch` of a job. `Dispatcher` takes it off the queue when the `Pacer` and the
`InFlightLimiter` allow, and a worker awaits `fetch(job_id)`. What comes is one of three outcomes: a job, a failure that
`classify` calls `Throttled` or `Transient`, or a final error. The pacer learns from the outcome, and the poller ends
the waits of this job or schedules its next poll.

`_engine` builds these parts and connects them. A `JobPoller` runs on a `Host`, which builds the parts at the first use,
in the event loop that uses them: the default host, or `_runtime.Runtime` for a `PlayAISession`.
"""

from playai_async._exceptions import JobTimeoutError, PollerClosedError
from playai_async.jobs._classify import classify_error
from playai_async.jobs._job_poller import JobPoller
from playai_async.jobs._scheduling.request import Throttled, Transient

__all__ = [
    "JobPoller",
    "JobTimeoutError",
    "PollerClosedError",
    "Throttled",
    "Transient",
    "classify_error",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # where users import it from: tracebacks, reprs and pickles say so
