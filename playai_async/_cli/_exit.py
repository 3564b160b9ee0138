"""How a command ends: its exit status, and what of several to report."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

__all__ = ["Exit", "UsageError", "gravest"]


class Exit(IntEnum):
    """What the shell is told; scripts rely on the numbers."""

    FINE = 0
    JOB_FAILED = 1
    USAGE = 2
    ERROR = 3
    TIMED_OUT = 4
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class UsageError(Exception):
    """The command line, or what it was given to read, makes no sense; found before any request."""


# An error leaves a job's end unknown, a timeout only puts it off, and a failure is an answer.
_GRAVEST_FIRST = (Exit.ERROR, Exit.TIMED_OUT, Exit.JOB_FAILED, Exit.FINE)


def gravest(statuses: Iterable[Exit]) -> Exit:
    """Return what to report where jobs ended in different ways; of none at all, that it is fine."""
    return min(statuses, key=_GRAVEST_FIRST.index, default=Exit.FINE)
