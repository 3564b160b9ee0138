"""How a command ends: its exit status, and what of several to report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

from playai_async._api.credentials import Credentials

__all__ = ["ExitCode", "UsageError", "describe", "redact", "worst"]


class ExitCode(IntEnum):
    """What the shell is told; scripts rely on the numbers."""

    SUCCESS = 0
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
_WORST_FIRST = (ExitCode.ERROR, ExitCode.TIMED_OUT, ExitCode.JOB_FAILED, ExitCode.SUCCESS)


def worst(statuses: Iterable[ExitCode]) -> ExitCode:
    """Return what to report where jobs ended in different ways; of none at all, that it is fine."""
    return min(statuses, key=_WORST_FIRST.index, default=ExitCode.SUCCESS)


_OPTION_NAME = re.compile(r"--[a-zA-Z]+(?:-[a-zA-Z]+)*|-[a-zA-Z]")
"""What an option is called; one letter behind one hyphen, since what is joined to it may be its value."""

_QUOTED_OPTION = re.compile(r'"(--?[^"\s]*)"')
"""Which versions of cyclopts quote, and others do not."""


def describe(error: Exception) -> str:
    """Say what is wrong.

    Args:
        error: What was found.

    Returns:
        A sentence; the error's own, where that is plain enough.
    """
    command = " ".join(error.command_chain or ()) if isinstance(error, CycloptsError) else ""
    if isinstance(error, UnusedCliTokensError):
        hint = "; the text goes after --text, in quotes" if command == "create" else ""
        return f"unexpected: {' '.join(error.unused_tokens or ())}{hint}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        if name == "ID":
            return f"{command} needs an id, or - for {'an id' if command == 'get' else 'ids'} on standard input"
        if error.argument.required and name not in (error.unused_tokens or ()):
            _, separator, guess = _message_of(error).partition(" Did you mean ")
            return f"{name} is missing{'.' if separator else ''}{separator}{guess}"
        return f"{name} needs a value"
    return _message_of(error)


def redact(words: str, arguments: Sequence[str]) -> str:
    """Take out of a complaint what may be a key.

    Args:
        words: The complaint.
        arguments: The command line: of an option in it, the name is left, and nothing that follows.

    Returns:
        The complaint, without the environment's key and user id either.
    """
    for argument in arguments:
        for text in (argument, argument.partition("=")[2]):  # `--text=--api-key=...` has two options in it
            if text.startswith("-"):
                found = _OPTION_NAME.match(text)
                words = words.replace(text, found[0] if found else text[:2])
    key, user_id = (os.environ.get(name, "") for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID"))
    return Credentials(key.rpartition(" ")[2], user_id).redact(words)  # a key may have its scheme before it


def _message_of(error: Exception) -> str:
    return _QUOTED_OPTION.sub(r"\1", str(error))
