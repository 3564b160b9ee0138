"""Integrations with infrastructure that backends already run. Each module needs an extra.

- `redis` (extra `redis`): processes on many hosts share the quota of one key over one Redis.
- `procrastinate` (extra `procrastinate`): waits are rows in PostgreSQL, so that a wait survives the process that
  started it. Any worker sends the next poll.

Both are built on top of the library: no other part of `playai_async` imports this package, and a session works without
either of them. `redis` implements the `SharedQuota` protocol of `playai_async._shared_quota`; it must not know how a
session polls. `procrastinate` sends its polls with a `PlayAISession`; it must not know how the session paces them.
"""
