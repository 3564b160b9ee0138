"""Shared by web processes and workers: the session, the database, the waits, and the handler of their outcomes.

The settings are environment variables: `PLAYAI_API_KEY` and `PLAYAI_USER_ID`, `DATABASE_URL`, `REDIS_URL`, and
`PLAYAI_QUOTA`, the requests per minute that all processes together may send.
Importing this module opens no connection; web processes and workers open all of them with `opened`.
"""

import contextlib
import os
from collections.abc import AsyncIterator

import procrastinate
from psycopg_pool import AsyncConnectionPool

from playai_async import Completed, Pacing, PlayAISession
from playai_async.contrib.procrastinate import DurableWaits, Outcome, TimeoutConnector
from playai_async.contrib.redis import RedisQuota

CONCURRENCY = 8
"""Waits that a worker polls at the same time. A wait takes a slot for one request only, not until its job is done."""

SILENCE = 4.0
"""Seconds without a heartbeat after which a worker counts as dead, and other workers take over its rows.

This must not be longer than the pause before a restart, such as systemd's `RestartSec`.
"""

playai = PlayAISession(
    pacing=Pacing(
        requests_per_window=int(os.environ.get("PLAYAI_QUOTA", "60")),
        window=float(os.environ.get("PLAYAI_WINDOW", "60")),  # seconds; windows of the service are minutes
        shared=RedisQuota(os.environ["REDIS_URL"]),
    )
)
pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"],
    max_size=CONCURRENCY + 2,  # procrastinate listens on one connection, and fetches rows on another
    timeout=5.0,  # seconds; without the database, fail fast: clients and handlers are retried
    check=AsyncConnectionPool.check_connection,  # a restart of PostgreSQL leaves dead connections
    open=False,
)
tasks = procrastinate.App(
    connector=TimeoutConnector(),  # a worker must not wait for ever for a PostgreSQL that hangs
    worker_defaults={
        "update_heartbeat_interval": 1.0,  # seconds; a tenth of the default, so that a dead worker is noticed sooner
        "stalled_worker_timeout": SILENCE,
    },
)
waits = DurableWaits(playai)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[None]:
    async with pool, tasks.open_async(pool), playai:
        yield


@waits.on_done("store_speech")
async def store_speech(outcome: Outcome) -> None:
    state, url, seconds = type(outcome.error).__name__, None, None
    if outcome.job is not None:
        state = outcome.job.output.status
        if isinstance(outcome.job.output, Completed):
            # The link expires. To keep the audio, download it here: `await playai.download(outcome.job, directory)`.
            url, seconds = outcome.job.output.url, outcome.job.output.duration
    async with pool.connection() as connection:
        # A handler is called at least once. It is called again if its worker died before its return was stored.
        await connection.execute(
            "INSERT INTO outcomes (key, job_id, state, url, seconds) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (key) DO NOTHING",
            (outcome.key, outcome.job_id, state, url, seconds),
        )


tasks.add_tasks_from(waits.blueprint, namespace="playai")
