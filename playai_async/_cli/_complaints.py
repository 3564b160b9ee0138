"""What is wrong with a command line, in the words of this program rather than those of cyclopts."""

from __future__ import annotations

import re

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError

__all__ = ["complaint"]

_QUOTED_OPTION = re.compile(r'"(--?[^"\s]*)"')
"""Which versions of cyclopts quote, and others do not."""


def complaint(error: Exception) -> str:
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
            _, separator, guess = _words_of(error).partition(" Did you mean ")
            return f"{name} is missing{'.' if separator else ''}{separator}{guess}"
        return f"{name} needs a value"
    return _words_of(error)


def _words_of(error: Exception) -> str:
    return _QUOTED_OPTION.sub(r"\1", str(error))
