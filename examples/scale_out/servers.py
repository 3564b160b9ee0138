"""Start PostgreSQL and Redis, print their addresses as JSON, and stop both when standard input closes.

The servers run below a separate process in its own session. So Ctrl-C in a terminal does not stop them while other
processes are still connected. If the script that started this process dies, its end of the pipe closes, and the servers
stop as well.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis
from procrastinate.schema import SchemaManager

TABLES = Path(__file__).with_name("schema.sql")

START_TIMEOUT = 30.0  # seconds, also for stopping
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the data is thrown away at the end
    "authentication_timeout": "3",  # seconds that a half-open connection can delay the shutdown
}


def find_program(name: str) -> Path | None:
    """Find a server program. Debian does not put those of PostgreSQL on the PATH."""
    directories = [None, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    paths = (shutil.which(name, path=directory) for directory in directories)
    return next((Path(path) for path in paths if path), None)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on.

    The kernel gives no port of this range to a connection, so it is still free when a server binds it.
    """
    while True:
        port = random.randint(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(command: Sequence[str], connect: Callable[[], None], **options: Any) -> Iterator[None]:
    """Run a server until the end of the block; the block starts when the server accepts connections."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, **options) as server:  # noqa: S603 - our own command
        try:
            ends = time.monotonic() + START_TIMEOUT
            while True:
                try:
                    connect()
                    break
                except (psycopg.OperationalError, redis.ConnectionError):
                    if server.poll() is not None or time.monotonic() > ends:
                        raise
                    time.sleep(0.05)
            yield
        finally:
            server.send_signal(signal.SIGINT)  # both shut down fast, without waiting for clients
            server.wait(START_TIMEOUT)


@contextlib.contextmanager
def postgresql(initdb: Path, directory: Path) -> Iterator[str]:
    """Run PostgreSQL with its data in an empty directory, and yield its connection string."""
    data, port = directory / "data", free_port()
    dsn = f"host=127.0.0.1 port={port} user=playai dbname=postgres"
    options: dict[str, Any] = {"cwd": directory}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(directory, "postgres", "postgres")
    cluster = [f"-D{data}", "-Uplayai", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    subprocess.run([initdb, *cluster], check=True, stdout=subprocess.DEVNULL, **options)  # noqa: S603 - our own command
    settings = [f"-c{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
    command = [str(initdb.with_name("postgres")), f"-D{data}", f"-p{port}", *settings]
    with running(
        command, lambda: psycopg.connect(dsn, connect_timeout=5).close(), stderr=subprocess.DEVNULL, **options
    ):
        yield dsn


@contextlib.contextmanager
def redis_on_socket(program: Path, directory: Path) -> Iterator[str]:
    """Run a Redis that stores nothing on disk, and yield its URL."""
    path = directory / "redis.sock"

    def connect() -> None:
        with redis.Redis(unix_socket_path=str(path)) as client:
            client.ping()

    command = [str(program), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with running(command, connect, cwd=directory):
        yield f"redis+unix://{path}"


def main() -> None:
    initdb, redis_server = find_program("initdb"), find_program("redis-server")
    assert initdb is not None  # noqa: S101 - the script that starts this process has checked
    assert redis_server is not None  # noqa: S101
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    with contextlib.ExitStack() as stack:
        directories = [stack.enter_context(tempfile.TemporaryDirectory(prefix="playai-")) for _ in range(2)]
        redis_url = stack.enter_context(redis_on_socket(redis_server, Path(directories[0])))
        dsn = stack.enter_context(postgresql(initdb.resolve(), Path(directories[1])))
        with psycopg.connect(dsn, autocommit=True) as connection:
            for schema in (SchemaManager.get_schema(), TABLES.read_text("utf-8")):
                connection.execute(schema.encode())
        print(json.dumps({"DATABASE_URL": dsn, "REDIS_URL": redis_url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
