"""When the next request may go out.

The pacing has no tasks, no I/O and no clock. Methods that need the time take it as `now`, in the seconds of the event
loop's clock. The only thing that is random is how much a pause is lengthened.

The caller asks `Pacer.delay(now)`. When that returns 0, the caller sends one request and calls `on_sent(now)`. Each
request then ends exactly once, with one of four calls:

- `on_accepted`: an answer that is not a 429.
- `on_throttled`: a 429.
- `on_failed`: a transient failure, such as a 5xx or no answer.
- `on_abandoned`: the request was cancelled, or may never have been sent.

Two parts can hold a request back: the quota and the gate.

The quota
---------
A `Quota` says how many requests may go, and how fast. There are three of them:

- `KnownQuota`: the caller passed `requests_per_window`. It is never exceeded over any span of one window. With
  `counting="fixed"` it is spent once in each window of the service, and the first 429 shows where windows begin.
- `LearnedQuota`: nothing is known. The rate starts low, grows while no 429 comes, and follows 429s down. A known
  quota that meets 429s learns in the same way what the service really allows.
- `LeasedQuota`: processes share the quota. Each request needs a permit that was granted first. If nothing is known,
  the keeper of the quota learns it for all of them, as `LearnedQuota` does where the service counts in windows.

Within a quota, a `TokenBucket` spaces requests evenly, apart from a small burst. A `hinted` request does not
wait for this spacing, only for the quota, once a quota is known or learned. It takes its token all the same, so the
requests after it make up for it.

How the service counts
----------------------
Services and the proxies in front of them limit requests in many ways. How this one does is a hypothesis, and every 429
and every accepted probe is evidence:

- *Fixed windows*: once a window's quota is spent, the service answers 429 until the window is over. `WindowClock`
  knows where windows begin. An answer in the middle of a window that was spent speaks against windows. So edges are
  tested by one early probe until one test has shown that the service refuses requests before an edge, and from time to
  time after that.
- *A sliding log*: the service refuses a request while the last window has taken the quota, and accepts one as soon as
  an older request is a window ago. `SlidingLog` weighs the evidence.
- *Neither*, as with a leaky bucket, a token bucket or several limits at once: `RateControl` looks for the rate.
- *A limit on concurrency*: the service refuses a request while too many are in flight. `ConcurrencyLimit` keeps to the
  largest number beside which a request was accepted.

The gate
--------
The gate is open at first. A 429 closes it for the whole operation, because all requests draw on the same quota:

    open ──429──▶ closed until t ──t passes, nothing in flight──▶ one probe
      ▲                 ▲                                           │
      └──accepted───────┼───────────────────────────────────────────┤
                        └──────────429, failed──────────────────────┘

`t` comes from the server's `Retry-After`, lengthened a little and never shortened. Without it, `t` is the next edge
of the service's windows if that is known, unless it is time to test it; and otherwise the next probe interval. Later
probes go less often.
If the service refused every probe for two windows, one pause lasts a whole window: some services start their window
anew at each request that they refuse.
Where the service does not count per window, the gate learns how soon a probe is accepted. The probe waits until the
requests that were sent before the 429 have ended, but no longer than two seconds: one of them may hang.

The result of a request that was sent before the probe can only delay the next probe: the service judged that request
earlier, so it says nothing about now. An accepted probe opens the gate all the same. An abandoned probe says nothing
either, and the next one may go at once.

Transient failures in a row close the gate in the same way, for growing pauses, and so does a `Retry-After` on a 503. So
a hundred waits do not send a hundred requests to a service that is down.

A shared quota can close the gate, too: a 429 that another process met arrives as `hold`.
"""
