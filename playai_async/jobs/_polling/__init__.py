"""Who waits for which job, until when, and what each poll's outcome means for them.

- `Watch`: one job that somebody waits for, under one `Polling`. It holds when the next poll is due, how the last polls
  went (`Backoff`), and the waiters. It is the request that the dispatcher sends.
- `Waiter`: one caller of a watch, with a deadline. A `FutureWaiter` awaits the end of one job, a `ChangeWaiter` wants
  each change, and a `GroupWaiter` is one of several jobs of a caller.
- `Poller`: opens and closes watches, keeps the deadlines, and decides what follows from the outcome of a poll.
- `HintGuard`: which hints to follow.
- `Planner`: for waits with `Polling(forecast=True)`, plans when the next poll may go, and its place in the queue. A
  `Forecast` is what it learned of one group of jobs.
- `iteration`: the changes of one job, and the ends of several jobs, as async generators.

A wait is a small object and a future. It has no task, no connection and no timer, so ten thousand waits are
cheap, and cancelling one is removing it from a set.

The way of one wait
-------------------
`Poller.subscribe` finds the watch of the job under equal settings, or opens one and queues its first poll. So a hundred
callers that wait for one job send the requests of one. The dispatcher sends the poll and delivers the outcome to
`on_poll_result`:

- A finished job, a final error, or `max_failures` transient failures in a row end the watch: each waiter gets the job,
  or a copy of the error that names the job.
- `Throttled` changes nothing: the poll stays due, and goes when the gate opens. A 429 neither ends a wait nor counts
  as a failure.
- Anything else schedules the next poll after tenacity's pause, or when a forecast says. The last poll goes just before
  a deadline.

A hint that a job may have finished (`Poller.hint`) puts its queued poll first, after a failure once its pause is over.
A poll in flight gets one more after it.
`HintGuard` decides whether to follow the hint, by what the last hinted polls found. When it stops trusting hints, the
polls that were put first lose their place. A hint is no evidence of anything: the poll's answer is.

A deadline ends its waiter, whatever the watch is doing. When the last waiter is gone, the watch stops: its queued poll
is removed, and a poll in flight is cancelled.

This folder must not know HTTP, JSON or PlayAI's models: a job is any object, and `is_done` says whether it is finished.
"""
