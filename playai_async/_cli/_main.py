"""A command line from its beginning to its end: the streams it writes to, what it ends on, and its exit status."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import CycloptsError

from playai_async._cli._app import parse
from playai_async._cli._complaints import complaint, discreet
from playai_async._cli._exit import Exit, UsageError
from playai_async._cli._run import run
from playai_async._cli._screen import Screen, one_line
from playai_async._exceptions import ConfigurationError

__all__ = ["command_line"]


def command_line(arguments: Sequence[str]) -> int:
    """Run a command line to its end.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # better than to end on a letter that a locale lacks
    try:
        command = parse(arguments)
        return Exit.FINE if command is None else run(command)
    except (CycloptsError, UsageError, ConfigurationError) as error:
        return _complain(complaint(error), arguments, Exit.USAGE)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read the results has seen enough
        return Exit.ERROR
    except OSError as error:
        return _complain(str(error), arguments, Exit.ERROR)
    except Exception:  # noqa: BLE001 - a bug; but Python's own status for one means "a job failed" here
        traceback.print_exc()
        return Exit.ERROR
    finally:
        _abandon_broken_streams()


def _complain(words: str, arguments: Sequence[str], status: Exit) -> Exit:
    with contextlib.suppress(OSError):  # standard error is the last place to say anything
        for line in discreet(words, arguments).splitlines():
            Screen(sys.stdout, sys.stderr).note(f"playai-async: {one_line(line)}")
    return status


def _abandon_broken_streams() -> None:
    # What a stream still holds Python would try to write once more on its way out, and complain of it.
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is all that is wanted
                os.dup2(nowhere.fileno(), stream.fileno())
