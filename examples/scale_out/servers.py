"""PostgreSQL and Redis for the length of standard input: prints where they are, as JSON, and stops them at its end.

A process of its own, in a session of its own, so that a Ctrl-C in a terminal does not end them before those who are
connected; and that of one who cannot stop them any more, they are rid of by the end of its pipe.
"""

import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

from procrastinate.schema import SchemaManager

from tools.servers.machine import free_port, initdb, redis_server
from tools.servers.postgres import Cluster
from tools.servers.redis import RedisServer

TABLES = Path(__file__).with_name("schema.sql")


def main() -> None:
    postgres, redis = initdb(), redis_server()
    assert postgres is not None  # noqa: S101 - whoever starts this looked
    assert redis is not None  # noqa: S101
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="playai-redis-"))
        quota = RedisServer(redis, Path(directory))
        stack.callback(quota.kill)  # before it is started: a signal may come in the middle of that
        quota.start()
        cluster = stack.enter_context(Cluster(postgres.resolve().parent, free_port()))
        cluster.execute(SchemaManager.get_schema())
        cluster.execute(TABLES.read_text("utf-8"))
        print(json.dumps({"DATABASE_URL": cluster.dsn(), "REDIS_URL": quota.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
