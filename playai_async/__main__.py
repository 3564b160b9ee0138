"""The entry point of `playai-async` and `python -m playai_async`.

The command line is imported inside `main`, because cyclopts and rich come with an extra that may not be installed.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_LIBRARIES = {"cyclopts", "rich"}
_USAGE = 2
_INTERRUPTED = 130


def main() -> int:
    """Run the command line in `sys.argv` and return the exit code."""
    try:
        from playai_async._cli.main import command_line  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        sys.stderr.write(
            "playai-async: the command line needs the extra 'cli' (cyclopts and rich): pip install cyclopts rich\n"
        )
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
