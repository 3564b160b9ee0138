"""The entry point of `playai-async` and of `python -m playai_async`.

It must import nothing of the command line before it has seen that its libraries are there.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_LIBRARIES = {"cyclopts", "rich"}
_USAGE = 2
_INTERRUPTED = 130


def main() -> int:
    """Run the command line that the process was started with.

    Returns:
        The exit status.
    """
    try:
        from playai_async._cli.main import command_line  # noqa: PLC0415 - an extra, which may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        sys.stderr.write(
            "playai-async: the command line is an extra; install it with: pip install 'playai-async[cli]'\n"
        )
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
