"""The time, as tests tell it."""

from __future__ import annotations

import asyncio


def now() -> float:
    """The time of the loop, in seconds."""
    return asyncio.get_running_loop().time()
