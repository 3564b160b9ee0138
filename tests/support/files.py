"""What a test finds in a directory."""

from __future__ import annotations

import time
from pathlib import Path


def files_left(directory: Path, pattern: str = "*") -> list[str]:
    """List the files in a directory, once the threads that remove partial files have had time to.

    These threads run in real time, whatever the time of the loop is.
    """
    ends = time.monotonic() + 10
    while (left := [path.name for path in directory.glob(pattern)]) and time.monotonic() < ends:
        time.sleep(0.001)
    return left
