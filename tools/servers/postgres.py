"""Run a temporary PostgreSQL cluster on a free port of 127.0.0.1.

It is optimized for speed, not for safety: it does not sync its data to disk. PostgreSQL refuses to run as root, so for
root it runs as the user `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

TIMEOUT = 30.0
"""Seconds for starting and for stopping."""

SETTINGS = {
    "authentication_timeout": "3",  # seconds that a half-open connection can delay a shutdown
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "logging_collector": "off",
}


class Cluster:
    """A PostgreSQL server that runs until the end of the block.

    Args:
        programs: The directory of `initdb` and `postgres`.
        port: A free port of 127.0.0.1.
        template: A directory that `save` wrote; None: an empty cluster.
    """

    def __init__(self, programs: Path, port: int, template: Path | None = None) -> None:
        self._programs = programs
        self._port = port
        self._template = template
        self._directory = Path(tempfile.mkdtemp(prefix="playai-postgres-"))
        self._owner = _owner()
        self._server: subprocess.Popen[bytes] | None = None
        self._log = (self._directory / "log").open("wb")

    def __enter__(self) -> Self:
        try:
            if self._owner:
                shutil.chown(self._directory, self._owner["user"], self._owner["group"])
            self._create_data()
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
        """Return the connection string of a database."""
        return f"host=127.0.0.1 port={self._port} user=playai dbname={database}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises:
            RuntimeError: The server did not start in time.
        """
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port), *settings]
        self._server = subprocess.Popen(  # noqa: S603 - a program of this machine
            command, cwd=self._directory, stdout=self._log, stderr=self._log, start_new_session=True, **self._owner
        )
        ends = time.monotonic() + TIMEOUT
        while time.monotonic() < ends and self._server.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn(), connect_timeout=5):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {(self._directory / 'log').read_text('utf-8')}")

    def stop(self) -> None:
        """Shut down in fast mode: the server disconnects all clients."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(TIMEOUT)
            self._server = None

    def save(self, template: Path) -> None:
        """Write the data of a stopped server to a new directory. Starting from there takes a tenth of the time."""
        assert self._server is None
        _copy(self._data, template)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes of the server for the block, so that it answers nothing and closes nothing. Linux only."""
        assert self._server is not None
        postmaster = self._server.pid
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no more
        processes = [postmaster, *_children(postmaster)]
        try:
            _send(processes, signal.SIGSTOP)
            yield
        finally:
            _send(processes, signal.SIGCONT)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Execute a statement and return its rows, if any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())  # bytes, because psycopg types a str as a literal
            return cursor.fetchall() if cursor.description else []

    def _create_data(self) -> None:
        if self._template:
            _copy(self._template, self._data)
            if self._owner:
                _run("chown", "-R", f"{self._owner['user']}:{self._owner['group']}", str(self._data))
        else:
            initdb = [self._programs / "initdb", "-D", self._data, "-U", "playai", "-A", "trust", "-E", "UTF8"]
            _run(*map(str, initdb), "--no-locale", "--no-sync", cwd=self._directory, **self._owner)


def _copy(source: Path, target: Path) -> None:
    _run("cp", "-Rp", str(source), str(target))  # faster than shutil


def _run(*command: str, **options: Any) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)  # noqa: S603 - of this machine
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}")


def _send(processes: list[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(process, number)


def _children(parent: int) -> list[int]:
    """Return the processes that a process started. A backend leads a separate process group."""
    children: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text("utf-8").rpartition(")")[2].split()[1]) == parent:
                children.append(int(path.parent.name))
    return children


def _owner() -> dict[str, Any]:
    """Return the user that PostgreSQL runs as, if it is not the current user."""
    if os.geteuid():
        return {}
    import pwd  # missing on Windows, which has no root

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
