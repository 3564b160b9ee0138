"""Which request goes next, and which task sends it.

One `Dispatcher` serves one operation of a service, such as status requests, because each operation has a quota of its
own. It brings four parts together:

- `RequestQueue`: what is to be sent, in order. Direct requests go first, then polls that follow a hint, then the poll
  that has been due longest.
- `Pacer` (`jobs/_pacing`): when the next request may go.
- `InFlightLimiter`: how many requests may be in flight. All operations of a session share it.
- Workers: a few tasks that send requests one after another and end when nothing is due. A poll that waits in the queue
  is an object and not a task.

The way of one request
----------------------
`pump` looks at the limiter, the queue and the pacer. If a request may go, `pump` takes it off the queue, tells the
pacer (`on_sent`) and starts a worker. Otherwise `pump` sets one timer for the next time at which something may go.

The worker awaits `request.send()`. The dispatcher then ends the request exactly once: it updates the pacer, reports to
the emitter, and hands the outcome to the request (`deliver`). The worker takes the next request that may go, or ends.

An outcome is a value: `Success` with the job, or `Failure` with an error and its verdict. The verdict is `Throttled`
(a 429: the pacer closes its gate), `Transient` (it may pass: the wait backs off), or None (final).

`QuotaSync` asks a shared quota for permits, one exchange at a time, if processes share the quota.

This folder must not know who waits for a job, how long a wait pauses between polls, or anything of HTTP and JSON.
"""
