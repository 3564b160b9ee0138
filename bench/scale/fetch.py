"""Measure how long PostgreSQL takes to find a due row among many rows that are not due. Prints a table.

python -m bench.scale.fetch
"""

from __future__ import annotations

import sys
import time
from statistics import median

import psycopg
from procrastinate.schema import SchemaManager

from tools.servers.machine import find_initdb, free_port
from tools.servers.postgres import Cluster

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FETCH = b"SELECT id FROM procrastinate_fetch_job_v2(ARRAY['playai']::varchar[], 1)"
ROWS = """
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)
SELECT 'playai', 'wait', -number, now() + interval '{later}' FROM generate_series({first}, {last}) AS number
"""


def milliseconds(connection: psycopg.Connection, times: int) -> float:
    """Return the median time of a fetch in milliseconds."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        connection.execute(FETCH).fetchall()
        took.append(time.perf_counter() - began)
    return 1000 * median(took)


def main() -> None:
    """Print the table."""
    program = find_initdb()
    if program is None:
        sys.exit("initdb was not found: install PostgreSQL.")
    with Cluster(program.resolve().parent, free_port()) as cluster:
        cluster.execute(SchemaManager.get_schema())
        cluster.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
        print(f"{'rows not due':>22}{'ms, one row due':>22}{'ms, no row due':>20}")
        stored = 0
        for size in SIZES:
            cluster.execute(ROWS.format(later="1 hour", first=1000 + stored, last=1000 + size - 1))
            cluster.execute("ANALYZE")
            stored = size
            with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
                none = milliseconds(connection, 5)
                connection.execute(ROWS.format(later="0", first=1, last=20).encode())
                one = milliseconds(connection, 20)
            print(f"{size:>22,}{one:>22.1f}{none:>20.1f}")


if __name__ == "__main__":
    main()
