"""A Redis of our own: in a directory that is there already, on a socket, gone at the end; it keeps nothing."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

_SECONDS = 20


class RedisServer:
    """A `redis-server` on a socket in a directory, which keeps nothing.

    Args:
        program: `redis-server`.
        directory: Where its socket is to be; the path must be short.
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
        """Where it is, as `RedisQuota` has it."""
        return f"redis+unix://{self._socket}"

    def client(self) -> redis.Redis:
        """A client that blocks; to be closed."""
        return redis.Redis(unix_socket_path=str(self._socket))

    def start(self) -> None:
        """Start it, empty, and see that it answers."""
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine's, with arguments of ours
            [self._program, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # whoever started it stops it, and no Ctrl-C before that
        )
        until = time.monotonic() + _SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < until, "redis-server does not answer"
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_SECONDS)
            self._process = None
