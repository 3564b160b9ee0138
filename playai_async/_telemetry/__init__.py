"""What a client reports of itself: log records, and OpenTelemetry where it is installed.

The other parts emit events, which say what happened. One `Emitter` passes each event to its listeners. The
state has always changed before an event is emitted, and the emitter lets no exception of a listener through. So nothing
that listens, such as a log handler or a span processor, can disturb a wait.

- `events`: the events.
- `emitter`: passes events on.
- `log`: writes log records.
- `opentelemetry`: one span per wait, and metrics; the only module that imports OpenTelemetry.
- `pauses`: turns the state of a gate into events.
- `stats`: the snapshot that `stats` returns.

No event holds a key or a user id. An event may hold a job, so a listener must not write the text or the link of a job.
"""
