"""Exit codes, usage errors, and error messages without secrets.

An error may quote any part of the command line. So secrets are removed from the final message and not in each place
that raises.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import IntEnum

from cyclopts import CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from playai_async._api.credentials import Credentials

__all__ = ["ExitCode", "UsageError", "describe", "redact", "unknown_option", "worst"]


class ExitCode(IntEnum):
    """The exit codes of the program. Scripts rely on the numbers."""

    SUCCESS = 0
    JOB_FAILED = 1
    USAGE = 2
    ERROR = 3
    TIMED_OUT = 4
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class UsageError(Exception):
    """The command line or its input is wrong. No request was sent."""


# After an error the state of the job is unknown. A timeout can be repeated. A failed job is an answer.
_WORST_FIRST = (ExitCode.ERROR, ExitCode.TIMED_OUT, ExitCode.JOB_FAILED, ExitCode.SUCCESS)

_OPTION_NAME = re.compile(r"--[a-zA-Z]+(?:-[a-zA-Z]+)*|-[a-zA-Z]")
"""The name of an option. A short name has one letter, because the letters after it may be its value."""

_GENERAL_OPTIONS = ("--help", "--install-completion", "--verbose", "--version")
"""The options that need no command."""

_SIMILAR = 0.75
"""How similar a suggested option must be. With the default, 0.6, `--version` would be suggested for `--json`."""

_QUOTED_OPTION = re.compile(r'"(--?[^"\s]*)"')
"""An option in quotes, as some versions of cyclopts print it."""


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code for several jobs; `SUCCESS` if there are none."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.SUCCESS)


def describe(error: Exception) -> str:
    """Return the message for a usage error, in the words of this program where those of cyclopts are unclear."""
    command = " ".join(error.command_chain or ()) if isinstance(error, CycloptsError) else ""
    if isinstance(error, UnusedCliTokensError):
        hint = "; put the text after --text, in quotes" if command == "create" else ""
        return f"unexpected argument: {' '.join(error.unused_tokens or ())}{hint}"
    if isinstance(error, UnknownCommandError) and error.unused_tokens and error.unused_tokens[0].startswith("-"):
        return str(unknown_option(error.unused_tokens[0], _GENERAL_OPTIONS, hint="; options follow the command"))
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        if name == "ID":
            return f"{command} needs a job id, or - to read {'one' if command == 'get' else 'ids'} from standard input"
        if error.argument.required and name not in (error.unused_tokens or ()):
            _, separator, guess = _message_of(error).partition(" Did you mean ")
            return f"{name} is missing{'.' if separator else ''}{separator}{guess}"
        return f"{name} needs a value"
    return _message_of(error)


def unknown_option(text: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """Return the error for an option that does not exist.

    Args:
        text: The argument.
        known: The options to suggest, if one is similar.
        hint: What to add if none is similar.
    """
    similar = get_close_matches(text.partition("=")[0], list(known), n=1, cutoff=_SIMILAR)
    return UsageError(f"unknown option: {text}" + (f"; did you mean {similar[0]}?" if similar else hint))


def redact(message: str, arguments: Sequence[str]) -> str:
    """Remove everything from an error message that may be a secret.

    Args:
        message: The error message.
        arguments: The command line. Of each option only the name stays in the message.

    Returns:
        The message without values of options and without the key and the user id from the environment.
    """
    for argument in arguments:
        for text in (argument, argument.partition("=")[2]):  # `--text=--api-key=...` contains two options
            if text.startswith("-"):
                found = _OPTION_NAME.match(text)
                message = message.replace(text, found[0] if found else text[:2])
    key, user_id = (os.environ.get(name, "") for name in ("PLAYAI_API_KEY", "PLAYAI_USER_ID"))
    return Credentials(key.rpartition(" ")[2], user_id).redact(message)  # the key may start with its scheme, "Bearer "


def _message_of(error: Exception) -> str:
    return _QUOTED_OPTION.sub(r"\1", str(error))
