"""A worker: asks for jobs as long as it runs, each time that one is due. Something must start it anew when it ends.

It ends with status 0 when it is told to, by SIGTERM or SIGINT, and with 1 when it loses PostgreSQL, as all of
procrastinate's workers do. systemd's `Restart=always`, or a container's restart policy, is what brings it back.
"""

import asyncio
import logging
import sys

from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolTimeout

from examples.scale_out.waits import CONCURRENCY, opened, tasks

HEARTBEAT = 1.0
"""Seconds. procrastinate's default of 10 is kinder to the database of many workers."""

SILENCE = 4.0
"""Seconds without a heartbeat after which a worker that starts takes another for dead; by default 30.

What the dead one had in hand is then put back by the next rescue, at each half of a minute. It takes a successor that
starts later than that after the death: see to it with systemd's `RestartSec`, say. Without it, half a minute later.
"""


async def work() -> None:
    async with opened():
        await tasks.run_worker_async(
            queues=["playai"],
            concurrency=CONCURRENCY,
            fetch_job_polling_interval=1.0,  # how late a poll that is due may be
            shutdown_graceful_timeout=5.0,
            update_heartbeat_interval=HEARTBEAT,
            stalled_worker_timeout=SILENCE,
        )


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    try:
        asyncio.run(work())
    except (ConnectorException, PoolTimeout) as error:
        logging.error("ended: %s", error)  # noqa: TRY400 - where it was lost is of no use to whoever starts it anew
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
