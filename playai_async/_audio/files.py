"""A file that comes into being whole or not at all.

What is written goes into a part file beside its destination, which takes its place at the very end. That survives the
end of the process, not the loss of power. Writes are made where they are asked for: one into the system's cache is
shorter than the way to a thread and back.
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

_ENDINGS: Mapping[str, str] = {
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
"""By media type, the service's own names of its formats; not the machine's table, which differs between machines."""

_OTHER_ENDING = ".bin"
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


@attrs.frozen
class Destination:
    """Where a caller wants a file: a path, or a directory in which it gets a name.

    Attributes:
        path: The one or the other.
    """

    path: Path

    @classmethod
    def checked(cls, destination: str | os.PathLike[str]) -> Destination:
        """Accept where a file can be put, before anything is asked for that costs money.

        Raises:
            OSError: There is no such directory, it cannot be written to, or something is there that is no file.
            ValueError: It cannot be a path.
            TypeError: It is of the wrong type.
        """
        text = os.fspath(destination)
        if not isinstance(text, str):
            raise TypeError(f"destination must be a str or a path of one, not {type(text).__name__}")
        if "\0" in text:
            raise ValueError("destination has a null character in it")
        os.fsencode(text)  # a lone surrogate is a ValueError, too
        path, real = Path(text), _real(text)
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
        """Return the path of the file; never a name that a server chose.

        Raises:
            OSError: Something is there that is no file.
        """
        if not self.path.is_dir():
            return self.path
        kind = content_type.partition(";")[0].strip().lower()
        path = self.path / f"{job_id}{_ENDINGS.get(kind, _OTHER_ENDING)}"
        _check_replaceable(path)
        return path


class PartFile:
    """A file that is being written beside its destination; a context manager that leaves the whole of it or nothing.

    Args:
        path: The destination. Where that is a symbolic link, the file that it leads to is replaced.

    Attributes:
        size: Bytes written.
    """

    def __init__(self, path: Path) -> None:
        self._path = _real(path)
        self._part = self._path.with_name(f".{secrets.token_hex(8)}.part")
        self._file: BinaryIO | None = None
        self.size = 0

    def restart(self) -> None:
        """Begin to write, and forget what was written.

        Raises:
            OSError: The file cannot be made.
        """
        if self._file is None:  # not before there is something to write: thousands may wait for their turn
            with self._named():
                self._file = self._part.open("xb")
        elif self.size:
            self._file.seek(0)
            self._file.truncate()
            self.size = 0

    def write(self, data: bytes) -> None:
        """Write what comes next.

        Raises:
            OSError: It cannot be written.
        """
        assert self._file is not None, "restart begins"  # noqa: S101 - for type checkers
        with self._named():
            self._file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        """Put the file in its place, and in that of one that is there.

        Raises:
            OSError: It cannot be put there.
        """
        assert self._file is not None, "restart begins"  # noqa: S101 - for type checkers
        with self._named():
            self._file.close()
            self._part.replace(self._path)

    @contextlib.contextmanager
    def _named(self) -> Generator[None, None, None]:
        """Let an error name the destination, which is what the caller knows."""
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
        with contextlib.suppress(OSError):  # what it could not write it could not write before, and that was raised
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _real(path: str | Path) -> Path:
    """Follow symbolic links, as far as they lead somewhere."""
    return Path(os.path.realpath(path))  # Path.resolve raises an error of its own where they lead in a circle


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a file", str(path))  # such as a device, whose place a file would take
