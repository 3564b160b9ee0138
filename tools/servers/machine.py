"""Where this machine has the servers of other projects, and where they may listen."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable
from pathlib import Path


def found(name: str, elsewhere: Iterable[Path] = ()) -> Path | None:
    """Find a program, on the path or in directories off it, the last by name first."""
    for directory in [None, *sorted(elsewhere, reverse=True)]:
        if path := shutil.which(name, path=directory):
            return Path(path)
    return None


def initdb() -> Path | None:
    """Find PostgreSQL's `initdb`; Debian keeps it off the path."""
    return found("initdb", Path("/usr/lib/postgresql").glob("*/bin"))


def redis_server() -> Path | None:
    """Find Redis."""
    return found("redis-server")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
