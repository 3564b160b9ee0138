"""Run a temporary Redis on a socket in a given directory. It stores nothing on disk."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

_TIMEOUT = 20.0  # seconds


class RedisServer:
    """A Redis server that runs until the end of the block.

    Args:
        program: The path of `redis-server`.
        directory: An existing directory for the socket. Its path must be short.
    """

    def __init__(self, program: str | Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._socket = directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The URL for `RedisQuota`."""
        return f"redis+unix://{self._socket}"

    def client(self) -> redis.Redis:
        """Return a blocking client. The caller closes it."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def start(self) -> None:
        """Start an empty Redis and wait until it accepts connections."""
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
            [self._program, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C does not reach it
        )
        until = time.monotonic() + _TIMEOUT
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < until, "redis-server did not start"
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """Send SIGKILL, like a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_TIMEOUT)
            self._process = None
