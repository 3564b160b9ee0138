"""A file that is written completely or not at all.

Data goes into a part file beside the destination. At the end the part file replaces the destination atomically. This
protects against a process that dies, but not against a power failure. Writes block the event loop: a write to the
operating system's cache takes less time than a switch to a thread and back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from uuid import UUID

import attrs

__all__ = ["Destination", "PartFile"]

_SUFFIXES: Mapping[str, str] = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/wave": ".wav",
    "audio/vnd.wave": ".wav",
    "audio/ogg": ".ogg",
    "application/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/basic": ".mulaw",
    "audio/mulaw": ".mulaw",
    "audio/pcmu": ".mulaw",
    "audio/l16": ".raw",
    "audio/pcm": ".raw",
    "audio/raw": ".raw",
}
"""The service's format names by media type. Not the `mimetypes` module, whose table differs between machines."""

_DEFAULT_SUFFIX = ".bin"
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


@attrs.frozen
class Destination:
    """Where a caller wants a file: the path of the file, or a directory in which the file gets a name.

    Attributes:
        path: The path of the file or of the directory.
    """

    path: Path

    @classmethod
    def checked(cls, destination: str | os.PathLike[str]) -> Destination:
        """Validate a destination before anything is requested that costs money.

        Raises:
            OSError: The directory does not exist or is not writable, or the path exists and is not a regular file.
            ValueError: The text cannot be a path.
            TypeError: The value has the wrong type.
        """
        text = os.fspath(destination)
        if not isinstance(text, str):
            raise TypeError(f"destination must be a str or a path of one, not {type(text).__name__}")
        if "\0" in text:
            raise ValueError("destination contains a null character")
        os.fsencode(text)  # raises a ValueError for a lone surrogate
        path, real = Path(text), _real_path(text)
        directory = real if real.is_dir() else real.parent
        if directory != real and text.endswith(_SEPARATORS):
            code = errno.ENOTDIR if real.exists() else errno.ENOENT
            raise OSError(code, os.strerror(code), text)
        if not directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
        if directory != real:
            _check_replaceable(path)
        return cls(path)

    def file(self, job_id: UUID, content_type: str) -> Path:
        """Return the path of the file. A server never chooses any part of the name.

        Args:
            job_id: The name of the file in a directory.
            content_type: The media type, which decides the suffix in a directory.

        Raises:
            OSError: The path exists and is not a regular file.
        """
        if not self.path.is_dir():
            return self.path
        media_type = content_type.partition(";")[0].strip().lower()
        path = self.path / f"{job_id}{_SUFFIXES.get(media_type, _DEFAULT_SUFFIX)}"
        _check_replaceable(path)
        return path


class PartFile:
    """A file that is being written beside its destination.

    A context manager: leaving the block without `finish` removes the file and leaves the destination unchanged.

    Args:
        path: The destination. If it is a symbolic link, the target of the link is replaced.

    Attributes:
        size: The number of bytes written.
    """

    def __init__(self, path: Path) -> None:
        self._path = _real_path(path)
        self._part = self._path.with_name(f".{secrets.token_hex(8)}.part")
        self._file: BinaryIO | None = None
        self.size = 0

    def restart(self) -> None:
        """Create the file, or discard everything written so far.

        Raises:
            OSError: The file cannot be created.
        """
        if self._file is None:  # only when data arrives: thousands of queued downloads must not hold open files
            with self._errors_name_destination():
                self._file = self._part.open("xb")
        elif self.size:
            self._file.seek(0)
            self._file.truncate()
            self.size = 0

    def write(self, data: bytes) -> None:
        """Append data. `restart` must have been called before.

        Raises:
            OSError: The data cannot be written.
        """
        assert self._file is not None, "call restart first"  # noqa: S101 - for type checkers
        with self._errors_name_destination():
            self._file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        """Move the file to its destination, replacing an existing file.

        Raises:
            OSError: The file cannot be moved.
        """
        assert self._file is not None, "call restart first"  # noqa: S101 - for type checkers
        with self._errors_name_destination():
            self._file.close()
            self._part.replace(self._path)

    @contextlib.contextmanager
    def _errors_name_destination(self) -> Generator[None, None, None]:
        """Make an `OSError` name the destination, because the caller does not know the part file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # close() fails only after a write that failed and raised already
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _real_path(path: str | Path) -> Path:
    """Resolve symbolic links."""
    return Path(os.path.realpath(path))  # Path.resolve raises if the links form a circle


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))  # for example a device, which would be replaced
