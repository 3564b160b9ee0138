"""A worker: asks for jobs as long as it runs, each time that one is due. Something must start it anew when it ends.

It ends when it is told to, by SIGTERM or SIGINT, and when it loses PostgreSQL, as all of procrastinate's workers do;
the latter with status 1 or 0. So it takes systemd's `Restart=always`, and not `on-failure`, to bring it back.
"""

import asyncio
import contextlib
import logging
import sys

from procrastinate.exceptions import ConnectorException

from .waits import CONCURRENCY, opened, tasks, waits

HEARTBEAT = 1.0
"""Seconds; a tenth of procrastinate's default, so that silence is soon a sign of death."""

SILENCE = 4.0
"""Seconds without a heartbeat after which a worker that starts takes over what another had in hand.

It must not be more than what starts workers anew waits before it does: systemd's `RestartSec`, say.
"""


async def take_over() -> None:
    """Put back what a predecessor had in hand when it died.

    The waits' own rescue does that too, but leaves half a minute for signs of life, and comes twice a minute.
    """
    for row in await tasks.job_manager.get_stalled_jobs(queue=waits.queue, seconds_since_heartbeat=SILENCE):
        logging.warning("row %s was in the hands of a worker that died, and is put back", row.id)
        with contextlib.suppress(ConnectorException):  # another worker was first
            await tasks.job_manager.retry_job(row)


async def work() -> None:
    async with opened():
        await take_over()
        await tasks.run_worker_async(
            queues=[waits.queue],
            concurrency=CONCURRENCY,
            fetch_job_polling_interval=1.0,  # how late a poll that is due may be
            shutdown_graceful_timeout=5.0,
            update_heartbeat_interval=HEARTBEAT,
            delete_jobs="successful",  # a finished wait's row is of no more use, nor is that of a rescue
        )


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    try:
        asyncio.run(work())
    except ConnectorException as error:
        logging.error("ended: %s", error.__cause__)  # noqa: TRY400 - where it was lost is of no use
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
