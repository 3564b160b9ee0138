"""What a command is given to read: ids of jobs, and a text to speak."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TextIO
from uuid import UUID

from playai_async._cli._exit import UsageError
from playai_async._models import job_id_of

__all__ = ["STANDARD_INPUT", "read_ids", "read_text"]

STANDARD_INPUT = "-"
"""What stands for standard input."""


def read_ids(texts: Iterable[str], stdin: Iterable[str] | None) -> list[UUID]:
    """Read the ids of jobs, each one once, in the order given.

    Args:
        texts: Ids, or `-` for those on standard input.
        stdin: Standard input, an id as the first word of each line, so that what a command prints is input to the
            next; blank lines do not count. None, as Python has it for a closed descriptor: nothing.

    Returns:
        The ids.

    Raises:
        UsageError: Some are malformed; it names every one of them.
    """
    ids: dict[UUID, None] = {}
    malformed: list[str] = []
    for text in texts:
        for candidate in _first_words_of(stdin) if text == STANDARD_INPUT else [text]:
            try:
                ids[job_id_of(candidate)] = None
            except ValueError as error:
                malformed.append(str(error))
    if malformed:
        raise UsageError("\n".join(malformed))
    return list(ids)


def _first_words_of(stdin: Iterable[str] | None) -> list[str]:
    try:
        # A byte order mark, which some editors put at the start of a file, is no part of an id.
        return [words[0] for line in stdin or () if (words := line.lstrip("\ufeff").split())]
    except UnicodeDecodeError:
        raise UsageError("standard input is not text") from None


def read_text(name: str, stdin: TextIO | None) -> str:
    """Read a text to speak, as it is but for a byte order mark.

    Args:
        name: A file, or `-` for standard input.
        stdin: Standard input, or None.

    Returns:
        The text, which is not blank.

    Raises:
        UsageError: It can't be read, or is not UTF-8, whatever the locale; or there is nothing in it.
    """
    source = "standard input" if name == STANDARD_INPUT else name
    try:
        data = _all_of(stdin) if name == STANDARD_INPUT else Path(name).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UsageError(f"{source} has no text in it")
    return text


def _all_of(stdin: TextIO | None) -> bytes:
    return b"" if stdin is None else stdin.buffer.read()
