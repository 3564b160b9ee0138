"""A worker: polls due jobs until it is stopped. Something must restart it when it exits.

It exits on SIGTERM or SIGINT, and when it loses the connection to PostgreSQL, like all procrastinate workers; then with
status 1 or 0. So use systemd's `Restart=always`, not `on-failure`.
"""

import asyncio
import contextlib
import logging
import sys

from procrastinate.exceptions import ConnectorException

from .waits import CONCURRENCY, SILENCE, opened, tasks, waits


async def take_over() -> None:
    """Return the rows of a dead worker to the queue.

    The library's own rescue task does this too, but it runs twice a minute.
    """
    for row in await tasks.job_manager.get_stalled_jobs(queue=waits.queue, seconds_since_heartbeat=SILENCE):
        logging.warning("row %s was held by a dead worker and is returned to the queue", row.id)
        with contextlib.suppress(ConnectorException):  # another worker did it first
            await tasks.job_manager.retry_job(row)


async def work() -> None:
    async with opened():
        await take_over()
        await tasks.run_worker_async(
            queues=[waits.queue],
            concurrency=CONCURRENCY,
            fetch_job_polling_interval=1.0,  # the maximum delay of a due poll
            shutdown_graceful_timeout=5.0,
            delete_jobs="successful",  # rows of finished waits and rescue tasks are not needed
        )


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    try:
        asyncio.run(work())
    except ConnectorException as error:
        logging.error("exiting: %s", error.__cause__)  # noqa: TRY400 - the traceback does not help
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
