"""Servers of other projects that tests start for themselves, or do without."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

REQUIRED = "PLAYAI_ASYNC_REQUIRE_SERVERS"
"""Set in the environment, a missing program fails the tests that need it."""


def program(path: Path | None, name: str, package: str) -> Path:
    """Return a server's program as it was found; skip the test where there is none."""
    if path is None:
        missing(f"there is no {name} here: install {package}, say")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where that is not allowed."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)
