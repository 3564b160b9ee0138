"""Servers of other projects that tests start for themselves: which programs there are, and where they may listen."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "PLAYAI_ASYNC_REQUIRE_SERVERS"
"""Set in the environment, a missing program fails the tests that need it."""


def program(name: str, package: str, elsewhere: Iterable[Path] = ()) -> Path:
    """Find a server's program, on the path or in directories off it; skip the test where there is none."""
    for directory in [None, *sorted(elsewhere, reverse=True)]:
        if found := shutil.which(name, path=directory):
            break
    else:
        missing(f"there is no {name} here: install {package}, say")
    return Path(found)


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where that is not allowed."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
