"""A PostgreSQL of our own: a cluster in a temporary directory, on a free port of loopback, gone at the end.

It is as fast as it is careless: nothing is synced to disk. It refuses to run as root, and then runs as `postgres`, or
as `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

PATIENCE = 30.0
"""Seconds to start, or to stop."""

SETTINGS = {
    "authentication_timeout": "3",  # a connection that its client forgot while it was made holds up a shutdown so long
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "logging_collector": "off",
}


class Cluster:
    """PostgreSQL for the length of a block.

    Args:
        programs: The directory of `initdb` and `postgres`.
        port: A port of loopback that nobody listens on.
    """

    def __init__(self, programs: Path, port: int) -> None:
        self._programs = programs
        self._port = port
        self._directory = Path(tempfile.mkdtemp(prefix="playai-postgres-"))
        self._owner = _owner()
        self._server: subprocess.Popen[bytes] | None = None
        self._log = (self._directory / "log").open("wb")

    def __enter__(self) -> Self:
        try:
            if self._owner:
                shutil.chown(self._directory, self._owner["user"], self._owner["group"])
            initdb = [self._programs / "initdb", "-D", self._data, "-U", "playai", "-A", "trust", "-E", "UTF8"]
            self._run(*map(str, initdb), "--no-locale", "--no-sync")
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def dsn(self, database: str = "postgres") -> str:
        """Return how to connect to a database."""
        return f"host=127.0.0.1 port={self._port} user=playai dbname={database}"

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            RuntimeError: It does not.
        """
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port), *settings]
        self._server = subprocess.Popen(  # noqa: S603 - found by its name
            command, cwd=self._directory, stdout=self._log, stderr=self._log, start_new_session=True, **self._owner
        )
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and self._server.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn(), connect_timeout=5):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL does not answer: {(self._directory / 'log').read_text('utf-8')}")

    def stop(self) -> None:
        """Shut the server down, fast: whoever is connected is thrown out."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(PATIENCE)
            self._server = None

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Execute a statement, and return its rows, if it has any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())  # bytes, as it is no literal
            return cursor.fetchall() if cursor.description else []

    def _run(self, *command: str) -> None:
        done = subprocess.run(  # noqa: S603 - found by its name
            command, cwd=self._directory, check=False, capture_output=True, text=True, **self._owner
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")


def _owner() -> dict[str, Any]:
    """Return whom PostgreSQL is to run as, if not as ourselves."""
    if os.geteuid():
        return {}
    import pwd  # there is none on Windows, where nobody is root

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
