"""Find server programs and free ports on this machine."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path


def find_program(name: str, elsewhere: Iterable[Path] = ()) -> Path | None:
    """Find a program on the PATH, or else in other directories, of which the last by name comes first."""
    for directory in [None, *sorted(elsewhere, reverse=True)]:
        if path := shutil.which(name, path=directory):
            return Path(path)
    return None


def find_initdb() -> Path | None:
    """Find PostgreSQL's `initdb`. Debian does not put it on the PATH."""
    return find_program("initdb", Path("/usr/lib/postgresql").glob("*/bin"))


def find_redis_server() -> Path | None:
    """Find `redis-server`."""
    return find_program("redis-server")


def find_nginx() -> Path | None:
    """Find `nginx`. Debian does not put it on the PATH of users."""
    return find_program("nginx", [Path("/usr/sbin")])


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on.

    The kernel gives no port of this range to a connection, so it is still free when a server binds it.
    """
    while True:
        port = random.randint(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
