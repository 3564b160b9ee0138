"""Servers of other projects. Tests that need a missing server are skipped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "PLAYAI_ASYNC_REQUIRE_SERVERS"
"""If this environment variable is set, a missing program fails the tests that need it."""


def program(path: Path | None, name: str, package: str) -> Path:
    """Return the path of a server's program. Skip the test if it is not installed."""
    if path is None:
        missing(f"there is no {name} here (for example, install {package})")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if servers are required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)
